//! Every kind of fault, raised for real.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

use coppice_control::DomainState;
use coppice_interfaces::{CrashKind, RpcError};
use coppice_runtime::thread::Builder;
use coppice_runtime::{crash_log, thread, time};
use coppice_test_interfaces::Fault;

use crate::context::{Context, Outcome, batch, ensure, ensure_eq, message, spawn_with_result};

/// The expected crash of a fault: its kind, words of its crash record, and a function that its backtrace
/// names.
struct Expected {
    fault: Fault,
    kind: CrashKind,
    words: &'static [&'static str],
    function: &'static str,
}

const FAULT_CRATE: &str = "coppice_fault_injection::";

const fn expect(
    fault: Fault,
    kind: CrashKind,
    words: &'static [&'static str],
    function: &'static str,
) -> Expected {
    Expected { fault, kind, words, function }
}

const PANICS: [Expected; 8] = [
    expect(
        Fault::Panic,
        CrashKind::Panic,
        &["this domain was told to panic", "fault-injection/src/lib.rs:"],
        FAULT_CRATE,
    ),
    expect(
        Fault::PanicWhilePanicking,
        CrashKind::Panic,
        &["panicked while panicking, first at", "fault-injection/src/lib.rs:", ", then: a message panicked"],
        FAULT_CRATE,
    ),
    expect(
        Fault::PanicInDrop,
        CrashKind::Panic,
        &["a destructor panicked", "fault-injection/src/lib.rs:"],
        FAULT_CRATE,
    ),
    expect(Fault::PanicInThread, CrashKind::Panic, &["a thread was told to panic"], FAULT_CRATE),
    expect(Fault::Abort, CrashKind::Abort, &["this domain was told to abort"], FAULT_CRATE),
    expect(
        Fault::OutOfBounds,
        CrashKind::Panic,
        &["index out of bounds", "fault-injection/src/lib.rs:"],
        FAULT_CRATE,
    ),
    expect(
        Fault::Overflow,
        CrashKind::Panic,
        &["attempt to add with overflow", "fault-injection/src/lib.rs:"],
        FAULT_CRATE,
    ),
    expect(
        Fault::DivideByZero,
        CrashKind::Panic,
        &["divide by zero", "fault-injection/src/lib.rs:"],
        FAULT_CRATE,
    ),
];

const EXCEPTIONS: [Expected; 10] = [
    expect(
        Fault::DivideError,
        CrashKind::Exception,
        &["#DE", "at fault-target + 0x"],
        "coppice_exceptions::divide_error",
    ),
    expect(
        Fault::InvalidOpcode,
        CrashKind::Exception,
        &["#UD", "at fault-target + 0x"],
        "coppice_exceptions::invalid_opcode",
    ),
    expect(
        Fault::GeneralProtection,
        CrashKind::Exception,
        &["#GP", "at fault-target"],
        "coppice_exceptions::general_protection",
    ),
    expect(
        Fault::ReadOfNull,
        CrashKind::Exception,
        &["#PF on address 0x0 at"],
        "coppice_exceptions::read_of_null",
    ),
    expect(
        Fault::WriteToCode,
        CrashKind::Exception,
        &["#PF on address", "at fault-target"],
        "coppice_exceptions::write_to_code",
    ),
    expect(
        Fault::JumpIntoData,
        CrashKind::Exception,
        &["#PF on address"],
        "coppice_exceptions::jump_into_data",
    ),
    expect(
        Fault::Misaligned,
        CrashKind::Exception,
        &["#AC", "at fault-target + 0x"],
        "coppice_exceptions::misaligned",
    ),
    expect(
        Fault::Breakpoint,
        CrashKind::Exception,
        &["#BP", "at fault-target + 0x"],
        "coppice_exceptions::breakpoint",
    ),
    expect(
        Fault::DebugTrap,
        CrashKind::Exception,
        &["#DB", "at fault-target + 0x"],
        "coppice_exceptions::debug_trap",
    ),
    expect(
        Fault::FloatingPoint,
        CrashKind::Exception,
        &["#MF", "at fault-target"],
        "coppice_exceptions::floating_point",
    ),
];

const STACKS: [Expected; 4] = [
    expect(Fault::Recursion, CrashKind::StackOverflow, &["the stack is used up"], "fault_injection::recurse"),
    expect(
        Fault::HugeFrame,
        CrashKind::StackOverflow,
        &["the stack is used up"],
        "fault_injection::huge_frame",
    ),
    expect(
        Fault::PanicWithoutStack,
        CrashKind::StackOverflow,
        &["the stack is used up"],
        "fault_injection::recurse",
    ),
    // Where the kernel finds too little stack to report the fault, there is none for a backtrace either.
    expect(Fault::PanicAtTheEndOfTheStack, CrashKind::StackOverflow, &["the stack is used up"], ""),
];

const MEMORY: [Expected; 2] = [
    expect(
        Fault::PrivateHeap,
        CrashKind::OutOfMemory,
        &["private heap's quota"],
        "fault_injection::fill_private_heap",
    ),
    expect(
        Fault::PanicWithoutMemory,
        CrashKind::OutOfMemory,
        &["private heap's quota"],
        "fault_injection::fill_private_heap",
    ),
];

/// Returns true if this machine raises the fault at all: in privileged mode no CPU checks alignment.
fn is_raised(context: &Context, fault: Fault) -> bool {
    fault != Fault::Misaligned || !context.is_bare()
}

/// Raises the fault in the fault target and checks the error, the crash record, the post-mortem and the next
/// instance.
fn fail(context: &Context, expected: &Expected) -> Outcome {
    let Expected { fault, kind, words, function } = *expected;
    let (victim, echo) = (context.info("fault-target")?.id, context.info("echo")?.id);
    let answer = context.fault_target.fail(fault);
    if !is_raised(context, fault) {
        ensure_eq!(answer, Ok(()), "a fault that this machine does not raise");
        return Ok(());
    }
    let Err(error) = answer else {
        ensure!(false, "the domain survived the fault");
        return Ok(());
    };
    ensure_eq!((error.domain(), error.kind()), (victim, kind), "the caller's error");
    let text = context.control.crash_record(victim)?;
    for word in words {
        ensure!(text.is_some_and(|text| text.contains(word)), "the crash record lacks \"{word}\": {text:?}");
    }
    let post_mortem = context.post_mortem(victim)?;
    let own = format!("called by scenarios (generation {})", context.own()?.id.generation());
    for words in [function, if fault == Fault::PanicInThread { "" } else { &own }] {
        ensure!(post_mortem.contains(words), "the post-mortem lacks \"{words}\":\n{post_mortem}");
    }
    ensure_eq!(
        crash_log::of(&error).is_some_and(|text| text.contains(function)),
        true,
        "the caller's crash record"
    );
    ensure_eq!(context.info("echo")?.id, echo, "an unrelated domain");
    context.restart("fault-target")?;
    ensure_eq!(context.fault_target.count()?, 1, "the first call of its next instance");
    Ok(())
}

fn raise_each_fault(context: &Arc<Context>, ways: &[Expected]) -> Outcome {
    for expected in ways {
        fail(context, expected).map_err(|failure| failure.about(&format!("{:?}", expected.fault)))?;
    }
    Ok(())
}

pub(crate) fn each_panic_ends_its_domain_and_records_its_location(context: &Arc<Context>) -> Outcome {
    raise_each_fault(context, &PANICS)
}

pub(crate) fn each_cpu_exception_ends_its_domain_and_records_its_location(context: &Arc<Context>) -> Outcome {
    raise_each_fault(context, &EXCEPTIONS)
}

pub(crate) fn each_stack_overflow_ends_its_domain(context: &Arc<Context>) -> Outcome {
    raise_each_fault(context, &STACKS)
}

pub(crate) fn each_memory_exhaustion_ends_its_domain(context: &Arc<Context>) -> Outcome {
    raise_each_fault(context, &MEMORY)
}

/// Returns all faults of the tables above that this machine raises, in turn.
fn ways(context: &Context) -> impl Iterator<Item = &'static Expected> + Clone {
    let all = [&PANICS[..], &EXCEPTIONS[..], &STACKS[..], &MEMORY[..]].into_iter().flatten();
    let bare = context.is_bare();
    all.filter(move |expected| !bare || expected.fault != Fault::Misaligned)
}

pub(crate) fn faults_with_all_kinds_of_resources_leak_nothing(context: &Arc<Context>) -> Outcome {
    let mut ways = ways(context).cycle();
    let kept = context.info("holder")?.shared_objects;
    context.leaks_nothing(context.rounds(100, 26), |round| {
        let expected = ways.next().expect("the iterator is a cycle");
        context.fault_target.own(10)?;
        context.fault_target.fill_heap(100_000, true)?;
        context.fault_target.lend(2)??;
        context.fault_target.adopt(context.factory.make(0)?)?;
        context.fault_target.spawn(2)?;
        if round % 2 == 0 {
            // These threads hold borrowed, lent, nested and half-built objects.
            context.fault_target.stress_services(3)?;
        }
        let kind = context.fault_target.fail(expected.fault).map_err(|error| error.kind());
        // The fault target's own threads may exhaust its heap first.
        let starved = round % 2 == 0 && kind == Err(CrashKind::OutOfMemory);
        ensure!(kind == Err(expected.kind) || starved, "{:?}: {kind:?}", expected.fault);
        // Threads of the dead instance that are in the holder finish there first, and may have brought
        // objects.
        context.eventually("the holder has no more than before", || {
            context.holder.give_back()?;
            Ok(context.info("holder")?.shared_objects <= kept)
        })?;
        context.restart("fault-target")
    })
}

pub(crate) fn a_fault_in_a_chain_names_the_callers(context: &Arc<Context>) -> Outcome {
    // Panics, and stacks that end in the kernel and in the guard page, all in the last link of the chain.
    for (depth, kind) in [(3, CrashKind::Panic), (1_000_000, CrashKind::StackOverflow)] {
        let [echo, left, right] =
            ["echo", "left", "right"].map(|name| context.info(name).map(|info| info.id));
        let (echo, left, right) = (echo?, left?, right?);
        let heard =
            context.right.panic(message(b"deep"), depth).map_err(|error| (error.domain(), error.kind()));
        ensure_eq!(heard, Err((echo, kind)), "the scenario's error");
        let post_mortem = context.post_mortem(echo)?;
        let us = context.own()?.id;
        let chain: Vec<String> = [("left", left), ("right", right), ("scenarios", us)]
            .map(|(name, id)| format!("  called by {name} (generation {})", id.generation()))
            .into();
        let chain = chain.join("\n");
        ensure!(post_mortem.contains(&*chain), "the callers are not in order:\n{post_mortem}");
        if kind == CrashKind::Panic {
            ensure!(post_mortem.contains("coppice_domain_echo::"), "no backtrace:\n{post_mortem}");
        }
        for (name, id) in [("left", left), ("right", right)] {
            ensure_eq!((context.info(name)?.id, context.info(name)?.state), (id, DomainState::Running), name);
        }
        context.restart("echo")?;
        ensure_eq!(context.right.ping(4)?, 4, "the chain afterwards");
    }
    Ok(())
}

/// Returns true if a fault target that other threads end too may have reported this error.
fn is_possible(error: RpcError, expected: &Expected) -> bool {
    error.kind() == expected.kind || matches!(error.kind(), CrashKind::NotRunning | CrashKind::Killed)
}

pub(crate) fn simultaneous_faults_on_all_cpus_end_no_other_domain(context: &Arc<Context>) -> Outcome {
    let all: Vec<&Expected> = ways(context).collect();
    let rounds = context.rounds(40, 8);
    let callers = context.cpus * 2;
    let survivors = ["echo", "left", "right", "holder"].map(|name| context.info(name).map(|info| info.id));
    for round in 0..rounds {
        let all = all.clone();
        let kinds: Vec<CrashKind> = all.iter().map(|expected| expected.kind).collect();
        context.on_threads(callers, move |context, number| {
            // Each thread raises another fault. All callers get the error of the first fault, or find the
            // fault target dead.
            let expected = all[(round * callers + number) as usize % all.len()];
            if let Err(error) = context.fault_target.fail(expected.fault) {
                let known = kinds.contains(&error.kind()) || error.kind() == CrashKind::NotRunning;
                ensure!(known, "an unexpected cause: {error}");
            }
            // Calls of other domains keep working.
            ensure_eq!(context.right.ping(number.into())?, u64::from(number), "a call of another domain");
            ensure_eq!(context.right.reverse(batch(3))?.len(), 32, "a batch of another domain");
            Ok(())
        })?;
        context.restart("fault-target")?;
    }
    for (name, before) in ["echo", "left", "right", "holder"].into_iter().zip(survivors) {
        ensure_eq!(context.info(name)?.id, before?, name);
    }
    Ok(())
}

pub(crate) fn faults_during_kills_end_no_other_domain(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(1, |_| {
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = is_over.clone();
        let killer = {
            let context = context.clone();
            spawn_with_result(Builder::new().priority(1), move || -> Outcome {
                let mut random = context.random(u32::MAX);
                for _ in 0..context.rounds(300, 12) {
                    time::sleep(Duration::from_micros(random.below(300)));
                    // The faults themselves end it too.
                    context.restart("fault-target")?;
                }
                is_over.store(true, Ordering::Relaxed);
                Ok(())
            })?
        };
        let all: Vec<&Expected> = ways(context).collect();
        let callers = context.on_threads(context.cpus * 2, move |context, number| {
            let mut random = context.random(number);
            while !seen.load(Ordering::Relaxed) {
                let expected = all[random.below(all.len() as u64) as usize];
                // The fault target faults right after the kernel's sections, where a kill takes effect.
                let answer =
                    context.fault_target.own(1).and_then(|()| context.fault_target.fail(expected.fault));
                if let Err(error) = answer {
                    let known = all.iter().any(|way| is_possible(error, way));
                    ensure!(known, "an unexpected cause: {error}");
                    thread::yield_now();
                }
            }
            Ok(())
        });
        killer.join()?;
        callers?;
        context.restart("fault-target")?;
        ensure_eq!(context.right.ping(3)?, 3, "a call of another domain");
        Ok(())
    })
}

pub(crate) fn a_thread_at_the_end_of_its_stack_blocks_no_other(context: &Arc<Context>) -> Outcome {
    let spinning = {
        let context = context.clone();
        spawn_with_result(Builder::new(), move || context.fault_target.fail(Fault::SpinAtTheEndOfTheStack))?
    };
    // The timer interrupt finds the thread there, or the interrupt of a CPU that stops the world.
    time::sleep(Duration::from_millis(5));
    let _ = context.kill("echo");
    let _ = context.kill("fault-target");
    let kind = spinning.join().map_err(|error| error.kind());
    let known = [CrashKind::StackOverflow, CrashKind::Killed].map(Err);
    ensure!(known.contains(&kind), "an unexpected end: {kind:?}");
    context.restart("echo")?;
    context.restart("fault-target")
}

pub(crate) fn a_call_without_stack_for_the_callee_is_refused(context: &Arc<Context>) -> Outcome {
    let (fault_target, echo) = (context.info("fault-target")?, context.info("echo")?);
    let error = context.fault_target.call_at_stack_limit()?;
    ensure_eq!((error.domain(), error.kind()), (echo.id, CrashKind::NoStack), "the caller's error");
    // The refusal has ended no domain.
    ensure_eq!(
        (context.info("fault-target")?.id, context.info("fault-target")?.state),
        (fault_target.id, DomainState::Running),
        "caller"
    );
    ensure_eq!(
        (context.info("echo")?.id, context.info("echo")?.state),
        (echo.id, DomainState::Running),
        "callee"
    );
    ensure!(context.info("echo")?.calls > echo.calls + 10, "the recursion ended before the refusal");
    ensure!(crash_log::of(&error).is_none(), "a running domain has a crash record");
    ensure_eq!(context.echo.ping(1)?, 1, "the callee, from further up");
    Ok(())
}

pub(crate) fn a_domain_that_fails_to_start_is_restarted(context: &Arc<Context>) -> Outcome {
    for _ in 0..3 {
        let before = context.info("fault-target-fails-odd-starts")?.id;
        ensure!(
            context.fault_target_fails_odd_starts.fail(Fault::Panic).is_err(),
            "a panicking call returned a result"
        );
        // The next instance fails at its start, and the one after it does not. No call blocks in between.
        context.eventually("the domain answers", || match context.fault_target_fails_odd_starts.count() {
            Ok(_) => Ok(true),
            Err(error) => {
                let known = matches!(error.kind(), CrashKind::NotRunning | CrashKind::Panic);
                ensure!(known, "an unexpected error: {error}");
                Ok(false)
            }
        })?;
        let after = context.info("fault-target-fails-odd-starts")?.id;
        ensure_eq!(after.generation(), before.generation() + 2, "the generation");
        let between = coppice_interfaces::DomainId::new(before.slot() as u32, before.generation() + 1);
        let post_mortem = context.post_mortem(between)?;
        for words in
            ["option fail=odd: odd generation", "FaultTargetDomain as coppice_runtime::Domain>::start"]
        {
            ensure!(post_mortem.contains(words), "the post-mortem lacks \"{words}\":\n{post_mortem}");
        }
    }
    Ok(())
}

pub(crate) fn a_destructor_that_panics_ends_its_own_domain(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(20, 5), |_| {
        let victim = context.info("fault-target")?.id;
        let trap = context.fault_target.counter_panicking_on_drop()?;
        ensure_eq!(trap.next()?, 0, "the object's count");
        // The kernel's thread that drops objects without handles runs the destructor.
        drop(trap);
        context.eventually("the fault target is dead", || {
            Ok(context.info("fault-target")?.state == DomainState::Dead)
        })?;
        let text = context.control.crash_record(victim)?;
        ensure!(
            text.is_some_and(|text| text.contains("an object's destructor panicked")),
            "the crash record says {text:?}"
        );
        // That thread keeps working: another object is dropped as usual.
        let counter = context.factory.make(1)?;
        drop(counter);
        context.restart("fault-target")
    })
}

pub(crate) fn an_exception_ends_a_domain_whose_threads_are_in_other_domains(
    context: &Arc<Context>,
) -> Outcome {
    context.leaks_nothing(context.rounds(30, 8), |round| {
        let own = ways(context).nth(round as usize % 20).expect("there are more ways");
        // One thread of the scenarios stays in the holder, called directly. One of the fault target's stays
        // there too and reads an object that the fault target owns. Then the fault target dies, while its
        // thread is in the holder.
        let ours = {
            let context = context.clone();
            spawn_with_result(Builder::new(), move || context.holder.read_late(&message(b"ours")))?
        };
        context.fault_target.read_late()?;
        context.eventually("both calls stay", || Ok(context.holder.pending_calls()? == 2))?;
        let kind = context.fault_target.fail(own.fault).map_err(|error| error.kind());
        ensure_eq!(kind, Err(own.kind), "the error of the fault target's other caller");
        ensure_eq!(context.holder.pending_calls()?, 2, "calls of the dead domain's thread that continue");
        context.holder.let_go()?;
        ensure_eq!(ours.join()?, crate::context::sum(b"ours"), "an unrelated call");
        context.restart("fault-target")
    })
}

pub(crate) fn a_crash_record_survives_a_storm_of_crashes(context: &Arc<Context>) -> Outcome {
    /// More crashes than the kernel's log holds.
    const STORM: u32 = 300;
    let victim = context.info("fault-target")?.id;
    let error = context.fault_target.fail(Fault::OutOfBounds).err();
    for _ in 0..STORM {
        ensure!(
            context.echo.panic(message(b"one of many"), 0).is_err(),
            "a panicking call returned a result"
        );
        context.restart("echo")?;
    }
    let text = context.control.crash_record(victim)?;
    ensure!(
        text.is_some_and(|text| text.contains("index out of bounds")),
        "the crash record is lost: {text:?}"
    );
    ensure!(
        error.and_then(|error| crash_log::of(&error)).is_some(),
        "its caller cannot read the crash record any more"
    );
    let back = (0..).map_while(|back| context.control.death(back).ok().flatten());
    ensure_eq!(back.filter(|&instance| instance == victim).count(), 1, "the number of its crash records");
    context.restart("fault-target")
}

pub(crate) fn each_of_thousands_of_crashes_is_recorded(context: &Arc<Context>) -> Outcome {
    let crashes = context.rounds(2000, 100);
    let slowest = AtomicU64::new(0);
    let began = time::now();
    let mut heard_after = Vec::new();
    for number in 0..crashes {
        let victim = context.info("echo")?.id;
        let text = message(&number.to_le_bytes().map(|byte| b'a' + byte % 26));
        let before = time::now();
        let error = context.echo.panic(text, 0).err();
        heard_after.push((time::now() - before).as_nanos() as u64);
        slowest.fetch_max(heard_after[heard_after.len() - 1], Ordering::Relaxed);
        ensure_eq!(error.map(|error| error.domain()), Some(victim), "the dead domain");
        let wanted = number.to_le_bytes().map(|byte| char::from(b'a' + byte % 26));
        let wanted: String = wanted.into_iter().collect();
        let said = context.control.crash_record(victim)?;
        ensure!(
            said.is_some_and(|said| said.contains(&*wanted)),
            "crash {number}: \"{wanted}\" is lost: {said:?}"
        );
        context.restart("echo")?;
    }
    let took = time::now() - began;
    heard_after.sort_unstable();
    let nth = |percent: usize| heard_after[heard_after.len() * percent / 100] / 1000;
    log::info!(
        "{crashes} crashes, {} a second; the caller gets its error after {} us (half), {} us (99 in 100), {} us (all)",
        u128::from(crashes) * 1_000_000_000 / took.as_nanos().max(1),
        nth(50),
        nth(99),
        slowest.load(Ordering::Relaxed) / 1000
    );
    ensure!(took < Duration::from_secs(60) * context.rounds(1, 1), "it took {took:?}");
    Ok(())
}

pub(crate) fn a_post_mortem_shows_the_events_before_the_crash(context: &Arc<Context>) -> Outcome {
    let echo = context.info("echo")?.id;
    context.control.set_tracing(true)?;
    let answer = context.right.panic(message(b"for the record"), 2);
    context.control.set_tracing(false)?;
    ensure!(answer.is_err(), "a panicking call returned a result");
    let post_mortem = context.post_mortem(echo)?;
    let expected = [
        "echo (generation",
        "for the record",
        "called by left",
        "called by right",
        "called by scenarios",
        "coppice_domain_echo::",
        "what happened",
        "crossing   scenarios -> right",
        "crossing   right -> left",
        "crossing   left -> echo",
        "fault      echo (generation",
        "sweep      echo: ",
        "pages      echo: ",
    ];
    let mut rest = &*post_mortem;
    for words in expected {
        let Some(at) = rest.find(words) else {
            ensure!(false, "\"{words}\" is missing or out of order:\n{post_mortem}");
            return Ok(());
        };
        rest = &rest[at..];
    }
    ensure!(
        post_mortem.lines().any(|line| line.contains("-") && line.contains(" us  cpu ")),
        "no event times"
    );
    ensure_eq!(context.control.death(0)?, Some(echo), "the latest death");
    context.restart("echo")?;
    // With tracing off, only the crash record itself is kept.
    let next = context.info("echo")?.id;
    ensure!(context.echo.panic(message(b"off the record"), 0).is_err(), "a panicking call returned a result");
    ensure!(!context.post_mortem(next)?.contains("what happened"), "events without tracing");
    context.restart("echo")
}
