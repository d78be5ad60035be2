//! A packet filter: decides by address, with a short list of rules. Its state is lost in a crash.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use coppice_example_interfaces::{Counter, Filter, FilterError, Rule, Verdict};
use coppice_interfaces::{Handle, RpcResult};
use coppice_runtime::sync::{Mutex, MutexGuard};
use coppice_runtime::{Domain, Environment, StartError};

/// The maximum number of rules. A packet is compared with each.
const CAPACITY: usize = 1024;

/// The domain.
pub struct FilterDomain;

impl Domain for FilterDomain {
    type Imports = ();
    type Export = Handle<dyn Filter>;

    fn start(_: &Environment<'_>, (): ()) -> Result<Self::Export, StartError> {
        let table = Table { rules: Vec::new(), policy: Verdict::Drop, revision: 0, source: None };
        Ok(<dyn Filter>::export(Service { table: Mutex::new(table), judged: AtomicU64::new(0) }))
    }
}

struct Service {
    table: Mutex<Table>,
    judged: AtomicU64,
}

struct Table {
    rules: Vec<Rule>,
    policy: Verdict,
    revision: u64,
    source: Option<Handle<dyn Counter>>,
}

impl Table {
    fn judge(&self, address: u32) -> Verdict {
        let rule = self.rules.iter().find(|rule| (rule.first..=rule.last).contains(&address));
        rule.map_or(self.policy, |rule| rule.verdict)
    }
}

impl Service {
    /// Draws a revision number for a change, and locks the table. The number comes from another domain, which
    /// may take long, so the table is not locked during that call: `judge` does not wait for it.
    fn revise(&self) -> RpcResult<MutexGuard<'_, Table>> {
        let source = self.table.lock().source.clone();
        let number = source.map(|source| source.next()).transpose()?;
        let mut table = self.table.lock();
        // Two concurrent changes may arrive here in the opposite order of their numbers.
        table.revision = table.revision.max(number.unwrap_or(0));
        Ok(table)
    }
}

impl Filter for Service {
    fn append(&self, rule: Rule) -> RpcResult<Result<(), FilterError>> {
        if rule.first > rule.last {
            return Ok(Err(FilterError::Empty { rule }));
        }
        let mut table = self.revise()?;
        if table.rules.len() == CAPACITY {
            return Ok(Err(FilterError::Full { capacity: CAPACITY as u32 }));
        }
        table.rules.push(rule);
        Ok(Ok(()))
    }

    fn set_policy(&self, verdict: Verdict) -> RpcResult<()> {
        self.revise()?.policy = verdict;
        Ok(())
    }

    fn number_revisions(&self, source: Handle<dyn Counter>) -> RpcResult<()> {
        self.table.lock().source = Some(source);
        Ok(())
    }

    fn judge(&self, address: u32) -> RpcResult<Verdict> {
        self.judged.fetch_add(1, Ordering::Relaxed);
        Ok(self.table.lock().judge(address))
    }

    fn revision(&self) -> RpcResult<u64> {
        Ok(self.table.lock().revision)
    }

    fn take_count(&self) -> RpcResult<u64> {
        Ok(self.judged.swap(0, Ordering::Relaxed))
    }
}
