//! What the kernel counts, and what the trace shows.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use coppice_control::TraceRecord;
use coppice_interfaces::{CrashKind, DomainId, Text};
use coppice_runtime::thread::Builder;
use coppice_runtime::time;

use crate::stage::{Outcome, SOON, Stage, ensure, ensure_eq, message, promise};

pub(crate) fn calls_are_counted_exactly(stage: &Arc<Stage>) -> Outcome {
    let calls = |name| stage.info(name).map(|info| info.calls);
    let (echo, left, right) = (calls("echo")?, calls("left")?, calls("right")?);
    let threads = stage.cpus * 2;
    stage.all_together(threads, |stage, _| {
        for number in 0..100 {
            stage.right.ping(number)?;
        }
        for number in 0..10 {
            stage.echo.ping(number)?;
        }
        Ok(())
    })?;
    let threads = u64::from(threads);
    ensure_eq!(calls("right")? - right, 100 * threads, "calls of the first link");
    ensure_eq!(calls("left")? - left, 100 * threads, "calls of the second");
    ensure_eq!(calls("echo")? - echo, 110 * threads, "calls of the third");
    // A new instance goes on counting.
    stage.restart("right")?;
    ensure!(calls("right")? >= right + 100 * threads, "the count has begun again");
    Ok(())
}

pub(crate) fn cpu_time_is_charged_to_who_computes(stage: &Arc<Stage>) -> Outcome {
    let cpu_time = |name| stage.info(name).map(|info| info.cpu_ns);
    let (subject, echo) = (cpu_time("subject")?, cpu_time("echo")?);
    let began = time::now();
    // Time is measured when a CPU turns to something else; so there is something else to turn to.
    let stop = Arc::new(AtomicBool::new(false));
    let seen = stop.clone();
    let other = Builder::new().affinity(1).spawn(move || while !seen.load(Ordering::Relaxed) {})?;
    // Two that take turns. A host that is late may take the CPU away in either one's turn.
    let subject_spins = {
        let stage = stage.clone();
        promise(Builder::new().affinity(1), move || -> Outcome {
            stage.eventually("15 ms of CPU time are charged", || {
                stage.subject.spin(60)?;
                Ok(stage.info("subject")?.cpu_ns - subject > 15_000_000)
            })
        })?
    };
    let computed = subject_spins.keep();
    stop.store(true, Ordering::Relaxed);
    other.join();
    computed?;
    let (subject, echo) = (cpu_time("subject")? - subject, cpu_time("echo")? - echo);
    let passed = (time::now() - began).as_nanos() as u64;
    ensure!(subject <= passed, "in {passed} ns it computed for {subject} ns");
    ensure!(
        echo < subject / 4,
        "somebody who did nothing is charged {echo} ns, and who computed {subject} ns"
    );
    Ok(())
}

pub(crate) fn who_computes_alone_is_charged_as_it_does(stage: &Arc<Stage>) -> Outcome {
    // No other thread wants the CPU, so only watch ticks can have charged anything when the call returns. All but the time since the
    // last tick, which is short unless the host was late with one.
    stage.eventually("50 of 60 ms are charged to the subject's code and to the caller's thread", || {
        let before = (stage.info("subject")?.cpu_ns, stage.own()?.own_cpu_ns);
        stage.subject.spin(60)?;
        let after = (stage.info("subject")?.cpu_ns, stage.own()?.own_cpu_ns);
        Ok(after.0 - before.0 > 50_000_000 && after.1 - before.1 > 50_000_000)
    })
}

pub(crate) fn a_domain_whose_threads_use_more_than_their_share_ends(stage: &Arc<Stage>) -> Outcome {
    let instance = stage.info("frugal")?.id;
    let guest = {
        let stage = stage.clone();
        promise(Builder::new(), move || {
            stage.frugal.delay(message(b"a guest's"), SOON.as_micros() as u32, true)
        })?
    };
    let began = time::now();
    stage.frugal.compute(1)?;
    let error = guest.keep().err().map(|error| (error.domain(), error.kind()));
    ensure_eq!(error, Some((instance, CrashKind::OverQuota)), "what a caller inside hears");
    // A fifth of the first 100 ms, and the time in which it could have complied.
    let passed = time::now() - began;
    ensure!(passed >= Duration::from_millis(20 + 50), "it was over its share after {passed:?}");
    let crash_record = stage.control.crash_record(instance)?;
    ensure!(
        crash_record
            .is_some_and(|text| text.contains("it was asked to have no more than 20 % of a CPU, and has")),
        "the crash_record says {crash_record:?}"
    );
    stage.restart("frugal")
}

pub(crate) fn clients_do_not_use_a_servers_share_up(stage: &Arc<Stage>) -> Outcome {
    let instance = stage.info("frugal")?;
    let mut after = instance;
    stage.eventually("the time of its code is charged", || {
        stage.frugal.spin(250)?;
        after = stage.info("frugal")?;
        Ok(after.cpu_ns - instance.cpu_ns > 200_000_000)
    })?;
    ensure_eq!((after.id, after.cpu_percent), (instance.id, 20), "the instance that was called");
    ensure!(
        after.own_cpu_ns - instance.own_cpu_ns < 20_000_000,
        "and its threads for {} ns",
        after.own_cpu_ns
    );
    Ok(())
}

pub(crate) fn threads_and_objects_are_counted(stage: &Arc<Stage>) -> Outcome {
    stage.restart("subject")?;
    let before = stage.info("subject")?;
    stage.subject.own(25)?;
    stage.subject.spawn(3)?;
    stage.subject.fill_heap(500_000, true)?;
    let after = stage.info("subject")?;
    ensure_eq!(after.shared_objects - before.shared_objects, 25, "objects");
    ensure!(after.shared_bytes - before.shared_bytes >= 25 * 256, "{} bytes shared", after.shared_bytes);
    ensure_eq!(after.threads - before.threads, 3, "threads");
    ensure!(after.heap_bytes >= 500_000, "{} bytes of heap", after.heap_bytes);
    ensure!(after.image_bytes > 4096, "{} bytes of image", after.image_bytes);
    stage.restart("subject")
}

fn take_trace(stage: &Stage) -> Outcome<Vec<TraceRecord>> {
    let mut records = Vec::new();
    while let Some(record) = stage.control.next_trace()? {
        records.push(record);
    }
    Ok(records)
}

pub(crate) fn the_trace_shows_events_in_order(stage: &Arc<Stage>) -> Outcome {
    take_trace(stage)?;
    let before = stage.info("echo")?;
    let (instance, pages) = (before.id, before.heap_bytes / 4096);
    stage.control.set_tracing(true)?;
    let _ = stage.echo.ping(1);
    let _ = stage.echo.panic(message(b"for the record"), 0);
    let restarted = stage.restart("echo");
    let _ = stage.echo.ping(2);
    stage.control.set_tracing(false)?;
    restarted?;
    let next = stage.info("echo")?.id;
    let records = take_trace(stage)?;
    ensure!(records.is_sorted_by_key(|record| record.time_ns), "the trace is not in order of time");
    ensure!(records.iter().all(|record| record.cpu < stage.cpus), "an event of a CPU that is none");
    let of_echo = records.iter().filter(|record| record.domain == instance || record.domain == next);
    let events: Vec<_> =
        of_echo.filter(|record| !matches!(&*record.kind, "interrupt" | "eviction")).collect();
    let seen: Vec<_> = events.iter().map(|record| (&*record.kind, record.domain, record.detail)).collect();
    let us = stage.own()?.id.to_bits();
    // The message, and what its method holds while it panics.
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

pub(crate) fn a_trace_that_is_off_stays_empty(stage: &Arc<Stage>) -> Outcome {
    take_trace(stage)?;
    let _ = stage.echo.ping(1);
    let _ = stage.echo.panic(message(b"off the record"), 0);
    stage.restart("echo")?;
    let records = take_trace(stage)?;
    ensure!(records.is_empty(), "{} events, such as {:?}", records.len(), records.first());
    Ok(())
}

/// The host looks for these records on the console.
pub(crate) fn a_domain_logs_under_its_name(stage: &Arc<Stage>) -> Outcome {
    Ok(stage.subject.log(Text::new("of a subject"))?)
}
