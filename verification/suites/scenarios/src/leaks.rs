//! Ends of domains in the middle of something, many times: everything is taken back.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use coppice_example_interfaces::Job;
use coppice_interfaces::CrashKind;
use coppice_rref::RRef;
use coppice_runtime::sync::Mutex;
use coppice_runtime::thread::Builder;
use coppice_runtime::time;

use crate::stage::{Outcome, Stage, batch, ensure, ensure_eq, message, promise, spin};

pub(crate) fn crashes_with_objects_held_leak_nothing(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(200, 50), |round| {
        // At several depths: objects on the stacks of several calls, of one domain and of a chain.
        let through = if round % 2 == 0 { &stage.echo } else { &stage.right };
        let error = through.panic(message(b"held"), round % 5).err();
        ensure_eq!(error.map(|error| error.kind()), Some(CrashKind::Panic), "what the caller hears");
        stage.restart("echo")
    })
}

pub(crate) fn crashes_with_threads_and_callers_inside_leak_nothing(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(200, 50), |round| {
        // Long jobs first, so that collectors find nothing done.
        for tag in 0..8 {
            let job = RRef::new(Job { tag, limit: 200_000, sum: 0 });
            ensure!(stage.pool.submit(job)?.is_ok(), "an empty pool refuses a job");
        }
        let collectors: Result<Vec<_>, _> = (0..3)
            .map(|_| {
                let stage = stage.clone();
                promise(Builder::new(), move || while let Ok(Some(_)) = stage.pool.collect() {})
            })
            .collect();
        spin(Duration::from_micros(u64::from(round % 7) * 20));
        // The worker may be quicker than the answer.
        let _ = stage.pool.break_worker();
        for collector in collectors? {
            collector.keep();
        }
        // Either the workers found out, or all jobs were done before.
        stage.restart("pool")
    })
}

pub(crate) fn crashes_with_objects_handed_out_leak_nothing(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(200, 50), |round| {
        let mut counters = Vec::new();
        for start in 0..10 {
            counters.push(stage.factory.make(start)?);
        }
        stage.subject.adopt(counters.pop().expect("ten were made"))?;
        stage.subject.adopt(counters[0].clone())?;
        if round % 2 == 0 {
            stage.kill("factory")?;
            ensure!(counters.iter().all(|counter| counter.next().is_err()), "a dead domain's object answers");
            stage.restart("subject")?;
        } else {
            stage.restart("subject")?;
            ensure_eq!(counters[1].next()?, 1, "an object that somebody else adopted too");
        }
        drop(counters);
        stage.restart("factory")
    })
}

pub(crate) fn kills_from_another_thread_leak_nothing(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(200, 40), |round| {
        let callers: Result<Vec<_>, _> = (0..4)
            .map(|number| {
                let stage = stage.clone();
                promise(Builder::new().affinity(1 << (number % stage.cpus)), move || {
                    while stage.right.echo(message(b"on the way")).is_ok()
                        && stage.right.reverse(batch(1)).is_ok()
                    {}
                })
            })
            .collect();
        time::sleep(Duration::from_micros(u64::from(round % 11) * 30));
        stage.kill("echo")?;
        for caller in callers? {
            caller.keep();
        }
        stage.restart("echo")
    })
}

pub(crate) fn a_kill_at_any_instant_leaks_nothing(stage: &Arc<Stage>) -> Outcome {
    let random = Mutex::new(stage.random(0));
    stage.leaks_nothing(stage.rounds(300, 60), |_| {
        stage.subject.own(10)?;
        stage.subject.fill_heap(100_000, true)?;
        stage.subject.stress_services(4)?;
        let pause = random.lock().below(2_000);
        if pause % 2 == 0 {
            time::sleep(Duration::from_micros(pause));
        } else {
            spin(Duration::from_micros(pause));
        }
        stage.kill("subject")?;
        // Threads of the subject that are inside the echo or the keeper finish there first.
        stage.keeper.give_back()?;
        stage.restart("subject")
    })
}
