//! Visible revocation: a domain that has more than its share is first asked to give it up, and ended if it does not.
//!
//! Asking is an upcall with a deadline, the manifest's `upcall-deadline`. What counts is what the domain has then, and
//! that the upcall has come back: one that stays inside occupies a thread that nobody has granted it.
//!
//! Who asks: the census of the shared heap (whoever is given objects pays nothing for them, so what a domain owns is
//! only known when it is counted), the watch over CPU time, and whoever holds `Control`.

use alloc::vec::Vec;
use core::fmt;

use coppice_abi::{CrashKind, DomainId, Excess, Revocation, SLOT_LIMIT, Upcall};
use coppice_interfaces::{Resource, Text};

use crate::domain::{self, Domain, enter, shared_heap};
use crate::fault::terminate;
use crate::platform::machine::machine;
use crate::platform::sync::Lock;
use crate::policy::deferred_work::{self, WorkId, WorkItem};
use crate::sched::world;

/// After the shared heap has grown, how long until it is known who owns it; so also how often it is counted at most. A
/// count walks the whole heap.
pub(crate) const CENSUS_PERIOD_NS: u64 = 1_000_000_000;

/// One demand that is not settled yet.
#[derive(Clone, Copy)]
struct Demand {
    work: WorkId,
    domain: DomainId,
    resource: Resource,
    used: u64,
    allowed: u64,
    /// What CPU time is counted from.
    began: CpuMark,
    /// The upcall has come back.
    is_answered: bool,
}

/// How much CPU time the threads that a domain has spawned had used at a moment.
#[derive(Clone, Copy)]
struct CpuMark {
    now_ns: u64,
    cpu_ns: u64,
}

static DEMANDS: Lock<Vec<Demand>> = Lock::new(Vec::new());

/// Has that instance of a domain asked to give up what it has of `resource` beyond `allowed`, and ended if it does not. A
/// demand that one under way covers is the same demand. Does not wait. In a section, holding no lock that comes after a
/// domain's fields.
pub(crate) fn request(domain: DomainId, resource: Resource, used: u64, allowed: u64) {
    let Some(known) = domain::get(domain.slot()) else { return };
    let work = WorkId::new();
    let began = CpuMark::of(known);
    let demand = Demand { work, domain, resource, used, allowed, began, is_answered: false };
    {
        let mut demands = DEMANDS.lock();
        let covers =
            |other: &Demand| (other.domain, other.resource) == (domain, resource) && other.allowed <= allowed;
        if demands.iter().any(covers) {
            return;
        }
        demands.push(demand);
    }
    deferred_work::now(WorkItem::SendDemand(work));
}

/// Asks, and settles the demand at once if the domain has done so when it answers.
pub(crate) fn send(work: WorkId) {
    let Some(demand) = find(work, |demand| *demand) else { return };
    let Some(domain) = domain::get(demand.domain.slot()) else { return };
    let deadline_ns = machine().now_ns() + domain.manifest.policy.upcall_deadline_ns;
    deferred_work::at(deadline_ns, WorkItem::CheckDemand(work));
    let (used, allowed) = (demand.used, demand.allowed);
    let excess = match demand.resource {
        Resource::SharedHeap => Excess::SharedHeap { owned: used, allowed },
        Resource::Cpu => Excess::Cpu { used, allowed },
    };
    let amounts = (Amount(demand.resource, used), Amount(demand.resource, allowed));
    log::info!(
        "{}: has {}, and is asked to have no more than {}",
        domain.manifest.name,
        amounts.0,
        amounts.1
    );
    let answer = enter::upcall(demand.domain, Upcall::Revoke(Revocation { excess, deadline_ns }));
    // CPU time is measured over the whole of what was granted.
    let is_settled =
        answer.is_err() || demand.resource != Resource::Cpu && demand.used_now(domain) <= allowed;
    if is_settled {
        deferred_work::forget(WorkItem::CheckDemand(work));
        take(work);
    } else {
        find(work, |demand| demand.is_answered = true);
    }
}

/// At a demand's deadline: ends the domain unless it has complied.
pub(crate) fn check(work: WorkId) {
    let Some(demand) = take(work) else { return };
    let Some(domain) = domain::get(demand.domain.slot()) else { return };
    let (used, allowed, resource) = (demand.used_now(domain), demand.allowed, demand.resource);
    // If the instance is over, so is this: `terminate` looks.
    if used > allowed {
        let (allowed, used) = (Amount(resource, allowed), Amount(resource, used));
        let text = format_args!("it was asked to have no more than {allowed}, and has {used}");
        terminate::terminate_because(demand.domain, CrashKind::OverQuota, Text::format(text));
    } else if !demand.is_answered {
        let text = format_args!("it gave up what it was asked for, but its upcall has not come back");
        terminate::terminate_because(demand.domain, CrashKind::Deadline, Text::format(text));
    }
}

/// Asks all domains that own more of the shared heap than they may.
pub(crate) fn take_census() {
    let mut owned = [0_u64; SLOT_LIMIT];
    shared_heap::census(|owner, bytes| {
        if domain::get(owner.slot()).is_some_and(|domain| domain.instance() == Some(owner)) {
            owned[owner.slot()] += bytes as u64;
        }
    });
    for domain in domain::all() {
        let (owned, allowed) = (owned[domain.slot], domain.allowance().shared_bytes);
        if owned > allowed
            && let Some(instance) = domain.instance()
        {
            request(instance, Resource::SharedHeap, owned, allowed);
        }
    }
}

/// What that instance of a domain has of a resource, as [`request`] counts it.
pub(crate) fn used(domain: &Domain, instance: DomainId, resource: Resource) -> u64 {
    match resource {
        Resource::SharedHeap => shared_heap::usage(instance).bytes as u64,
        // On average since the system began; a demand measures anew from its own beginning.
        Resource::Cpu => CpuMark { now_ns: 0, cpu_ns: 0 }.percent_until(CpuMark::of(domain)),
    }
}

/// So much of a resource, for messages.
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
        // A thread that never waits may not have been charged for long; whoever is stopped is charged first.
        drop(world::stop());
        self.began.percent_until(CpuMark::of(domain))
    }
}

impl CpuMark {
    fn of(domain: &Domain) -> Self {
        Self { now_ns: machine().now_ns(), cpu_ns: domain.own_cpu_ns() }
    }

    /// The time used since, in percent of one CPU.
    fn percent_until(self, end: Self) -> u64 {
        let passed = (end.now_ns - self.now_ns).max(1);
        (u128::from(end.cpu_ns - self.cpu_ns) * 100 / u128::from(passed)) as u64
    }
}

fn find<R>(work: WorkId, look: impl FnOnce(&mut Demand) -> R) -> Option<R> {
    DEMANDS.lock().iter_mut().find(|demand| demand.work == work).map(look)
}

fn take(work: WorkId) -> Option<Demand> {
    let mut demands = DEMANDS.lock();
    let index = demands.iter().position(|demand| demand.work == work)?;
    Some(demands.swap_remove(index))
}
