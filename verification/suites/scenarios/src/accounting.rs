//! Accounting and tracing: calls, CPU time, objects and events.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use coppice_control::TraceRecord;
use coppice_interfaces::{CrashKind, DomainId, Text};
use coppice_runtime::thread::Builder;
use coppice_runtime::time;

use crate::context::{Context, Outcome, SOON, ensure, ensure_eq, message, spawn_with_result};

pub(crate) fn calls_are_counted_exactly(context: &Arc<Context>) -> Outcome {
    let calls = |name| context.info(name).map(|info| info.calls);
    let (echo, left, right) = (calls("echo")?, calls("left")?, calls("right")?);
    let threads = context.cpus * 2;
    context.on_threads(threads, |context, _| {
        for number in 0..100 {
            context.right.ping(number)?;
        }
        for number in 0..10 {
            context.echo.ping(number)?;
        }
        Ok(())
    })?;
    let threads = u64::from(threads);
    ensure_eq!(calls("right")? - right, 100 * threads, "calls of the first link");
    ensure_eq!(calls("left")? - left, 100 * threads, "calls of the second");
    ensure_eq!(calls("echo")? - echo, 110 * threads, "calls of the third");
    // The call count continues in the new instance.
    context.restart("right")?;
    ensure!(calls("right")? >= right + 100 * threads, "the count was reset");
    Ok(())
}

pub(crate) fn cpu_time_is_charged_to_the_computing_domain(context: &Arc<Context>) -> Outcome {
    let cpu_time = |name| context.info(name).map(|info| info.cpu_ns);
    let (fault_target, echo) = (cpu_time("fault-target")?, cpu_time("echo")?);
    let began = time::now();
    // CPU time is charged when a CPU switches threads, so a second thread is needed to switch to.
    let stop = Arc::new(AtomicBool::new(false));
    let seen = stop.clone();
    let other = Builder::new().affinity(1).spawn(move || while !seen.load(Ordering::Relaxed) {})?;
    // Two threads take turns. A late host may take the CPU away during either turn.
    let fault_target_spins = {
        let context = context.clone();
        spawn_with_result(Builder::new().affinity(1), move || -> Outcome {
            context.eventually("15 ms of CPU time are charged", || {
                context.fault_target.spin(60)?;
                Ok(context.info("fault-target")?.cpu_ns - fault_target > 15_000_000)
            })
        })?
    };
    let computed = fault_target_spins.join();
    stop.store(true, Ordering::Relaxed);
    other.join();
    computed?;
    let (fault_target, echo) = (cpu_time("fault-target")? - fault_target, cpu_time("echo")? - echo);
    let passed = (time::now() - began).as_nanos() as u64;
    ensure!(fault_target <= passed, "{fault_target} ns of CPU time in {passed} ns");
    ensure!(
        echo < fault_target / 4,
        "an idle domain is charged {echo} ns, and the computing one {fault_target} ns"
    );
    Ok(())
}

pub(crate) fn cpu_time_is_charged_during_an_uninterrupted_computation(context: &Arc<Context>) -> Outcome {
    // No other thread wants the CPU, so only the watchdog's ticks can have charged CPU time when the call
    // returns. At most the time since the last tick is missing, which is short unless the host delayed a
    // tick.
    context.eventually(
        "50 of 60 ms are charged to the fault target's code and to the caller's thread",
        || {
            let before = (context.info("fault-target")?.cpu_ns, context.own()?.own_cpu_ns);
            context.fault_target.spin(60)?;
            let after = (context.info("fault-target")?.cpu_ns, context.own()?.own_cpu_ns);
            Ok(after.0 - before.0 > 50_000_000 && after.1 - before.1 > 50_000_000)
        },
    )
}

pub(crate) fn a_domain_whose_threads_exceed_their_cpu_quota_ends(context: &Arc<Context>) -> Outcome {
    let instance = context.info("fault-target-cpu-20")?.id;
    let guest = {
        let context = context.clone();
        spawn_with_result(Builder::new(), move || {
            context.fault_target_cpu_20.delay(message(b"a guest's"), SOON.as_micros() as u32, true)
        })?
    };
    let began = time::now();
    context.fault_target_cpu_20.compute(1)?;
    let error = guest.join().err().map(|error| (error.domain(), error.kind()));
    ensure_eq!(error, Some((instance, CrashKind::OverQuota)), "the error of a caller inside");
    // A fifth of the first 100 ms, and the time allowed for compliance.
    let passed = time::now() - began;
    ensure!(passed >= Duration::from_millis(20 + 50), "the domain was over its CPU quota after {passed:?}");
    let crash_record = context.control.crash_record(instance)?;
    ensure!(
        crash_record
            .is_some_and(|text| text.contains("it was asked to have no more than 20 % of a CPU, and has")),
        "the crash record says {crash_record:?}"
    );
    context.restart("fault-target-cpu-20")
}

pub(crate) fn client_threads_do_not_consume_a_servers_cpu_quota(context: &Arc<Context>) -> Outcome {
    let instance = context.info("fault-target-cpu-20")?;
    let mut after = instance;
    context.eventually("the time of its code is charged", || {
        context.fault_target_cpu_20.spin(250)?;
        after = context.info("fault-target-cpu-20")?;
        Ok(after.cpu_ns - instance.cpu_ns > 200_000_000)
    })?;
    ensure_eq!((after.id, after.cpu_percent), (instance.id, 20), "the instance that was called");
    ensure!(after.own_cpu_ns - instance.own_cpu_ns < 20_000_000, "and its threads {} ns", after.own_cpu_ns);
    Ok(())
}

pub(crate) fn threads_and_objects_are_counted(context: &Arc<Context>) -> Outcome {
    context.restart("fault-target")?;
    let before = context.info("fault-target")?;
    context.fault_target.own(25)?;
    context.fault_target.spawn(3)?;
    context.fault_target.fill_heap(500_000, true)?;
    let after = context.info("fault-target")?;
    ensure_eq!(after.shared_objects - before.shared_objects, 25, "objects");
    ensure!(after.shared_bytes - before.shared_bytes >= 25 * 256, "{} bytes shared", after.shared_bytes);
    ensure_eq!(after.threads - before.threads, 3, "threads");
    ensure!(after.heap_bytes >= 500_000, "{} bytes of heap", after.heap_bytes);
    ensure!(after.image_bytes > 4096, "{} bytes of image", after.image_bytes);
    context.restart("fault-target")
}

fn take_trace(context: &Context) -> Outcome<Vec<TraceRecord>> {
    let mut records = Vec::new();
    while let Some(record) = context.control.next_trace()? {
        records.push(record);
    }
    Ok(records)
}

pub(crate) fn the_trace_shows_events_in_order(context: &Arc<Context>) -> Outcome {
    take_trace(context)?;
    let before = context.info("echo")?;
    let (instance, pages) = (before.id, before.heap_bytes / 4096);
    context.control.set_tracing(true)?;
    let _ = context.echo.ping(1);
    let _ = context.echo.panic(message(b"for the record"), 0);
    let restarted = context.restart("echo");
    let _ = context.echo.ping(2);
    context.control.set_tracing(false)?;
    restarted?;
    let next = context.info("echo")?.id;
    let records = take_trace(context)?;
    ensure!(records.is_sorted_by_key(|record| record.time_ns), "the trace is not in order of time");
    ensure!(records.iter().all(|record| record.cpu < context.cpus), "an event of a CPU that does not exist");
    let of_echo = records.iter().filter(|record| record.domain == instance || record.domain == next);
    // The number of slots that the sweep visits depends on earlier scenarios.
    let events: Vec<_> =
        of_echo.filter(|record| !matches!(&*record.kind, "interrupt" | "eviction" | "visit")).collect();
    let seen: Vec<_> = events.iter().map(|record| (&*record.kind, record.domain, record.detail)).collect();
    let us = context.own()?.id.to_bits();
    // The message, and the object that its method holds while it panics.
    let two_objects_freed = 2 << 32;
    let expected = [
        ("crossing", instance, us),
        ("crossing", instance, us),
        ("fault", instance, CrashKind::Panic as u64),
        ("sweep", instance, two_objects_freed),
        ("pages", instance, pages),
        ("crossing", next, DomainId::KERNEL.to_bits()),
        ("restart", next, 0),
        ("crossing", next, us),
    ];
    ensure_eq!(seen, expected, "\nthe echo's events (its entry function is entered by a crossing too)");
    Ok(())
}

pub(crate) fn a_disabled_trace_stays_empty(context: &Arc<Context>) -> Outcome {
    take_trace(context)?;
    let _ = context.echo.ping(1);
    let _ = context.echo.panic(message(b"off the record"), 0);
    context.restart("echo")?;
    let records = take_trace(context)?;
    ensure!(records.is_empty(), "{} events, such as {:?}", records.len(), records.first());
    Ok(())
}

/// kernel/tests/scenarios looks for these records on the console.
pub(crate) fn a_domain_logs_under_its_name(context: &Arc<Context>) -> Outcome {
    Ok(context.fault_target.log(Text::new("of a fault target"))?)
}
