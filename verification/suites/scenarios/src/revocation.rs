//! Visible revocation: a domain over its allowance gets an upcall before the kernel ends it.

use alloc::sync::Arc;
use core::time::Duration;

use coppice_control::Resource;
use coppice_interfaces::{CrashKind, DomainId, Text};
use coppice_runtime::time;
use coppice_test_interfaces::Behaviour;

use crate::context::{Context, Outcome, ensure, ensure_eq, message};
use crate::supervision::renew;

/// The allowance of the test parent after the demand, in bytes.
const ALLOWED: u64 = 8 * 1024;

/// The test parent's `upcall-deadline` in the manifest.
const DEADLINE: Duration = Duration::from_secs(1);

/// Gives the test parent more than the allowance and demands the surplus. Returns the test parent's instance.
fn demand(context: &Context, conduct: Behaviour) -> Outcome<DomainId> {
    renew(context)?;
    context.test_parent.set_behaviour(conduct)?;
    for _ in 0..100 {
        context.test_parent.keep_message(message(b"too much"))?;
    }
    let owned = context.info("test-parent")?;
    ensure!(owned.shared_bytes > 100 * 256, "100 messages are only {} bytes", owned.shared_bytes);
    ensure_eq!(revoke(context, ALLOWED)?, true, "whether a demand was made");
    Ok(owned.id)
}

fn revoke(context: &Context, allowed: u64) -> Outcome<bool> {
    Ok(context.control.revoke(Text::new("test-parent"), Resource::SharedHeap, allowed)??)
}

/// Waits until the demand is settled either way.
fn wait_until_settled() {
    time::sleep(DEADLINE + Duration::from_millis(200));
}

/// Checks that the instance keeps running, within its allowance.
fn keeps_running(context: &Context, instance: DomainId) -> Outcome {
    context.eventually("the test parent has complied", || {
        Ok(context.info("test-parent")?.shared_bytes <= ALLOWED)
    })?;
    wait_until_settled();
    ensure_eq!(context.info("test-parent")?.id, instance, "the test parent");
    let told = context.test_parent.upcalls()?;
    ensure_eq!((told.demands, told.allowed), (1, ALLOWED), "the demands and the allowance");
    ensure_eq!(revoke(context, ALLOWED)?, false, "whether another demand was made");
    renew(context)
}

/// Checks that the instance ended because of the demand, with `words` in its crash record.
fn is_ended_for(context: &Context, instance: DomainId, kind: CrashKind, words: &str) -> Outcome {
    context.eventually("the test parent has ended", || Ok(context.info("test-parent")?.id != instance))?;
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
    ensure!(time::now() - began >= DEADLINE, "the test parent was ended before its deadline");
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
    // The test parent ends even if it has complied.
    let instance = demand(context, Behaviour::ComplyAndHang)?;
    is_ended_for(context, instance, CrashKind::Deadline, "its upcall did not return in time")
}

pub(crate) fn a_crash_in_a_revocation_upcall_ends_the_domain(context: &Arc<Context>) -> Outcome {
    let instance = demand(context, Behaviour::Crash)?;
    is_ended_for(context, instance, CrashKind::Panic, "crash in a revocation upcall")
}

pub(crate) fn a_demand_ends_with_its_instance(context: &Arc<Context>) -> Outcome {
    demand(context, Behaviour::Refuse)?;
    context.restart("test-parent")?;
    let next = context.info("test-parent")?.id;
    for _ in 0..100 {
        context.test_parent.keep_message(message(b"as much as the instance before"))?;
    }
    wait_until_settled();
    ensure_eq!(context.info("test-parent")?.id, next, "the instance after it");
    ensure_eq!(context.test_parent.upcalls()?.demands, 0, "demands of the next instance");
    renew(context)
}

pub(crate) fn a_demand_that_another_one_covers_is_not_repeated(context: &Arc<Context>) -> Outcome {
    let instance = demand(context, Behaviour::Refuse)?;
    context.eventually("a demand is made", || Ok(context.test_parent.upcalls()?.demands == 1))?;
    ensure_eq!(revoke(context, ALLOWED)?, true, "whether it is over its allowance");
    ensure_eq!(revoke(context, ALLOWED * 2)?, true, "whether it has more than twice that");
    time::sleep(Duration::from_millis(50));
    ensure_eq!(context.test_parent.upcalls()?.demands, 1, "demands while one for as much is pending");
    // A larger demand is another demand, with a deadline of its own. Compliance with it satisfies both.
    context.test_parent.set_behaviour(Behaviour::Comply)?;
    ensure_eq!(revoke(context, ALLOWED / 2)?, true, "whether it has more than half of that");
    context.eventually("a demand is made", || Ok(context.test_parent.upcalls()?.demands == 2))?;
    wait_until_settled();
    ensure_eq!(
        context.info("test-parent")?.id,
        instance,
        "the test parent, which has complied with the second"
    );
    ensure!(
        context.info("test-parent")?.shared_bytes <= ALLOWED / 2,
        "the test parent is over its allowance"
    );
    renew(context)
}

pub(crate) fn a_domain_given_more_than_its_quota_is_found_by_the_census(context: &Arc<Context>) -> Outcome {
    renew(context)?;
    context.test_parent.set_behaviour(Behaviour::Comply)?;
    let instance = context.info("test-parent")?;
    // A receiver is not charged for objects that it is given.
    while context.info("test-parent")?.shared_bytes <= instance.shared_quota + 64 * 1024 {
        for _ in 0..200 {
            context.test_parent.keep_message(message(b"a present"))?;
        }
    }
    context.eventually("the test parent has given up the surplus", || {
        Ok(context.info("test-parent")?.shared_bytes <= instance.shared_quota
            && context.test_parent.upcalls()?.demands > 0)
    })?;
    ensure_eq!(context.test_parent.upcalls()?.allowed, instance.shared_quota, "the allowance");
    ensure_eq!(context.info("test-parent")?.id, instance.id, "the test parent");
    // No demand was made of other domains.
    ensure_eq!(context.grandparent.upcalls()?.demands, 0, "demands of the grandparent");
    renew(context)
}

pub(crate) fn cpu_time_can_be_revoked(context: &Arc<Context>) -> Outcome {
    let revoke =
        || -> Outcome<bool> { Ok(context.control.revoke(Text::new("test-parent"), Resource::Cpu, 30)??) };
    renew(context)?;
    context.test_parent.set_behaviour(Behaviour::Comply)?;
    let instance = context.info("test-parent")?.id;
    context.test_parent.compute()?;
    ensure_eq!(revoke()?, true, "whether a demand is made");
    wait_until_settled();
    ensure_eq!(context.info("test-parent")?.id, instance, "a test parent that has stopped");
    ensure_eq!(context.test_parent.upcalls()?.demands, 1, "the number of demands");
    context.test_parent.set_behaviour(Behaviour::Refuse)?;
    context.test_parent.compute()?;
    ensure_eq!(revoke()?, true, "whether another demand is made");
    is_ended_for(
        context,
        instance,
        CrashKind::OverQuota,
        "it was asked to have no more than 30 % of a CPU, and has",
    )
}
