//! Domains that log without end or compute at the highest priority delay no other domain and no recovery.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use coppice_control::{DomainState, Latency, LatencyKind};
use coppice_interfaces::{CrashKind, Text};
use coppice_runtime::thread::{Builder, JoinHandle};
use coppice_runtime::time;
use coppice_test_interfaces::Fault;

use crate::context::{Context, Failure, Outcome, ensure, ensure_eq, spawn_with_result, spin};

/// The duration of a flood: long enough to fill a pipe of 64 KiB.
const FLOOD: Duration = Duration::from_secs(1);

/// The limit of a recovery during a flood or beside spinning threads. A recovery takes less than a
/// millisecond; the rest is for a busy host.
const RECOVERY_LIMIT: Duration = Duration::from_secs(3);

/// kernel/tests runs this scenario also with a console that is not read for some time.
pub(crate) fn a_log_flood_delays_no_kill_and_no_restart(context: &Arc<Context>) -> Outcome {
    let name = "fault-target-logs-without-limit";
    let victim = context.info(name)?.id;
    let began = time::now();
    context.fault_target_logs_without_limit.flood_log()?;
    // A kernel that waits for the console delays the end of the sleep too.
    time::sleep(FLOOD);
    // A domain that the kernel has to end and to start, and the flood itself.
    context.kill("echo-always-restarts")?;
    context.eventually("another domain is restarted", || Ok(context.echo_always_restarts.ping(1).is_ok()))?;
    // A call whose deadline passes.
    let hung = context.fault_target_deadline_20ms.fail(Fault::InfiniteLoop);
    ensure_eq!(hung.map_err(|error| error.kind()), Err(CrashKind::Deadline), "the end of a hung call");
    context.kill(name)?;
    let took = time::now() - began;
    ensure!(
        took < FLOOD + RECOVERY_LIMIT,
        "a flood of {FLOOD:?} with a restart, a deadline and a kill took {took:?}"
    );
    context.eventually("the domains are dead", || {
        let is_dead = |name| -> Outcome<bool> { Ok(context.info(name)?.state == DomainState::Dead) };
        Ok(is_dead(name)? && is_dead("fault-target-deadline-20ms")?)
    })?;
    context.restart("fault-target-deadline-20ms")?;
    context.restart(name)?;
    ensure!(context.info(name)?.id != victim, "the flood was not ended");
    Ok(())
}

pub(crate) fn records_beyond_the_rate_are_dropped_and_counted(context: &Arc<Context>) -> Outcome {
    // The default rate: 1000 records at once, and 1000 per second.
    let before = context.info("fault-target")?.log_dropped;
    let others = context.info("echo")?.log_dropped;
    context.fault_target.flood_log()?;
    context.eventually("records are dropped", || {
        Ok(context.info("fault-target")?.log_dropped > before + 5_000)
    })?;
    ensure_eq!(context.info("echo")?.log_dropped, others, "dropped records of another domain");
    context.restart("fault-target")
}

/// kernel/tests checks the console.
pub(crate) fn a_log_record_stays_in_its_line(context: &Arc<Context>) -> Outcome {
    for word in
        ["\nscenario forged ... ok (1 ms)", "\r[9.0] kernel: forged", "\u{1b}[2J\u{9b}2J\u{85}\u{2028}forged"]
    {
        context.fault_target.log(Text::new(word))?;
    }
    Ok(())
}

pub(crate) fn a_restart_is_not_delayed_by_threads_of_the_highest_priority(context: &Arc<Context>) -> Outcome {
    // A thread of the same priority takes turns with them; the present one would get no CPU.
    let measured = {
        let context = context.clone();
        spawn_with_result(Builder::new().priority(0), move || restart_beside_spinning_threads(&context))?
    };
    let took = measured.join()?;
    ensure!(took < RECOVERY_LIMIT, "the restart took {took:?} beside threads that compute");
    Ok(())
}

/// Returns the time of a restart while threads of the highest priority use all CPUs.
fn restart_beside_spinning_threads(context: &Context) -> Outcome<Duration> {
    /// The threads spin for this long at most: much longer than [`RECOVERY_LIMIT`].
    const SPIN: Duration = Duration::from_secs(20);
    let stop = Arc::new(AtomicBool::new(false));
    let end = time::now() + SPIN;
    let mut spinners = Vec::new();
    for cpu in 0..context.cpus {
        let (stop, started) = (stop.clone(), Arc::new(AtomicBool::new(false)));
        let starts = started.clone();
        spinners.push(Builder::new().affinity(1 << cpu).priority(0).spawn(move || {
            starts.store(true, Ordering::Relaxed);
            while !stop.load(Ordering::Relaxed) && time::now() < end {
                core::hint::spin_loop();
            }
        })?);
        context.eventually("the thread spins", || Ok(started.load(Ordering::Relaxed)))?;
    }
    let before = context.info("echo-always-restarts")?.id;
    let began = time::now();
    context.kill("echo-always-restarts")?;
    let is_back = || -> Outcome<bool> {
        let info = context.info("echo-always-restarts")?;
        Ok(info.id != before && info.state == DomainState::Running)
    };
    while !is_back()? && time::now() < end {
        time::sleep(Duration::from_millis(1));
    }
    let took = time::now() - began;
    ensure!(time::now() < end, "the restart came only after the threads had ended");
    stop.store(true, Ordering::Relaxed);
    spinners.into_iter().for_each(JoinHandle::join);
    Ok(took)
}

pub(crate) fn a_priority_above_the_cap_is_clamped(context: &Arc<Context>) -> Outcome {
    const SPIN_MS: u32 = 10_000;
    // `fault-target` may not be more urgent than the normal priority, so its threads take turns with this
    // one. Before they spin: otherwise they could delay this too.
    let began = time::now();
    let all = context.fault_target.spin_on((1 << context.cpus) - 1, SPIN_MS)?;
    ensure_eq!(all, context.cpus, "threads that spin");
    let here = Builder::new().priority(2);
    for cpu in 0..context.cpus {
        spawn_with_result(here.affinity(1 << cpu), || ())?.join();
    }
    let took = time::now() - began;
    ensure!(
        took < Duration::from_millis(SPIN_MS.into()) / 2,
        "threads of normal priority waited {took:?} for threads whose domain is not granted more"
    );
    context.restart("fault-target")
}

pub(crate) fn times_without_reaction_are_measured_on_each_cpu(context: &Arc<Context>) -> Outcome {
    let latency = |cpu, kind| -> Outcome<Latency> {
        let latency = context.control.latency(cpu, kind)?;
        latency.ok_or_else(|| Failure(format!("CPU {cpu} has no latencies")))
    };
    ensure!(
        context.control.latency(context.cpus, LatencyKind::Section)?.is_none(),
        "a CPU that is none has some"
    );
    for cpu in 0..context.cpus {
        let there = Builder::new().affinity(1 << cpu);
        let before = LatencyKind::ALL.map(|kind| latency(cpu, kind).map(|latency| latency.count()));
        let stops = {
            let context = context.clone();
            spawn_with_result(there, move || -> Outcome {
                for _ in 0..10 {
                    // Each stops the world once.
                    context.control.in_use()?;
                }
                spin(Duration::from_millis(50));
                Ok(())
            })?
        };
        stops.join()?;
        let [sections, stops, ..] = before;
        let (sections, stops) = (
            latency(cpu, LatencyKind::Section)?.count() - sections?,
            latency(cpu, LatencyKind::WorldStop)?.count() - stops?,
        );
        ensure!(sections >= 10, "{sections} sections on CPU {cpu} around ten calls");
        ensure!(stops >= 10, "{stops} stops of the world by CPU {cpu}, which has stopped it ten times");
        context.eventually("interrupts are off during an interrupt", || {
            spin(Duration::from_millis(10));
            Ok(latency(cpu, LatencyKind::InterruptsOff)?.count() > 0)
        })?;
        for kind in [LatencyKind::Section, LatencyKind::WorldStop, LatencyKind::InterruptsOff] {
            let latency = latency(cpu, kind)?;
            ensure!(latency.longest_ns > 0, "{kind:?} on CPU {cpu} takes no time");
            ensure!(
                latency.place.starts_with("kernel/") && latency.place.contains(".rs:"),
                "{kind:?} on CPU {cpu} begins at {}",
                latency.place
            );
            ensure!(
                latency.quantile_ns(500_000) <= latency.quantile_ns(999_900)
                    && latency.quantile_ns(1_000_000) == latency.longest_ns,
                "{kind:?} on CPU {cpu}: {latency:?}"
            );
        }
    }
    Ok(())
}
