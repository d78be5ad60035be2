//! Decides by address which packets may pass: a short list of rules, and nothing that outlives the domain.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use coppice_example_interfaces::{Counter, Filter, FilterError, Rule, Verdict};
use coppice_interfaces::{Handle, RpcResult};
use coppice_runtime::sync::{Mutex, MutexGuard};
use coppice_runtime::{Domain, Environment, StartError};

/// Rules that there may be: a packet is compared with each.
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
    /// A number for a change, and the table to make it in. The number comes from another domain, which may take its
    /// time: nobody who wants a verdict waits for it.
    fn revise(&self) -> RpcResult<MutexGuard<'_, Table>> {
        let source = self.table.lock().source.clone();
        let number = source.map(|source| source.next()).transpose()?;
        let mut table = self.table.lock();
        // Of two changes at a time the earlier number may come later.
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
