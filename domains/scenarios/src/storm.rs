//! Everything at once.

use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use coppice_interfaces::{ControlError, CrashKind, RpcError, Text};
use coppice_runtime::thread::Builder;
use coppice_runtime::{thread, time};

use crate::leaks::Random;
use crate::stage::{Failure, Outcome, Stage, batch, message, promise, sum};

const LINKS: [&str; 3] = ["echo", "left", "right"];

pub(crate) fn a_kill_storm_hurts_nobody_else(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(1, |_| {
        let end = time::now() + Duration::from_millis(stage.rounds(300, 1_000).into());
        let killer = {
            let stage = stage.clone();
            promise(Builder::new().priority(1), move || kill_at_random(&stage, end))?
        };
        let (answers, errors) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (answered, failed) = (answers.clone(), errors.clone());
        let callers = stage.all_together(stage.cpus * 3, move |stage, number| {
            let mut random = Random(u64::from(number) + 1);
            while time::now() < end {
                match call(stage, random.below(1 << 40))? {
                    Ok(()) => answered.fetch_add(1, Ordering::Relaxed),
                    Err(error) => {
                        check(stage, error)?;
                        // Nothing is gained by asking again while nobody is there.
                        thread::yield_now();
                        failed.fetch_add(1, Ordering::Relaxed)
                    }
                };
            }
            Ok(())
        });
        let kills = killer.keep()?;
        callers?;
        for name in LINKS {
            stage.restart(name)?;
        }
        ensure_eq!(stage.right.ping(3)?, 3, "the chain after the storm");
        let (answers, errors) = (answers.load(Ordering::Relaxed), errors.load(Ordering::Relaxed));
        ensure!(
            kills > 4 && answers > 100 && errors > 0,
            "{kills} kills, {answers} answers, {errors} errors"
        );
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
                "a life that is yet to come has died: {error}"
            );
            return Ok(());
        }
    }
    Err(Failure(format!("a domain that nobody called has died: {error}")))
}

fn kill_at_random(stage: &Stage, end: Duration) -> Outcome<u64> {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut kills = 0;
    while time::now() < end {
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
    Ok(kills)
}
