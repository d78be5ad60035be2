//! Locks of dead domains. A lock belongs to a domain: either its holder returns and releases it, or the lock
//! ends with the domain (docs/recovery.md).

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use coppice_interfaces::CrashKind;
use coppice_runtime::thread::Builder;
use coppice_runtime::time;

use crate::context::{Context, Outcome, ensure, ensure_eq, spawn_with_result};

pub(crate) fn a_lock_held_for_a_dead_caller_is_released(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(30, 10), |_| {
        context.fault_target.hold_lock()?;
        context.eventually("the call stays", || Ok(context.holder.pending_calls()? == 1))?;
        context.kill("fault-target")?;
        // The thread stays in the holder, with the lock, until the call is over.
        ensure!(!context.holder.is_unlocked()?, "the lock was taken from a call that goes on");
        context.holder.let_go()?;
        context.eventually("the lock is free", || Ok(context.holder.is_unlocked()?))?;
        context.restart("fault-target")
    })
}

pub(crate) fn a_lock_is_released_when_the_holders_callee_dies(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(30, 10), |_| {
        let answer = context.holder.count_locked(context.fault_target.panicking_counter()?)?;
        ensure_eq!(answer.map_err(|error| error.kind()), Err(CrashKind::Panic), "the holder's error");
        ensure!(context.holder.is_unlocked()?, "the lock is still held");
        context.restart("fault-target")
    })
}

pub(crate) fn a_lock_ends_with_its_domain(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(30, 10), |_| {
        let answered = Arc::new(AtomicU32::new(0));
        let stay = || {
            let (context, answered) = (context.clone(), answered.clone());
            spawn_with_result(Builder::new(), move || {
                let answer = context.holder.hold_lock().map_err(|error| error.kind());
                answered.fetch_add(1, Ordering::Relaxed);
                answer
            })
        };
        let holder = stay()?;
        context.eventually("the call stays", || Ok(context.holder.pending_calls()? == 1))?;
        let waiter = stay()?;
        time::sleep(Duration::from_millis(1));
        context.restart("holder")?;
        ensure!(
            context.holder.is_unlocked()? || context.holder.pending_calls()? > 0,
            "the lock of a new instance is free"
        );
        // A late waiter may have met the new instance, whose lock it may get.
        context.eventually("both calls are over", || {
            context.holder.let_go()?;
            Ok(answered.load(Ordering::Relaxed) == 2)
        })?;
        ensure_eq!(holder.join(), Err(CrashKind::Killed), "the holder's error");
        let waited = waiter.join();
        ensure!(
            matches!(waited, Ok(()) | Err(CrashKind::Killed | CrashKind::NotRunning)),
            "the waiter got {waited:?}"
        );
        Ok(())
    })
}
