//! Domains that do not answer in time, and who pays for it.

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

use crate::stage::{Failure, Outcome, Stage, ensure, ensure_eq, message, promise};

/// The deadline of `hasty`.
const HASTY: Duration = Duration::from_millis(20);

const HANGS: [Fault; 3] = [Fault::InfiniteLoop, Fault::LockNeverReleased, Fault::EndlessWait];

/// Fails unless a call ended as one does that takes too long, and not before the deadline of `victim`. How long after it depends on
/// the host.
fn ensure_deadline(result: Result<(), RpcError>, victim: DomainId, took: Duration) -> Outcome {
    let error = result.map_err(|error| (error.domain(), error.kind()));
    ensure_eq!(error, Err((victim, CrashKind::Deadline)), "what the caller hears");
    ensure!(took >= HASTY, "the error came after {took:?}, before the deadline");
    Ok(())
}

/// What a call to `name` answers that is done in no time. A host that has something else to do can make it last, and end its callee;
/// then it is asked of the next instance.
fn in_time<T>(stage: &Stage, name: &str, mut call: impl FnMut() -> RpcResult<T>) -> Outcome<T> {
    for _ in 0..20 {
        match call() {
            Err(error) if error.kind() == CrashKind::Deadline => stage.restart(name)?,
            answer => return Ok(answer?),
        }
    }
    Err(Failure(format!("{name} has not answered in time 20 times in a row")))
}

pub(crate) fn a_call_that_takes_too_long_ends_its_callee_alone(stage: &Arc<Stage>) -> Outcome {
    let others = ["echo", "quick-echo", "quick-keeper", "brief", "subject"];
    let instances = || others.map(|name| stage.info(name).map(|info| info.id).ok());
    let before = instances();
    for (fault, cpu) in HANGS.into_iter().flat_map(|fault| (0..stage.cpus).map(move |cpu| (fault, cpu))) {
        let victim = stage.info("hasty")?.id;
        let call = {
            let stage = stage.clone();
            promise(Builder::new().affinity(1 << cpu), move || {
                let began = time::now();
                let result = stage.hasty.fail(fault);
                (result, time::now() - began)
            })?
        };
        let (result, took) = call.keep();
        ensure_deadline(result, victim, took)?;
        let crash_record = stage.control.crash_record(victim)?;
        ensure!(
            crash_record.is_some_and(|text| text.contains("a call from scenarios took longer than 20 ms; its thread")),
            "{fault:?}: the crash_record says {crash_record:?}"
        );
        // The caller goes on as soon as it can; what the callee had is taken back meanwhile.
        stage.eventually("it is dead", || Ok(stage.info("hasty")?.state == DomainState::Dead))?;
        stage.restart("hasty")?;
        stage.hasty.own(1)?;
    }
    ensure_eq!(instances(), before, "the lives of the others");
    Ok(())
}

pub(crate) fn a_call_in_time_is_left_alone(stage: &Arc<Stage>) -> Outcome {
    let (slowest, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (seen, failures) = (slowest.clone(), failed.clone());
    stage.all_together(stage.cpus, move |stage, number| {
        for round in 0..stage.rounds(20, 5) {
            let began = time::now();
            // Long enough to be marked.
            let answer = stage.hasty.delay(message(b"slowly"), 5_000, (round + number) % 2 == 0);
            seen.fetch_max((time::now() - began).as_nanos() as u64, Ordering::Relaxed);
            if let Ok(message) = answer {
                ensure_eq!(message[..], b"slowly"[..], "the answer");
            } else {
                failures.fetch_add(1, Ordering::Relaxed);
                stage.eventually("hasty lives again", || {
                    let _ = stage.control.restart(Text::new("hasty"))?;
                    Ok(stage.info("hasty")?.state == DomainState::Running)
                })?;
            }
        }
        Ok(())
    })?;
    // A host that has something else to do can make any call last.
    let slowest = Duration::from_nanos(slowest.load(Ordering::Relaxed));
    let failed = failed.load(Ordering::Relaxed);
    ensure!(failed == 0 || slowest >= HASTY, "{failed} calls failed, and none took longer than {slowest:?}");
    // A call without a deadline may last.
    let counter = stage.keeper.slow_counter(5)?;
    let call = {
        let (stage, counter) = (stage.clone(), counter.clone());
        promise(Builder::new(), move || stage.subject.count_locked(counter))?
    };
    stage.eventually("the call stays", || Ok(stage.keeper.pending_calls()? == 1))?;
    time::sleep(Duration::from_millis(5));
    stage.keeper.let_go()?;
    ensure_eq!(call.keep().map(|answer| answer.ok()).ok(), Some(Some(5)), "the answer of a long call");
    Ok(())
}

pub(crate) fn a_hang_of_the_most_urgent_threads_on_all_cpus_ends(stage: &Arc<Stage>) -> Outcome {
    let victim = stage.info("hasty")?.id;
    let mut calls = Vec::new();
    for number in 0..stage.cpus * 2 {
        let (stage, builder) = (stage.clone(), Builder::new().affinity(1 << (number % stage.cpus)));
        calls.push(promise(builder.priority(0), move || {
            stage.hasty.fail(Fault::InfiniteLoop).map_err(|error| (error.domain(), error.kind()))
        })?);
    }
    let mut deadlines = 0;
    for call in calls {
        match call.keep() {
            // Too late to be inside.
            Err((domain, CrashKind::NotRunning)) if domain == victim => {}
            error => {
                ensure_eq!(error, Err((victim, CrashKind::Deadline)), "what a caller hears");
                deadlines += 1;
            }
        }
    }
    ensure!(deadlines > 0, "nobody was inside");
    stage.restart("hasty")
}

pub(crate) fn who_waits_for_one_that_hangs_is_not_blamed(stage: &Arc<Stage>) -> Outcome {
    for _ in 0..20 {
        let hasty = stage.info("hasty")?.id;
        let slow = in_time(stage, "quick-keeper", || stage.quick_keeper.slow_counter(1))?;
        let keeper = stage.info("quick-keeper")?.id;
        let answer = match stage.hasty.count_locked(slow) {
            // A host that comes back after 20 ms finds the deadlines of both over.
            Err(error) if error.kind() == CrashKind::Deadline => {
                stage.restart("hasty")?;
                stage.restart("quick-keeper")?;
                continue;
            }
            answer => answer?,
        };
        let heard = answer.map_err(|error| (error.domain(), error.kind()));
        ensure_eq!(heard, Err((keeper, CrashKind::Deadline)), "what the domain in the middle hears");
        ensure_eq!(stage.info("hasty")?.id, hasty, "the domain in the middle");
        ensure_eq!(stage.info("hasty")?.state, DomainState::Running, "its state");
        let crash_record = stage.control.crash_record(keeper)?;
        ensure!(
            crash_record.is_some_and(|text| {
                text.contains(
                    "a call from hasty took longer than 2 ms; its thread is blocked in quick-keeper",
                ) && text.contains("(scenarios -> hasty -> quick-keeper)")
            }),
            "the crash_record says {crash_record:?}"
        );
        return stage.restart("quick-keeper");
    }
    Err(Failure("20 times in a row the domain in the middle was ended too".into()))
}

pub(crate) fn two_domains_deadlocked_on_each_other_are_parted(stage: &Arc<Stage>) -> Outcome {
    for _ in 0..stage.rounds(10, 3) {
        deadlock_with_one_deadline(stage)?;
        deadlock_with_two_deadlines(stage)?;
    }
    Ok(())
}

/// `subject` has no deadline, so it is `brief` that ends.
fn deadlock_with_one_deadline(stage: &Stage) -> Outcome {
    let deadlock = deadlock(stage, "subject")?;
    let (subject, brief) = deadlock.instances;
    stage.eventually("brief has ended", || Ok(stage.info("brief")?.state == DomainState::Dead))?;
    ensure_overran(stage, brief, "a call from subject took longer than 2 ms; its thread")?;
    let mut error = None;
    stage.eventually("subject has its error", || {
        error = stage.subject.held_error()?;
        Ok(error.is_some())
    })?;
    let error = error.map(|error| (error.domain(), error.kind()));
    ensure_eq!(error, Some((brief, CrashKind::Deadline)), "the error of the domain that goes on");
    ensure_eq!(stage.info("subject")?.id, subject, "the domain that goes on");
    stage.restart("subject")?;
    stage.restart("brief")
}

/// Whichever call is noticed first ends its callee; `brief` has the shorter deadline, but its call may begin later.
fn deadlock_with_two_deadlines(stage: &Stage) -> Outcome {
    let deadlock = deadlock(stage, "hasty")?;
    let (hasty, brief) = deadlock.instances;
    let is_dead = |name: &str| -> Outcome<bool> { Ok(stage.info(name)?.state == DomainState::Dead) };
    stage.eventually("one of them has ended", || Ok(is_dead("hasty")? || is_dead("brief")?))?;
    // The other one's thread comes out of its call; or ends with its domain, if that was over its deadline too.
    stage.eventually("no thread hangs any more", || {
        Ok(stage.info("hasty")?.threads == 0 && stage.info("brief")?.threads == 0)
    })?;
    // On a busy host the other one may end too, of any call with a deadline, such as the drop of what the first one had.
    let of_brief = ensure_overran(stage, brief, "a call from hasty took longer than 2 ms; its thread");
    let of_hasty = ensure_overran(stage, hasty, "a call from brief took longer than 20 ms; its thread");
    of_brief.or(of_hasty)?;
    drop(deadlock);
    stage.restart("hasty")?;
    stage.restart("brief")?;
    // It has the thread of an attempt that did not come about.
    stage.restart("subject")
}

fn ensure_overran(stage: &Stage, domain: DomainId, words: &str) -> Outcome {
    let crash_record = stage.control.crash_record(domain)?;
    ensure!(
        crash_record.is_some_and(|text| text.contains(words)),
        "the crash_record says {crash_record:?}, not {words}"
    );
    Ok(())
}

/// Two domains that wait for each other.
struct Deadlock {
    instances: (DomainId, DomainId),
    /// Kept, as the kernel would drop the counter by a call with a deadline.
    _counter: Handle<dyn Counter>,
}

/// Has a thread of `name` and one of `brief` each hold its domain's lock and call the other domain for that one's.
///
/// They meet with both locks held before either calls. Threads of a domain's own have no deadline: however long one has to wait for
/// the other, the deadlines begin with the calls that cannot return any more.
fn deadlock(stage: &Stage, name: &str) -> Outcome<Deadlock> {
    let first = if name == "hasty" { &stage.hasty } else { &stage.subject };
    for _ in 0..20 {
        let instances = (stage.info(name)?.id, stage.info("brief")?.id);
        // Wires cannot close a circle, but objects that are handed on can.
        let begin = || {
            let (own, meeting) = (first.locked_counter()?, stage.subject.meeting(2)?);
            let other = stage.brief.hold_and_count(own, meeting.clone())?;
            first.hold_and_count(other, meeting)
        };
        match begin() {
            Ok(counter) => return Ok(Deadlock { instances, _counter: counter }),
            // A busy host can make any of these calls last: then nobody has met anybody.
            Err(error) if error.kind() == CrashKind::Deadline => {
                stage.restart(name)?;
                stage.restart("brief")?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure(format!("{name} and brief have not begun in time 20 times in a row")))
}

pub(crate) fn a_wait_in_the_kernel_ends_with_who_called_it(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(50, 10), |round| {
        stage.subject.read_line(stage.control.clone(), true)?;
        if round % 2 == 0 {
            time::sleep(Duration::from_micros(u64::from(round) * 50));
        }
        stage.restart("subject")
    })
}

pub(crate) fn a_call_that_waits_in_the_kernel_for_too_long_ends(stage: &Arc<Stage>) -> Outcome {
    let victim = stage.info("hasty")?.id;
    let began = time::now();
    let result = stage.hasty.read_line(stage.control.clone(), false);
    ensure_deadline(result, victim, time::now() - began)?;
    let crash_record = stage.control.crash_record(victim)?;
    ensure!(
        crash_record.is_some_and(|text| text.contains("is blocked in kernel (scenarios -> hasty -> kernel)")),
        "the crash_record says {crash_record:?}"
    );
    stage.restart("hasty")
}

pub(crate) fn a_start_that_hangs_holds_nobody_up(stage: &Arc<Stage>) -> Outcome {
    let kept = {
        let stage = stage.clone();
        promise(Builder::new(), move || stage.keeper.read_late(&message(b"kept")).map(drop))?
    };
    stage.eventually("the call stays", || Ok(stage.keeper.pending_calls()? == 1))?;
    stage.kill("late")?;
    let hung = |stage: &Stage| Ok(stage.info("late")?.state == DomainState::Starting);
    stage.eventually("it hangs", || hung(stage))?;
    let first = stage.info("late")?.id;
    // The thread that has called its entry function is the one that restarts this one.
    stage.kill("phoenix")?;
    stage.eventually("another one is back", || Ok(stage.phoenix.ping(1).is_ok()))?;
    stage.eventually("the hang is over", || Ok(stage.control.crash_record(first)?.is_some()))?;
    let crash_record = stage.control.crash_record(first)?;
    ensure!(
        crash_record.is_some_and(|text| text.contains("its entry function took longer than 2 s; its thread")),
        "the crash_record says {crash_record:?}"
    );
    stage.keeper.let_go()?;
    kept.keep()?;
    stage.eventually("it starts", || Ok(stage.info("late")?.state == DomainState::Running))
}

pub(crate) fn a_destructor_that_hangs_holds_nobody_up(stage: &Arc<Stage>) -> Outcome {
    let victim = stage.info("hasty")?.id;
    let began = time::now();
    drop(stage.hasty.counter_hanging_on_drop()?);
    drop(stage.keeper.slow_counter(1)?);
    stage.eventually("a stranger's object is dropped", || Ok(stage.keeper.slow_counters()? == 0))?;
    stage.eventually("the domain has ended", || Ok(stage.info("hasty")?.state == DomainState::Dead))?;
    let took = time::now() - began;
    ensure!(took >= HASTY, "it took {took:?}");
    let crash_record = stage.control.crash_record(victim)?;
    ensure!(
        crash_record
            .is_some_and(|text| text.contains("a call from the kernel took longer than 20 ms; its thread")),
        "the crash_record says {crash_record:?}"
    );
    stage.restart("hasty")
}

pub(crate) fn hangs_leak_nothing(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(30, 6), |round| {
        in_time(stage, "brief", || stage.brief.own(10))?;
        in_time(stage, "brief", || stage.brief.adopt(stage.factory.make(1)?))?;
        let fault = HANGS[round as usize % HANGS.len()];
        let kind = stage.brief.fail(fault).map_err(|error| error.kind());
        ensure_eq!(kind, Err(CrashKind::Deadline), "what the caller hears");
        stage.restart("brief")
    })
}

pub(crate) fn calls_that_return_around_their_deadline_harm_nobody(stage: &Arc<Stage>) -> Outcome {
    let (answers, errors) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let slot = stage.info("brief")?.id.slot();
    stage.leaks_nothing(1, |_| {
        let (answered, failed) = (answers.clone(), errors.clone());
        stage.all_together(stage.cpus * 2, move |stage, number| {
            let mut random = stage.random(number);
            for _ in 0..stage.rounds(300, 30) {
                // The deadline is 2 ms after a tick that comes within one.
                let time = 1_500 + random.below(2_000) as u32;
                // Two on one CPU would only take each other's time.
                let asleep = number >= stage.cpus || random.below(2) == 0;
                match stage.brief.delay(message(&time.to_le_bytes()), time, asleep) {
                    Ok(answer) => {
                        ensure_eq!(answer[..], time.to_le_bytes(), "an answer");
                        answered.fetch_add(1, Ordering::Relaxed)
                    }
                    Err(error) => {
                        ensure_eq!(error.domain().slot(), slot, "who died");
                        let kinds = [CrashKind::Deadline, CrashKind::NotRunning, CrashKind::Killed];
                        ensure!(kinds.contains(&error.kind()), "nobody died of that: {error}");
                        // Another caller may have started it already.
                        if stage.info("brief")?.state == DomainState::Dead {
                            let _ = stage.control.restart(Text::new("brief"))?;
                        }
                        failed.fetch_add(1, Ordering::Relaxed)
                    }
                };
            }
            Ok(())
        })?;
        stage.restart("brief")
    })?;
    let (answers, errors) = (answers.load(Ordering::Relaxed), errors.load(Ordering::Relaxed));
    ensure!(answers > 0 && errors > 0, "{answers} answers and {errors} errors: the storm missed its aim");
    Ok(())
}

pub(crate) fn a_core_at_rest_does_not_tick(stage: &Arc<Stage>) -> Outcome {
    const REST: Duration = Duration::from_millis(200);
    /// `kernel/src/sched/cpu.rs`, `request::TIMER`.
    const TIMER: u64 = 1;
    while stage.control.next_trace()?.is_some() {}
    stage.control.set_tracing(true)?;
    time::sleep(REST);
    stage.control.set_tracing(false)?;
    let mut looks = alloc::vec![0_u32; stage.cpus as usize];
    let mut ran = false;
    while let Some(record) = stage.control.next_trace()? {
        ran = true;
        if &*record.kind == "interrupt" && record.detail & TIMER != 0 {
            looks[record.cpu as usize] += 1;
        }
    }
    ensure!(ran, "the trace saw nothing at all");
    // One look on the way to idle, one timer of a sleeper's, one of each that was set before and not taken back.
    ensure!(looks.iter().all(|&looks| looks <= 6), "timer interrupts by CPU in {REST:?}: {looks:?}");
    // The opposite, so that the count is known to count. How long that takes depends on how much of a CPU the host gives.
    let mut ticks = 0;
    stage.eventually("a thread that computes is interrupted by 20 ticks", || {
        stage.control.set_tracing(true)?;
        let _ = stage.subject.spin(REST.as_millis() as u32);
        stage.control.set_tracing(false)?;
        while let Some(record) = stage.control.next_trace()? {
            ticks += u32::from(&*record.kind == "interrupt" && record.detail & TIMER != 0);
        }
        Ok(ticks > 20)
    })
}
