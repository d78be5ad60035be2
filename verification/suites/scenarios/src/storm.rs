//! Everything at once.

use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

use coppice_control::ControlError;
use coppice_interfaces::{CrashKind, RpcError, Text};
use coppice_runtime::thread::Builder;
use coppice_runtime::{thread, time};

use crate::stage::{Failure, Outcome, SOON, Stage, batch, ensure, ensure_eq, message, promise, sum};

const LINKS: [&str; 3] = ["echo", "left", "right"];

/// What has happened in a storm so far.
#[derive(Default)]
struct Weather {
    is_over: AtomicBool,
    answers: AtomicU64,
    errors: AtomicU64,
}

pub(crate) fn a_kill_storm_hurts_nobody_else(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(1, |_| {
        let weather = Arc::new(Weather::default());
        let killer = {
            let (stage, weather) = (stage.clone(), weather.clone());
            promise(Builder::new().priority(1), move || {
                let outcome = kill_at_random(&stage, &weather);
                weather.is_over.store(true, Ordering::Relaxed);
                outcome
            })?
        };
        let seen = weather.clone();
        let callers = stage.all_together(stage.cpus * 3, move |stage, number| {
            let mut random = stage.random(number + 1);
            while !seen.is_over.load(Ordering::Relaxed) {
                match call(stage, random.below(1 << 40))? {
                    Ok(()) => seen.answers.fetch_add(1, Ordering::Relaxed),
                    Err(error) => {
                        check(stage, error)?;
                        // Nothing is gained by asking again while nobody is there.
                        thread::yield_now();
                        seen.errors.fetch_add(1, Ordering::Relaxed)
                    }
                };
            }
            Ok(())
        });
        killer.keep()?;
        callers?;
        for name in LINKS {
            stage.restart(name)?;
        }
        ensure_eq!(stage.right.ping(3)?, 3, "the chain after the storm");
        Ok(())
    })
}

/// One call through the chain, of a kind that `chance` picks. The inner error is an answer that did not come; a wrong one is
/// a failure.
fn call(stage: &Stage, chance: u64) -> Outcome<Result<(), RpcError>> {
    let through = [&stage.right, &stage.left, &stage.echo][(chance / 8 % 3) as usize];
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
        Ok(false) => Err(Failure(format!("a wrong answer to {chance:#x}"))),
        Err(error) => Ok(Err(error)),
    }
}

fn check(stage: &Stage, error: RpcError) -> Outcome {
    let is_killed = matches!(error.kind(), CrashKind::Killed | CrashKind::NotRunning);
    ensure!(is_killed, "nobody died of that: {error}");
    for name in LINKS {
        let last = stage.info(name)?.id;
        if error.domain().slot() == last.slot() {
            ensure!(
                error.domain().generation() <= last.generation(),
                "a instance that is yet to come has died: {error}"
            );
            return Ok(());
        }
    }
    Err(Failure(format!("a domain that nobody called has died: {error}")))
}

/// Ends and restarts links until enough has happened.
fn kill_at_random(stage: &Stage, weather: &Weather) -> Outcome {
    let mut random = stage.random(0);
    let mut kills = 0;
    let wanted = stage.rounds(200, 30);
    let deadline = time::now() + SOON * wanted;
    let (answers, errors) = (&weather.answers, &weather.errors);
    while kills < wanted || answers.load(Ordering::Relaxed) < 100 || errors.load(Ordering::Relaxed) == 0 {
        ensure!(
            time::now() < deadline,
            "{kills} kills, {answers:?} answers and {errors:?} errors in all that time"
        );
        let name = Text::new(LINKS[random.below(3) as usize]);
        let result = if random.below(2) == 0 {
            stage.control.kill(name)?.and_then(|()| stage.control.restart(name).unwrap_or(Ok(())))
        } else {
            stage.control.restart(name)?
        };
        match result {
            // The middle link also comes back by itself; and one that is dead can only be restarted.
            Ok(()) => kills += 1,
            Err(ControlError::WrongState { .. }) => {
                let _ = stage.control.restart(name)?;
            }
            Err(error) => return Err(error.into()),
        }
        time::sleep(Duration::from_micros(random.below(400)));
    }
    Ok(())
}
