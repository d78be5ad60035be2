//! [`Filter`]: a service that has to be configured before its answers are worth anything.

use coppice_interface_macros::interface;
use coppice_rref::{Flat, Shareable};

use crate::{Counter, Handle, RpcResult};

/// What to do with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum Verdict {
    /// Let it pass.
    Accept,
    /// Let it disappear.
    Drop,
}

/// Which addresses are treated how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct Rule {
    /// The first address that it covers.
    pub first: u32,
    /// The last one.
    pub last: u32,
    /// What to do with packets to them.
    pub verdict: Verdict,
}

/// Why a filter does not take a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum FilterError {
    /// It covers no address.
    Empty {
        /// As given.
        rule: Rule,
    },
    /// There is no room for another.
    Full {
        /// How many rules there may be.
        capacity: u32,
    },
}

/// Decides by address which packets may pass. The first rule that covers an address decides; if none does, the policy.
#[interface]
pub trait Filter {
    /// Adds a rule behind those that there are, and takes a new revision number.
    ///
    /// # Errors
    /// [`FilterError`].
    #[replay]
    fn append(&self, rule: Rule) -> RpcResult<Result<(), FilterError>>;
    /// Sets the policy, which is to drop at first, and takes a new revision number.
    #[replay(last)]
    fn set_policy(&self, verdict: Verdict) -> RpcResult<()>;
    /// Has revision numbers come from `source`, beginning with the next change. At first all are 0.
    #[replay(last)]
    fn number_revisions(&self, source: Handle<dyn Counter>) -> RpcResult<()>;
    /// What to do with a packet to `address`.
    #[retry]
    fn judge(&self, address: u32) -> RpcResult<Verdict>;
    /// The number of the latest change.
    #[retry]
    fn revision(&self) -> RpcResult<u64>;
    /// How many addresses it has judged since it was last asked.
    #[fail]
    fn take_count(&self) -> RpcResult<u64>;
}
