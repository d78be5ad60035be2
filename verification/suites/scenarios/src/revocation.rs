//! Visible revocation: a domain over its allowance gets an upcall before the kernel ends it.

use alloc::sync::Arc;
use core::time::Duration;

use coppice_control::Resource;
use coppice_interfaces::{CrashKind, DomainId, Text};
use coppice_runtime::time;
use coppice_test_interfaces::Behaviour;

use crate::context::{Context, Outcome, ensure, ensure_eq, message};
use crate::supervision::renew;

/// The allowance of the guardian after the demand, in bytes.
const ALLOWED: u64 = 8 * 1024;

/// The guardian's `upcall-deadline` in the manifest.
const DEADLINE: Duration = Duration::from_secs(1);

/// Gives the guardian more than the allowance and demands the surplus. Returns the guardian's instance.
fn demand(context: &Context, conduct: Behaviour) -> Outcome<DomainId> {
    renew(context)?;
    context.guardian.set_behaviour(conduct)?;
    for _ in 0..100 {
        context.guardian.keep_message(message(b"too much"))?;
    }
    let owned = context.info("guardian")?;
    ensure!(owned.shared_bytes > 100 * 256, "100 messages are only {} bytes", owned.shared_bytes);
    ensure_eq!(revoke(context, ALLOWED)?, true, "whether a demand was made");
    Ok(owned.id)
}

fn revoke(context: &Context, allowed: u64) -> Outcome<bool> {
    Ok(context.control.revoke(Text::new("guardian"), Resource::SharedHeap, allowed)??)
}

/// Waits until the demand is settled either way.
fn wait_until_settled() {
    time::sleep(DEADLINE + Duration::from_millis(200));
}

/// Checks that the instance keeps running, within its allowance.
fn keeps_running(context: &Context, instance: DomainId) -> Outcome {
    context
        .eventually("the guardian has complied", || Ok(context.info("guardian")?.shared_bytes <= ALLOWED))?;
    wait_until_settled();
    ensure_eq!(context.info("guardian")?.id, instance, "the guardian");
    let told = context.guardian.upcalls()?;
    ensure_eq!((told.demands, told.allowed), (1, ALLOWED), "the demands and the allowance");
    ensure_eq!(revoke(context, ALLOWED)?, false, "whether another demand was made");
    renew(context)
}

/// Checks that the instance ended because of the demand, with `words` in its crash record.
fn is_ended_for(context: &Context, instance: DomainId, kind: CrashKind, words: &str) -> Outcome {
    context.eventually("the guardian has ended", || Ok(context.info("guardian")?.id != instance))?;
    let crash_record = context.control.crash_record(instance)?;
    ensure!(
        crash_record.is_some_and(|text| text.contains(words)),
        "the crash record says {crash_record:?}, not {kind:?}"
    );
    renew(context)
}

pub(crate) fn a_domain_that_complies_with_a_revocation_keeps_running(context: &Arc<Context>) -> Outcome {
    let instance = demand(context, Behaviour::Comply)?;
    keeps_running(context, instance)
}

pub(crate) fn a_domain_that_complies_just_in_time_keeps_running(context: &Arc<Context>) -> Outcome {
    let instance = demand(context, Behaviour::PassOn)?;
    keeps_running(context, instance)
}

pub(crate) fn a_domain_that_does_not_comply_is_ended(context: &Arc<Context>) -> Outcome {
    let began = time::now();
    let instance = demand(context, Behaviour::Refuse)?;
    is_ended_for(
        context,
        instance,
        CrashKind::OverQuota,
        "it was asked to have no more than 8192 bytes of the shared heap, and has",
    )?;
    ensure!(time::now() - began >= DEADLINE, "the guardian was ended before its deadline");
    Ok(())
}

pub(crate) fn a_domain_whose_revocation_upcall_hangs_is_ended(context: &Arc<Context>) -> Outcome {
    let instance = demand(context, Behaviour::Hang)?;
    is_ended_for(
        context,
        instance,
        CrashKind::OverQuota,
        "it was asked to have no more than 8192 bytes of the shared heap, and has",
    )?;
    // The guardian ends even if it has complied.
    let instance = demand(context, Behaviour::ComplyAndHang)?;
    is_ended_for(context, instance, CrashKind::Deadline, "its upcall did not return in time")
}

pub(crate) fn a_crash_in_a_revocation_upcall_ends_the_domain(context: &Arc<Context>) -> Outcome {
    let instance = demand(context, Behaviour::Crash)?;
    is_ended_for(context, instance, CrashKind::Panic, "crash in a revocation upcall")
}

pub(crate) fn a_demand_ends_with_its_instance(context: &Arc<Context>) -> Outcome {
    demand(context, Behaviour::Refuse)?;
    context.restart("guardian")?;
    let next = context.info("guardian")?.id;
    for _ in 0..100 {
        context.guardian.keep_message(message(b"as much as the instance before"))?;
    }
    wait_until_settled();
    ensure_eq!(context.info("guardian")?.id, next, "the instance after it");
    ensure_eq!(context.guardian.upcalls()?.demands, 0, "demands of the next instance");
    renew(context)
}

pub(crate) fn a_demand_that_another_one_covers_is_not_repeated(context: &Arc<Context>) -> Outcome {
    let instance = demand(context, Behaviour::Refuse)?;
    context.eventually("a demand is made", || Ok(context.guardian.upcalls()?.demands == 1))?;
    ensure_eq!(revoke(context, ALLOWED)?, true, "whether it is over its allowance");
    ensure_eq!(revoke(context, ALLOWED * 2)?, true, "whether it has more than twice that");
    time::sleep(Duration::from_millis(50));
    ensure_eq!(context.guardian.upcalls()?.demands, 1, "demands while one for as much is pending");
    // A larger demand is another demand, with a deadline of its own. Compliance with it satisfies both.
    context.guardian.set_behaviour(Behaviour::Comply)?;
    ensure_eq!(revoke(context, ALLOWED / 2)?, true, "whether it has more than half of that");
    context.eventually("a demand is made", || Ok(context.guardian.upcalls()?.demands == 2))?;
    wait_until_settled();
    ensure_eq!(context.info("guardian")?.id, instance, "the guardian, which has complied with the second");
    ensure!(context.info("guardian")?.shared_bytes <= ALLOWED / 2, "the guardian is over its allowance");
    renew(context)
}

pub(crate) fn a_domain_given_more_than_its_quota_is_found_by_the_census(context: &Arc<Context>) -> Outcome {
    renew(context)?;
    context.guardian.set_behaviour(Behaviour::Comply)?;
    let instance = context.info("guardian")?;
    // A receiver is not charged for objects that it is given.
    while context.info("guardian")?.shared_bytes <= instance.shared_quota + 64 * 1024 {
        for _ in 0..200 {
            context.guardian.keep_message(message(b"a present"))?;
        }
    }
    context.eventually("the guardian has given up the surplus", || {
        Ok(context.info("guardian")?.shared_bytes <= instance.shared_quota
            && context.guardian.upcalls()?.demands > 0)
    })?;
    ensure_eq!(context.guardian.upcalls()?.allowed, instance.shared_quota, "the allowance");
    ensure_eq!(context.info("guardian")?.id, instance.id, "the guardian");
    // No demand was made of other domains.
    ensure_eq!(context.grandparent.upcalls()?.demands, 0, "demands of the grandparent");
    renew(context)
}

pub(crate) fn cpu_time_can_be_revoked(context: &Arc<Context>) -> Outcome {
    let revoke =
        || -> Outcome<bool> { Ok(context.control.revoke(Text::new("guardian"), Resource::Cpu, 30)??) };
    renew(context)?;
    context.guardian.set_behaviour(Behaviour::Comply)?;
    let instance = context.info("guardian")?.id;
    context.guardian.compute()?;
    ensure_eq!(revoke()?, true, "whether a demand is made");
    wait_until_settled();
    ensure_eq!(context.info("guardian")?.id, instance, "a guardian that has stopped");
    ensure_eq!(context.guardian.upcalls()?.demands, 1, "the number of demands");
    context.guardian.set_behaviour(Behaviour::Refuse)?;
    context.guardian.compute()?;
    ensure_eq!(revoke()?, true, "whether another demand is made");
    is_ended_for(
        context,
        instance,
        CrashKind::OverQuota,
        "it was asked to have no more than 30 % of a CPU, and has",
    )
}
