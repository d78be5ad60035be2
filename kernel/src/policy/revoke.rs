//! Visible revocation: a domain that exceeds its allowance is first requested to give up the excess, and
//! ended if it does not.
//!
//! The request is an upcall with a deadline, the manifest's `upcall-deadline`. At the deadline the domain's
//! use has to be within the allowance, and the upcall has to have returned: one that does not occupies a
//! thread that the domain was not granted.
//!
//! Demands come from the census of the shared heap (a domain that receives objects is not charged for them,
//! so the owners are only known after a count), from the watch ticks for CPU time, and from holders of
//! `Control`.

use alloc::vec::Vec;
use core::fmt;

use coppice_abi::{CrashKind, DomainId, Excess, Revocation, Upcall};
use coppice_control::Resource;
use coppice_interfaces::Text;

use crate::domain::{self, Domain, enter, shared_heap};
use crate::fault::terminate;
use crate::platform::machine::machine;
use crate::platform::sync::Lock;
use crate::policy::deferred_work::{self, WorkId, WorkItem};
use crate::sched::world;

/// The delay from growth of the shared heap to the next census, and so also the shortest time between two.
pub(crate) const CENSUS_PERIOD_NS: u64 = 1_000_000_000;

/// A demand that is not settled yet.
#[derive(Clone, Copy)]
struct Demand {
    work: WorkId,
    domain: DomainId,
    resource: Resource,
    used: u64,
    allowed: u64,
    /// The start of the measurement of CPU time.
    began: CpuMark,
    /// The upcall has returned.
    has_returned: bool,
}

/// The CPU time that a domain's threads had used at a point in time.
#[derive(Clone, Copy)]
struct CpuMark {
    now_ns: u64,
    cpu_ns: u64,
}

/// At most one for each resource of each domain; there is room for all of them from the start.
static DEMANDS: Lock<Vec<Demand>> = Lock::new(Vec::new());

/// Makes room for the demands to `domains` domains, before the first of them starts.
pub(crate) fn init(domains: usize) {
    DEMANDS.lock().reserve_exact(domains * RESOURCES);
}

/// The number of resources that can be demanded back.
const RESOURCES: usize = 2;

/// Demands that an instance reduces its use of `resource` to `allowed`, and ends it if it does not. Does
/// nothing if a pending demand covers this one; one that demands less is superseded. Does not wait. In a
/// section, holding no lock that comes after a domain's fields.
pub(crate) fn request(domain: DomainId, resource: Resource, used: u64, allowed: u64) {
    let Some(known) = domain::get(domain.slot()) else { return };
    let began = CpuMark::of(known);
    let work;
    {
        let mut demands = DEMANDS.lock();
        let covers =
            |other: &Demand| (other.domain, other.resource) == (domain, resource) && other.allowed <= allowed;
        if demands.iter().any(covers) {
            return;
        }
        // Of the domain's earlier instances too: they do not need to comply any more.
        let supersedes = |other: &Demand| (other.domain.slot(), other.resource) == (domain.slot(), resource);
        demands.retain(|other| !supersedes(other));
        assert!(demands.len() < demands.capacity(), "there is room for each resource of each domain");
        work = WorkId::new();
        let demand = Demand { work, domain, resource, used, allowed, began, has_returned: false };
        demands.push(demand);
    }
    deferred_work::now(WorkItem::SendDemand(domain.slot(), resource, work));
}

/// Sends the upcall, and settles the demand at once if the domain has complied when it returns.
pub(crate) fn send(work: WorkId) {
    let Some(demand) = with_demand(work, |demand| *demand) else { return };
    let Some(domain) = domain::get(demand.domain.slot()) else { return };
    let deadline_ns = machine().now_ns() + domain.manifest.policy.upcall_deadline_ns;
    let check = WorkItem::CheckDemand(domain.slot, demand.resource, work);
    deferred_work::at(deadline_ns, check);
    let (used, allowed) = (demand.used, demand.allowed);
    let excess = match demand.resource {
        Resource::SharedHeap => Excess::SharedHeap { owned: used, allowed },
        Resource::Cpu => Excess::Cpu { used, allowed },
    };
    let amounts = (Amount(demand.resource, used), Amount(demand.resource, allowed));
    log::info!(
        "{}: uses {}, and is requested to use no more than {}",
        domain.manifest.name,
        amounts.0,
        amounts.1
    );
    let answer = enter::upcall(demand.domain, Upcall::Revoke(Revocation { excess, deadline_ns }));
    // CPU time is measured over the whole time that was granted.
    let is_settled =
        answer.is_err() || demand.resource != Resource::Cpu && demand.used_now(domain) <= allowed;
    if is_settled {
        deferred_work::forget(check);
        take(work);
    } else {
        with_demand(work, |demand| demand.has_returned = true);
    }
}

/// Ends the domain at a demand's deadline, unless it has complied.
pub(crate) fn check(work: WorkId) {
    let Some(demand) = take(work) else { return };
    let Some(domain) = domain::get(demand.domain.slot()) else { return };
    let (used, allowed, resource) = (demand.used_now(domain), demand.allowed, demand.resource);
    // If the instance has ended already, `terminate` does nothing.
    if used > allowed {
        let (allowed, used) = (Amount(resource, allowed), Amount(resource, used));
        let text = format_args!("it was asked to have no more than {allowed}, and has {used}");
        terminate::terminate_because(demand.domain, CrashKind::OverQuota, Text::format(text));
    } else if !demand.has_returned {
        let text = format_args!("it gave up the excess, but its upcall did not return in time");
        terminate::terminate_because(demand.domain, CrashKind::Deadline, Text::format(text));
    }
}

/// Sends demands to domains that own more of the shared heap than their allowance. Counts the objects of
/// domains only whose remembered sets are larger than the allowance. In the outermost section, holding no
/// lock.
pub(crate) fn take_census() {
    for domain in domain::all() {
        let (Some(instance), allowed) = (domain.instance(), domain.allowance().shared_bytes) else {
            continue;
        };
        if shared_heap::usage_bound(instance) as u64 <= allowed {
            continue;
        }
        let owned = shared_heap::usage(instance).bytes as u64;
        if owned > allowed {
            request(instance, Resource::SharedHeap, owned, allowed);
        }
    }
}

/// The use of a resource by an instance, counted as in [`request`].
pub(crate) fn used(domain: &Domain, instance: DomainId, resource: Resource) -> u64 {
    match resource {
        Resource::SharedHeap => shared_heap::usage(instance).bytes as u64,
        // The average since boot; a demand measures again from its own start.
        Resource::Cpu => CpuMark { now_ns: 0, cpu_ns: 0 }.percent_until(CpuMark::of(domain)),
    }
}

/// An amount of a resource, for messages.
struct Amount(Resource, u64);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Resource::SharedHeap => write!(f, "{} bytes of the shared heap", self.1),
            Resource::Cpu => write!(f, "{} % of a CPU", self.1),
        }
    }
}

impl Demand {
    fn used_now(&self, domain: &Domain) -> u64 {
        if self.resource == Resource::SharedHeap {
            return used(domain, self.domain, self.resource);
        }
        // A thread that never waits may not have been charged for a while; a stop of the world charges all
        // threads.
        drop(world::stop());
        self.began.percent_until(CpuMark::of(domain))
    }
}

impl CpuMark {
    fn of(domain: &Domain) -> Self {
        Self { now_ns: machine().now_ns(), cpu_ns: domain.own_cpu_ns() }
    }

    /// The time used since `self`, in percent of one CPU.
    fn percent_until(self, end: Self) -> u64 {
        let passed = (end.now_ns - self.now_ns).max(1);
        (u128::from(end.cpu_ns - self.cpu_ns) * 100 / u128::from(passed)) as u64
    }
}

fn with_demand<R>(work: WorkId, visit: impl FnOnce(&mut Demand) -> R) -> Option<R> {
    DEMANDS.lock().iter_mut().find(|demand| demand.work == work).map(visit)
}

fn take(work: WorkId) -> Option<Demand> {
    let mut demands = DEMANDS.lock();
    let index = demands.iter().position(|demand| demand.work == work)?;
    Some(demands.swap_remove(index))
}
