//! Interface objects that are passed between domains.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

use coppice_example_interfaces::Counter;
use coppice_interfaces::{CrashKind, RpcResult};
use coppice_runtime::thread::Builder;
use coppice_runtime::time;

use crate::context::{Context, Outcome, ThreadWithResult, ensure_eq, spawn_with_result};

/// Counts in steps of ten, and sets a flag when it is dropped.
struct Tens {
    next: AtomicU64,
    dropped: Arc<AtomicU64>,
}

impl Counter for Tens {
    fn next(&self) -> RpcResult<u64> {
        Ok(self.next.fetch_add(10, Ordering::Relaxed))
    }
}

impl Drop for Tens {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) fn an_object_can_be_a_result(context: &Arc<Context>) -> Outcome {
    let counter = context.factory.make(5)?;
    let other = context.factory.make(100)?;
    ensure_eq!((counter.next()?, counter.next()?, other.next()?), (5, 6, 100), "the counters' values");
    Ok(())
}

pub(crate) fn an_object_can_be_an_argument(context: &Arc<Context>) -> Outcome {
    let dropped = Arc::new(AtomicU64::new(0));
    let counter = <dyn Counter>::export(Tens { next: AtomicU64::new(0), dropped: dropped.clone() });
    let ours = counter.clone();
    ensure_eq!(context.factory.drive(counter, 4)?, 30, "the last of four numbers");
    ensure_eq!(ours.next()?, 40, "the number after these");
    ensure_eq!(dropped.load(Ordering::Relaxed), 0, "drops while there is a handle");
    drop(ours);
    context.eventually("the scenario's object is dropped", || Ok(dropped.load(Ordering::Relaxed) == 1))
}

pub(crate) fn an_object_passed_through_other_domains_comes_back(context: &Arc<Context>) -> Outcome {
    let dropped = Arc::new(AtomicU64::new(0));
    let counter = <dyn Counter>::export(Tens { next: AtomicU64::new(7), dropped: dropped.clone() });
    let ours = context.factory.pass(counter)?;
    ensure_eq!(ours.next()?, 7, "the scenario's object through a returned handle");
    drop(ours);
    context.eventually("the scenario's object is dropped", || Ok(dropped.load(Ordering::Relaxed) == 1))?;
    let theirs = context.factory.pass(context.factory.make(9)?)?;
    ensure_eq!(theirs.next()?, 9, "the other domain's object after it was passed back");
    Ok(())
}

pub(crate) fn an_object_is_dropped_in_its_own_domain_with_its_last_handle(context: &Arc<Context>) -> Outcome {
    // Counters of earlier scenarios may not be dropped yet.
    context.eventually("no counter is left", || Ok(context.factory.live()? == 0))?;
    let counter = context.factory.make(0)?;
    let second = counter.clone();
    ensure_eq!(context.factory.live()?, 1, "counters while there are two handles");
    drop(counter);
    time::sleep(Duration::from_millis(2));
    ensure_eq!((second.next()?, context.factory.live()?), (0, 1), "the counter while there is one handle");
    drop(second);
    context.eventually("the counter is dropped", || Ok(context.factory.live()? == 0))?;
    // A holder that dies drops its handles as well.
    context.fault_target.adopt(context.factory.make(0)?)?;
    ensure_eq!(context.factory.live()?, 1, "counters while the fault target has one");
    context.restart("fault-target")?;
    context.eventually("the fault target's counter is dropped", || Ok(context.factory.live()? == 0))
}

pub(crate) fn objects_of_a_dead_domain_return_errors(context: &Arc<Context>) -> Outcome {
    let instance = context.info("factory")?.id;
    let (counter, other) = (context.factory.make(0)?, context.factory.make(0)?);
    let own = context.own()?.shared_objects;
    context.restart("factory")?;
    let error = counter.next().err();
    ensure_eq!(
        error.map(|error| (error.domain(), error.kind())),
        Some((instance, CrashKind::NotRunning)),
        "error"
    );
    let driven = context.factory.drive(other, 3).err();
    ensure_eq!(driven.map(|error| error.domain()), Some(instance), "another domain's error");
    drop(counter.clone());
    drop(counter);
    ensure_eq!(context.own()?.shared_objects, own - 2, "own objects");
    ensure_eq!(context.factory.live()?, 0, "counters of the new instance");
    Ok(())
}

pub(crate) fn an_object_outlives_its_caller_during_a_call(context: &Arc<Context>) -> Outcome {
    context.fault_target.call_slow_counter()?;
    context.eventually("the call stays", || Ok(context.holder.pending_calls()? == 1))?;
    context.kill("fault-target")?;
    // The only handle ended with the fault target, but the call is still inside the object.
    time::sleep(Duration::from_millis(5));
    ensure_eq!(context.holder.slow_counters()?, 1, "objects while one is called");
    context.holder.let_go()?;
    context.eventually("the object is dropped", || Ok(context.holder.slow_counters()? == 0))?;
    context.restart("fault-target")
}

pub(crate) fn thousands_of_objects_are_dropped_under_timer_interrupts(context: &Arc<Context>) -> Outcome {
    // A thread of the kernel drops objects. It is interrupted there as often as possible.
    let over = Arc::new(AtomicBool::new(false));
    let mut clocks = Vec::new();
    for cpu in 0..context.cpus {
        let (seen, context) = (over.clone(), context.clone());
        clocks.push(spawn_with_result(Builder::new().affinity(1 << cpu).priority(1), move || -> Outcome {
            while !seen.load(Ordering::Relaxed) {
                time::sleep(Duration::from_micros(10));
                drop(context.factory.make(0)?);
            }
            Ok(())
        })?);
    }
    let rounds = context.rounds(20_000, 1000);
    let dropped = context.on_threads(context.cpus, move |context, _| {
        for round in 0..rounds {
            ensure_eq!(context.factory.make(round.into())?.next()?, u64::from(round), "a number");
        }
        Ok(())
    });
    over.store(true, Ordering::Relaxed);
    clocks.into_iter().map(ThreadWithResult::join).fold(dropped, Result::and)?;
    context.eventually("all objects are dropped", || Ok(context.factory.live()? == 0))
}
