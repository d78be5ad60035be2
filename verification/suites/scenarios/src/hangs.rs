//! Calls that overrun their deadlines, and the domains that end for it.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use coppice_control::DomainState;
use coppice_example_interfaces::Counter;
use coppice_interfaces::{CrashKind, DomainId, Handle, RpcError, RpcResult, Text};
use coppice_runtime::thread::Builder;
use coppice_runtime::time;
use coppice_test_interfaces::Fault;

use crate::context::{Context, Failure, Outcome, ensure, ensure_eq, message, spawn_with_result};

/// The deadline of `fault-target-deadline-20ms`.
const FAULT_TARGET_DEADLINE: Duration = Duration::from_millis(20);

const HANGS: [Fault; 3] = [Fault::InfiniteLoop, Fault::LockNeverReleased, Fault::EndlessWait];

/// Fails unless a call ended with a deadline crash of `victim`, and not before its deadline. The delay after
/// the deadline depends on the host.
fn ensure_deadline(result: Result<(), RpcError>, victim: DomainId, took: Duration) -> Outcome {
    let error = result.map_err(|error| (error.domain(), error.kind()));
    ensure_eq!(error, Err((victim, CrashKind::Deadline)), "the caller's error");
    ensure!(took >= FAULT_TARGET_DEADLINE, "the error came after {took:?}, before the deadline");
    Ok(())
}

/// Returns the result of a call to `name` that takes almost no time. A busy host can delay the call beyond
/// the callee's deadline and so end the callee. Then the call is repeated with the next instance.
fn in_time<T>(context: &Context, name: &str, mut call: impl FnMut() -> RpcResult<T>) -> Outcome<T> {
    for _ in 0..20 {
        match call() {
            Err(error) if error.kind() == CrashKind::Deadline => context.restart(name)?,
            answer => return Ok(answer?),
        }
    }
    Err(Failure(format!("{name} missed its deadline 20 times in a row")))
}

pub(crate) fn a_call_beyond_its_deadline_ends_only_the_callee(context: &Arc<Context>) -> Outcome {
    let others =
        ["echo", "echo-deadline-2ms", "holder-deadline-2ms", "fault-target-deadline-2ms", "fault-target"];
    let instances = || others.map(|name| context.info(name).map(|info| info.id).ok());
    let before = instances();
    for (fault, cpu) in HANGS.into_iter().flat_map(|fault| (0..context.cpus).map(move |cpu| (fault, cpu))) {
        let victim = context.info("fault-target-deadline-20ms")?.id;
        let call = {
            let context = context.clone();
            spawn_with_result(Builder::new().affinity(1 << cpu), move || {
                let began = time::now();
                let result = context.fault_target_deadline_20ms.fail(fault);
                (result, time::now() - began)
            })?
        };
        let (result, took) = call.join();
        ensure_deadline(result, victim, took)?;
        let crash_record = context.control.crash_record(victim)?;
        ensure!(
            crash_record.is_some_and(|text| text.contains("a call from scenarios took longer than 20 ms; its thread")),
            "{fault:?}: the crash record says {crash_record:?}"
        );
        // The caller continues as soon as it can, while the kernel still reclaims the callee's resources.
        context.eventually("the domain is dead", || {
            Ok(context.info("fault-target-deadline-20ms")?.state == DomainState::Dead)
        })?;
        context.restart("fault-target-deadline-20ms")?;
        context.fault_target_deadline_20ms.own(1)?;
    }
    ensure_eq!(instances(), before, "the other domains' instances");
    Ok(())
}

pub(crate) fn a_call_within_its_deadline_succeeds(context: &Arc<Context>) -> Outcome {
    let (slowest, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (seen, failures) = (slowest.clone(), failed.clone());
    context.on_threads(context.cpus, move |context, number| {
        for round in 0..context.rounds(20, 5) {
            let began = time::now();
            // Long enough for the watchdog to timestamp the call.
            let answer = context.fault_target_deadline_20ms.delay(
                message(b"slowly"),
                5_000,
                (round + number) % 2 == 0,
            );
            seen.fetch_max((time::now() - began).as_nanos() as u64, Ordering::Relaxed);
            if let Ok(message) = answer {
                ensure_eq!(message[..], b"slowly"[..], "the answer");
            } else {
                failures.fetch_add(1, Ordering::Relaxed);
                context.eventually("the domain runs again", || {
                    let _ = context.control.restart(Text::new("fault-target-deadline-20ms"))?;
                    Ok(context.info("fault-target-deadline-20ms")?.state == DomainState::Running)
                })?;
            }
        }
        Ok(())
    })?;
    // A busy host can make any call last longer.
    let slowest = Duration::from_nanos(slowest.load(Ordering::Relaxed));
    let failed = failed.load(Ordering::Relaxed);
    ensure!(
        failed == 0 || slowest >= FAULT_TARGET_DEADLINE,
        "{failed} calls failed, and none took longer than {slowest:?}"
    );
    // A call without a deadline may last.
    let counter = context.holder.slow_counter(5)?;
    let call = {
        let (context, counter) = (context.clone(), counter.clone());
        spawn_with_result(Builder::new(), move || context.fault_target.count_locked(counter))?
    };
    context.eventually("the call stays", || Ok(context.holder.pending_calls()? == 1))?;
    time::sleep(Duration::from_millis(5));
    context.holder.let_go()?;
    ensure_eq!(call.join().map(|answer| answer.ok()).ok(), Some(Some(5)), "the answer of a long call");
    Ok(())
}

pub(crate) fn a_hang_at_the_highest_priority_on_all_cpus_is_ended(context: &Arc<Context>) -> Outcome {
    let victim = context.info("fault-target-deadline-20ms")?.id;
    let mut calls = Vec::new();
    for number in 0..context.cpus * 2 {
        let (context, builder) = (context.clone(), Builder::new().affinity(1 << (number % context.cpus)));
        calls.push(spawn_with_result(builder.priority(0), move || {
            context
                .fault_target_deadline_20ms
                .fail(Fault::InfiniteLoop)
                .map_err(|error| (error.domain(), error.kind()))
        })?);
    }
    let mut deadlines = 0;
    for call in calls {
        match call.join() {
            // This call came too late to be inside the domain.
            Err((domain, CrashKind::NotRunning)) if domain == victim => {}
            error => {
                ensure_eq!(error, Err((victim, CrashKind::Deadline)), "the caller's error");
                deadlines += 1;
            }
        }
    }
    ensure!(deadlines > 0, "no call was inside the domain");
    context.restart("fault-target-deadline-20ms")
}

pub(crate) fn a_caller_of_a_hung_domain_is_not_ended(context: &Arc<Context>) -> Outcome {
    for _ in 0..20 {
        let fault_target_20ms = context.info("fault-target-deadline-20ms")?.id;
        let slow = in_time(context, "holder-deadline-2ms", || context.holder_deadline_2ms.slow_counter(1))?;
        let holder = context.info("holder-deadline-2ms")?.id;
        let answer = match context.fault_target_deadline_20ms.count_locked(slow) {
            // A host that was busy for 20 ms finds the deadlines of both exceeded.
            Err(error) if error.kind() == CrashKind::Deadline => {
                context.restart("fault-target-deadline-20ms")?;
                context.restart("holder-deadline-2ms")?;
                continue;
            }
            answer => answer?,
        };
        let heard = answer.map_err(|error| (error.domain(), error.kind()));
        ensure_eq!(heard, Err((holder, CrashKind::Deadline)), "the error of the domain in the middle");
        ensure_eq!(
            context.info("fault-target-deadline-20ms")?.id,
            fault_target_20ms,
            "the domain in the middle"
        );
        ensure_eq!(context.info("fault-target-deadline-20ms")?.state, DomainState::Running, "its state");
        let crash_record = context.control.crash_record(holder)?;
        ensure!(
            crash_record.is_some_and(|text| {
                text.contains(
                    "a call from fault-target-deadline-20ms took longer than 2 ms; its thread is blocked in holder-deadline-2ms",
                ) && text.contains("(scenarios -> fault-target-deadline-20ms -> holder-deadline-2ms)")
            }),
            "the crash record says {crash_record:?}"
        );
        return context.restart("holder-deadline-2ms");
    }
    Err(Failure("20 times in a row the domain in the middle was ended too".into()))
}

pub(crate) fn a_deadlock_of_two_domains_is_broken(context: &Arc<Context>) -> Outcome {
    for _ in 0..context.rounds(10, 3) {
        deadlock_with_one_deadline(context)?;
        deadlock_with_two_deadlines(context)?;
    }
    Ok(())
}

/// `fault-target` has no deadline, so `fault-target-deadline-2ms` ends.
fn deadlock_with_one_deadline(context: &Context) -> Outcome {
    let deadlock = deadlock(context, "fault-target")?;
    let (fault_target, fault_target_2ms) = deadlock.instances;
    context.eventually("fault-target-deadline-2ms has ended", || {
        Ok(context.info("fault-target-deadline-2ms")?.state == DomainState::Dead)
    })?;
    ensure_deadline_crash(
        context,
        fault_target_2ms,
        "a call from fault-target took longer than 2 ms; its thread",
    )?;
    let mut error = None;
    context.eventually("fault-target has its error", || {
        error = context.fault_target.held_error()?;
        Ok(error.is_some())
    })?;
    let error = error.map(|error| (error.domain(), error.kind()));
    ensure_eq!(error, Some((fault_target_2ms, CrashKind::Deadline)), "the error of the surviving domain");
    ensure_eq!(context.info("fault-target")?.id, fault_target, "the surviving domain");
    context.restart("fault-target")?;
    context.restart("fault-target-deadline-2ms")
}

/// The overrun that the watchdog notices first ends its callee. `fault-target-deadline-2ms` has the shorter
/// deadline, but its call may begin later.
fn deadlock_with_two_deadlines(context: &Context) -> Outcome {
    let deadlock = deadlock(context, "fault-target-deadline-20ms")?;
    let (fault_target_20ms, fault_target_2ms) = deadlock.instances;
    let is_dead = |name: &str| -> Outcome<bool> { Ok(context.info(name)?.state == DomainState::Dead) };
    context.eventually("one of them has ended", || {
        Ok(is_dead("fault-target-deadline-20ms")? || is_dead("fault-target-deadline-2ms")?)
    })?;
    // The other domain's thread returns from its call, or ends with its domain if that was over its deadline
    // too.
    context.eventually("no thread hangs any more", || {
        Ok(context.info("fault-target-deadline-20ms")?.threads == 0
            && context.info("fault-target-deadline-2ms")?.threads == 0)
    })?;
    // On a busy host the other domain may end too, by any call with a deadline, such as the drop of an object
    // of the first.
    let of_fault_target_2ms = ensure_deadline_crash(
        context,
        fault_target_2ms,
        "a call from fault-target-deadline-20ms took longer than 2 ms; its thread",
    );
    let of_fault_target_20ms = ensure_deadline_crash(
        context,
        fault_target_20ms,
        "a call from fault-target-deadline-2ms took longer than 20 ms; its thread",
    );
    of_fault_target_2ms.or(of_fault_target_20ms)?;
    drop(deadlock);
    context.restart("fault-target-deadline-20ms")?;
    context.restart("fault-target-deadline-2ms")?;
    // An attempt without a deadlock may have left a thread in it.
    context.restart("fault-target")
}

fn ensure_deadline_crash(context: &Context, domain: DomainId, words: &str) -> Outcome {
    let crash_record = context.control.crash_record(domain)?;
    ensure!(
        crash_record.is_some_and(|text| text.contains(words)),
        "the crash record says {crash_record:?}, not {words}"
    );
    Ok(())
}

/// Two domains that wait for each other.
struct Deadlock {
    instances: (DomainId, DomainId),
    /// Kept, because the kernel would drop the counter by a call with a deadline.
    _counter: Handle<dyn Counter>,
}

/// Makes a thread of `name` and one of `fault-target-deadline-2ms` each hold its domain's lock and call the
/// other domain for its lock. Returns both instances.
///
/// Both threads hold their locks before either calls. The own threads of a domain have no deadline, so they
/// may wait for each other as long as necessary: the deadlines begin with the calls that cannot return any
/// more.
fn deadlock(context: &Context, name: &str) -> Outcome<Deadlock> {
    let first = if name == "fault-target-deadline-20ms" {
        &context.fault_target_deadline_20ms
    } else {
        &context.fault_target
    };
    for _ in 0..20 {
        let instances = (context.info(name)?.id, context.info("fault-target-deadline-2ms")?.id);
        // Wires cannot form a cycle, but objects that are passed on can.
        let begin = || {
            let (own, meeting) = (first.locked_counter()?, context.fault_target.meeting(2)?);
            let other = context.fault_target_deadline_2ms.hold_and_count(own, meeting.clone())?;
            first.hold_and_count(other, meeting)
        };
        match begin() {
            Ok(counter) => return Ok(Deadlock { instances, _counter: counter }),
            // A busy host can delay any of these calls beyond its deadline. Then there is no deadlock yet.
            Err(error) if error.kind() == CrashKind::Deadline => {
                context.restart(name)?;
                context.restart("fault-target-deadline-2ms")?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure(format!("{name} and fault-target-deadline-2ms started too late 20 times in a row")))
}

pub(crate) fn a_wait_in_the_kernel_ends_with_the_calling_domain(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(50, 10), |round| {
        context.fault_target.read_line(context.control.clone(), true)?;
        if round % 2 == 0 {
            time::sleep(Duration::from_micros(u64::from(round) * 50));
        }
        context.restart("fault-target")
    })
}

pub(crate) fn a_call_blocked_in_the_kernel_ends_at_its_deadline(context: &Arc<Context>) -> Outcome {
    let victim = context.info("fault-target-deadline-20ms")?.id;
    let began = time::now();
    let result = context.fault_target_deadline_20ms.read_line(context.control.clone(), false);
    ensure_deadline(result, victim, time::now() - began)?;
    let crash_record = context.control.crash_record(victim)?;
    ensure!(
        crash_record
            .is_some_and(|text| text
                .contains("is blocked in kernel (scenarios -> fault-target-deadline-20ms -> kernel)")),
        "the crash record says {crash_record:?}"
    );
    context.restart("fault-target-deadline-20ms")
}

pub(crate) fn a_hung_start_delays_no_other_restart(context: &Arc<Context>) -> Outcome {
    let kept = {
        let context = context.clone();
        spawn_with_result(Builder::new(), move || context.holder.read_late(&message(b"kept")).map(drop))?
    };
    context.eventually("the call stays", || Ok(context.holder.pending_calls()? == 1))?;
    context.kill("fault-target-hangs-while-held")?;
    let hung =
        |context: &Context| Ok(context.info("fault-target-hangs-while-held")?.state == DomainState::Starting);
    context.eventually("the start hangs", || hung(context))?;
    let first = context.info("fault-target-hangs-while-held")?.id;
    // The thread that has called the hung entry function is the one that restarts this domain.
    context.kill("echo-always-restarts")?;
    context.eventually("another domain is restarted", || Ok(context.echo_always_restarts.ping(1).is_ok()))?;
    context.eventually("the hang is over", || Ok(context.control.crash_record(first)?.is_some()))?;
    let crash_record = context.control.crash_record(first)?;
    ensure!(
        crash_record.is_some_and(|text| text.contains("its entry function took longer than 2 s; its thread")),
        "the crash record says {crash_record:?}"
    );
    context.holder.let_go()?;
    kept.join()?;
    context.eventually("the domain starts", || {
        Ok(context.info("fault-target-hangs-while-held")?.state == DomainState::Running)
    })
}

pub(crate) fn a_hung_destructor_delays_no_other_drop(context: &Arc<Context>) -> Outcome {
    let victim = context.info("fault-target-deadline-20ms")?.id;
    let began = time::now();
    drop(context.fault_target_deadline_20ms.counter_hanging_on_drop()?);
    drop(context.holder.slow_counter(1)?);
    context.eventually("another domain's object is dropped", || Ok(context.holder.slow_counters()? == 0))?;
    context.eventually("the domain has ended", || {
        Ok(context.info("fault-target-deadline-20ms")?.state == DomainState::Dead)
    })?;
    let took = time::now() - began;
    ensure!(took >= FAULT_TARGET_DEADLINE, "it took {took:?}");
    let crash_record = context.control.crash_record(victim)?;
    ensure!(
        crash_record
            .is_some_and(|text| text.contains("a call from the kernel took longer than 20 ms; its thread")),
        "the crash record says {crash_record:?}"
    );
    context.restart("fault-target-deadline-20ms")
}

pub(crate) fn slow_destructors_delay_only_drops_of_their_own_domain(context: &Arc<Context>) -> Outcome {
    const SLOW: u32 = 100;
    // Longer than a drop takes on a busy host, and shorter than the longest time for a destructor.
    const MILLISECONDS: u32 = 8_000;
    context.restart("quota-hog")?;
    let (before, proxies) = (context.info("quota-hog")?, context.kernel_heap("quota-hog", "proxies")?);
    context.quota_hog.drop_slow_counters(SLOW, MILLISECONDS)?;
    drop(context.holder.slow_counter(1)?);
    context.eventually("another domain's object is dropped", || Ok(context.holder.slow_counters()? == 0))?;
    let now = context.info("quota-hog")?;
    ensure_eq!(now.id, before.id, "the instance with the slow destructors");
    let waiting = context.control.in_use()?.kernel_work;
    ensure!(
        waiting > SLOW - 20,
        "only {waiting} of {SLOW} destructors are left: the drop has waited for them"
    );
    let charged = context.kernel_heap("quota-hog", "proxies")?.0 - proxies.0;
    ensure!(charged > u64::from(SLOW) - 20, "only {charged} of {SLOW} waiting objects have a payer");
    // The next instance does not wait for them.
    context.restart("quota-hog")?;
    context.eventually("nothing is left of them", || {
        let is_idle = context.control.in_use()?.kernel_work == 0;
        Ok(is_idle && context.kernel_heap("quota-hog", "proxies")? == proxies)
    })
}

pub(crate) fn hangs_leak_nothing(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(30, 6), |round| {
        in_time(context, "fault-target-deadline-2ms", || context.fault_target_deadline_2ms.own(10))?;
        in_time(context, "fault-target-deadline-2ms", || {
            context.fault_target_deadline_2ms.adopt(context.factory.make(1)?)
        })?;
        let fault = HANGS[round as usize % HANGS.len()];
        let kind = context.fault_target_deadline_2ms.fail(fault).map_err(|error| error.kind());
        ensure_eq!(kind, Err(CrashKind::Deadline), "the caller's error");
        context.restart("fault-target-deadline-2ms")
    })
}

pub(crate) fn calls_that_return_near_their_deadline_succeed_or_fail_cleanly(
    context: &Arc<Context>,
) -> Outcome {
    let (answers, errors) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let slot = context.info("fault-target-deadline-2ms")?.id.slot();
    context.leaks_nothing(1, |_| {
        let (answered, failed) = (answers.clone(), errors.clone());
        context.on_threads(context.cpus * 2, move |context, number| {
            let mut random = context.random(number);
            for _ in 0..context.rounds(300, 30) {
                // The deadline is 2 ms after a tick that comes within one.
                let time = 1_500 + random.below(2_000) as u32;
                // Two threads on one CPU would only take time from each other.
                let asleep = number >= context.cpus || random.below(2) == 0;
                match context.fault_target_deadline_2ms.delay(message(&time.to_le_bytes()), time, asleep) {
                    Ok(answer) => {
                        ensure_eq!(answer[..], time.to_le_bytes(), "an answer");
                        answered.fetch_add(1, Ordering::Relaxed)
                    }
                    Err(error) => {
                        ensure_eq!(error.domain().slot(), slot, "the dead domain");
                        let kinds = [CrashKind::Deadline, CrashKind::NotRunning, CrashKind::Killed];
                        ensure!(kinds.contains(&error.kind()), "no domain was ended that way: {error}");
                        // Another caller may have restarted it already.
                        if context.info("fault-target-deadline-2ms")?.state == DomainState::Dead {
                            let _ = context.control.restart(Text::new("fault-target-deadline-2ms"))?;
                        }
                        failed.fetch_add(1, Ordering::Relaxed)
                    }
                };
            }
            Ok(())
        })?;
        context.restart("fault-target-deadline-2ms")
    })?;
    let (answers, errors) = (answers.load(Ordering::Relaxed), errors.load(Ordering::Relaxed));
    ensure!(answers > 0 && errors > 0, "{answers} answers and {errors} errors: one of them is missing");
    Ok(())
}

pub(crate) fn an_idle_cpu_gets_no_timer_ticks(context: &Arc<Context>) -> Outcome {
    const REST: Duration = Duration::from_millis(200);
    /// The value of `request::TIMER` in `kernel/src/sched/cpu.rs`.
    const TIMER: u64 = 1;
    while context.control.next_trace()?.is_some() {}
    context.control.set_tracing(true)?;
    time::sleep(REST);
    context.control.set_tracing(false)?;
    let mut looks = alloc::vec![0_u32; context.cpus as usize];
    let mut ran = false;
    while let Some(record) = context.control.next_trace()? {
        ran = true;
        if &*record.kind == "interrupt" && record.detail & TIMER != 0 {
            looks[record.cpu as usize] += 1;
        }
    }
    ensure!(ran, "the trace has no event");
    // Expected per CPU: one scan on the way to idle, one timer of a sleeping thread, and one timer of each
    // that was set earlier and not cancelled.
    ensure!(looks.iter().all(|&looks| looks <= 6), "timer interrupts by CPU in {REST:?}: {looks:?}");
    // The reverse check: a busy CPU must be seen to tick. The time that this takes depends on the host's
    // load.
    let mut ticks = 0;
    context.eventually("a thread that computes is interrupted by 20 ticks", || {
        context.control.set_tracing(true)?;
        let _ = context.fault_target.spin(REST.as_millis() as u32);
        context.control.set_tracing(false)?;
        while let Some(record) = context.control.next_trace()? {
            ticks += u32::from(&*record.kind == "interrupt" && record.detail & TIMER != 0);
        }
        Ok(ticks > 20)
    })
}
