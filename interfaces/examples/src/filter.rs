//! [`Filter`]: a service that has to be configured before its results are useful.

use coppice_interfaces::{Handle, RpcResult, interface};
use coppice_rref::{Flat, Shareable};

use crate::Counter;

/// The decision about a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum Verdict {
    /// The packet passes.
    Accept,
    /// The packet is dropped.
    Drop,
}

/// The verdict for a range of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct Rule {
    /// The first address of the range.
    pub first: u32,
    /// The last address of the range.
    pub last: u32,
    /// The verdict for packets to the range.
    pub verdict: Verdict,
}

/// The reason why a filter refuses a rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum FilterError {
    /// The rule covers no address.
    Empty {
        /// The rule.
        rule: Rule,
    },
    /// The list of rules is full.
    Full {
        /// The capacity of the list.
        capacity: u32,
    },
}

/// Decides by address which packets may pass. The first rule that covers an address decides; without one, the
/// policy does.
#[interface]
pub trait Filter {
    /// Appends a rule and takes a new revision number.
    ///
    /// # Errors
    /// [`FilterError::Empty`] when the rule covers no address, [`FilterError::Full`] when the list is full.
    #[replay]
    fn append(&self, rule: Rule) -> RpcResult<Result<(), FilterError>>;
    /// Sets the policy, which is initially to drop, and takes a new revision number.
    #[replay(last)]
    fn set_policy(&self, verdict: Verdict) -> RpcResult<()>;
    /// Takes revision numbers from `source`, from the next change on. Until then all are 0.
    #[replay(last)]
    fn number_revisions(&self, source: Handle<dyn Counter>) -> RpcResult<()>;
    /// Returns the verdict for a packet to `address`.
    #[retry]
    fn judge(&self, address: u32) -> RpcResult<Verdict>;
    /// Returns the number of the latest change.
    #[retry]
    fn revision(&self) -> RpcResult<u64>;
    /// Returns the number of addresses judged since the last call of this method.
    #[fail]
    fn take_count(&self) -> RpcResult<u64>;
}
