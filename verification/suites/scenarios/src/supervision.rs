//! The tree of supervision: who is told of a death, who goes with whom, and whose quotas are whose.
//!
//! The family of the manifest: an elder, its child the guardian, and that one's children: the ward and the pupil, which
//! come back by themselves, and the stray, which does not.

use alloc::format;
use alloc::sync::Arc;
use core::time::Duration;

use coppice_control::{ControlError, DomainState, RestartPlan};
use coppice_example_interfaces::Echo;
use coppice_interfaces::{CrashKind, DomainId, Handle, Text};
use coppice_runtime::sync::Mutex;
use coppice_runtime::thread::Builder;
use coppice_runtime::time;
use coppice_test_interfaces::Behaviour;

use crate::stage::{Failure, Outcome, Stage, ensure, ensure_eq, message, promise};

const FAMILY: [&str; 5] = ["elder", "guardian", "ward", "pupil", "stray"];

/// Deaths in a row of a member of the family of which the last is one too many (`restart-limit = 2`).
const TOO_MANY: u32 = 3;

/// Begins the whole family anew: nobody's earlier deaths count any more but the elder's.
pub(crate) fn renew(stage: &Stage) -> Outcome {
    stage.restart("elder")?;
    for name in ["guardian", "ward", "pupil"] {
        stage.eventually(name, || Ok(stage.info(name)?.state == DomainState::Running))?;
    }
    stage.restart("stray")
}

/// Has `echo` panic as soon as it lives. Answers which instance that was.
fn crash(stage: &Stage, name: &str, echo: &Handle<dyn Echo>) -> Outcome<DomainId> {
    let mut died = None;
    stage.eventually("it lives and panics", || {
        died =
            echo.panic(message(b"it was told to"), 0).err().filter(|error| error.kind() == CrashKind::Panic);
        Ok(died.is_some())
    })?;
    let died = died.ok_or_else(|| Failure(format!("{name} did not panic")))?;
    Ok(died.domain())
}

fn wait_for(stage: &Stage, names: &[&str]) -> Outcome {
    for name in names {
        stage.eventually(name, || Ok(stage.info(name)?.state == DomainState::Running))?;
    }
    Ok(())
}

fn crash_record_has(stage: &Stage, instance: DomainId, words: &str) -> Outcome {
    let crash_record = stage.control.crash_record(instance)?;
    ensure!(
        crash_record.is_some_and(|text| text.contains(words)),
        "the crash_record says {crash_record:?}, not {words}"
    );
    Ok(())
}

pub(crate) fn a_domain_that_waits_for_its_restart_says_until_when(stage: &Arc<Stage>) -> Outcome {
    // Until then, callers hear an error and do not wait. Each crash makes the pause longer, up to a second: if this thread was late
    // for one, which proves nothing, it is in time for another.
    let due_ns = 'crashes: {
        for _ in 0..50 {
            crash(stage, "phoenix", &stage.phoenix)?;
            let RestartPlan::Restart { due_ns } = stage.info("phoenix")?.restart_plan else { continue };
            let error = stage.phoenix.ping(1).map_err(|error| error.kind());
            let is_long = Duration::from_nanos(due_ns) > time::now() + Duration::from_millis(25);
            if is_long {
                ensure_eq!(error, Err(CrashKind::NotRunning), "a call meanwhile");
                break 'crashes due_ns;
            }
        }
        return Err(Failure("no call has returned before the restart was due".into()));
    };
    stage.eventually("it lives", || Ok(stage.phoenix.ping(1).is_ok()))?;
    ensure!(time::now() >= Duration::from_nanos(due_ns), "it came back before it said");
    ensure_eq!(stage.info("phoenix")?.restart_plan, RestartPlan::None, "what is planned for it then");
    Ok(())
}

/// Pauses of a domain that cannot start, in the manifest's words: the first restart is immediate, then 1 ms, 2, 4 ... up to 16.
fn pauses(failures: u32) -> Duration {
    let pause = |failure: u32| failure.checked_sub(2).map_or(0, |doublings| 1 << doublings.min(4));
    (1..=failures).map(|failure| Duration::from_millis(pause(failure))).sum()
}

pub(crate) fn a_domain_that_cannot_start_is_tried_less_and_less_often(stage: &Arc<Stage>) -> Outcome {
    const FAILURES: u32 = 20;
    let kept = {
        let stage = stage.clone();
        promise(Builder::new(), move || stage.keeper.read_late(&message(b"kept")).map(drop))?
    };
    stage.eventually("the call stays", || Ok(stage.keeper.pending_calls()? == 1))?;
    let first = stage.info("unready")?.id.generation();
    let began = time::now();
    stage.kill("unready")?;
    stage.eventually("it has failed often", || {
        Ok(stage.info("unready")?.id.generation() > first + FAILURES)
    })?;
    // Before the instance after those failures there were that many pauses.
    let took = time::now() - began;
    ensure!(
        took >= pauses(FAILURES),
        "{FAILURES} failures took {took:?}, and the pauses are {:?}",
        pauses(FAILURES)
    );
    stage.keeper.let_go()?;
    kept.keep()?;
    stage.eventually("it has started", || Ok(stage.info("unready")?.state == DomainState::Running))?;
    ensure_eq!(stage.info("unready")?.restart_plan, RestartPlan::None, "its prospect");
    Ok(())
}

pub(crate) fn a_parent_is_told_when_a_child_keeps_crashing(stage: &Arc<Stage>) -> Outcome {
    renew(stage)?;
    stage.guardian.set_behaviour(Behaviour::Comply)?;
    let guardian = stage.info("guardian")?.id;
    for crashes in 1..=TOO_MANY + 1 {
        crash(stage, "ward", &stage.ward)?;
        stage.eventually("the ward lives", || Ok(stage.ward.ping(1).is_ok()))?;
        let told = stage.guardian.upcalls()?;
        ensure_eq!(told.failures, (crashes + 1).saturating_sub(TOO_MANY), "how often its parent was told");
        if told.failures > 0 {
            let expected = Some((Text::new("ward"), CrashKind::Panic, crashes));
            ensure_eq!(told.child, expected, "what its parent was told");
        }
    }
    ensure_eq!(stage.info("guardian")?.id, guardian, "the parent");
    renew(stage)
}

pub(crate) fn a_child_that_is_given_up_stays_dead_and_callers_hear_at_once(stage: &Arc<Stage>) -> Outcome {
    give_the_ward_up(stage)?;
    for _ in 0..100 {
        ensure_eq!(stage.ward.ping(1).map_err(|error| error.kind()), Err(CrashKind::NotRunning), "a call");
    }
    time::sleep(Duration::from_millis(50));
    let ward = stage.info("ward")?;
    ensure_eq!(
        (ward.state, ward.restart_plan),
        (DomainState::Dead, RestartPlan::GivenUp),
        "what becomes of it"
    );
    // Whoever has the authority knows better.
    stage.restart("ward")?;
    ensure_eq!(stage.ward.ping(2)?, 2, "its next instance");
    ensure_eq!(stage.info("ward")?.restart_plan, RestartPlan::None, "what is planned for it");
    renew(stage)
}

fn give_the_ward_up(stage: &Stage) -> Outcome {
    renew(stage)?;
    stage.guardian.set_behaviour(Behaviour::Refuse)?;
    for _ in 0..TOO_MANY {
        crash(stage, "ward", &stage.ward)?;
    }
    stage.eventually("it is given up", || Ok(stage.info("ward")?.restart_plan == RestartPlan::GivenUp))
}

pub(crate) fn a_child_whose_parent_begins_anew_is_forgiven(stage: &Arc<Stage>) -> Outcome {
    give_the_ward_up(stage)?;
    stage.restart("guardian")?;
    stage.eventually("the ward lives", || Ok(stage.ward.ping(1).is_ok()))?;
    stage.guardian.set_behaviour(Behaviour::Comply)?;
    for _ in 1..TOO_MANY {
        crash(stage, "ward", &stage.ward)?;
        stage.eventually("the ward lives", || Ok(stage.ward.ping(1).is_ok()))?;
    }
    ensure_eq!(stage.guardian.upcalls()?.failures, 0, "how often its parent was told");
    renew(stage)
}

pub(crate) fn an_escalation_ends_the_parent_and_brings_all_back(stage: &Arc<Stage>) -> Outcome {
    renew(stage)?;
    let (elder, guardian) = (stage.info("elder")?.id, stage.info("guardian")?.id);
    for _ in 0..TOO_MANY {
        crash(stage, "ward", &stage.ward)?;
    }
    stage.eventually("the guardian begins anew", || Ok(stage.info("guardian")?.id != guardian))?;
    wait_for(stage, &["guardian", "ward", "pupil"])?;
    crash_record_has(stage, guardian, "it cannot help its child ward, which has died 3 times: Panic")?;
    ensure_eq!(stage.pupil.ping(3)?, 3, "the family");
    ensure_eq!(stage.info("elder")?.id, elder, "the parent's parent");
    renew(stage)
}

pub(crate) fn an_escalation_goes_up_two_levels(stage: &Arc<Stage>) -> Outcome {
    renew(stage)?;
    stage.elder.set_behaviour(Behaviour::PassOn)?;
    let elder = stage.info("elder")?.id;
    // The guardian passes on what it hears of the ward, and ends of that once too often itself.
    for _ in 0..TOO_MANY {
        let guardian = stage.info("guardian")?.id;
        for _ in 0..TOO_MANY {
            crash(stage, "ward", &stage.ward)?;
        }
        stage.eventually("the guardian has ended", || {
            let now = stage.info("guardian")?;
            Ok(now.id != guardian || now.state == DomainState::Dead)
        })?;
        wait_for(stage, &["guardian", "ward"])?;
    }
    stage.eventually("the elder begins anew", || Ok(stage.info("elder")?.id != elder))?;
    wait_for(stage, &["elder", "guardian", "ward", "pupil"])?;
    crash_record_has(stage, elder, "it cannot help its child guardian, which has died 3 times: Abort")?;
    renew(stage)
}

pub(crate) fn a_parent_that_does_not_answer_is_ended_and_holds_up_nobody(stage: &Arc<Stage>) -> Outcome {
    renew(stage)?;
    stage.guardian.set_behaviour(Behaviour::Hang)?;
    let guardian = stage.info("guardian")?.id;
    for _ in 0..TOO_MANY {
        crash(stage, "ward", &stage.ward)?;
    }
    stage.eventually("its parent is told", || {
        Ok(stage.guardian.upcalls().is_ok_and(|told| told.failures == 1)
            || stage.info("guardian")?.id != guardian)
    })?;
    // While that one thinks about it, others come and go.
    for _ in 0..3 {
        crash(stage, "left", &stage.left)?;
        stage.restart("echo")?;
        stage.eventually("another one lives again", || Ok(stage.left.ping(1).is_ok()))?;
    }
    stage.eventually("the guardian begins anew", || Ok(stage.info("guardian")?.id != guardian))?;
    wait_for(stage, &["guardian", "ward", "pupil"])?;
    crash_record_has(stage, guardian, "it did not decide in time about its child ward")?;
    ensure_eq!(stage.pupil.ping(4)?, 4, "the family");
    renew(stage)
}

pub(crate) fn a_parent_that_crashes_when_it_is_told_takes_nobody_else_along(stage: &Arc<Stage>) -> Outcome {
    renew(stage)?;
    stage.guardian.set_behaviour(Behaviour::Crash)?;
    let (elder, guardian) = (stage.info("elder")?.id, stage.info("guardian")?.id);
    for _ in 0..TOO_MANY {
        crash(stage, "ward", &stage.ward)?;
    }
    stage.eventually("the guardian begins anew", || Ok(stage.info("guardian")?.id != guardian))?;
    wait_for(stage, &["guardian", "ward", "pupil"])?;
    crash_record_has(stage, guardian, "a child is failing")?;
    ensure_eq!(stage.info("elder")?.id, elder, "the parent's parent");
    renew(stage)
}

pub(crate) fn the_end_of_a_child_concerns_the_child_alone(stage: &Arc<Stage>) -> Outcome {
    renew(stage)?;
    let others = ["elder", "guardian", "pupil", "stray"];
    let mut before = [None; 4];
    for (place, name) in before.iter_mut().zip(others) {
        *place = Some(stage.info(name)?.id);
    }
    stage.kill("ward")?;
    stage.eventually("the ward lives", || Ok(stage.ward.ping(1).is_ok()))?;
    for (id, name) in before.into_iter().zip(others) {
        ensure_eq!((Some(stage.info(name)?.id), stage.info(name)?.state), (id, DomainState::Running), name);
    }
    Ok(())
}

pub(crate) fn orphans_end_with_their_parent_and_come_back_by_their_policies(stage: &Arc<Stage>) -> Outcome {
    renew(stage)?;
    let (guardian, ward) = (stage.info("guardian")?.id, stage.info("ward")?.id);
    stage.kill("elder")?;
    crash_record_has(stage, ward, "its parent guardian")?;
    crash_record_has(stage, guardian, "its parent elder")?;
    wait_for(stage, &["elder", "guardian", "ward", "pupil"])?;
    ensure_eq!(stage.pupil.ping(5)?, 5, "a child that calls another");
    let stray = stage.info("stray")?;
    ensure_eq!(
        (stray.state, stray.restart_plan),
        (DomainState::Dead, RestartPlan::None),
        "who does not come back"
    );
    // Who calls an orphan hears of it, unless all of it happens between two calls.
    let heard = Arc::new(Mutex::new(None));
    let caller = {
        let (stage, heard) = (stage.clone(), heard.clone());
        promise(Builder::new(), move || {
            loop {
                if let Err(error) = stage.ward.ping(1) {
                    *heard.lock() = Some(error.kind());
                    return;
                }
            }
        })?
    };
    stage.eventually("the caller hears of it", || {
        let _ = stage.control.restart(Text::new("guardian"))?;
        Ok(heard.lock().is_some())
    })?;
    caller.keep();
    let kind = *heard.lock();
    ensure!(
        matches!(kind, Some(CrashKind::Orphaned | CrashKind::NotRunning)),
        "a caller hears that the ward has died of {kind:?}"
    );
    renew(stage)
}

pub(crate) fn nobody_lives_without_a_parent(stage: &Arc<Stage>) -> Outcome {
    renew(stage)?;
    ensure_eq!(&*stage.info("ward")?.parent, "guardian", "the ward's parent");
    ensure_eq!(&*stage.info("elder")?.parent, "kernel", "the elder's parent");
    // Given up by its own parent, so that it stays dead for a while.
    stage.elder.set_behaviour(Behaviour::Refuse)?;
    for _ in 0..TOO_MANY {
        stage.eventually("it can be killed", || Ok(stage.control.kill(Text::new("guardian"))?.is_ok()))?;
    }
    stage
        .eventually("it is given up", || Ok(stage.info("guardian")?.restart_plan == RestartPlan::GivenUp))?;
    let outcome = stage.control.restart(Text::new("ward"))?;
    ensure_eq!(outcome, Err(ControlError::DidNotStart), "a start without a parent");
    ensure_eq!(stage.info("ward")?.state, DomainState::Dead, "the ward");
    renew(stage)
}

/// Threads of the manifest's guardian, and those of each of its children.
const THREADS: (u32, u32) = (12, 2);

pub(crate) fn quotas_of_children_come_out_of_their_parents(stage: &Arc<Stage>) -> Outcome {
    renew(stage)?;
    let with_all = stage.info("guardian")?;
    ensure_eq!(with_all.thread_quota, THREADS.0 - 3 * THREADS.1, "threads that three children leave");
    stage.kill("stray")?;
    let without = stage.info("guardian")?;
    ensure_eq!(without.thread_quota, THREADS.0 - 2 * THREADS.1, "threads that two children leave");
    ensure_eq!(without.heap_quota - with_all.heap_quota, 1 << 20, "heap that a child has given back");
    ensure_eq!(without.shared_quota - with_all.shared_quota, 128 << 10, "shared heap likewise");
    stage.restart("stray")?;
    let again = stage.info("guardian")?;
    ensure_eq!((again.heap_quota, again.thread_quota), (with_all.heap_quota, with_all.thread_quota), "later");
    // And they bind.
    ensure_eq!(stage.guardian.spawn(20)?, again.thread_quota, "threads that it gets");
    let heap = again.heap_quota;
    let kind = stage.guardian.fill_heap(heap).map_err(|error| error.kind());
    ensure_eq!(kind, Err(CrashKind::OutOfMemory), "more heap than its children leave");
    wait_for(stage, &["guardian", "ward", "pupil"])?;
    renew(stage)
}

pub(crate) fn a_child_does_not_start_while_its_parent_has_its_share(stage: &Arc<Stage>) -> Outcome {
    renew(stage)?;
    stage.kill("stray")?;
    ensure_eq!(stage.guardian.spawn(20)?, THREADS.0 - 2 * THREADS.1, "threads that two children leave");
    let outcome = stage.control.restart(Text::new("stray"))?;
    ensure_eq!(outcome, Err(ControlError::DidNotStart), "a start on nothing");
    let guardian = stage.info("guardian")?;
    ensure_eq!(guardian.thread_quota, guardian.threads, "its quota after that");
    // What it has is taken back with its instance.
    stage.restart("guardian")?;
    stage.restart("stray")?;
    ensure_eq!(stage.stray.ping(6)?, 6, "the stray");
    wait_for(stage, &["ward", "pupil"])?;
    renew(stage)
}

pub(crate) fn a_family_is_whole_after_crashes_in_any_order(stage: &Arc<Stage>) -> Outcome {
    let random = Mutex::new(stage.random(u32::MAX));
    renew(stage)?;
    let quotas =
        |name: &str| stage.info(name).map(|info| (info.heap_quota, info.shared_quota, info.thread_quota));
    let (elder, guardian) = (quotas("elder")?, quotas("guardian")?);
    // A thousand ends where time is not dear, most of them while others of the family are coming up.
    stage.leaks_nothing(stage.rounds(100, 10), |_| {
        for _ in 0..10 {
            let chance = random.lock().below(1 << 20);
            let name = Text::new(FAMILY[chance as usize % FAMILY.len()]);
            let outcome = match chance / 8 % 4 {
                0 => stage.control.restart(name)?,
                1 => stage.control.kill(name)?,
                2 => {
                    let echo = [&stage.ward, &stage.pupil, &stage.stray][chance as usize / 32 % 3];
                    let _ = echo.panic(message(b"at random"), chance as u32 / 128 % 3);
                    Ok(())
                }
                _ => {
                    let _ = stage.guardian.spawn(chance as u32 / 128 % 3);
                    let _ = stage.guardian.keep_message(message(b"in vain"));
                    stage.control.kill(name)?
                }
            };
            match outcome {
                Ok(()) | Err(ControlError::WrongState { .. } | ControlError::DidNotStart) => {}
                Err(error) => return Err(error.into()),
            }
            time::sleep(Duration::from_micros(chance / 1024 % 300));
        }
        renew(stage)?;
        ensure_eq!(quotas("elder")?, elder, "the elder's quotas");
        ensure_eq!(quotas("guardian")?, guardian, "the guardian's quotas");
        ensure_eq!(stage.pupil.ping(7)?, 7, "the family");
        Ok(())
    })?;
    for name in FAMILY {
        let info = stage.info(name)?;
        ensure_eq!((info.state, info.restart_plan), (DomainState::Running, RestartPlan::None), name);
    }
    Ok(())
}
