//! Interface objects that travel.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

use coppice_example_interfaces::Counter;
use coppice_interfaces::{CrashKind, RpcResult};
use coppice_runtime::thread::Builder;
use coppice_runtime::time;

use crate::stage::{Outcome, Promise, Stage, ensure_eq, promise};

/// Counts in steps of ten, and leaves word when it is dropped.
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

pub(crate) fn an_object_can_be_a_result(stage: &Arc<Stage>) -> Outcome {
    let counter = stage.factory.make(5)?;
    let other = stage.factory.make(100)?;
    ensure_eq!((counter.next()?, counter.next()?, other.next()?), (5, 6, 100), "what they count");
    Ok(())
}

pub(crate) fn an_object_can_be_an_argument(stage: &Arc<Stage>) -> Outcome {
    let dropped = Arc::new(AtomicU64::new(0));
    let counter = <dyn Counter>::export(Tens { next: AtomicU64::new(0), dropped: dropped.clone() });
    let ours = counter.clone();
    ensure_eq!(stage.factory.drive(counter, 4)?, 30, "the last of four numbers");
    ensure_eq!(ours.next()?, 40, "the number after these");
    ensure_eq!(dropped.load(Ordering::Relaxed), 0, "drops while there is a handle");
    drop(ours);
    stage.eventually("our object is dropped", || Ok(dropped.load(Ordering::Relaxed) == 1))
}

pub(crate) fn an_object_comes_back_from_a_journey(stage: &Arc<Stage>) -> Outcome {
    let dropped = Arc::new(AtomicU64::new(0));
    let counter = <dyn Counter>::export(Tens { next: AtomicU64::new(7), dropped: dropped.clone() });
    let ours = stage.factory.pass(counter)?;
    ensure_eq!(ours.next()?, 7, "our own object through a handle from elsewhere");
    drop(ours);
    stage.eventually("our object is dropped", || Ok(dropped.load(Ordering::Relaxed) == 1))?;
    let theirs = stage.factory.pass(stage.factory.make(9)?)?;
    ensure_eq!(theirs.next()?, 9, "their own object that went there and back");
    Ok(())
}

pub(crate) fn an_object_is_dropped_at_home_with_its_last_handle(stage: &Arc<Stage>) -> Outcome {
    // Those of earlier scenarios may be on their way out.
    stage.eventually("no counter is left", || Ok(stage.factory.live()? == 0))?;
    let counter = stage.factory.make(0)?;
    let second = counter.clone();
    ensure_eq!(stage.factory.live()?, 1, "counters while there are two handles");
    drop(counter);
    time::sleep(Duration::from_millis(2));
    ensure_eq!((second.next()?, stage.factory.live()?), (0, 1), "the counter while there is one handle");
    drop(second);
    stage.eventually("the counter is dropped", || Ok(stage.factory.live()? == 0))?;
    // A holder that dies gives its handles up as well.
    stage.subject.adopt(stage.factory.make(0)?)?;
    ensure_eq!(stage.factory.live()?, 1, "counters while the subject has one");
    stage.restart("subject")?;
    stage.eventually("the subject's counter is dropped", || Ok(stage.factory.live()? == 0))
}

pub(crate) fn objects_of_the_dead_answer_with_an_error(stage: &Arc<Stage>) -> Outcome {
    let instance = stage.info("factory")?.id;
    let (counter, other) = (stage.factory.make(0)?, stage.factory.make(0)?);
    let own = stage.own()?.shared_objects;
    stage.restart("factory")?;
    let error = counter.next().err();
    ensure_eq!(
        error.map(|error| (error.domain(), error.kind())),
        Some((instance, CrashKind::NotRunning)),
        "error"
    );
    let driven = stage.factory.drive(other, 3).err();
    ensure_eq!(driven.map(|error| error.domain()), Some(instance), "what another domain hears");
    drop(counter.clone());
    drop(counter);
    ensure_eq!(stage.own()?.shared_objects, own - 2, "our objects");
    ensure_eq!(stage.factory.live()?, 0, "counters of the new instance");
    Ok(())
}

pub(crate) fn an_object_outlives_its_caller_while_it_is_called(stage: &Arc<Stage>) -> Outcome {
    stage.subject.call_slow_counter()?;
    stage.eventually("the call stays", || Ok(stage.keeper.pending_calls()? == 1))?;
    stage.kill("subject")?;
    // The only handle went with the subject, but the call is still inside the object.
    time::sleep(Duration::from_millis(5));
    ensure_eq!(stage.keeper.slow_counters()?, 1, "objects while one is called");
    stage.keeper.let_go()?;
    stage.eventually("the object is dropped", || Ok(stage.keeper.slow_counters()? == 0))?;
    stage.restart("subject")
}

pub(crate) fn objects_are_dropped_by_the_thousand_while_clocks_tick(stage: &Arc<Stage>) -> Outcome {
    // Who drops objects is a thread of the kernel's, and it is interrupted in the middle of that as often as can be.
    let over = Arc::new(AtomicBool::new(false));
    let mut clocks = Vec::new();
    for cpu in 0..stage.cpus {
        let (seen, stage) = (over.clone(), stage.clone());
        clocks.push(promise(Builder::new().affinity(1 << cpu).priority(1), move || -> Outcome {
            while !seen.load(Ordering::Relaxed) {
                time::sleep(Duration::from_micros(10));
                drop(stage.factory.make(0)?);
            }
            Ok(())
        })?);
    }
    let rounds = stage.rounds(20_000, 1000);
    let dropped = stage.all_together(stage.cpus, move |stage, _| {
        for round in 0..rounds {
            ensure_eq!(stage.factory.make(round.into())?.next()?, u64::from(round), "a number");
        }
        Ok(())
    });
    over.store(true, Ordering::Relaxed);
    clocks.into_iter().map(Promise::keep).fold(dropped, Result::and)?;
    stage.eventually("all objects are dropped", || Ok(stage.factory.live()? == 0))
}
