//! Crashes and kills in the middle of operations, repeated many times: the kernel reclaims everything.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use coppice_example_interfaces::Job;
use coppice_interfaces::CrashKind;
use coppice_rref::RRef;
use coppice_runtime::sync::Mutex;
use coppice_runtime::thread::Builder;
use coppice_runtime::time;

use crate::context::{Context, Outcome, batch, ensure, ensure_eq, message, spawn_with_result, spin};

pub(crate) fn crashes_with_objects_held_leak_nothing(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(200, 50), |round| {
        // At several depths: objects on the stacks of several calls, of one domain and of a chain.
        let through = if round % 2 == 0 { &context.echo } else { &context.right };
        let error = through.panic(message(b"held"), round % 5).err();
        ensure_eq!(error.map(|error| error.kind()), Some(CrashKind::Panic), "the caller's error");
        context.restart("echo")
    })
}

pub(crate) fn crashes_with_threads_and_callers_inside_leak_nothing(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(200, 50), |round| {
        // The long jobs come first, so that collectors find no completed job.
        for tag in 0..8 {
            let job = RRef::new(Job { tag, limit: 200_000, sum: 0 });
            ensure!(context.pool.submit(job)?.is_ok(), "an empty pool refuses a job");
        }
        let collectors: Result<Vec<_>, _> = (0..3)
            .map(|_| {
                let context = context.clone();
                spawn_with_result(Builder::new(), move || while let Ok(Some(_)) = context.pool.collect() {})
            })
            .collect();
        spin(Duration::from_micros(u64::from(round % 7) * 20));
        // The worker may be faster than the answer.
        let _ = context.pool.break_worker();
        for collector in collectors? {
            collector.join();
        }
        // Either the workers noticed the crash, or all jobs were done before it.
        context.restart("pool")
    })
}

pub(crate) fn crashes_with_exported_objects_leak_nothing(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(200, 50), |round| {
        let mut counters = Vec::new();
        for start in 0..10 {
            counters.push(context.factory.make(start)?);
        }
        context.fault_target.adopt(counters.pop().expect("ten were made"))?;
        context.fault_target.adopt(counters[0].clone())?;
        if round % 2 == 0 {
            context.kill("factory")?;
            ensure!(counters.iter().all(|counter| counter.next().is_err()), "a dead domain's object answers");
            context.restart("fault-target")?;
        } else {
            context.restart("fault-target")?;
            ensure_eq!(counters[1].next()?, 1, "an object that another domain adopted too");
        }
        drop(counters);
        context.restart("factory")
    })
}

pub(crate) fn kills_from_another_thread_leak_nothing(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(200, 40), |round| {
        let callers: Result<Vec<_>, _> = (0..4)
            .map(|number| {
                let context = context.clone();
                spawn_with_result(Builder::new().affinity(1 << (number % context.cpus)), move || {
                    while context.right.echo(message(b"on the way")).is_ok()
                        && context.right.reverse(batch(1)).is_ok()
                    {}
                })
            })
            .collect();
        time::sleep(Duration::from_micros(u64::from(round % 11) * 30));
        context.kill("echo")?;
        for caller in callers? {
            caller.join();
        }
        context.restart("echo")
    })
}

pub(crate) fn a_kill_at_any_instant_leaks_nothing(context: &Arc<Context>) -> Outcome {
    let random = Mutex::new(context.random(0));
    context.leaks_nothing(context.rounds(300, 60), |_| {
        context.fault_target.own(10)?;
        context.fault_target.fill_heap(100_000, true)?;
        context.fault_target.stress_services(4)?;
        let pause = random.lock().below(2_000);
        if pause % 2 == 0 {
            time::sleep(Duration::from_micros(pause));
        } else {
            spin(Duration::from_micros(pause));
        }
        context.kill("fault-target")?;
        // Threads of the fault target that are inside the echo or the holder finish there first.
        context.holder.give_back()?;
        context.restart("fault-target")
    })
}
