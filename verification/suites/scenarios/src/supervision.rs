//! The supervision tree: notifications of crashes, descendants that end together, and quotas reserved from
//! parents.
//!
//! The tree of the manifest: `grandparent`, its child `test-parent`, and that one's children: `child-echo`
//! and `child-relay`, which restart automatically, and `child-never-restarts`, which does not.

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

use crate::context::{Context, Failure, Outcome, ensure, ensure_eq, message, spawn_with_result};

const TREE: [&str; 5] = ["grandparent", "test-parent", "child-echo", "child-relay", "child-never-restarts"];

/// The number of consecutive crashes of a domain of the tree that exceeds its limit (`restart-limit = 2`).
const TOO_MANY: u32 = 3;

/// Restarts the whole tree. Only the crash count of `grandparent` survives this.
pub(crate) fn renew(context: &Context) -> Outcome {
    context.restart("grandparent")?;
    for name in ["test-parent", "child-echo", "child-relay"] {
        context.eventually(name, || Ok(context.info(name)?.state == DomainState::Running))?;
    }
    context.restart("child-never-restarts")
}

/// Makes `echo` panic as soon as it runs. Returns the instance that panicked.
fn crash(context: &Context, name: &str, echo: &Handle<dyn Echo>) -> Outcome<DomainId> {
    let mut died = None;
    context.eventually("the domain runs and panics", || {
        died =
            echo.panic(message(b"it was told to"), 0).err().filter(|error| error.kind() == CrashKind::Panic);
        Ok(died.is_some())
    })?;
    let died = died.ok_or_else(|| Failure(format!("{name} did not panic")))?;
    Ok(died.domain())
}

fn wait_for(context: &Context, names: &[&str]) -> Outcome {
    for name in names {
        context.eventually(name, || Ok(context.info(name)?.state == DomainState::Running))?;
    }
    Ok(())
}

fn crash_record_has(context: &Context, instance: DomainId, words: &str) -> Outcome {
    let crash_record = context.control.crash_record(instance)?;
    ensure!(
        crash_record.is_some_and(|text| text.contains(words)),
        "the crash record says {crash_record:?}, not {words}"
    );
    Ok(())
}

pub(crate) fn a_pending_restart_reports_its_time(context: &Arc<Context>) -> Outcome {
    // Until the restart, calls return an error and do not block. Each crash makes the pause longer, up to a
    // second: if this thread is late for one pause, which proves nothing, it is in time for a later one.
    let due_ns = 'crashes: {
        for _ in 0..50 {
            crash(context, "echo-always-restarts", &context.echo_always_restarts)?;
            let RestartPlan::Restart { due_ns } = context.info("echo-always-restarts")?.restart_plan else {
                continue;
            };
            let error = context.echo_always_restarts.ping(1).map_err(|error| error.kind());
            let is_long = Duration::from_nanos(due_ns) > time::now() + Duration::from_millis(25);
            if is_long {
                ensure_eq!(error, Err(CrashKind::NotRunning), "a call at that time");
                break 'crashes due_ns;
            }
        }
        return Err(Failure("no call has returned before the restart was due".into()));
    };
    context.eventually("the domain runs", || Ok(context.echo_always_restarts.ping(1).is_ok()))?;
    ensure!(time::now() >= Duration::from_nanos(due_ns), "the domain restarted before its announced time");
    ensure_eq!(
        context.info("echo-always-restarts")?.restart_plan,
        RestartPlan::None,
        "the prospect after the restart"
    );
    Ok(())
}

/// Returns the sum of the pauses before the restarts of a domain that fails to start: the first restart is
/// immediate, then 1 ms, 2, 4 ... up to the manifest's limit of 16 ms.
fn pauses(failures: u32) -> Duration {
    let pause = |failure: u32| failure.checked_sub(2).map_or(0, |doublings| 1 << doublings.min(4));
    (1..=failures).map(|failure| Duration::from_millis(pause(failure))).sum()
}

pub(crate) fn a_failing_start_is_retried_at_growing_intervals(context: &Arc<Context>) -> Outcome {
    const FAILURES: u32 = 20;
    let kept = {
        let context = context.clone();
        spawn_with_result(Builder::new(), move || context.holder.read_late(&message(b"kept")).map(drop))?
    };
    context.eventually("the call stays", || Ok(context.holder.pending_calls()? == 1))?;
    let first = context.info("fault-target-fails-while-held")?.id.generation();
    let began = time::now();
    context.kill("fault-target-fails-while-held")?;
    context.eventually("the domain has failed often", || {
        Ok(context.info("fault-target-fails-while-held")?.id.generation() > first + FAILURES)
    })?;
    // The failures had that many pauses in between.
    let took = time::now() - began;
    ensure!(
        took >= pauses(FAILURES),
        "{FAILURES} failures took {took:?}, and the pauses are {:?}",
        pauses(FAILURES)
    );
    context.holder.let_go()?;
    kept.join()?;
    context.eventually("the domain has started", || {
        Ok(context.info("fault-target-fails-while-held")?.state == DomainState::Running)
    })?;
    ensure_eq!(
        context.info("fault-target-fails-while-held")?.restart_plan,
        RestartPlan::None,
        "the prospect"
    );
    Ok(())
}

pub(crate) fn a_parent_is_notified_when_a_child_keeps_crashing(context: &Arc<Context>) -> Outcome {
    renew(context)?;
    context.test_parent.set_behaviour(Behaviour::Comply)?;
    let test_parent = context.info("test-parent")?.id;
    for crashes in 1..=TOO_MANY + 1 {
        crash(context, "child-echo", &context.child_echo)?;
        context.eventually("the child runs", || Ok(context.child_echo.ping(1).is_ok()))?;
        let told = context.test_parent.upcalls()?;
        ensure_eq!(
            told.failures,
            (crashes + 1).saturating_sub(TOO_MANY),
            "the number of notifications of its parent"
        );
        if told.failures > 0 {
            let expected = Some((Text::new("child-echo"), CrashKind::Panic, crashes));
            ensure_eq!(told.child, expected, "the notification of its parent");
        }
    }
    ensure_eq!(context.info("test-parent")?.id, test_parent, "the parent");
    renew(context)
}

pub(crate) fn an_abandoned_child_stays_dead_and_calls_fail_at_once(context: &Arc<Context>) -> Outcome {
    give_up_child_echo(context)?;
    for _ in 0..100 {
        ensure_eq!(
            context.child_echo.ping(1).map_err(|error| error.kind()),
            Err(CrashKind::NotRunning),
            "a call"
        );
    }
    time::sleep(Duration::from_millis(50));
    let child = context.info("child-echo")?;
    ensure_eq!(
        (child.state, child.restart_plan),
        (DomainState::Dead, RestartPlan::GivenUp),
        "the state and prospect"
    );
    // The holder of the control interface overrides the decision.
    context.restart("child-echo")?;
    ensure_eq!(context.child_echo.ping(2)?, 2, "the next instance");
    ensure_eq!(context.info("child-echo")?.restart_plan, RestartPlan::None, "the prospect");
    renew(context)
}

fn give_up_child_echo(context: &Context) -> Outcome {
    renew(context)?;
    context.test_parent.set_behaviour(Behaviour::Refuse)?;
    for _ in 0..TOO_MANY {
        crash(context, "child-echo", &context.child_echo)?;
    }
    context.eventually("the child is abandoned", || {
        Ok(context.info("child-echo")?.restart_plan == RestartPlan::GivenUp)
    })
}

pub(crate) fn a_restart_of_the_parent_resets_the_childs_crash_count(context: &Arc<Context>) -> Outcome {
    give_up_child_echo(context)?;
    context.restart("test-parent")?;
    context.eventually("the child runs", || Ok(context.child_echo.ping(1).is_ok()))?;
    context.test_parent.set_behaviour(Behaviour::Comply)?;
    for _ in 1..TOO_MANY {
        crash(context, "child-echo", &context.child_echo)?;
        context.eventually("the child runs", || Ok(context.child_echo.ping(1).is_ok()))?;
    }
    ensure_eq!(context.test_parent.upcalls()?.failures, 0, "the number of notifications of its parent");
    renew(context)
}

pub(crate) fn an_escalation_restarts_the_parent_and_its_children(context: &Arc<Context>) -> Outcome {
    renew(context)?;
    let (grandparent, test_parent) = (context.info("grandparent")?.id, context.info("test-parent")?.id);
    for _ in 0..TOO_MANY {
        crash(context, "child-echo", &context.child_echo)?;
    }
    context
        .eventually("the test parent is restarted", || Ok(context.info("test-parent")?.id != test_parent))?;
    wait_for(context, &["test-parent", "child-echo", "child-relay"])?;
    crash_record_has(
        context,
        test_parent,
        "it cannot help its child child-echo, which has died 3 times: Panic",
    )?;
    ensure_eq!(context.child_relay.ping(3)?, 3, "the supervision tree");
    ensure_eq!(context.info("grandparent")?.id, grandparent, "the parent's parent");
    renew(context)
}

pub(crate) fn an_escalation_goes_up_two_levels(context: &Arc<Context>) -> Outcome {
    renew(context)?;
    context.grandparent.set_behaviour(Behaviour::PassOn)?;
    let grandparent = context.info("grandparent")?.id;
    // The test parent escalates the crashes of `child-echo`, and ends once too often itself.
    for _ in 0..TOO_MANY {
        let test_parent = context.info("test-parent")?.id;
        for _ in 0..TOO_MANY {
            crash(context, "child-echo", &context.child_echo)?;
        }
        context.eventually("the test parent has ended", || {
            let now = context.info("test-parent")?;
            Ok(now.id != test_parent || now.state == DomainState::Dead)
        })?;
        wait_for(context, &["test-parent", "child-echo"])?;
    }
    context
        .eventually("the grandparent is restarted", || Ok(context.info("grandparent")?.id != grandparent))?;
    wait_for(context, &["grandparent", "test-parent", "child-echo", "child-relay"])?;
    crash_record_has(
        context,
        grandparent,
        "it cannot help its child test-parent, which has died 3 times: Abort",
    )?;
    renew(context)
}

pub(crate) fn a_parent_whose_upcall_hangs_is_ended_and_delays_no_other_restart(
    context: &Arc<Context>,
) -> Outcome {
    renew(context)?;
    context.test_parent.set_behaviour(Behaviour::Hang)?;
    let test_parent = context.info("test-parent")?.id;
    for _ in 0..TOO_MANY {
        crash(context, "child-echo", &context.child_echo)?;
    }
    context.eventually("its parent is notified", || {
        Ok(context.test_parent.upcalls().is_ok_and(|told| told.failures == 1)
            || context.info("test-parent")?.id != test_parent)
    })?;
    // While its upcall hangs, other domains crash and restart.
    for _ in 0..3 {
        crash(context, "left", &context.left)?;
        context.restart("echo")?;
        context.eventually("another domain runs again", || Ok(context.left.ping(1).is_ok()))?;
    }
    context
        .eventually("the test parent is restarted", || Ok(context.info("test-parent")?.id != test_parent))?;
    wait_for(context, &["test-parent", "child-echo", "child-relay"])?;
    crash_record_has(context, test_parent, "it did not decide in time about its child child-echo")?;
    ensure_eq!(context.child_relay.ping(4)?, 4, "the supervision tree");
    renew(context)
}

pub(crate) fn a_parent_that_crashes_in_its_upcall_leaves_its_own_parent_running(
    context: &Arc<Context>,
) -> Outcome {
    renew(context)?;
    context.test_parent.set_behaviour(Behaviour::Crash)?;
    let (grandparent, test_parent) = (context.info("grandparent")?.id, context.info("test-parent")?.id);
    for _ in 0..TOO_MANY {
        crash(context, "child-echo", &context.child_echo)?;
    }
    context
        .eventually("the test parent is restarted", || Ok(context.info("test-parent")?.id != test_parent))?;
    wait_for(context, &["test-parent", "child-echo", "child-relay"])?;
    crash_record_has(context, test_parent, "crash in a failure upcall")?;
    ensure_eq!(context.info("grandparent")?.id, grandparent, "the parent's parent");
    renew(context)
}

pub(crate) fn the_end_of_a_child_ends_no_other_domain(context: &Arc<Context>) -> Outcome {
    renew(context)?;
    let others = ["grandparent", "test-parent", "child-relay", "child-never-restarts"];
    let mut before = [None; 4];
    for (place, name) in before.iter_mut().zip(others) {
        *place = Some(context.info(name)?.id);
    }
    context.kill("child-echo")?;
    context.eventually("the child runs", || Ok(context.child_echo.ping(1).is_ok()))?;
    for (id, name) in before.into_iter().zip(others) {
        ensure_eq!(
            (Some(context.info(name)?.id), context.info(name)?.state),
            (id, DomainState::Running),
            name
        );
    }
    Ok(())
}

pub(crate) fn children_end_with_their_parent_and_return_by_their_policies(context: &Arc<Context>) -> Outcome {
    renew(context)?;
    let (test_parent, child) = (context.info("test-parent")?.id, context.info("child-echo")?.id);
    context.kill("grandparent")?;
    crash_record_has(context, child, "its parent test-parent")?;
    crash_record_has(context, test_parent, "its parent grandparent")?;
    wait_for(context, &["grandparent", "test-parent", "child-echo", "child-relay"])?;
    ensure_eq!(context.child_relay.ping(5)?, 5, "a child that calls another");
    let dead_child = context.info("child-never-restarts")?;
    ensure_eq!(
        (dead_child.state, dead_child.restart_plan),
        (DomainState::Dead, RestartPlan::None),
        "the domain that does not restart"
    );
    // A caller of a domain that ends with its parent gets the error, unless the whole restart happens between
    // two calls.
    let heard = Arc::new(Mutex::new(None));
    let caller = {
        let (context, heard) = (context.clone(), heard.clone());
        spawn_with_result(Builder::new(), move || {
            loop {
                if let Err(error) = context.child_echo.ping(1) {
                    *heard.lock() = Some(error.kind());
                    return;
                }
            }
        })?
    };
    context.eventually("the caller gets an error", || {
        let _ = context.control.restart(Text::new("test-parent"))?;
        Ok(heard.lock().is_some())
    })?;
    caller.join();
    let kind = *heard.lock();
    ensure!(
        matches!(kind, Some(CrashKind::Orphaned | CrashKind::NotRunning)),
        "a caller's error is {kind:?}"
    );
    renew(context)
}

pub(crate) fn no_domain_runs_without_its_parent(context: &Arc<Context>) -> Outcome {
    renew(context)?;
    ensure_eq!(&*context.info("child-echo")?.parent, "test-parent", "the child's parent");
    ensure_eq!(&*context.info("grandparent")?.parent, "kernel", "the grandparent's parent");
    // Its own parent abandons it, so it stays dead for a while.
    context.grandparent.set_behaviour(Behaviour::Refuse)?;
    for _ in 0..TOO_MANY {
        context.eventually("the domain can be killed", || {
            Ok(context.control.kill(Text::new("test-parent"))?.is_ok())
        })?;
    }
    context.eventually("the child is abandoned", || {
        Ok(context.info("test-parent")?.restart_plan == RestartPlan::GivenUp)
    })?;
    let outcome = context.control.restart(Text::new("child-echo"))?;
    ensure_eq!(outcome, Err(ControlError::DidNotStart), "a start without a parent");
    ensure_eq!(context.info("child-echo")?.state, DomainState::Dead, "the child");
    renew(context)
}

/// The thread quotas of the manifest: the test parent's, and that of each of its children.
const THREADS: (u32, u32) = (12, 2);

pub(crate) fn quotas_of_children_are_reserved_from_their_parents(context: &Arc<Context>) -> Outcome {
    renew(context)?;
    let with_all = context.info("test-parent")?;
    ensure_eq!(with_all.thread_quota, THREADS.0 - 3 * THREADS.1, "threads that three children leave");
    context.kill("child-never-restarts")?;
    let without = context.info("test-parent")?;
    ensure_eq!(without.thread_quota, THREADS.0 - 2 * THREADS.1, "threads that two children leave");
    ensure_eq!(without.heap_quota - with_all.heap_quota, 1 << 20, "heap that a child has given back");
    ensure_eq!(
        without.shared_quota - with_all.shared_quota,
        128 << 10,
        "shared heap that a child has given back"
    );
    context.restart("child-never-restarts")?;
    let again = context.info("test-parent")?;
    ensure_eq!((again.heap_quota, again.thread_quota), (with_all.heap_quota, with_all.thread_quota), "later");
    // The quotas are enforced.
    ensure_eq!(context.test_parent.spawn(20)?, again.thread_quota, "threads that it gets");
    let heap = again.heap_quota;
    let kind = context.test_parent.fill_heap(heap).map_err(|error| error.kind());
    ensure_eq!(kind, Err(CrashKind::OutOfMemory), "more heap than its children leave");
    wait_for(context, &["test-parent", "child-echo", "child-relay"])?;
    renew(context)
}

pub(crate) fn a_child_does_not_start_while_its_parent_uses_its_quota(context: &Arc<Context>) -> Outcome {
    renew(context)?;
    context.kill("child-never-restarts")?;
    ensure_eq!(context.test_parent.spawn(20)?, THREADS.0 - 2 * THREADS.1, "threads that two children leave");
    let outcome = context.control.restart(Text::new("child-never-restarts"))?;
    ensure_eq!(outcome, Err(ControlError::DidNotStart), "a start without enough quota");
    let test_parent = context.info("test-parent")?;
    ensure_eq!(test_parent.thread_quota, test_parent.threads, "its quota after that");
    // The resources of an instance return with its end.
    context.restart("test-parent")?;
    context.restart("child-never-restarts")?;
    ensure_eq!(context.child_never_restarts.ping(6)?, 6, "the child that stays dead");
    wait_for(context, &["child-echo", "child-relay"])?;
    renew(context)
}

pub(crate) fn a_supervision_tree_recovers_from_crashes_in_any_order(context: &Arc<Context>) -> Outcome {
    let random = Mutex::new(context.random(u32::MAX));
    renew(context)?;
    let quotas =
        |name: &str| context.info(name).map(|info| (info.heap_quota, info.shared_quota, info.thread_quota));
    let (grandparent, test_parent) = (quotas("grandparent")?, quotas("test-parent")?);
    // A thousand kills on a fast machine, most of them while other domains of the tree are starting.
    context.leaks_nothing(context.rounds(100, 10), |_| {
        for _ in 0..10 {
            let chance = random.lock().below(1 << 20);
            let name = Text::new(TREE[chance as usize % TREE.len()]);
            let outcome = match chance / 8 % 4 {
                0 => context.control.restart(name)?,
                1 => context.control.kill(name)?,
                2 => {
                    let echo = [&context.child_echo, &context.child_relay, &context.child_never_restarts]
                        [chance as usize / 32 % 3];
                    let _ = echo.panic(message(b"at random"), chance as u32 / 128 % 3);
                    Ok(())
                }
                _ => {
                    let _ = context.test_parent.spawn(chance as u32 / 128 % 3);
                    let _ = context.test_parent.keep_message(message(b"in vain"));
                    context.control.kill(name)?
                }
            };
            match outcome {
                Ok(()) | Err(ControlError::WrongState { .. } | ControlError::DidNotStart) => {}
                Err(error) => return Err(error.into()),
            }
            time::sleep(Duration::from_micros(chance / 1024 % 300));
        }
        renew(context)?;
        ensure_eq!(quotas("grandparent")?, grandparent, "the grandparent's quotas");
        ensure_eq!(quotas("test-parent")?, test_parent, "the test parent's quotas");
        ensure_eq!(context.child_relay.ping(7)?, 7, "the supervision tree");
        Ok(())
    })?;
    for name in TREE {
        let info = context.info(name)?;
        ensure_eq!((info.state, info.restart_plan), (DomainState::Running, RestartPlan::None), name);
    }
    Ok(())
}
