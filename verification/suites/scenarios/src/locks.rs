//! Locks and the dead: a lock is its domain's, so either its holder comes back and releases it, or it is gone itself
//! (docs/recovery.md).

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use coppice_interfaces::CrashKind;
use coppice_runtime::thread::Builder;
use coppice_runtime::time;

use crate::stage::{Outcome, Stage, ensure, ensure_eq, promise};

pub(crate) fn a_lock_held_for_a_dead_caller_is_released(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(30, 10), |_| {
        stage.subject.hold_lock()?;
        stage.eventually("the call stays", || Ok(stage.keeper.pending_calls()? == 1))?;
        stage.kill("subject")?;
        // Its thread is the keeper's guest until the call is over, and has the lock as long.
        ensure!(!stage.keeper.is_unlocked()?, "the lock was taken from a call that goes on");
        stage.keeper.let_go()?;
        stage.eventually("the lock is free", || Ok(stage.keeper.is_unlocked()?))?;
        stage.restart("subject")
    })
}

pub(crate) fn a_lock_is_released_when_the_holders_callee_dies(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(30, 10), |_| {
        let answer = stage.keeper.count_locked(stage.subject.panicking_counter()?)?;
        ensure_eq!(answer.map_err(|error| error.kind()), Err(CrashKind::Panic), "what the holder hears");
        ensure!(stage.keeper.is_unlocked()?, "the lock is still held");
        stage.restart("subject")
    })
}

pub(crate) fn a_lock_dies_with_its_domain(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(30, 10), |_| {
        let answered = Arc::new(AtomicU32::new(0));
        let stay = || {
            let (stage, answered) = (stage.clone(), answered.clone());
            promise(Builder::new(), move || {
                let answer = stage.keeper.hold_lock().map_err(|error| error.kind());
                answered.fetch_add(1, Ordering::Relaxed);
                answer
            })
        };
        let holder = stay()?;
        stage.eventually("the call stays", || Ok(stage.keeper.pending_calls()? == 1))?;
        let waiter = stay()?;
        time::sleep(Duration::from_millis(1));
        stage.restart("keeper")?;
        ensure!(
            stage.keeper.is_unlocked()? || stage.keeper.pending_calls()? > 0,
            "a new instance's lock is held by nobody"
        );
        // The waiter may have come so late that it met the new instance, where it may have the lock.
        stage.eventually("both calls are over", || {
            stage.keeper.let_go()?;
            Ok(answered.load(Ordering::Relaxed) == 2)
        })?;
        ensure_eq!(holder.keep(), Err(CrashKind::Killed), "what the holder hears");
        let waited = waiter.keep();
        ensure!(
            matches!(waited, Ok(()) | Err(CrashKind::Killed | CrashKind::NotRunning)),
            "the waiter hears {waited:?}"
        );
        Ok(())
    })
}
