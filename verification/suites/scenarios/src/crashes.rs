//! Domains that end, and what others hear of it.

use alloc::sync::Arc;
use core::time::Duration;

use coppice_control::{ControlError, DomainState};
use coppice_interfaces::{CrashKind, Text};
use coppice_runtime::thread::Builder;
use coppice_runtime::time;

use crate::stage::{Outcome, SOON, Stage, ensure, ensure_eq, message, promise, sum};

pub(crate) fn a_panic_unwinds_to_the_caller_and_says_who_died_of_what(stage: &Arc<Stage>) -> Outcome {
    let victim = stage.info("echo")?.id;
    let own = stage.own()?.shared_objects;
    let Err(error) = stage.echo.panic(message(b"last words"), 3) else {
        ensure!(false, "a panic answers");
        return Ok(());
    };
    ensure_eq!(error.domain(), victim, "who died");
    ensure_eq!(error.kind(), CrashKind::Panic, "of what");
    let crash_record = stage.control.crash_record(victim)?;
    ensure!(
        crash_record
            .is_some_and(|text| text.contains("last words") && text.contains("examples/echo/src/lib.rs:")),
        "the crash_record says {crash_record:?}"
    );
    ensure_eq!(stage.info("echo")?.state, DomainState::Dead, "the state afterwards");
    ensure_eq!(stage.info("echo")?.shared_objects, 0, "the dead domain's objects");
    ensure_eq!(stage.own()?.shared_objects, own, "our objects: the argument went with it");
    stage.restart("echo")
}

pub(crate) fn a_panic_deep_in_a_chain_reaches_each_level(stage: &Arc<Stage>) -> Outcome {
    let (echo, left, right) = (stage.info("echo")?.id, stage.info("left")?.id, stage.info("right")?.id);
    let error = stage.right.panic(message(b"deep"), 2).err();
    ensure_eq!(
        error.map(|error| (error.domain(), error.kind())),
        Some((echo, CrashKind::Panic)),
        "what we hear"
    );
    for (name, id) in [("left", left), ("right", right)] {
        let info = stage.info(name)?;
        ensure_eq!((info.id, info.state), (id, DomainState::Running), name);
    }
    stage.restart("echo")?;
    ensure_eq!(stage.right.ping(5)?, 5, "the chain after the restart");
    // A middle link that dies says so, and the ends live on.
    let deep = promise(Builder::new(), {
        let stage = stage.clone();
        move || {
            let read = message(b"read while the reader's caller dies");
            stage.keeper.read_late(&read)
        }
    })?;
    stage.eventually("a call stays with the keeper", || Ok(stage.keeper.pending_calls()? == 1))?;
    stage.kill("right")?;
    ensure_eq!(stage.right.ping(6).map_err(|error| error.kind()), Err(CrashKind::NotRunning), "a dead link");
    ensure_eq!(stage.echo.ping(6)?, 6, "the end of the chain");
    stage.keeper.let_go()?;
    ensure_eq!(
        deep.keep()?,
        sum(b"read while the reader's caller dies"),
        "a call that has nothing to do with it"
    );
    stage.restart("right")
}

pub(crate) fn a_caller_in_the_middle_can_handle_a_panic(stage: &Arc<Stage>) -> Outcome {
    let (echo, subject) = (stage.info("echo")?.id, stage.info("subject")?.id);
    let heard = stage.subject.crash_echo()?;
    ensure_eq!(
        heard.map(|error| (error.domain(), error.kind())),
        Some((echo, CrashKind::Panic)),
        "what it heard"
    );
    ensure_eq!(stage.info("subject")?.id, subject, "the domain in the middle");
    stage.restart("echo")
}

pub(crate) fn a_call_into_a_dead_domain_fails_at_once(stage: &Arc<Stage>) -> Outcome {
    let instance = stage.info("echo")?.id;
    stage.kill("echo")?;
    let own = stage.own()?.shared_objects;
    for _ in 0..100 {
        let error = stage.echo.echo(message(b"to nobody")).err();
        ensure_eq!(
            error.map(|error| (error.domain(), error.kind())),
            Some((instance, CrashKind::NotRunning)),
            "error"
        );
    }
    ensure_eq!(stage.own()?.shared_objects, own, "our objects: the arguments are dropped");
    stage.restart("echo")
}

pub(crate) fn handles_follow_a_restart(stage: &Arc<Stage>) -> Outcome {
    for _ in 0..3 {
        let before = stage.info("echo")?.id;
        stage.restart("echo")?;
        let after = stage.info("echo")?.id;
        ensure_eq!(
            (after.slot(), after.generation()),
            (before.slot(), before.generation() + 1),
            "the new instance"
        );
        ensure_eq!(stage.echo.ping(7)?, 7, "our handle");
        ensure_eq!(stage.right.ping(8)?, 8, "a handle that another domain holds");
    }
    let generation = stage.info("echo")?.id.generation();
    stage.control.reload(Text::new("echo"))??;
    ensure_eq!(stage.info("echo")?.id.generation(), generation + 1, "the instance after a reload");
    ensure_eq!(stage.echo.ping(9)?, 9, "our handle after a reload");
    Ok(())
}

pub(crate) fn a_restart_begins_with_pristine_data(stage: &Arc<Stage>) -> Outcome {
    stage.restart("subject")?;
    for _ in 0..2 {
        ensure_eq!(stage.subject.count()?, 1, "the first call of a instance");
        ensure_eq!(stage.subject.count()?, 2, "the second call of a instance");
        ensure_eq!(stage.subject.count()?, 3, "the third call of a instance");
        stage.restart("subject")?;
    }
    Ok(())
}

/// Deeper than any stack.
const TOO_DEEP: u32 = 1_000_000;

pub(crate) fn a_domain_that_uses_up_its_stack_ends_alone(stage: &Arc<Stage>) -> Outcome {
    ensure_eq!(stage.subject.recurse(100)?, 100, "a recursion that has an end");
    let kind = stage.subject.recurse(TOO_DEEP).map_err(|error| error.kind());
    ensure_eq!(kind, Err(CrashKind::StackOverflow), "a recursion into the guard page");
    stage.restart("subject")
}

pub(crate) fn a_domain_that_leaves_the_kernel_no_stack_ends_alone(stage: &Arc<Stage>) -> Outcome {
    // Each of its frames asks the kernel for a shared object.
    let kind = stage.echo.panic(message(b"never said"), TOO_DEEP).map_err(|error| error.kind());
    ensure_eq!(kind, Err(CrashKind::StackOverflow), "a recursion into the kernel");
    stage.restart("echo")
}

pub(crate) fn a_domain_may_come_back_by_itself(stage: &Arc<Stage>) -> Outcome {
    let before = stage.info("phoenix")?.id;
    ensure!(stage.phoenix.panic(message(b"and back"), 0).is_err(), "a panic answers");
    stage.eventually("the phoenix answers", || Ok(stage.phoenix.ping(1).is_ok()))?;
    ensure_eq!(stage.info("phoenix")?.id.generation(), before.generation() + 1, "its instance");
    Ok(())
}

pub(crate) fn a_crash_loop_is_slowed_down_but_goes_on(stage: &Arc<Stage>) -> Outcome {
    let mut longest = Duration::ZERO;
    for _ in 0..19 {
        let began = time::now();
        let deadline = began + SOON;
        // Whoever calls meanwhile hears an error and is not left waiting.
        while stage.phoenix.ping(1).is_err() {
            ensure!(time::now() < deadline, "the phoenix does not come back");
            time::sleep(Duration::from_micros(200));
        }
        longest = longest.max(time::now() - began);
        ensure!(stage.phoenix.panic(message(b"again"), 0).is_err(), "a panic answers");
    }
    ensure!(longest > Duration::from_millis(50), "no pause was longer than {longest:?}");
    // Another one that comes back by itself does not wait for this one, which has the longest of pauses now.
    stage.kill("left")?;
    stage.eventually("the left link answers", || Ok(stage.left.ping(1).is_ok()))?;
    ensure!(stage.phoenix.ping(1).is_err(), "a stranger waited with it");
    stage.restart("phoenix")
}

pub(crate) fn a_panic_in_a_thread_of_its_own_ends_a_domain(stage: &Arc<Stage>) -> Outcome {
    let instance = stage.info("subject")?.id;
    // The thread may be quicker than the answer.
    let _ = stage.subject.panic_in_thread();
    stage.eventually("the subject is dead", || Ok(stage.info("subject")?.state == DomainState::Dead))?;
    let crash_record = stage.control.crash_record(instance)?;
    ensure!(
        crash_record.is_some_and(|text| text.contains("a thread of its own")),
        "the crash_record says {crash_record:?}"
    );
    stage.restart("subject")
}

pub(crate) fn a_killed_domain_lets_its_callers_go(stage: &Arc<Stage>) -> Outcome {
    let instance = stage.info("keeper")?.id;
    let callers = stage.cpus * 2;
    let calls: Result<alloc::vec::Vec<_>, _> = (0..callers)
        .map(|number| {
            let stage = stage.clone();
            let builder = Builder::new().affinity(1 << (number % stage.cpus));
            promise(builder, move || {
                stage
                    .keeper
                    .read_late(&message(b"never read"))
                    .map_err(|error| (error.domain(), error.kind()))
            })
        })
        .collect();
    stage.eventually("all calls stay", || Ok(stage.keeper.pending_calls()? == callers))?;
    stage.kill("keeper")?;
    for call in calls? {
        ensure_eq!(call.keep(), Err((instance, CrashKind::Killed)), "what a caller hears");
    }
    stage.restart("keeper")
}

pub(crate) fn a_borrowed_object_survives_its_reader(stage: &Arc<Stage>) -> Outcome {
    let own = stage.own()?.shared_objects;
    let call = {
        let stage = stage.clone();
        promise(Builder::new(), move || {
            let read = message(b"still here");
            let failed = stage.keeper.read_late(&read).is_err();
            (failed, read)
        })?
    };
    stage.eventually("a call stays", || Ok(stage.keeper.pending_calls()? == 1))?;
    stage.kill("keeper")?;
    let (failed, read) = call.keep();
    ensure!(failed, "a dead domain answers");
    ensure_eq!(read[..], b"still here"[..], "content");
    ensure_eq!(stage.own()?.shared_objects, own + 1, "our objects");
    stage.restart("keeper")
}

pub(crate) fn nobody_restarts_itself_or_a_stranger(stage: &Arc<Stage>) -> Outcome {
    ensure_eq!(stage.control.restart(Text::new("scenarios"))?, Err(ControlError::Itself), "ourselves");
    let name = Text::new("nobody");
    ensure_eq!(
        stage.control.restart(name)?,
        Err(ControlError::NoSuchDomain { name }),
        "restart of a stranger"
    );
    ensure_eq!(stage.control.kill(name)?, Err(ControlError::NoSuchDomain { name }), "end of a stranger");
    stage.kill("echo")?;
    let state = DomainState::Dead;
    ensure_eq!(
        stage.control.kill(Text::new("echo"))?,
        Err(ControlError::WrongState { state }),
        "end of a dead one"
    );
    stage.restart("echo")
}
