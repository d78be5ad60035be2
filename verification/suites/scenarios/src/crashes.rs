//! Crashes of domains, and the errors that their callers get.

use alloc::sync::Arc;
use core::time::Duration;

use coppice_control::{ControlError, DomainState, RestartPlan};
use coppice_interfaces::{CrashKind, DomainId, Text};
use coppice_runtime::thread::Builder;
use coppice_runtime::time;

use crate::context::{Context, Outcome, SOON, ensure, ensure_eq, message, spawn_with_result, sum};

pub(crate) fn a_panic_returns_to_the_caller_with_its_domain_and_cause(context: &Arc<Context>) -> Outcome {
    let victim = context.info("echo")?.id;
    let own = context.own()?.shared_objects;
    let Err(error) = context.echo.panic(message(b"last words"), 3) else {
        ensure!(false, "a panicking call returned a result");
        return Ok(());
    };
    ensure_eq!(error.domain(), victim, "the dead domain");
    ensure_eq!(error.kind(), CrashKind::Panic, "the cause");
    let crash_record = context.control.crash_record(victim)?;
    ensure!(
        crash_record
            .is_some_and(|text| text.contains("last words") && text.contains("examples/echo/src/lib.rs:")),
        "the crash record says {crash_record:?}"
    );
    ensure_eq!(context.info("echo")?.state, DomainState::Dead, "the state afterwards");
    ensure_eq!(context.info("echo")?.shared_objects, 0, "the dead domain's objects");
    ensure_eq!(context.own()?.shared_objects, own, "own objects, without the argument");
    context.restart("echo")
}

pub(crate) fn a_panic_deep_in_a_chain_reaches_each_level(context: &Arc<Context>) -> Outcome {
    let (echo, left, right) = (context.info("echo")?.id, context.info("left")?.id, context.info("right")?.id);
    let error = context.right.panic(message(b"deep"), 2).err();
    ensure_eq!(
        error.map(|error| (error.domain(), error.kind())),
        Some((echo, CrashKind::Panic)),
        "the scenario's error"
    );
    for (name, id) in [("left", left), ("right", right)] {
        let info = context.info(name)?;
        ensure_eq!((info.id, info.state), (id, DomainState::Running), name);
    }
    context.restart("echo")?;
    ensure_eq!(context.right.ping(5)?, 5, "the chain after the restart");
    // A middle link that dies is named in the error, and the ends of the chain keep running.
    let deep = spawn_with_result(Builder::new(), {
        let context = context.clone();
        move || {
            let read = message(b"read while the reader's caller dies");
            context.holder.read_late(&read)
        }
    })?;
    context.eventually("a call stays with the holder", || Ok(context.holder.pending_calls()? == 1))?;
    context.kill("right")?;
    ensure_eq!(
        context.right.ping(6).map_err(|error| error.kind()),
        Err(CrashKind::NotRunning),
        "a dead link"
    );
    ensure_eq!(context.echo.ping(6)?, 6, "the end of the chain");
    context.holder.let_go()?;
    ensure_eq!(deep.join()?, sum(b"read while the reader's caller dies"), "an unrelated call");
    context.restart("right")
}

pub(crate) fn a_caller_in_the_middle_can_handle_a_panic(context: &Arc<Context>) -> Outcome {
    let (echo, fault_target) = (context.info("echo")?.id, context.info("fault-target")?.id);
    let heard = context.fault_target.crash_echo()?;
    ensure_eq!(
        heard.map(|error| (error.domain(), error.kind())),
        Some((echo, CrashKind::Panic)),
        "the error in the middle"
    );
    ensure_eq!(context.info("fault-target")?.id, fault_target, "the domain in the middle");
    context.restart("echo")
}

pub(crate) fn a_call_into_a_dead_domain_fails_at_once(context: &Arc<Context>) -> Outcome {
    let instance = context.info("echo")?.id;
    context.kill("echo")?;
    let own = context.own()?.shared_objects;
    for _ in 0..100 {
        let error = context.echo.echo(message(b"to nobody")).err();
        ensure_eq!(
            error.map(|error| (error.domain(), error.kind())),
            Some((instance, CrashKind::NotRunning)),
            "error"
        );
    }
    ensure_eq!(context.own()?.shared_objects, own, "own objects, after the arguments were dropped");
    context.restart("echo")
}

pub(crate) fn handles_follow_a_restart(context: &Arc<Context>) -> Outcome {
    for _ in 0..3 {
        let before = context.info("echo")?.id;
        context.restart("echo")?;
        let after = context.info("echo")?.id;
        ensure_eq!(
            (after.slot(), after.generation()),
            (before.slot(), before.generation() + 1),
            "the new instance"
        );
        ensure_eq!(context.echo.ping(7)?, 7, "the scenario's handle");
        ensure_eq!(context.right.ping(8)?, 8, "a handle that another domain holds");
    }
    let generation = context.info("echo")?.id.generation();
    context.control.reload(Text::new("echo"))??;
    ensure_eq!(context.info("echo")?.id.generation(), generation + 1, "the instance after a reload");
    ensure_eq!(context.echo.ping(9)?, 9, "the scenario's handle after a reload");
    Ok(())
}

pub(crate) fn a_restart_begins_with_pristine_data(context: &Arc<Context>) -> Outcome {
    context.restart("fault-target")?;
    for _ in 0..2 {
        ensure_eq!(context.fault_target.count()?, 1, "the first call of an instance");
        ensure_eq!(context.fault_target.count()?, 2, "the second call of an instance");
        ensure_eq!(context.fault_target.count()?, 3, "the third call of an instance");
        context.restart("fault-target")?;
    }
    Ok(())
}

/// A depth beyond any stack.
const TOO_DEEP: u32 = 1_000_000;

pub(crate) fn a_stack_overflow_ends_only_its_domain(context: &Arc<Context>) -> Outcome {
    ensure_eq!(context.fault_target.recurse(100)?, 100, "a finite recursion");
    let kind = context.fault_target.recurse(TOO_DEEP).map_err(|error| error.kind());
    ensure_eq!(kind, Err(CrashKind::StackOverflow), "a recursion into the guard page");
    context.restart("fault-target")
}

pub(crate) fn a_stack_overflow_in_a_kernel_call_ends_only_its_domain(context: &Arc<Context>) -> Outcome {
    // Each frame of the recursion requests a shared object from the kernel.
    let kind = context.echo.panic(message(b"never said"), TOO_DEEP).map_err(|error| error.kind());
    ensure_eq!(kind, Err(CrashKind::StackOverflow), "a recursion into the kernel");
    context.restart("echo")
}

pub(crate) fn a_domain_with_a_restart_policy_restarts(context: &Arc<Context>) -> Outcome {
    let before = context.info("echo-always-restarts")?.id;
    ensure!(
        context.echo_always_restarts.panic(message(b"and back"), 0).is_err(),
        "a panicking call returned a result"
    );
    context.eventually("the echo answers again", || Ok(context.echo_always_restarts.ping(1).is_ok()))?;
    ensure_eq!(
        context.info("echo-always-restarts")?.id.generation(),
        before.generation() + 1,
        "the generation"
    );
    Ok(())
}

pub(crate) fn a_crash_loop_is_delayed_but_not_stopped(context: &Arc<Context>) -> Outcome {
    let mut longest = Duration::ZERO;
    for _ in 0..19 {
        let began = time::now();
        let deadline = began + SOON;
        // Calls during the pause return an error and do not block.
        while context.echo_always_restarts.ping(1).is_err() {
            ensure!(time::now() < deadline, "the echo does not restart");
            time::sleep(Duration::from_micros(200));
        }
        longest = longest.max(time::now() - began);
        ensure!(
            context.echo_always_restarts.panic(message(b"again"), 0).is_err(),
            "a panicking call returned a result"
        );
    }
    ensure!(longest > Duration::from_millis(50), "no pause was longer than {longest:?}");
    // Another domain with restart policy `always` does not wait for this one, which has the longest pause
    // now.
    context.kill("left")?;
    context.eventually("the left link answers", || Ok(context.left.ping(1).is_ok()))?;
    ensure!(context.echo_always_restarts.ping(1).is_err(), "another domain waited with it");
    context.restart("echo-always-restarts")
}

pub(crate) fn a_domain_is_refused_a_restart_after_its_last_generation(context: &Arc<Context>) -> Outcome {
    // The kernel begins with this domain three generations before the last one.
    const NAME: &str = "echo-last-generations";
    let first = context.info(NAME)?;
    ensure_eq!(first.id.generation(), DomainId::LAST_GENERATION - 3, "the first generation");
    for generation in DomainId::LAST_GENERATION - 2..=DomainId::LAST_GENERATION {
        context.restart(NAME)?;
        let answer = context.echo_last_generations.echo(message(b"late"))?;
        ensure_eq!(answer[..], *b"late", "the answer of a late generation");
        ensure_eq!(context.info(NAME)?.id.generation(), generation, "the generation");
        context.audit_is_clean()?;
    }
    // The last instance crashes. Neither its restart policy nor a call restarts it.
    let error = context.echo_last_generations.panic(message(b"the last"), 0).err();
    ensure_eq!(
        error.map(|error| (error.kind(), error.domain().generation())),
        Some((CrashKind::Panic, DomainId::LAST_GENERATION)),
        "the caller's error"
    );
    context.eventually("the kernel has tried to restart it", || {
        let now = context.info(NAME)?;
        Ok(now.state == DomainState::Dead && now.restart_plan == RestartPlan::None)
    })?;
    let name = Text::new(NAME);
    ensure_eq!(context.control.restart(name)?, Err(ControlError::DidNotStart), "a restart by a call");
    ensure_eq!(context.control.reload(name)?, Err(ControlError::DidNotStart), "a reload by a call");
    let error = context.echo_last_generations.ping(1).err();
    ensure_eq!(error.map(|error| error.kind()), Some(CrashKind::NotRunning), "the error of a later call");
    ensure_eq!(context.echo.ping(2)?, 2, "the answer of another domain");
    Ok(())
}

pub(crate) fn a_panic_in_a_domains_own_thread_ends_the_domain(context: &Arc<Context>) -> Outcome {
    let instance = context.info("fault-target")?.id;
    // The thread may be faster than the answer.
    let _ = context.fault_target.panic_in_thread();
    context.eventually("the fault target is dead", || {
        Ok(context.info("fault-target")?.state == DomainState::Dead)
    })?;
    let crash_record = context.control.crash_record(instance)?;
    ensure!(
        crash_record.is_some_and(|text| text.contains("a panic in a new thread")),
        "the crash record says {crash_record:?}"
    );
    context.restart("fault-target")
}

pub(crate) fn a_kill_returns_an_error_to_the_callers_inside(context: &Arc<Context>) -> Outcome {
    let instance = context.info("holder")?.id;
    let callers = context.cpus * 2;
    let calls: Result<alloc::vec::Vec<_>, _> = (0..callers)
        .map(|number| {
            let context = context.clone();
            let builder = Builder::new().affinity(1 << (number % context.cpus));
            spawn_with_result(builder, move || {
                context
                    .holder
                    .read_late(&message(b"never read"))
                    .map_err(|error| (error.domain(), error.kind()))
            })
        })
        .collect();
    context.eventually("all calls stay", || Ok(context.holder.pending_calls()? == callers))?;
    context.kill("holder")?;
    for call in calls? {
        ensure_eq!(call.join(), Err((instance, CrashKind::Killed)), "the caller's error");
    }
    context.restart("holder")
}

pub(crate) fn a_borrowed_object_survives_the_crash_of_its_reader(context: &Arc<Context>) -> Outcome {
    let own = context.own()?.shared_objects;
    let call = {
        let context = context.clone();
        spawn_with_result(Builder::new(), move || {
            let read = message(b"still here");
            let failed = context.holder.read_late(&read).is_err();
            (failed, read)
        })?
    };
    context.eventually("a call stays", || Ok(context.holder.pending_calls()? == 1))?;
    context.kill("holder")?;
    let (failed, read) = call.join();
    ensure!(failed, "a dead domain returned a result");
    ensure_eq!(read[..], b"still here"[..], "content");
    ensure_eq!(context.own()?.shared_objects, own + 1, "own objects");
    context.restart("holder")
}

pub(crate) fn restarts_of_oneself_or_of_unknown_domains_are_refused(context: &Arc<Context>) -> Outcome {
    ensure_eq!(context.control.restart(Text::new("scenarios"))?, Err(ControlError::Itself), "ourselves");
    let name = Text::new("nobody");
    ensure_eq!(
        context.control.restart(name)?,
        Err(ControlError::NoSuchDomain { name }),
        "restart of an unknown domain"
    );
    ensure_eq!(
        context.control.kill(name)?,
        Err(ControlError::NoSuchDomain { name }),
        "kill of an unknown domain"
    );
    context.kill("echo")?;
    let state = DomainState::Dead;
    ensure_eq!(
        context.control.kill(Text::new("echo"))?,
        Err(ControlError::WrongState { state }),
        "kill of a dead domain"
    );
    context.restart("echo")
}
