//! Visible revocation: who has too much is asked before it is ended.

use alloc::sync::Arc;
use core::time::Duration;

use coppice_control::Resource;
use coppice_interfaces::{CrashKind, DomainId, Text};
use coppice_runtime::time;
use coppice_test_interfaces::Behaviour;

use crate::stage::{Outcome, Stage, ensure, ensure_eq, message};
use crate::supervision::renew;

/// What the guardian is left with.
const ALLOWED: u64 = 8 * 1024;

/// The manifest's `upcall-deadline` of the guardian.
const DEADLINE: Duration = Duration::from_secs(1);

/// Gives the guardian more than that, and has it asked to give that up. Answers which instance it is.
fn demand(stage: &Stage, conduct: Behaviour) -> Outcome<DomainId> {
    renew(stage)?;
    stage.guardian.set_behaviour(conduct)?;
    for _ in 0..100 {
        stage.guardian.keep_message(message(b"too much"))?;
    }
    let owned = stage.info("guardian")?;
    ensure!(owned.shared_bytes > 100 * 256, "100 messages are only {} bytes", owned.shared_bytes);
    ensure_eq!(revoke(stage, ALLOWED)?, true, "whether it had to be asked");
    Ok(owned.id)
}

fn revoke(stage: &Stage, allowed: u64) -> Outcome<bool> {
    Ok(stage.control.revoke(Text::new("guardian"), Resource::SharedHeap, allowed)??)
}

/// Waits until the demand is settled one way or the other.
fn wait_out() {
    time::sleep(DEADLINE + Duration::from_millis(200));
}

/// That instance lives on, with what it is allowed.
fn lives_on(stage: &Stage, instance: DomainId) -> Outcome {
    stage.eventually("it has complied", || Ok(stage.info("guardian")?.shared_bytes <= ALLOWED))?;
    wait_out();
    ensure_eq!(stage.info("guardian")?.id, instance, "the guardian");
    let told = stage.guardian.upcalls()?;
    ensure_eq!((told.demands, told.allowed), (1, ALLOWED), "what it was asked");
    ensure_eq!(revoke(stage, ALLOWED)?, false, "whether it has to be asked again");
    renew(stage)
}

/// That instance is ended of that, and says so.
fn ends_of(stage: &Stage, instance: DomainId, kind: CrashKind, words: &str) -> Outcome {
    stage.eventually("it has ended", || Ok(stage.info("guardian")?.id != instance))?;
    let crash_record = stage.control.crash_record(instance)?;
    ensure!(
        crash_record.is_some_and(|text| text.contains(words)),
        "the crash_record says {crash_record:?}, not {kind:?}"
    );
    renew(stage)
}

pub(crate) fn who_gives_up_what_it_is_asked_for_lives_on(stage: &Arc<Stage>) -> Outcome {
    let instance = demand(stage, Behaviour::Comply)?;
    lives_on(stage, instance)
}

pub(crate) fn who_gives_it_up_late_but_in_time_lives_on(stage: &Arc<Stage>) -> Outcome {
    let instance = demand(stage, Behaviour::PassOn)?;
    lives_on(stage, instance)
}

pub(crate) fn who_keeps_it_is_ended(stage: &Arc<Stage>) -> Outcome {
    let began = time::now();
    let instance = demand(stage, Behaviour::Refuse)?;
    ends_of(
        stage,
        instance,
        CrashKind::OverQuota,
        "it was asked to have no more than 8192 bytes of the shared heap, and has",
    )?;
    ensure!(time::now() - began >= DEADLINE, "it was not given the time");
    Ok(())
}

pub(crate) fn who_never_answers_is_ended(stage: &Arc<Stage>) -> Outcome {
    let instance = demand(stage, Behaviour::Hang)?;
    ends_of(
        stage,
        instance,
        CrashKind::OverQuota,
        "it was asked to have no more than 8192 bytes of the shared heap, and has",
    )?;
    // Even if it has complied.
    let instance = demand(stage, Behaviour::ComplyAndHang)?;
    ends_of(stage, instance, CrashKind::Deadline, "its upcall has not come back")
}

pub(crate) fn who_crashes_when_it_is_asked_ends_of_that(stage: &Arc<Stage>) -> Outcome {
    let instance = demand(stage, Behaviour::Crash)?;
    ends_of(stage, instance, CrashKind::Panic, "it was asked to give something up")
}

pub(crate) fn a_demand_ends_with_the_instance_it_was_made_of(stage: &Arc<Stage>) -> Outcome {
    demand(stage, Behaviour::Refuse)?;
    stage.restart("guardian")?;
    let next = stage.info("guardian")?.id;
    for _ in 0..100 {
        stage.guardian.keep_message(message(b"as much as the instance before"))?;
    }
    wait_out();
    ensure_eq!(stage.info("guardian")?.id, next, "the instance after it");
    ensure_eq!(stage.guardian.upcalls()?.demands, 0, "what that was asked");
    renew(stage)
}

pub(crate) fn a_demand_that_another_one_covers_is_not_made_twice(stage: &Arc<Stage>) -> Outcome {
    let instance = demand(stage, Behaviour::Refuse)?;
    stage.eventually("it is asked", || Ok(stage.guardian.upcalls()?.demands == 1))?;
    ensure_eq!(revoke(stage, ALLOWED)?, true, "whether it still has too much");
    ensure_eq!(revoke(stage, ALLOWED * 2)?, true, "whether it has more than twice that");
    time::sleep(Duration::from_millis(50));
    ensure_eq!(stage.guardian.upcalls()?.demands, 1, "demands while one is under way that wants as much");
    // One that wants more is another one, with a deadline of its own. To comply with it is to comply with both.
    stage.guardian.set_behaviour(Behaviour::Comply)?;
    ensure_eq!(revoke(stage, ALLOWED / 2)?, true, "whether it has more than half of that");
    stage.eventually("it is asked", || Ok(stage.guardian.upcalls()?.demands == 2))?;
    wait_out();
    ensure_eq!(stage.info("guardian")?.id, instance, "the guardian, which has complied with the second");
    ensure!(stage.info("guardian")?.shared_bytes <= ALLOWED / 2, "it has more than it may");
    renew(stage)
}

pub(crate) fn who_was_given_too_much_is_found_by_the_census(stage: &Arc<Stage>) -> Outcome {
    renew(stage)?;
    stage.guardian.set_behaviour(Behaviour::Comply)?;
    let instance = stage.info("guardian")?;
    // Whoever is given something pays nothing for it.
    while stage.info("guardian")?.shared_bytes <= instance.shared_quota + 64 * 1024 {
        for _ in 0..200 {
            stage.guardian.keep_message(message(b"a present"))?;
        }
    }
    stage.eventually("it has given it up", || {
        Ok(stage.info("guardian")?.shared_bytes <= instance.shared_quota
            && stage.guardian.upcalls()?.demands > 0)
    })?;
    ensure_eq!(stage.guardian.upcalls()?.allowed, instance.shared_quota, "how much it may keep");
    ensure_eq!(stage.info("guardian")?.id, instance.id, "the guardian");
    // Others were not asked for anything.
    ensure_eq!(stage.elder.upcalls()?.demands, 0, "demands of the elder");
    renew(stage)
}

pub(crate) fn cpu_time_can_be_revoked(stage: &Arc<Stage>) -> Outcome {
    let revoke = || -> Outcome<bool> { Ok(stage.control.revoke(Text::new("guardian"), Resource::Cpu, 30)??) };
    renew(stage)?;
    stage.guardian.set_behaviour(Behaviour::Comply)?;
    let instance = stage.info("guardian")?.id;
    stage.guardian.compute()?;
    ensure_eq!(revoke()?, true, "whether it is asked");
    wait_out();
    ensure_eq!(stage.info("guardian")?.id, instance, "a guardian that has stopped");
    ensure_eq!(stage.guardian.upcalls()?.demands, 1, "how often it was asked");
    stage.guardian.set_behaviour(Behaviour::Refuse)?;
    stage.guardian.compute()?;
    ensure_eq!(revoke()?, true, "whether it is asked again");
    ends_of(stage, instance, CrashKind::OverQuota, "it was asked to have no more than 30 % of a CPU, and has")
}
