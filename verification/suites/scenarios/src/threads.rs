//! Threads and scheduling.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

use coppice_example_interfaces::Message;
use coppice_runtime::sync::{Event, Mutex};
use coppice_runtime::thread::{self, Builder, Refused};
use coppice_runtime::time;

use crate::context::{Context, Failure, Outcome, SOON, ensure, ensure_eq, spawn_with_result, spin};

pub(crate) fn ten_thousand_threads_leak_nothing(context: &Arc<Context>) -> Outcome {
    let count = Arc::new(AtomicU32::new(0));
    context.leaks_nothing(10, |_| {
        let crowds = context.rounds(100, 10);
        for _ in 0..crowds {
            count.store(0, Ordering::Relaxed);
            let mut crowd = Vec::new();
            for _ in 0..10 {
                let count = count.clone();
                crowd.push(thread::spawn(move || {
                    count.fetch_add(1, Ordering::Relaxed);
                })?);
            }
            crowd.into_iter().for_each(thread::JoinHandle::join);
            ensure_eq!(count.load(Ordering::Relaxed), 10, "threads that ran before they were joined");
        }
        Ok(())
    })
}

pub(crate) fn a_thread_beyond_the_quota_is_refused(context: &Arc<Context>) -> Outcome {
    context.restart("fault-target")?;
    ensure_eq!(context.fault_target.spawn(20)?, 12, "threads that the manifest's 12 allow");
    ensure_eq!(context.fault_target.spawn(1)?, 0, "threads beyond that");
    ensure_eq!(context.info("fault-target")?.threads, 12, "threads that are counted");
    context.restart("fault-target")?;
    context.eventually("no thread is left", || Ok(context.info("fault-target")?.threads == 0))?;
    // Ended threads make room again.
    let event = Arc::new(Event::new());
    let ticket = event.ticket();
    let mut waiting = Vec::new();
    let refused = loop {
        let event = event.clone();
        match thread::spawn(move || event.wait(ticket)) {
            Ok(thread) => waiting.push(thread),
            Err(refused) => break refused,
        }
    };
    ensure_eq!((refused, waiting.len()), (Refused, 47), "threads beside the one that runs scenarios");
    event.notify_all();
    waiting.into_iter().for_each(thread::JoinHandle::join);
    thread::spawn(|| {})?.join();
    Ok(())
}

pub(crate) fn threads_that_end_with_their_instance_do_not_count(context: &Arc<Context>) -> Outcome {
    for _ in 0..context.rounds(50, 10) {
        context.restart("fault-target")?;
        ensure_eq!(context.fault_target.spawn(12)?, 12, "threads right after a restart");
    }
    context.restart("fault-target")
}

pub(crate) fn threads_inside_other_domains_count_after_their_instance(context: &Arc<Context>) -> Outcome {
    context.restart("fault-target")?;
    context.leaks_nothing(context.rounds(5, 2), |_| {
        // Each instance leaves threads in the holder. All of them together stay within the quota of 12.
        for (threads, started, abroad) in [(5, 5, 5), (20, 7, 12), (1, 0, 12)] {
            ensure_eq!(context.fault_target.read_late_on(threads)?, started, "threads that the quota allows");
            context.eventually("the calls are blocked", || Ok(context.holder.pending_calls()? == abroad))?;
            context.restart("fault-target")?;
            let info = context.info("fault-target")?;
            ensure_eq!(
                (info.threads, info.threads_abroad),
                (0, abroad),
                "threads of it, and of its predecessors"
            );
            ensure!(info.kernel_bytes > 0, "the threads have no payer");
        }
        ensure_eq!(context.fault_target.spawn(1)?, 0, "threads beyond those");
        context.audit_is_clean()?;
        context.holder.let_go()?;
        context
            .eventually("the threads have ended", || Ok(context.info("fault-target")?.threads_abroad == 0))?;
        ensure_eq!(context.fault_target.spawn(20)?, 12, "threads once the holder has let go");
        context.restart("fault-target")
    })
}

pub(crate) fn objects_that_calls_read_count_after_their_instance(context: &Arc<Context>) -> Outcome {
    context.restart("fault-target")?;
    context.leaks_nothing(context.rounds(5, 2), |_| {
        // The handles of its imports.
        let objects = context.info("fault-target")?.shared_objects;
        let mut kept = 0;
        for calls in [4, 8] {
            ensure_eq!(context.fault_target.read_late_on(4)?, 4, "threads that the quota allows");
            context.eventually("the calls are blocked", || Ok(context.holder.pending_calls()? == calls))?;
            context.restart("fault-target")?;
            let info = context.info("fault-target")?;
            ensure_eq!(info.shared_objects, objects, "objects of the new instance");
            let one = u64::from(calls) * size_of::<Message>() as u64;
            ensure!(info.kept_bytes >= one, "{} bytes are kept, less than {one}", info.kept_bytes);
            ensure!(info.kept_bytes > kept, "{} bytes are kept, no more than before", info.kept_bytes);
            kept = info.kept_bytes;
            // The audit adds them to what the new instance may use.
            context.audit_is_clean()?;
        }
        context.holder.let_go()?;
        context.eventually("nothing is kept", || {
            // Freed objects that a CPU caches are charged as before.
            context.control.in_use()?;
            Ok(context.info("fault-target")?.kept_bytes == 0)
        })?;
        context.audit_is_clean()
    })
}

/// Runs until `stop` is set or [`SOON`] has passed.
fn spin_until(stop: &AtomicBool) -> bool {
    let deadline = time::now() + SOON;
    while !stop.load(Ordering::Relaxed) {
        if time::now() > deadline {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

pub(crate) fn a_spinning_thread_does_not_starve_others(context: &Arc<Context>) -> Outcome {
    for cpu in 0..context.cpus {
        let here = Builder::new().affinity(1 << cpu);
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let spinner = spawn_with_result(here, move || spin_until(&seen))?;
        // It has the CPU now, or gets it before the next thread.
        let stopper = here.spawn(move || stop.store(true, Ordering::Relaxed))?;
        ensure!(spinner.join(), "on CPU {cpu} a thread waited {SOON:?} for a spinning thread");
        stopper.join();
    }
    Ok(())
}

pub(crate) fn threads_that_wake_an_idle_cpu_together_both_run(context: &Arc<Context>) -> Outcome {
    // The first CPU has two threads that never let it idle, so it takes no thread from the last one.
    let done = Arc::new(AtomicBool::new(false));
    let seen = done.clone();
    let busy = spawn_with_result(Builder::new().affinity(1), move || spin_until(&seen))?;
    let rounds = context.rounds(40, 20);
    let last = Builder::new().affinity(1 << (context.cpus - 1));
    let waker = spawn_with_result(Builder::new().affinity(1).priority(1), move || {
        for round in 0..rounds {
            // Long enough for the last CPU to go idle.
            time::sleep(Duration::from_micros(200));
            let stop = Arc::new(AtomicBool::new(false));
            let (seen, set) = (stop.clone(), stop);
            let spinner = spawn_with_result(last, move || spin_until(&seen))?;
            let stopper = last.spawn(move || set.store(true, Ordering::Relaxed))?;
            ensure!(spinner.join(), "in round {round} a thread waited {SOON:?} for a spinning thread");
            stopper.join();
        }
        Ok(())
    })?;
    let outcome = waker.join();
    done.store(true, Ordering::Relaxed);
    let others_stopped = busy.join();
    outcome?;
    ensure!(others_stopped, "the other CPU waited too long");
    Ok(())
}

pub(crate) fn a_thread_of_higher_priority_runs_first(context: &Arc<Context>) -> Outcome {
    for cpu in 0..context.cpus {
        let here = Builder::new().affinity(1 << cpu);
        let count = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (counted, stopped) = (count.clone(), stop.clone());
        let deadline = time::now() + SOON;
        let idler = here.priority(3).spawn(move || {
            while !stopped.load(Ordering::Relaxed) && time::now() < deadline {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        let counted = count.clone();
        context.eventually("the thread of low priority runs", || Ok(counted.load(Ordering::Relaxed) > 0))?;
        let urgent = spawn_with_result(here.priority(0), move || {
            let before = count.load(Ordering::Relaxed);
            // Several time slices long.
            spin(Duration::from_millis(20));
            count.load(Ordering::Relaxed) - before
        })?;
        ensure_eq!(urgent.join(), 0, "steps of the thread of low priority while one of high priority ran");
        stop.store(true, Ordering::Relaxed);
        idler.join();
    }
    Ok(())
}

pub(crate) fn a_high_priority_thread_gets_a_lock_that_a_low_priority_thread_holds(
    context: &Arc<Context>,
) -> Outcome {
    // The lock is the private heap's. Both threads take it all the time, and the thread of high priority
    // interrupts the other inside it, on the only CPU that it may use.
    let here = Builder::new().affinity(1 << (context.cpus - 1));
    let stop = Arc::new(AtomicBool::new(false));
    let (seen, done) = (stop.clone(), Arc::new(AtomicBool::new(false)));
    let allocates = here.priority(3).spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            core::hint::black_box(Vec::<u64>::with_capacity(100));
        }
    })?;
    let (rounds, sets) = (context.rounds(2000, 300), done.clone());
    let interrupts = here.priority(0).spawn(move || {
        for round in 0..rounds {
            time::sleep(Duration::from_micros(20 + u64::from(round % 30)));
            core::hint::black_box(Vec::<u64>::with_capacity(100));
        }
        sets.store(true, Ordering::Relaxed);
    })?;
    context.eventually("the thread of high priority is done", || Ok(done.load(Ordering::Relaxed)))?;
    stop.store(true, Ordering::Relaxed);
    interrupts.join();
    allocates.join();
    Ok(())
}

pub(crate) fn threads_run_on_the_cpus_of_their_affinity(context: &Arc<Context>) -> Outcome {
    for cpu in 0..context.cpus {
        let rounds = context.rounds(200, 50);
        let there = spawn_with_result(Builder::new().affinity(1 << cpu), move || {
            (0..rounds).all(|round| {
                match round % 3 {
                    0 => thread::yield_now(),
                    1 => time::sleep(Duration::from_micros(20)),
                    _ => spin(Duration::from_micros(20)),
                }
                thread::cpu() == cpu
            })
        })?;
        ensure!(there.join(), "a thread of CPU {cpu} ran on another CPU");
    }
    // Without affinity, as many threads as CPUs use all of them.
    let used = Arc::new(AtomicU64::new(0));
    context.eventually("all CPUs are used", || {
        let crowd: Result<Vec<_>, _> = (0..context.cpus * 2)
            .map(|_| {
                let used = used.clone();
                thread::spawn(move || {
                    spin(Duration::from_millis(3));
                    used.fetch_or(1 << thread::cpu(), Ordering::Relaxed);
                })
            })
            .collect();
        crowd?.into_iter().for_each(thread::JoinHandle::join);
        Ok(used.load(Ordering::Relaxed) == (1 << context.cpus) - 1)
    })
}

pub(crate) fn a_sleep_lasts_at_least_its_duration(context: &Arc<Context>) -> Outcome {
    context.on_threads(context.cpus * 2, |_, number| {
        for millis in [1, 3, 7] {
            let time = Duration::from_micros(millis * 1_000 + u64::from(number) * 100);
            let began = time::now();
            time::sleep(time);
            let slept = time::now() - began;
            ensure!(slept >= time, "a sleep of {time:?} took {slept:?}");
            ensure!(slept < time + SOON, "a sleep of {time:?} took {slept:?}");
        }
        Ok(())
    })
}

pub(crate) fn sleepers_wake_in_the_order_of_their_deadlines(context: &Arc<Context>) -> Outcome {
    // A thread that starts its sleep too late invalidates the attempt. Then all threads get more time.
    for lead in [20, 100, 500, 2_500, 12_500].map(Duration::from_millis) {
        if let Some(order) = wake_order(context, lead)? {
            ensure_eq!(order, [0, 1, 2, 3, 4], "order");
            return Ok(());
        }
    }
    Err(Failure("five threads have not fallen asleep within 12 s".into()))
}

/// Returns the order in which threads wake up that sleep until different times, the first of them `lead` from
/// now, or `None` if a thread was too late.
fn wake_order(context: &Context, lead: Duration) -> Outcome<Option<Vec<u32>>> {
    let order = Arc::new(Mutex::new(Vec::new()));
    let begin = time::now() + lead;
    let mut sleepers = Vec::new();
    for number in [3_u32, 0, 4, 1, 2] {
        let order = order.clone();
        sleepers.push(Builder::new().affinity(1 << (context.cpus - 1)).spawn(move || {
            time::sleep_until(begin + Duration::from_millis(5) * number);
            order.lock().push(number);
        })?);
    }
    context.eventually("all sleep", || Ok(context.control.in_use()?.busy == 0))?;
    let is_late = time::now() >= begin;
    sleepers.into_iter().for_each(thread::JoinHandle::join);
    let order = core::mem::take(&mut *order.lock());
    Ok((!is_late).then_some(order))
}

pub(crate) fn blocked_threads_are_woken_in_order(context: &Arc<Context>) -> Outcome {
    let event = Arc::new(Event::new());
    let ticket = event.ticket();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for number in 0..8_u32 {
        let (event, order) = (event.clone(), order.clone());
        let entered = Arc::new(AtomicBool::new(false));
        let enters = entered.clone();
        waiting.push(Builder::new().affinity(1 << (number % context.cpus)).spawn(move || {
            enters.store(true, Ordering::Relaxed);
            event.wait(ticket);
            order.lock().push(number);
        })?);
        context.eventually("the thread is blocked", || {
            Ok(entered.load(Ordering::Relaxed) && context.control.in_use()?.busy == 0)
        })?;
    }
    for woken in 1..=8 {
        event.notify_one();
        context.eventually("one thread is awake", || Ok(order.lock().len() == woken))?;
    }
    waiting.into_iter().for_each(thread::JoinHandle::join);
    ensure!(order.lock().iter().copied().eq(0..8), "order: {:?}", order.lock());
    Ok(())
}
