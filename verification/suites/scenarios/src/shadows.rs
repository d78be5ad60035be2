//! Shadows, and how little their clients notice of the crashes behind them.

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

use crate::context::{
    Context, Failure, Outcome, SHORT_RECOVERY_TIMEOUT, SOON, ThreadWithResult, ensure, ensure_eq, message,
    spawn_with_result, sum,
};

pub(crate) fn a_shadow_hides_a_crash(context: &Arc<Context>) -> Outcome {
    for round in 0..3 {
        let before = context.info("echo-transparent")?.id;
        context.kill("echo-transparent")?;
        ensure_eq!(context.echo_transparent.ping(round)?, round, "a call that moves nothing");
        let after = context.info("echo-transparent")?.id;
        ensure_eq!(after.generation(), before.generation() + 1, "the instance that answered");
        context.kill("echo-transparent")?;
        ensure_eq!(context.echo_transparent.sum(&message(b"lent"))?, sum(b"lent"), "a call that borrows");
        // The call was not made to the crashed instance, so it may be made to the next.
        context.kill("echo-transparent")?;
        ensure_eq!(context.echo_transparent.echo(message(b"moved"))?[..], b"moved"[..], "a call that moves");
    }
    Ok(())
}

pub(crate) fn clients_of_a_shadow_notice_no_crash(context: &Arc<Context>) -> Outcome {
    while_it_crashes(context, "echo-transparent", context.rounds(400, 60), |context, number, is_over| {
        let mut random = context.random(number);
        let mut calls = 0;
        while !is_over.load(Ordering::Relaxed) {
            let chance = random.below(1 << 40);
            let bytes = chance.to_le_bytes();
            match chance % 3 {
                0 => {
                    ensure_eq!(context.echo_transparent.ping(chance)?, chance, "a ping");
                }
                1 => {
                    ensure_eq!(context.echo_transparent.sum(&message(&bytes))?, sum(&bytes), "a sum");
                }
                _ => match context.echo_transparent.echo(message(&bytes)) {
                    Ok(answer) => {
                        ensure_eq!(answer[..], bytes[..], "an echo");
                    }
                    Err(error) => check(context, "echo-transparent", error)?,
                },
            }
            calls += 1;
        }
        ensure!(calls > 0, "a client that made no call");
        Ok(())
    })
}

pub(crate) fn a_call_that_cannot_be_repeated_fails_with_the_crash(context: &Arc<Context>) -> Outcome {
    for depth in 0..3 {
        let instance = context.info("echo-transparent")?.id;
        let error = context.echo_transparent.panic(message(b"not twice"), depth).err();
        let error = error.ok_or_else(|| Failure("a panicking call returned a result".into()))?;
        ensure_eq!(
            (error.domain(), error.kind()),
            (instance, CrashKind::Panic),
            "the crashed domain and the cause"
        );
        ensure_eq!(context.echo_transparent.ping(7)?, 7, "the next call");
        ensure_eq!(
            context.info("echo-transparent")?.id.generation(),
            instance.generation() + 1,
            "the instances after a panic"
        );
    }
    Ok(())
}

pub(crate) fn a_new_instance_gets_the_configuration_log_replayed_in_order(context: &Arc<Context>) -> Outcome {
    fresh(context)?;
    let source = Source::new();
    let expected = configure(context, &source, 20)?;
    let refused = Rule { first: 2, last: 1, verdict: Verdict::Drop };
    ensure_eq!(context.filter.append(refused)?, Err(FilterError::Empty { rule: refused }), "an empty rule");
    context.filter.set_policy(Verdict::Accept)?;
    let told = source.issued();
    for round in 1..4 {
        context.kill("filter")?;
        for address in 0..expected.addresses() + 10 {
            ensure_eq!(
                context.filter.judge(address)?,
                expected.judge(address),
                format!("the verdict on {address}")
            );
        }
        // Twenty rules and the latest policy. Refused and superseded changes are not replayed.
        ensure_eq!(source.issued() - told, (2 * round - 1) * 21, "changes that were replayed");
        ensure_eq!(context.filter.revision()?, source.issued(), "the last change's number");
        ensure!(context.filter.take_count()? > 0, "no address was judged");
        context.kill("filter")?;
        // The call is not repeatable, but not in flight either.
        ensure_eq!(context.filter.take_count()?, 0, "addresses judged by a fresh instance");
    }
    fresh(context)
}

pub(crate) fn no_call_reaches_an_instance_before_its_configuration(context: &Arc<Context>) -> Outcome {
    fresh(context)?;
    let source = Source::new();
    let expected = configure(context, &source, 10)?;
    for _ in 0..context.rounds(20, 4) {
        // The replay blocks in its second change until the scenario unblocks it.
        source.block_at(source.issued() + 2);
        context.restart("filter")?;
        let answers = Arc::new(AtomicU32::new(0));
        let clients = clients(context, context.cpus * 2, {
            let answers = answers.clone();
            move |context, number| {
                let address = number * 7 % expected.addresses();
                let verdict = context.filter.judge(address)?;
                answers.fetch_add(1, Ordering::Relaxed);
                ensure_eq!(verdict, expected.judge(address), format!("the verdict on {address}"));
                Ok(())
            }
        })?;
        context.eventually("a replay is under way", || Ok(source.is_awaited()))?;
        // The new instance runs and the replay is calling it. All clients have the time to call it.
        time::sleep(Duration::from_millis(3));
        ensure_eq!(answers.load(Ordering::Relaxed), 0, "answers before the replay was over");
        source.unblock();
        for client in clients {
            client.join()?;
        }
    }
    fresh(context)
}

pub(crate) fn no_client_sees_an_unconfigured_answer(context: &Arc<Context>) -> Outcome {
    fresh(context)?;
    let source = Source::new();
    let expected = configure(context, &source, 100)?;
    let configured = source.issued();
    source.answer_slowly();
    while_it_crashes(context, "filter", context.rounds(400, 40), move |context, number, is_over| {
        let mut random = context.random(number);
        while !is_over.load(Ordering::Relaxed) {
            let address = random.below(u64::from(expected.addresses())) as u32;
            ensure_eq!(
                context.filter.judge(address)?,
                expected.judge(address),
                format!("the verdict on {address}")
            );
            if number == 0 {
                // Only this client changes the policy, so it finds its own value, regardless of crashes in
                // between.
                let policy = if address.is_multiple_of(2) { Verdict::Accept } else { Verdict::Drop };
                context.filter.set_policy(policy)?;
                ensure_eq!(context.filter.judge(expected.addresses())?, policy, "the policy just set");
            }
            if let Err(error) = context.filter.take_count() {
                check(context, "filter", error)?;
            }
        }
        Ok(())
    })?;
    ensure!(source.issued() > 2 * configured, "too few replays: {}", source.issued());
    fresh(context)
}

pub(crate) fn a_crash_during_a_replay_restarts_the_replay(context: &Arc<Context>) -> Outcome {
    fresh(context)?;
    let source = Source::new();
    let expected = configure(context, &source, 10)?;
    for victim in 1..=11 {
        let before = source.issued();
        source.kill_at(context, before + victim);
        context.restart("filter")?;
        for address in 0..expected.addresses() {
            ensure_eq!(
                context.filter.judge(address)?,
                expected.judge(address),
                format!("the verdict on {address}")
            );
        }
        // Half of one replay, and the whole next one.
        ensure_eq!(source.issued() - before, victim + 11, "changes that were replayed");
    }
    fresh(context)
}

pub(crate) fn a_log_keeps_only_the_latest_call_of_a_setter(context: &Arc<Context>) -> Outcome {
    fresh(context)?;
    let source = Source::new();
    context.filter.number_revisions(source.handle())?;
    let before = context.info("shadow-filter")?.heap_bytes;
    let times = context.rounds(50_000, 20_000);
    for round in 0..times {
        context.filter.set_policy(if round % 2 == 0 { Verdict::Drop } else { Verdict::Accept })?;
    }
    // All changes together would be more than half a megabyte.
    ensure_eq!(context.info("shadow-filter")?.heap_bytes, before, "the shadow's heap");
    context.kill("filter")?;
    ensure_eq!(context.filter.judge(1)?, Verdict::Accept, "the latest policy");
    ensure_eq!(source.issued(), u64::from(times) + 1, "policies that were set");
    fresh(context)
}

pub(crate) fn a_shadow_of_a_dead_domain_returns_an_error_after_its_timeout(
    context: &Arc<Context>,
) -> Outcome {
    let instance = context.info("echo-never-restarts")?.id;
    context.kill("echo-never-restarts")?;
    let began = time::now();
    context.on_threads(context.cpus * 2, move |context, number| {
        let mine = time::now();
        let error = match number % 2 {
            0 => context.echo_never_restarts.ping(1).err(),
            _ => context.echo_never_restarts.echo(message(b"to nobody")).err(),
        };
        let error = error.ok_or_else(|| Failure("a dead domain returned a result".into()))?;
        ensure_eq!(
            (error.domain(), error.kind()),
            (instance, CrashKind::NotRunning),
            "the domain that did not answer"
        );
        let took = time::now() - mine;
        ensure!(took >= SHORT_RECOVERY_TIMEOUT, "the timeout ended after {took:?}");
        Ok(())
    })?;
    let took = time::now() - began;
    // Sequential waits would take longer still with four CPUs. No tighter limit holds on a slow emulator.
    ensure!(took < SOON, "the timeout ended after {took:?}");
    // A client that waits when the next instance starts gets its answer.
    let client = clients(context, 1, |context, _| {
        ensure_eq!(context.echo_never_restarts.ping(2)?, 2, "a call that waited");
        Ok(())
    })?;
    context.restart("echo-never-restarts")?;
    client.into_iter().try_for_each(ThreadWithResult::join)?;
    ensure_eq!(context.echo_never_restarts.ping(3)?, 3, "a call afterwards");
    Ok(())
}

pub(crate) fn a_shadow_that_dies_during_recovery_leaks_nothing(context: &Arc<Context>) -> Outcome {
    let caught = AtomicU32::new(0);
    let rounds = context.rounds(40, 8);
    context.leaks_nothing(rounds, |_| {
        // The shadow waits for an instance that does not start.
        context.kill("echo-never-restarts")?;
        let waiting = clients(context, 2, |context, _| Ok(context.echo_never_restarts.ping(1)))?;
        time::sleep(Duration::from_millis(1));
        let shadow = context.info("shadow-echo-never-restarts")?.id;
        context.kill("shadow-echo-never-restarts")?;
        for client in waiting {
            let error = client.join()?.err();
            ensure!(error.is_some(), "a dead domain returned a result");
            caught
                .fetch_add(u32::from(error.is_some_and(|error| error.domain() == shadow)), Ordering::Relaxed);
        }
        context.restart("echo-never-restarts")?;
        context.restart("shadow-echo-never-restarts")?;

        // In the middle of a replay.
        let source = Source::new();
        configure(context, &source, 4)?;
        source.block_at(source.issued() + 2);
        let shadow = context.info("shadow-filter")?.id;
        context.restart("filter")?;
        let waiting = clients(context, 2, |context, _| Ok(context.filter.judge(1)))?;
        context.eventually("a replay is under way", || Ok(source.is_awaited()))?;
        context.kill("shadow-filter")?;
        source.unblock();
        for client in waiting {
            // A client may be late: then it has called no instance.
            let error = client.join()?.err().map(|error| (error.domain(), error.kind()));
            let kinds = [CrashKind::Killed, CrashKind::NotRunning];
            ensure!(
                error.is_some_and(|(domain, kind)| domain == shadow && kinds.contains(&kind)),
                "the shadow was killed, and its client heard {error:?}"
            );
        }
        fresh(context)
    })?;
    let caught = caught.load(Ordering::Relaxed);
    ensure!(caught > 0, "no client waited when its shadow died");
    Ok(())
}

/// Restarts the filter and its shadow, without any configuration.
fn fresh(context: &Context) -> Outcome {
    context.restart("shadow-filter")?;
    context.restart("filter")
}

/// The answers of a fully configured filter.
#[derive(Clone, Copy)]
struct Expected {
    rules: u32,
}

/// The number of addresses that each rule of [`configure`] decides.
const WIDTH: u32 = 10;

impl Expected {
    /// The number of addresses that rules decide. The policy decides all others.
    fn addresses(self) -> u32 {
        self.rules * WIDTH
    }

    fn judge(self, address: u32) -> Verdict {
        if address >= self.addresses() || address / WIDTH % 2 == 1 { Verdict::Accept } else { Verdict::Drop }
    }
}

/// Configures a policy other than the default, and rules that each cover the range of all earlier ones. If
/// one is missing, doubled or out of order, some address gets another verdict.
fn configure(context: &Context, source: &Arc<Source>, rules: u32) -> Outcome<Expected> {
    context.filter.number_revisions(source.handle())?;
    let expected = Expected { rules };
    for number in 0..rules {
        let last = (number + 1) * WIDTH - 1;
        let rule = Rule { first: 0, last, verdict: expected.judge(last) };
        ensure_eq!(context.filter.append(rule)?, Ok(()), "a rule");
        if number == rules / 2 {
            context.filter.set_policy(Verdict::Accept)?;
        }
    }
    Ok(expected)
}

/// Starts `count` clients, spread over the CPUs.
fn clients<T: Send + 'static>(
    context: &Arc<Context>,
    count: u32,
    body: impl Fn(&Context, u32) -> Outcome<T> + Clone + Send + 'static,
) -> Outcome<Vec<ThreadWithResult<Outcome<T>>>> {
    let start = |number: u32| {
        let (context, body) = (context.clone(), body.clone());
        spawn_with_result(Builder::new().affinity(1 << (number % context.cpus)), move || {
            body(&context, number)
        })
    };
    (0..count).map(start).collect()
}

/// Runs `body` on several threads of each CPU while `name` is ended and restarted `times` times at random
/// instants, some of them soon after its start.
pub(crate) fn while_it_crashes(
    context: &Arc<Context>,
    name: &'static str,
    times: u32,
    body: impl Fn(&Context, u32, &AtomicBool) -> Outcome + Clone + Send + 'static,
) -> Outcome {
    let is_over = Arc::new(AtomicBool::new(false));
    let seen = is_over.clone();
    let clients = clients(context, context.cpus * 2, move |context, number| {
        let outcome = body(context, number, &seen);
        // One failure is enough.
        seen.fetch_or(outcome.is_err(), Ordering::Relaxed);
        outcome
    })?;
    let killer = {
        let (context, is_over) = (context.clone(), is_over.clone());
        // Has a higher priority than the clients: with one CPU it would have to wait for their time slices.
        spawn_with_result(Builder::new().priority(1), move || {
            let mut random = context.random(u32::MAX);
            let mut outcome = Ok(());
            // Restarts the domain by hand: its own restarts would be delayed more and more at this crash
            // rate.
            for _ in 0..times {
                let pause = if random.below(2) == 0 { 40 } else { 1000 };
                time::sleep(Duration::from_micros(random.below(pause)));
                outcome = context.restart(name);
                if outcome.is_err() || is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
            is_over.store(true, Ordering::Relaxed);
            outcome
        })?
    };
    let killed = killer.join();
    // Joins all clients, so that none continues in the next scenario.
    let outcomes = clients.into_iter().map(ThreadWithResult::join).fold(Ok(()), Result::and);
    outcomes.and(killed)
}

/// Fails unless a client of the shadow of `name` may get `error`.
fn check(context: &Context, name: &str, error: RpcError) -> Outcome {
    let last = context.info(name)?.id;
    let is_its = error.domain().slot() == last.slot() && error.domain().generation() <= last.generation();
    ensure!(is_its, "a domain that was not called has died: {error}");
    ensure!(
        matches!(error.kind(), CrashKind::Killed | CrashKind::NotRunning),
        "no domain was ended that way: {error}"
    );
    Ok(())
}

/// Numbers for the changes of a filter. The scenarios' own object, which is called in the middle of a replay.
struct Source {
    issued: AtomicU64,
    /// The number at which the caller blocks; 0 for none.
    block_at: AtomicU64,
    awaited: AtomicBool,
    go: Event,
    /// True if some calls take longer.
    is_slow: AtomicBool,
    /// The number at which the calling filter is restarted.
    kill_at: AtomicU64,
    context: Mutex<Option<Arc<Context>>>,
}

impl Source {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            issued: AtomicU64::new(0),
            block_at: AtomicU64::new(0),
            awaited: AtomicBool::new(false),
            go: Event::new(),
            is_slow: AtomicBool::new(false),
            kill_at: AtomicU64::new(0),
            context: Mutex::new(None),
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
        let number = self.issued.fetch_add(1, Ordering::Relaxed) + 1;
        if number == self.kill_at.load(Ordering::Relaxed)
            && let Some(context) = &*self.context.lock()
        {
            // Restarts from inside the replay, so that the next instance runs before the call has failed.
            let _ = context.restart("filter");
        }
        if self.is_slow.load(Ordering::Relaxed) && number.is_multiple_of(16) {
            time::sleep(Duration::from_micros(20));
        }
        loop {
            let ticket = self.go.ticket();
            if self.block_at.load(Ordering::Relaxed) != number {
                return number;
            }
            self.awaited.store(true, Ordering::Relaxed);
            self.go.wait(ticket);
        }
    }

    /// Returns the count of numbers requested.
    fn issued(&self) -> u64 {
        self.issued.load(Ordering::Relaxed)
    }

    /// Makes replays long enough for other calls to arrive during them.
    fn answer_slowly(&self) {
        self.is_slow.store(true, Ordering::Relaxed);
    }

    /// Blocks the caller that requests `number`, until [`Self::unblock`].
    fn block_at(&self, number: u64) {
        self.awaited.store(false, Ordering::Relaxed);
        self.block_at.store(number, Ordering::Relaxed);
    }

    fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed)
    }

    fn unblock(&self) {
        self.block_at.store(0, Ordering::Relaxed);
        self.go.notify_all();
    }

    /// Makes the filter crash when it requests `number`.
    fn kill_at(&self, context: &Arc<Context>, number: u64) {
        *self.context.lock() = Some(context.clone());
        self.kill_at.store(number, Ordering::Relaxed);
    }
}
