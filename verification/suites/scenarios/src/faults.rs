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

use crate::stage::{Outcome, Stage, batch, ensure, ensure_eq, message, promise};

/// What a fault is to look like: its kind, what its crash record says, and a function that its backtrace names.
struct Expected {
    fault: Fault,
    kind: CrashKind,
    words: &'static [&'static str],
    function: &'static str,
}

const HERE: &str = "coppice_failure::";

const fn expect(
    fault: Fault,
    kind: CrashKind,
    words: &'static [&'static str],
    function: &'static str,
) -> Expected {
    Expected { fault, kind, words, function }
}

const PANICS: [Expected; 8] = [
    expect(Fault::Panic, CrashKind::Panic, &["this domain was told to panic", "failure/src/lib.rs:"], HERE),
    expect(
        Fault::PanicWhilePanicking,
        CrashKind::Panic,
        &["panicked while panicking, first at", "failure/src/lib.rs:", ", then: a message panicked"],
        HERE,
    ),
    expect(Fault::PanicInDrop, CrashKind::Panic, &["a destructor panicked", "failure/src/lib.rs:"], HERE),
    expect(Fault::PanicInThread, CrashKind::Panic, &["a thread was told to panic"], HERE),
    expect(Fault::Abort, CrashKind::Abort, &["this domain was told to abort"], HERE),
    expect(Fault::OutOfBounds, CrashKind::Panic, &["index out of bounds", "failure/src/lib.rs:"], HERE),
    expect(Fault::Overflow, CrashKind::Panic, &["attempt to add with overflow", "failure/src/lib.rs:"], HERE),
    expect(Fault::DivideByZero, CrashKind::Panic, &["divide by zero", "failure/src/lib.rs:"], HERE),
];

const EXCEPTIONS: [Expected; 10] = [
    expect(
        Fault::DivideError,
        CrashKind::Exception,
        &["#DE", "at subject + 0x"],
        "coppice_faults::divide_error",
    ),
    expect(
        Fault::InvalidOpcode,
        CrashKind::Exception,
        &["#UD", "at subject + 0x"],
        "coppice_faults::invalid_opcode",
    ),
    expect(
        Fault::GeneralProtection,
        CrashKind::Exception,
        &["#GP", "at subject"],
        "coppice_faults::general_protection",
    ),
    expect(
        Fault::ReadOfNull,
        CrashKind::Exception,
        &["#PF on address 0x0 at"],
        "coppice_faults::read_of_null",
    ),
    expect(
        Fault::WriteToCode,
        CrashKind::Exception,
        &["#PF on address", "at subject"],
        "coppice_faults::write_to_code",
    ),
    expect(Fault::JumpIntoData, CrashKind::Exception, &["#PF on address"], "coppice_faults::jump_into_data"),
    expect(
        Fault::Misaligned,
        CrashKind::Exception,
        &["#AC", "at subject + 0x"],
        "coppice_faults::misaligned",
    ),
    expect(
        Fault::Breakpoint,
        CrashKind::Exception,
        &["#BP", "at subject + 0x"],
        "coppice_faults::breakpoint",
    ),
    expect(Fault::DebugTrap, CrashKind::Exception, &["#DB", "at subject + 0x"], "coppice_faults::debug_trap"),
    expect(
        Fault::FloatingPoint,
        CrashKind::Exception,
        &["#MF", "at subject"],
        "coppice_faults::floating_point",
    ),
];

const STACKS: [Expected; 4] = [
    expect(Fault::Recursion, CrashKind::StackOverflow, &["the stack is used up"], "failure::recurse"),
    expect(Fault::HugeFrame, CrashKind::StackOverflow, &["the stack is used up"], "failure::huge_frame"),
    expect(Fault::PanicWithoutStack, CrashKind::StackOverflow, &["the stack is used up"], "failure::recurse"),
    // Where the kernel finds too little stack to be told, it has none to look around either.
    expect(Fault::PanicAtTheEndOfTheStack, CrashKind::StackOverflow, &["the stack is used up"], ""),
];

const MEMORY: [Expected; 2] = [
    expect(
        Fault::PrivateHeap,
        CrashKind::OutOfMemory,
        &["private heap's quota"],
        "failure::fill_private_heap",
    ),
    expect(
        Fault::PanicWithoutMemory,
        CrashKind::OutOfMemory,
        &["private heap's quota"],
        "failure::fill_private_heap",
    ),
];

/// Whether this machine raises the fault at all: in privileged mode no CPU checks alignment.
fn is_raised(stage: &Stage, fault: Fault) -> bool {
    fault != Fault::Misaligned || !stage.is_bare()
}

/// Has the subject fail in that way, and looks at what that leaves.
fn fail(stage: &Stage, expected: &Expected) -> Outcome {
    let Expected { fault, kind, words, function } = *expected;
    let (victim, echo) = (stage.info("subject")?.id, stage.info("echo")?.id);
    let answer = stage.subject.fail(fault);
    if !is_raised(stage, fault) {
        ensure_eq!(answer, Ok(()), "a fault that this machine does not raise");
        return Ok(());
    }
    let Err(error) = answer else {
        ensure!(false, "it lives on");
        return Ok(());
    };
    ensure_eq!((error.domain(), error.kind()), (victim, kind), "what the caller hears");
    let text = stage.control.crash_record(victim)?;
    for word in words {
        ensure!(text.is_some_and(|text| text.contains(word)), "its crash_record lacks \"{word}\": {text:?}");
    }
    let post_mortem = stage.post_mortem(victim)?;
    let own = format!("called by scenarios (generation {})", stage.own()?.id.generation());
    for words in [function, if fault == Fault::PanicInThread { "" } else { &own }] {
        ensure!(post_mortem.contains(words), "its post-mortem lacks \"{words}\":\n{post_mortem}");
    }
    ensure_eq!(
        crash_log::of(&error).is_some_and(|text| text.contains(function)),
        true,
        "what its caller may read"
    );
    ensure_eq!(stage.info("echo")?.id, echo, "a domain that has nothing to do with it");
    stage.restart("subject")?;
    ensure_eq!(stage.subject.count()?, 1, "the first call of its next instance");
    Ok(())
}

fn fail_in_each_way(stage: &Arc<Stage>, ways: &[Expected]) -> Outcome {
    for expected in ways {
        fail(stage, expected).map_err(|failure| failure.about(&format!("{:?}", expected.fault)))?;
    }
    Ok(())
}

pub(crate) fn each_kind_of_panic_ends_its_domain_and_says_where(stage: &Arc<Stage>) -> Outcome {
    fail_in_each_way(stage, &PANICS)
}

pub(crate) fn each_cpu_exception_ends_its_domain_and_says_where(stage: &Arc<Stage>) -> Outcome {
    fail_in_each_way(stage, &EXCEPTIONS)
}

pub(crate) fn each_way_to_use_up_a_stack_ends_its_domain(stage: &Arc<Stage>) -> Outcome {
    fail_in_each_way(stage, &STACKS)
}

pub(crate) fn each_way_to_run_out_of_memory_ends_its_domain(stage: &Arc<Stage>) -> Outcome {
    fail_in_each_way(stage, &MEMORY)
}

/// All faults of the tables above, in turn.
fn ways(stage: &Stage) -> impl Iterator<Item = &'static Expected> + Clone {
    let all = [&PANICS[..], &EXCEPTIONS[..], &STACKS[..], &MEMORY[..]].into_iter().flatten();
    let bare = stage.is_bare();
    all.filter(move |expected| !bare || expected.fault != Fault::Misaligned)
}

pub(crate) fn faults_with_all_kinds_of_belongings_leak_nothing(stage: &Arc<Stage>) -> Outcome {
    let mut ways = ways(stage).cycle();
    let kept = stage.info("keeper")?.shared_objects;
    stage.leaks_nothing(stage.rounds(100, 26), |round| {
        let expected = ways.next().expect("the ways begin again");
        stage.subject.own(10)?;
        stage.subject.fill_heap(100_000, true)?;
        stage.subject.lend(2)??;
        stage.subject.adopt(stage.factory.make(0)?)?;
        stage.subject.spawn(2)?;
        if round % 2 == 0 {
            // Threads in the middle of everything: borrowed, lent, nested and half-built objects.
            stage.subject.stress_services(3)?;
        }
        let kind = stage.subject.fail(expected.fault).map_err(|error| error.kind());
        // Its own labour may exhaust its heap first.
        let starved = round % 2 == 0 && kind == Err(CrashKind::OutOfMemory);
        ensure!(kind == Err(expected.kind) || starved, "{:?}: {kind:?}", expected.fault);
        // Threads of the dead one that are with the keeper finish there first, and may have brought something.
        stage.eventually("the keeper has no more than before", || {
            stage.keeper.give_back()?;
            Ok(stage.info("keeper")?.shared_objects <= kept)
        })?;
        stage.restart("subject")
    })
}

pub(crate) fn a_fault_in_a_chain_names_the_callers(stage: &Arc<Stage>) -> Outcome {
    // Panics, and stacks that end in the kernel and in the guard page: in the last link, called by the others.
    for (depth, kind) in [(3, CrashKind::Panic), (1_000_000, CrashKind::StackOverflow)] {
        let [echo, left, right] = ["echo", "left", "right"].map(|name| stage.info(name).map(|info| info.id));
        let (echo, left, right) = (echo?, left?, right?);
        let heard =
            stage.right.panic(message(b"deep"), depth).map_err(|error| (error.domain(), error.kind()));
        ensure_eq!(heard, Err((echo, kind)), "what we hear");
        let post_mortem = stage.post_mortem(echo)?;
        let us = stage.own()?.id;
        let chain: Vec<String> = [("left", left), ("right", right), ("scenarios", us)]
            .map(|(name, id)| format!("  called by {name} (generation {})", id.generation()))
            .into();
        let chain = chain.join("\n");
        ensure!(post_mortem.contains(&*chain), "the callers are not in order:\n{post_mortem}");
        if kind == CrashKind::Panic {
            ensure!(post_mortem.contains("coppice_domain_echo::"), "no backtrace:\n{post_mortem}");
        }
        for (name, id) in [("left", left), ("right", right)] {
            ensure_eq!((stage.info(name)?.id, stage.info(name)?.state), (id, DomainState::Running), name);
        }
        stage.restart("echo")?;
        ensure_eq!(stage.right.ping(4)?, 4, "the chain afterwards");
    }
    Ok(())
}

/// Whether a subject that others end too may have died of that.
fn may_be(error: RpcError, expected: &Expected) -> bool {
    error.kind() == expected.kind || matches!(error.kind(), CrashKind::NotRunning | CrashKind::Killed)
}

pub(crate) fn faults_on_all_cpus_at_once_hurt_nobody_else(stage: &Arc<Stage>) -> Outcome {
    let all: Vec<&Expected> = ways(stage).collect();
    let rounds = stage.rounds(40, 8);
    let callers = stage.cpus * 2;
    let survivors = ["echo", "left", "right", "keeper"].map(|name| stage.info(name).map(|info| info.id));
    for round in 0..rounds {
        let all = all.clone();
        let kinds: Vec<CrashKind> = all.iter().map(|expected| expected.kind).collect();
        stage.all_together(callers, move |stage, number| {
            // Each in another way; all die of the one that came first, or find it dead.
            let expected = all[(round * callers + number) as usize % all.len()];
            if let Err(error) = stage.subject.fail(expected.fault) {
                let known = kinds.contains(&error.kind()) || error.kind() == CrashKind::NotRunning;
                ensure!(known, "nobody failed like that: {error}");
            }
            // Meanwhile others are called as ever.
            ensure_eq!(stage.right.ping(number.into())?, u64::from(number), "a bystander");
            ensure_eq!(stage.right.reverse(batch(3))?.len(), 32, "a bystander's batch");
            Ok(())
        })?;
        stage.restart("subject")?;
    }
    for (name, before) in ["echo", "left", "right", "keeper"].into_iter().zip(survivors) {
        ensure_eq!(stage.info(name)?.id, before?, name);
    }
    Ok(())
}

pub(crate) fn faults_during_kills_hurt_nobody_else(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(1, |_| {
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = is_over.clone();
        let killer = {
            let stage = stage.clone();
            promise(Builder::new().priority(1), move || -> Outcome {
                let mut random = stage.random(u32::MAX);
                for _ in 0..stage.rounds(300, 12) {
                    time::sleep(Duration::from_micros(random.below(300)));
                    // The faults themselves end it too.
                    stage.restart("subject")?;
                }
                is_over.store(true, Ordering::Relaxed);
                Ok(())
            })?
        };
        let all: Vec<&Expected> = ways(stage).collect();
        let callers = stage.all_together(stage.cpus * 2, move |stage, number| {
            let mut random = stage.random(number);
            while !seen.load(Ordering::Relaxed) {
                let expected = all[random.below(all.len() as u64) as usize];
                // Faults right at the way out of the kernel's sections, which is where a kill takes effect.
                let answer = stage.subject.own(1).and_then(|()| stage.subject.fail(expected.fault));
                if let Err(error) = answer {
                    let known = all.iter().any(|way| may_be(error, way));
                    ensure!(known, "nobody failed like that: {error}");
                    thread::yield_now();
                }
            }
            Ok(())
        });
        killer.keep()?;
        callers?;
        stage.restart("subject")?;
        ensure_eq!(stage.right.ping(3)?, 3, "a bystander");
        Ok(())
    })
}

pub(crate) fn a_thread_at_the_end_of_its_stack_stops_nobody(stage: &Arc<Stage>) -> Outcome {
    let spinning = {
        let stage = stage.clone();
        promise(Builder::new(), move || stage.subject.fail(Fault::SpinAtTheEndOfTheStack))?
    };
    // The timer's interrupt finds it there, or that of whoever stops the world.
    time::sleep(Duration::from_millis(5));
    let _ = stage.kill("echo");
    let _ = stage.kill("subject");
    let kind = spinning.keep().map_err(|error| error.kind());
    let known = [CrashKind::StackOverflow, CrashKind::Killed].map(Err);
    ensure!(known.contains(&kind), "it ended otherwise: {kind:?}");
    stage.restart("echo")?;
    stage.restart("subject")
}

pub(crate) fn a_caller_that_leaves_its_callee_no_stack_is_refused(stage: &Arc<Stage>) -> Outcome {
    let (subject, echo) = (stage.info("subject")?, stage.info("echo")?);
    let error = stage.subject.call_at_stack_limit()?;
    ensure_eq!((error.domain(), error.kind()), (echo.id, CrashKind::NoStack), "what the caller hears");
    // Nobody has died of it.
    ensure_eq!(
        (stage.info("subject")?.id, stage.info("subject")?.state),
        (subject.id, DomainState::Running),
        "caller"
    );
    ensure_eq!(
        (stage.info("echo")?.id, stage.info("echo")?.state),
        (echo.id, DomainState::Running),
        "callee"
    );
    ensure!(stage.info("echo")?.calls > echo.calls + 10, "it never got down to where it was refused");
    ensure!(crash_log::of(&error).is_none(), "there is a crash record of somebody who lives");
    ensure_eq!(stage.echo.ping(1)?, 1, "the callee, from further up");
    Ok(())
}

pub(crate) fn a_domain_that_fails_at_its_start_comes_back(stage: &Arc<Stage>) -> Outcome {
    for _ in 0..3 {
        let before = stage.info("sickly")?.id;
        ensure!(stage.sickly.fail(Fault::Panic).is_err(), "a panic answers");
        // The next instance fails at its start, and the one after that does not. Nobody is kept waiting meanwhile.
        stage.eventually("the sickly one answers", || match stage.sickly.count() {
            Ok(_) => Ok(true),
            Err(error) => {
                let known = matches!(error.kind(), CrashKind::NotRunning | CrashKind::Panic);
                ensure!(known, "a client hears of something else: {error}");
                Ok(false)
            }
        })?;
        let after = stage.info("sickly")?.id;
        ensure_eq!(after.generation(), before.generation() + 2, "its instance");
        let between = coppice_interfaces::DomainId::new(before.slot() as u32, before.generation() + 1);
        let post_mortem = stage.post_mortem(between)?;
        for words in ["told to fail in odd lives", "SubjectDomain as coppice_runtime::Domain>::start"] {
            ensure!(post_mortem.contains(words), "the post-mortem lacks \"{words}\":\n{post_mortem}");
        }
    }
    Ok(())
}

pub(crate) fn a_destructor_that_panics_ends_its_own_domain(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(20, 5), |_| {
        let victim = stage.info("subject")?.id;
        let trap = stage.subject.counter_panicking_on_drop()?;
        ensure_eq!(trap.next()?, 0, "its count");
        // By the kernel's thread that drops objects whose last handle is gone.
        drop(trap);
        stage.eventually("the subject is dead", || Ok(stage.info("subject")?.state == DomainState::Dead))?;
        let text = stage.control.crash_record(victim)?;
        ensure!(
            text.is_some_and(|text| text.contains("an object's destructor panicked")),
            "its crash_record says {text:?}"
        );
        // That thread goes on: another object is dropped as ever.
        let counter = stage.factory.make(1)?;
        drop(counter);
        stage.restart("subject")
    })
}

pub(crate) fn a_middle_link_dies_by_an_exception_while_its_thread_is_elsewhere(
    stage: &Arc<Stage>,
) -> Outcome {
    stage.leaks_nothing(stage.rounds(30, 8), |round| {
        let own = ways(stage).nth(round as usize % 20).expect("there are more ways");
        // A thread of ours, through nobody else, stays with the keeper; one of the subject's stays there too, reading
        // what the subject owns. Then the subject dies, while its thread is elsewhere.
        let ours = {
            let stage = stage.clone();
            promise(Builder::new(), move || stage.keeper.read_late(&message(b"ours")))?
        };
        stage.subject.read_late()?;
        stage.eventually("both calls stay", || Ok(stage.keeper.pending_calls()? == 2))?;
        let kind = stage.subject.fail(own.fault).map_err(|error| error.kind());
        ensure_eq!(kind, Err(own.kind), "what the subject's other caller hears");
        ensure_eq!(stage.keeper.pending_calls()?, 2, "calls of the dead one's thread go on where they are");
        stage.keeper.let_go()?;
        ensure_eq!(ours.keep()?, crate::stage::sum(b"ours"), "a call that has nothing to do with it");
        stage.restart("subject")
    })
}

pub(crate) fn an_crash_record_outlives_a_storm_of_crashes(stage: &Arc<Stage>) -> Outcome {
    /// More than the kernel remembers.
    const STORM: u32 = 300;
    let victim = stage.info("subject")?.id;
    let error = stage.subject.fail(Fault::OutOfBounds).err();
    for _ in 0..STORM {
        ensure!(stage.echo.panic(message(b"one of many"), 0).is_err(), "a panic answers");
        stage.restart("echo")?;
    }
    let text = stage.control.crash_record(victim)?;
    ensure!(text.is_some_and(|text| text.contains("index out of bounds")), "it is forgotten: {text:?}");
    ensure!(error.and_then(|error| crash_log::of(&error)).is_some(), "its caller cannot read it any more");
    let back = (0..).map_while(|back| stage.control.death(back).ok().flatten());
    ensure_eq!(back.filter(|&instance| instance == victim).count(), 1, "how often it is among the deaths");
    stage.restart("subject")
}

pub(crate) fn crashes_by_the_thousand_are_each_remembered(stage: &Arc<Stage>) -> Outcome {
    let crashes = stage.rounds(2000, 100);
    let slowest = AtomicU64::new(0);
    let began = time::now();
    let mut heard_after = Vec::new();
    for number in 0..crashes {
        let victim = stage.info("echo")?.id;
        let text = message(&number.to_le_bytes().map(|byte| b'a' + byte % 26));
        let before = time::now();
        let error = stage.echo.panic(text, 0).err();
        heard_after.push((time::now() - before).as_nanos() as u64);
        slowest.fetch_max(heard_after[heard_after.len() - 1], Ordering::Relaxed);
        ensure_eq!(error.map(|error| error.domain()), Some(victim), "who died");
        let wanted = number.to_le_bytes().map(|byte| char::from(b'a' + byte % 26));
        let wanted: String = wanted.into_iter().collect();
        let said = stage.control.crash_record(victim)?;
        ensure!(
            said.is_some_and(|said| said.contains(&*wanted)),
            "crash {number}: \"{wanted}\" is lost: {said:?}"
        );
        stage.restart("echo")?;
    }
    let took = time::now() - began;
    heard_after.sort_unstable();
    let nth = |percent: usize| heard_after[heard_after.len() * percent / 100] / 1000;
    log::info!(
        "{crashes} crashes, {} a second; the caller hears after {} us (half), {} us (99 in 100), {} us (all)",
        u128::from(crashes) * 1_000_000_000 / took.as_nanos().max(1),
        nth(50),
        nth(99),
        slowest.load(Ordering::Relaxed) / 1000
    );
    ensure!(took < Duration::from_secs(60) * stage.rounds(1, 1), "it took {took:?}");
    Ok(())
}

pub(crate) fn a_post_mortem_shows_what_came_before(stage: &Arc<Stage>) -> Outcome {
    let echo = stage.info("echo")?.id;
    stage.control.set_tracing(true)?;
    let answer = stage.right.panic(message(b"for the record"), 2);
    stage.control.set_tracing(false)?;
    ensure!(answer.is_err(), "a panic answers");
    let post_mortem = stage.post_mortem(echo)?;
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
            ensure!(false, "\"{words}\" is not there, or not in its place:\n{post_mortem}");
            return Ok(());
        };
        rest = &rest[at..];
    }
    ensure!(
        post_mortem.lines().any(|line| line.contains("-") && line.contains(" us  cpu ")),
        "no times before"
    );
    ensure_eq!(stage.control.death(0)?, Some(echo), "the latest death");
    stage.restart("echo")?;
    // While tracing is off, nothing is kept but the crash record itself.
    let next = stage.info("echo")?.id;
    ensure!(stage.echo.panic(message(b"off the record"), 0).is_err(), "a panic answers");
    ensure!(!stage.post_mortem(next)?.contains("what happened"), "events without tracing");
    stage.restart("echo")
}
