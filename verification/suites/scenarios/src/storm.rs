//! Kills and calls of all kinds at once.

use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

use coppice_control::ControlError;
use coppice_interfaces::{CrashKind, RpcError, Text};
use coppice_runtime::thread::Builder;
use coppice_runtime::{thread, time};

use crate::context::{
    Context, Failure, Outcome, SOON, batch, ensure, ensure_eq, message, spawn_with_result, sum,
};

const CHAIN: [&str; 3] = ["echo", "left", "right"];

/// The counts of a storm so far.
#[derive(Default)]
struct StormState {
    is_over: AtomicBool,
    answers: AtomicU64,
    errors: AtomicU64,
}

pub(crate) fn a_kill_storm_ends_no_other_domain(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(1, |_| {
        let state = Arc::new(StormState::default());
        let killer = {
            let (context, state) = (context.clone(), state.clone());
            spawn_with_result(Builder::new().priority(1), move || {
                let outcome = kill_at_random(&context, &state);
                state.is_over.store(true, Ordering::Relaxed);
                outcome
            })?
        };
        let seen = state.clone();
        let callers = context.on_threads(context.cpus * 3, move |context, number| {
            let mut random = context.random(number + 1);
            while !seen.is_over.load(Ordering::Relaxed) {
                match call(context, random.below(1 << 40))? {
                    Ok(()) => seen.answers.fetch_add(1, Ordering::Relaxed),
                    Err(error) => {
                        check(context, error)?;
                        // Another call at once would fail as well while the domain is dead.
                        thread::yield_now();
                        seen.errors.fetch_add(1, Ordering::Relaxed)
                    }
                };
            }
            Ok(())
        });
        killer.join()?;
        callers?;
        for name in CHAIN {
            context.restart(name)?;
        }
        ensure_eq!(context.right.ping(3)?, 3, "the chain after the storm");
        Ok(())
    })
}

/// Makes one call through the chain, of a kind that `chance` selects. The inner error is a failed call; a
/// wrong answer is a failure of the scenario.
fn call(context: &Context, chance: u64) -> Outcome<Result<(), RpcError>> {
    let through = [&context.right, &context.left, &context.echo][(chance / 8 % 3) as usize];
    let bytes = chance.to_le_bytes();
    let right = match chance % 4 {
        0 => through.ping(chance).map(|answer| answer == chance),
        1 => through.echo(message(&bytes)).map(|answer| answer[..] == bytes),
        2 => through.sum(&message(&bytes)).map(|answer| answer == sum(&bytes)),
        _ => through.reverse(batch(bytes[1])).map(|answer| {
            let first = bytes[1];
            answer.len() == 32
                && answer.iter().zip((0..32).rev()).all(|(got, n)| got[..] == [first.wrapping_add(n)])
        }),
    };
    match right {
        Ok(true) => Ok(Ok(())),
        Ok(false) => Err(Failure(format!("wrong answer to {chance:#x}"))),
        Err(error) => Ok(Err(error)),
    }
}

fn check(context: &Context, error: RpcError) -> Outcome {
    let is_killed = matches!(error.kind(), CrashKind::Killed | CrashKind::NotRunning);
    ensure!(is_killed, "no domain was ended that way: {error}");
    for name in CHAIN {
        let last = context.info(name)?.id;
        if error.domain().slot() == last.slot() {
            ensure!(error.domain().generation() <= last.generation(), "a future instance has died: {error}");
            return Ok(());
        }
    }
    Err(Failure(format!("a domain that was not called has died: {error}")))
}

/// Ends and restarts links until enough kills, answers and errors are counted.
fn kill_at_random(context: &Context, state: &StormState) -> Outcome {
    let mut random = context.random(0);
    let mut kills = 0;
    let wanted = context.rounds(200, 30);
    let deadline = time::now() + SOON * wanted;
    let (answers, errors) = (&state.answers, &state.errors);
    while kills < wanted || answers.load(Ordering::Relaxed) < 100 || errors.load(Ordering::Relaxed) == 0 {
        ensure!(
            time::now() < deadline,
            "only {kills} kills, {answers:?} answers and {errors:?} errors before the deadline"
        );
        let name = Text::new(CHAIN[random.below(3) as usize]);
        let result = if random.below(2) == 0 {
            context.control.kill(name)?.and_then(|()| context.control.restart(name).unwrap_or(Ok(())))
        } else {
            context.control.restart(name)?
        };
        match result {
            // The middle link also restarts automatically, and a dead domain can only be restarted.
            Ok(()) => kills += 1,
            Err(ControlError::WrongState { .. }) => {
                let _ = context.control.restart(name)?;
            }
            Err(error) => return Err(error.into()),
        }
        time::sleep(Duration::from_micros(random.below(400)));
    }
    Ok(())
}
