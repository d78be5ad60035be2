//! Shadows: what clients notice of the crashes behind one.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

use coppice_example_interfaces::{Counter, FilterError, Rule, Verdict};
use coppice_interfaces::{CrashKind, Handle, RpcError, RpcResult};
use coppice_runtime::sync::{Event, Mutex};
use coppice_runtime::thread::Builder;
use coppice_runtime::time;

use crate::stage::{
    Failure, Outcome, Promise, SHORT_PATIENCE, SOON, Stage, ensure, ensure_eq, message, promise, sum,
};

pub(crate) fn a_shadow_hides_a_crash(stage: &Arc<Stage>) -> Outcome {
    for round in 0..3 {
        let before = stage.info("twin")?.id;
        stage.kill("twin")?;
        ensure_eq!(stage.twin.ping(round)?, round, "a call that moves nothing");
        let after = stage.info("twin")?.id;
        ensure_eq!(after.generation(), before.generation() + 1, "the instance that answered");
        stage.kill("twin")?;
        ensure_eq!(stage.twin.sum(&message(b"lent"))?, sum(b"lent"), "a call that borrows");
        // It has not been made to the instance that is over, so it may be made to the next.
        stage.kill("twin")?;
        ensure_eq!(stage.twin.echo(message(b"moved"))?[..], b"moved"[..], "a call that moves");
    }
    Ok(())
}

pub(crate) fn clients_of_a_shadow_notice_no_crash(stage: &Arc<Stage>) -> Outcome {
    while_it_crashes(stage, "twin", stage.rounds(400, 60), |stage, number, is_over| {
        let mut random = stage.random(number);
        let mut calls = 0;
        while !is_over.load(Ordering::Relaxed) {
            let chance = random.below(1 << 40);
            let bytes = chance.to_le_bytes();
            match chance % 3 {
                0 => {
                    ensure_eq!(stage.twin.ping(chance)?, chance, "a ping");
                }
                1 => {
                    ensure_eq!(stage.twin.sum(&message(&bytes))?, sum(&bytes), "a sum");
                }
                _ => match stage.twin.echo(message(&bytes)) {
                    Ok(answer) => {
                        ensure_eq!(answer[..], bytes[..], "an echo");
                    }
                    Err(error) => check(stage, "twin", error)?,
                },
            }
            calls += 1;
        }
        ensure!(calls > 0, "a client that made no call");
        Ok(())
    })
}

pub(crate) fn a_call_that_cannot_be_repeated_fails_with_its_instance(stage: &Arc<Stage>) -> Outcome {
    for depth in 0..3 {
        let instance = stage.info("twin")?.id;
        let error = stage.twin.panic(message(b"not twice"), depth).err();
        let error = error.ok_or_else(|| Failure("a panic has an answer".into()))?;
        ensure_eq!((error.domain(), error.kind()), (instance, CrashKind::Panic), "who died of what");
        ensure_eq!(stage.twin.ping(7)?, 7, "the next call");
        ensure_eq!(stage.info("twin")?.id.generation(), instance.generation() + 1, "a panic's lives");
    }
    Ok(())
}

pub(crate) fn a_new_instance_is_told_in_order_what_the_last_one_was_told(stage: &Arc<Stage>) -> Outcome {
    fresh(stage)?;
    let source = Source::new();
    let expected = configure(stage, &source, 20)?;
    let refused = Rule { first: 2, last: 1, verdict: Verdict::Drop };
    ensure_eq!(stage.filter.append(refused)?, Err(FilterError::Empty { rule: refused }), "an empty rule");
    stage.filter.set_policy(Verdict::Accept)?;
    let told = source.asked();
    for round in 1..4 {
        stage.kill("filter")?;
        for address in 0..expected.addresses() + 10 {
            ensure_eq!(
                stage.filter.judge(address)?,
                expected.judge(address),
                format!("the way of {address}")
            );
        }
        // Twenty rules and the latest policy; what was refused or is obsolete is not told again.
        ensure_eq!(source.asked() - told, (2 * round - 1) * 21, "changes that were replayed");
        ensure_eq!(stage.filter.revision()?, source.asked(), "the last change's number");
        ensure!(stage.filter.take_count()? > 0, "nothing was judged");
        stage.kill("filter")?;
        // Not repeatable, but not under way either.
        ensure_eq!(stage.filter.take_count()?, 0, "what a fresh instance has judged");
    }
    fresh(stage)
}

pub(crate) fn nobody_reaches_a_instance_before_its_configuration(stage: &Arc<Stage>) -> Outcome {
    fresh(stage)?;
    let source = Source::new();
    let expected = configure(stage, &source, 10)?;
    for _ in 0..stage.rounds(20, 4) {
        // The replay stays in its second change, for as long as we like.
        source.stay_at(source.asked() + 2);
        stage.restart("filter")?;
        let answers = Arc::new(AtomicU32::new(0));
        let clients = clients(stage, stage.cpus * 2, {
            let answers = answers.clone();
            move |stage, number| {
                let address = number * 7 % expected.addresses();
                let verdict = stage.filter.judge(address)?;
                answers.fetch_add(1, Ordering::Relaxed);
                ensure_eq!(verdict, expected.judge(address), format!("the way of {address}"));
                Ok(())
            }
        })?;
        stage.eventually("a replay is under way", || Ok(source.is_awaited()))?;
        // The new instance runs, and is called by the replay; everybody has the time to get at it.
        time::sleep(Duration::from_millis(3));
        ensure_eq!(answers.load(Ordering::Relaxed), 0, "answers before the replay was over");
        source.let_go();
        for client in clients {
            client.keep()?;
        }
    }
    fresh(stage)
}

pub(crate) fn no_client_sees_an_unconfigured_answer(stage: &Arc<Stage>) -> Outcome {
    fresh(stage)?;
    let source = Source::new();
    let expected = configure(stage, &source, 100)?;
    let configured = source.asked();
    source.dawdle();
    while_it_crashes(stage, "filter", stage.rounds(400, 40), move |stage, number, is_over| {
        let mut random = stage.random(number);
        while !is_over.load(Ordering::Relaxed) {
            let address = random.below(u64::from(expected.addresses())) as u32;
            ensure_eq!(
                stage.filter.judge(address)?,
                expected.judge(address),
                format!("the way of {address}")
            );
            if number == 0 {
                // The only one that changes the policy finds it as it was left, whatever happened in between.
                let policy = if address.is_multiple_of(2) { Verdict::Accept } else { Verdict::Drop };
                stage.filter.set_policy(policy)?;
                ensure_eq!(stage.filter.judge(expected.addresses())?, policy, "the policy just set");
            }
            if let Err(error) = stage.filter.take_count() {
                check(stage, "filter", error)?;
            }
        }
        Ok(())
    })?;
    ensure!(source.asked() > 2 * configured, "hardly a replay in all that time: {}", source.asked());
    fresh(stage)
}

pub(crate) fn a_crash_during_a_replay_begins_it_anew(stage: &Arc<Stage>) -> Outcome {
    fresh(stage)?;
    let source = Source::new();
    let expected = configure(stage, &source, 10)?;
    for victim in 1..=11 {
        let before = source.asked();
        source.kill_at(stage, before + victim);
        stage.restart("filter")?;
        for address in 0..expected.addresses() {
            ensure_eq!(
                stage.filter.judge(address)?,
                expected.judge(address),
                format!("the way of {address}")
            );
        }
        // Half of one replay, and the whole of the next.
        ensure_eq!(source.asked() - before, victim + 11, "changes that were replayed");
    }
    fresh(stage)
}

pub(crate) fn a_log_keeps_the_latest_call_where_that_is_enough(stage: &Arc<Stage>) -> Outcome {
    fresh(stage)?;
    let source = Source::new();
    stage.filter.number_revisions(source.handle())?;
    let before = stage.info("shadow-filter")?.heap_bytes;
    let times = stage.rounds(50_000, 20_000);
    for round in 0..times {
        stage.filter.set_policy(if round % 2 == 0 { Verdict::Drop } else { Verdict::Accept })?;
    }
    // All of them would be more than half a megabyte.
    ensure_eq!(stage.info("shadow-filter")?.heap_bytes, before, "the shadow's heap");
    stage.kill("filter")?;
    ensure_eq!(stage.filter.judge(1)?, Verdict::Accept, "the latest policy");
    ensure_eq!(source.asked(), u64::from(times) + 1, "policies that were set");
    fresh(stage)
}

pub(crate) fn a_shadow_of_the_dead_answers_with_an_error_in_time(stage: &Arc<Stage>) -> Outcome {
    let instance = stage.info("mortal")?.id;
    stage.kill("mortal")?;
    let began = time::now();
    stage.all_together(stage.cpus * 2, move |stage, number| {
        let mine = time::now();
        let error = match number % 2 {
            0 => stage.mortal.ping(1).err(),
            _ => stage.mortal.echo(message(b"to nobody")).err(),
        };
        let error = error.ok_or_else(|| Failure("a dead domain answers".into()))?;
        ensure_eq!((error.domain(), error.kind()), (instance, CrashKind::NotRunning), "who did not answer");
        let took = time::now() - mine;
        ensure!(took >= SHORT_PATIENCE, "patience ended after {took:?}");
        Ok(())
    })?;
    let took = time::now() - began;
    // One after the other would take longer still with four CPUs; and there is no telling how slow an emulator is.
    ensure!(took < SOON, "patience ended after {took:?}");
    // Whoever waits when the next instance comes is answered.
    let client = clients(stage, 1, |stage, _| {
        ensure_eq!(stage.mortal.ping(2)?, 2, "a call that waited");
        Ok(())
    })?;
    stage.restart("mortal")?;
    client.into_iter().try_for_each(Promise::keep)?;
    ensure_eq!(stage.mortal.ping(3)?, 3, "a call afterwards");
    Ok(())
}

pub(crate) fn a_shadow_that_dies_while_it_recovers_leaks_nothing(stage: &Arc<Stage>) -> Outcome {
    let caught = AtomicU32::new(0);
    let rounds = stage.rounds(40, 8);
    stage.leaks_nothing(rounds, |_| {
        // While it waits for a instance that does not come.
        stage.kill("mortal")?;
        let waiting = clients(stage, 2, |stage, _| Ok(stage.mortal.ping(1)))?;
        time::sleep(Duration::from_millis(1));
        let shadow = stage.info("shadow-mortal")?.id;
        stage.kill("shadow-mortal")?;
        for client in waiting {
            let error = client.keep()?.err();
            ensure!(error.is_some(), "a dead domain answers");
            caught
                .fetch_add(u32::from(error.is_some_and(|error| error.domain() == shadow)), Ordering::Relaxed);
        }
        stage.restart("mortal")?;
        stage.restart("shadow-mortal")?;

        // In the middle of a replay.
        let source = Source::new();
        configure(stage, &source, 4)?;
        source.stay_at(source.asked() + 2);
        let shadow = stage.info("shadow-filter")?.id;
        stage.restart("filter")?;
        let waiting = clients(stage, 2, |stage, _| Ok(stage.filter.judge(1)))?;
        stage.eventually("a replay is under way", || Ok(source.is_awaited()))?;
        stage.kill("shadow-filter")?;
        source.let_go();
        for client in waiting {
            // One may have been late: then it has called nobody.
            let error = client.keep()?.err().map(|error| (error.domain(), error.kind()));
            let kinds = [CrashKind::Killed, CrashKind::NotRunning];
            ensure!(
                error.is_some_and(|(domain, kind)| domain == shadow && kinds.contains(&kind)),
                "the shadow was killed, and its client heard {error:?}"
            );
        }
        fresh(stage)
    })?;
    let caught = caught.load(Ordering::Relaxed);
    ensure!(caught > 0, "no client waited when its shadow died");
    Ok(())
}

/// A filter and a shadow that nobody has told anything.
fn fresh(stage: &Stage) -> Outcome {
    stage.restart("shadow-filter")?;
    stage.restart("filter")
}

/// What a filter that was told all of it answers.
#[derive(Clone, Copy)]
struct Expected {
    rules: u32,
}

/// Addresses for each of [`configure`]'s rules to decide.
const WIDTH: u32 = 10;

impl Expected {
    /// Beyond these the policy decides.
    fn addresses(self) -> u32 {
        self.rules * WIDTH
    }

    fn judge(self, address: u32) -> Verdict {
        if address >= self.addresses() || address / WIDTH % 2 == 1 { Verdict::Accept } else { Verdict::Drop }
    }
}

/// Tells the filter a policy that it does not begin with, and rules of which each covers what those before it cover
/// too: with one missing, doubled or in another place, some address would go another way.
fn configure(stage: &Stage, source: &Arc<Source>, rules: u32) -> Outcome<Expected> {
    stage.filter.number_revisions(source.handle())?;
    let expected = Expected { rules };
    for number in 0..rules {
        let last = (number + 1) * WIDTH - 1;
        let rule = Rule { first: 0, last, verdict: expected.judge(last) };
        ensure_eq!(stage.filter.append(rule)?, Ok(()), "a rule");
        if number == rules / 2 {
            stage.filter.set_policy(Verdict::Accept)?;
        }
    }
    Ok(expected)
}

/// Starts `count` clients, spread over the CPUs.
fn clients<T: Send + 'static>(
    stage: &Arc<Stage>,
    count: u32,
    body: impl Fn(&Stage, u32) -> Outcome<T> + Clone + Send + 'static,
) -> Outcome<Vec<Promise<Outcome<T>>>> {
    let start = |number: u32| {
        let (stage, body) = (stage.clone(), body.clone());
        promise(Builder::new().affinity(1 << (number % stage.cpus)), move || body(&stage, number))
    };
    (0..count).map(start).collect()
}

/// Runs `body` on several threads of each CPU while `name` is ended and begun again `times` times at random instants,
/// soon after its beginning among them.
pub(crate) fn while_it_crashes(
    stage: &Arc<Stage>,
    name: &'static str,
    times: u32,
    body: impl Fn(&Stage, u32, &AtomicBool) -> Outcome + Clone + Send + 'static,
) -> Outcome {
    let is_over = Arc::new(AtomicBool::new(false));
    let seen = is_over.clone();
    let clients = clients(stage, stage.cpus * 2, move |stage, number| {
        let outcome = body(stage, number, &seen);
        // One failure is enough.
        seen.fetch_or(outcome.is_err(), Ordering::Relaxed);
        outcome
    })?;
    let killer = {
        let (stage, is_over) = (stage.clone(), is_over.clone());
        // More urgent than the clients: with one CPU it would have to wait for their time slices.
        promise(Builder::new().priority(1), move || {
            let mut random = stage.random(u32::MAX);
            let mut outcome = Ok(());
            // By hand: whoever comes back by itself does so later and later if it dies this often.
            for _ in 0..times {
                let pause = if random.below(2) == 0 { 40 } else { 1000 };
                time::sleep(Duration::from_micros(random.below(pause)));
                outcome = stage.restart(name);
                if outcome.is_err() || is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
            is_over.store(true, Ordering::Relaxed);
            outcome
        })?
    };
    let killed = killer.keep();
    // All of them, so that nobody goes on in the next scenario.
    let outcomes = clients.into_iter().map(Promise::keep).fold(Ok(()), Result::and);
    outcomes.and(killed)
}

/// Whether a client of the shadow of `name` may hear `error`.
fn check(stage: &Stage, name: &str, error: RpcError) -> Outcome {
    let last = stage.info(name)?.id;
    let is_its = error.domain().slot() == last.slot() && error.domain().generation() <= last.generation();
    ensure!(is_its, "a domain that nobody called has died: {error}");
    ensure!(
        matches!(error.kind(), CrashKind::Killed | CrashKind::NotRunning),
        "nobody died of that: {error}"
    );
    Ok(())
}

/// Numbers for a filter's changes: an object of the scenarios' own, which is called in the middle of a replay.
struct Source {
    asked: AtomicU64,
    /// The number whose asker has to wait; 0 for none.
    stay_at: AtomicU64,
    awaited: AtomicBool,
    go: Event,
    /// Whether an answer takes a while now and then.
    dawdles: AtomicBool,
    /// The number whose asker is killed.
    kill_at: AtomicU64,
    stage: Mutex<Option<Arc<Stage>>>,
}

impl Source {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            asked: AtomicU64::new(0),
            stay_at: AtomicU64::new(0),
            awaited: AtomicBool::new(false),
            go: Event::new(),
            dawdles: AtomicBool::new(false),
            kill_at: AtomicU64::new(0),
            stage: Mutex::new(None),
        })
    }

    fn handle(self: &Arc<Self>) -> Handle<dyn Counter> {
        struct Numbers(Arc<Source>);
        impl Counter for Numbers {
            fn next(&self) -> RpcResult<u64> {
                Ok(self.0.next())
            }
        }
        <dyn Counter>::export(Numbers(self.clone()))
    }

    fn next(&self) -> u64 {
        let number = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        if number == self.kill_at.load(Ordering::Relaxed)
            && let Some(stage) = &*self.stage.lock()
        {
            // From inside the replay, so that the next instance runs before the call has failed.
            let _ = stage.restart("filter");
        }
        if self.dawdles.load(Ordering::Relaxed) && number.is_multiple_of(16) {
            time::sleep(Duration::from_micros(20));
        }
        loop {
            let ticket = self.go.ticket();
            if self.stay_at.load(Ordering::Relaxed) != number {
                return number;
            }
            self.awaited.store(true, Ordering::Relaxed);
            self.go.wait(ticket);
        }
    }

    /// How many numbers it has given.
    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Has replays last long enough for others to come in between.
    fn dawdle(&self) {
        self.dawdles.store(true, Ordering::Relaxed);
    }

    /// Has whoever asks for `number` wait, until [`Self::let_go`].
    fn stay_at(&self, number: u64) {
        self.awaited.store(false, Ordering::Relaxed);
        self.stay_at.store(number, Ordering::Relaxed);
    }

    fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed)
    }

    fn let_go(&self) {
        self.stay_at.store(0, Ordering::Relaxed);
        self.go.notify_all();
    }

    /// Has the filter die when `number` is asked for.
    fn kill_at(&self, stage: &Arc<Stage>, number: u64) {
        *self.stage.lock() = Some(stage.clone());
        self.kill_at.store(number, Ordering::Relaxed);
    }
}
