//! Devices: a driver has its own and nothing else, and what it has begun ends with it.
//!
//! The device copies memory, after a while, and cannot be told to stop: 100 ms on QEMU, 2 ms (`engine`) and 20 ms
//! (`slow-engine`) on the hosted machine. So a kill finds DMA under way. The first is waited for by the kernel, the second is
//! reset where it can be, and cut off where it can't.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use coppice_example_interfaces::{Engine, Misuse};
use coppice_interfaces::{CrashKind, Handle};
use coppice_runtime::thread::Builder;
use coppice_runtime::time;

use crate::stage::{Failure, Outcome, Stage, ensure, ensure_eq, message, promise, spin};

const IDENTIFICATION: u32 = 0x0100_00ed;

/// Nanoseconds from now.
fn after(wait: Duration) -> u64 {
    (time::now() + wait).as_nanos() as u64
}

fn both(stage: &Stage) -> [(&'static str, &Handle<dyn Engine>); 2] {
    [("engine", &stage.engine), ("slow-engine", &stage.slow_engine)]
}

pub(crate) fn a_driver_reads_and_writes_registers_of_its_device(stage: &Arc<Stage>) -> Outcome {
    ensure_eq!(stage.engine.info()?.identification, IDENTIFICATION, "what the device says that it is");
    for number in [0, 1, 0x1234_5678, u32::MAX] {
        ensure_eq!(stage.engine.invert(number)?, !number, "an inverted number");
    }
    Ok(())
}

pub(crate) fn two_drivers_have_a_device_each(stage: &Arc<Stage>) -> Outcome {
    let [one, other] = [stage.engine.info()?, stage.slow_engine.info()?];
    ensure!(one.address != other.address, "both drive the device at {:#x}", one.address);
    stage.all_together(2, |stage, number| {
        let (_, engine) = both(stage)[number as usize];
        for round in 0..stage.rounds(1000, 100) {
            let value = round * 2 + number;
            ensure_eq!(engine.invert(value)?, !value, "an inverted number");
        }
        Ok(())
    })
}

pub(crate) fn a_domain_without_devices_gets_none(stage: &Arc<Stage>) -> Outcome {
    ensure!(!stage.has_device, "the scenarios were given a device that the manifest does not grant them");
    Ok(())
}

pub(crate) fn a_device_copies_memory_both_ways(stage: &Arc<Stage>) -> Outcome {
    for (name, engine) in both(stage) {
        let copied = engine.copy(message(b"through the device and back"))?;
        ensure!(&copied[..] == b"through the device and back", "{name} has made {copied:?} of it");
    }
    Ok(())
}

pub(crate) fn an_interrupt_wakes_who_waits_for_it(stage: &Arc<Stage>) -> Outcome {
    ensure_eq!(stage.engine.factorial(10)?, Some(3_628_800), "a factorial");
    for round in 1..=stage.rounds(50, 10) {
        let waiter = stage.clone();
        let waiting = promise(Builder::new(), move || waiter.engine.wait(after(Duration::from_secs(5))))?;
        if round % 2 == 0 {
            time::sleep(Duration::from_millis(2));
        }
        stage.engine.raise(round << 8)?;
        ensure_eq!(waiting.keep()?, Some(round << 8), "the cause of the interrupt");
    }
    Ok(())
}

pub(crate) fn a_wait_for_an_interrupt_ends_in_time(stage: &Arc<Stage>) -> Outcome {
    let deadline = after(Duration::from_millis(5));
    ensure_eq!(stage.engine.wait(deadline)?, None, "an interrupt that nobody has caused");
    ensure!(after(Duration::ZERO) >= deadline, "the wait ended early");
    Ok(())
}

pub(crate) fn interrupts_that_nobody_waits_for_disturb_nobody(stage: &Arc<Stage>) -> Outcome {
    for cause in 1..stage.rounds(10_000, 1000) {
        stage.engine.raise(cause)?;
    }
    ensure!(stage.engine.wait(after(Duration::from_secs(5)))?.is_some(), "none was counted");
    // One wait takes all that have arrived.
    stage.eventually("no further interrupt comes", || {
        Ok(stage.engine.wait(after(Duration::from_millis(2)))?.is_none())
    })
}

pub(crate) fn a_wait_for_an_interrupt_ends_with_its_domain(stage: &Arc<Stage>) -> Outcome {
    for _ in 0..stage.rounds(20, 5) {
        let waiter = stage.clone();
        let waiting = promise(Builder::new(), move || waiter.engine.wait(u64::MAX))?;
        time::sleep(Duration::from_millis(1));
        stage.kill("engine")?;
        let error = waiting.keep().err().map(|error| error.kind());
        ensure!(
            matches!(error, Some(CrashKind::Killed | CrashKind::NotRunning)),
            "whoever waited hears {error:?}"
        );
        stage.restart("engine")?;
    }
    ensure_eq!(stage.engine.factorial(5)?, Some(120), "a factorial");
    Ok(())
}

pub(crate) fn what_a_driver_must_not_have_is_refused(stage: &Arc<Stage>) -> Outcome {
    for how in [
        Misuse::OtherDevice,
        Misuse::SameDevice,
        Misuse::OtherBar,
        Misuse::OtherVector,
        Misuse::BadStep,
        Misuse::LongOrder,
        Misuse::TooMuchMemory,
    ] {
        ensure!(stage.engine.misuse(how)?, "{how:?} was not refused");
    }
    ensure_eq!(stage.engine.invert(1)?, !1, "what the device answers after that");
    Ok(())
}

pub(crate) fn a_driver_that_leaves_its_registers_or_memory_ends_alone(stage: &Arc<Stage>) -> Outcome {
    for how in [Misuse::OtherRegister, Misuse::OddRegister, Misuse::BehindMemory] {
        let error = stage.engine.misuse(how).err().map(|error| error.kind());
        ensure_eq!(error, Some(CrashKind::Panic), "what the caller hears");
        ensure_eq!(stage.slow_engine.invert(1)?, !1, "the other driver's device");
        stage.restart("engine")?;
    }
    Ok(())
}

pub(crate) fn memory_that_a_driver_drops_is_used_again(stage: &Arc<Stage>) -> Outcome {
    // Sixteen times its quota.
    let last = stage.engine.take_and_drop(2048, 4)?;
    ensure!(last.is_some(), "memory for DMA was used up by dropping it");
    ensure_eq!(stage.engine.take_and_drop(1, 3)?, last, "where smaller memory comes from");
    let info = stage.info("engine")?;
    ensure!(
        info.heap_bytes <= info.heap_quota,
        "{} bytes are charged, of {}",
        info.heap_bytes,
        info.heap_quota
    );
    stage.restart("engine")
}

pub(crate) fn memory_for_dma_is_charged_and_in_the_audit(stage: &Arc<Stage>) -> Outcome {
    let dma_frames = || -> Outcome<u64> {
        let summary = stage.control.audit()?;
        for number in 0..summary.lines {
            if let Some(line) = stage.control.audit_line(number)?
                && &*line.owner == "engine"
                && &*line.what == "DMA memory"
            {
                return Ok(line.frames);
            }
        }
        Ok(0)
    };
    let (before, charged) = (dma_frames()?, stage.info("engine")?.heap_bytes);
    ensure!(before > 0, "the audit finds no memory for DMA of the engine's");
    ensure!(stage.engine.take_and_drop(1, 16)?.is_some(), "16 pages were refused");
    ensure_eq!(dma_frames()?, before + 16, "frames for DMA");
    // Its allocator may take a step of its own.
    ensure!(stage.info("engine")?.heap_bytes >= charged + 16 * 4096, "16 pages were not charged");
    stage.kill("engine")?;
    ensure_eq!(dma_frames()?, 0, "frames for DMA of a dead domain");
    stage.restart("engine")
}

pub(crate) fn a_kill_with_dma_under_way_overwrites_nothing(stage: &Arc<Stage>) -> Outcome {
    let mut random = stage.random(0);
    for round in 0..stage.rounds(40, 3) {
        for (name, engine) in both(stage) {
            ensure!(engine.fill(0xc3)?, "{name} was not filled");
            let before = engine.info()?;
            ensure!(engine.begin()?, "{name} does not copy");
            if round % 2 == 1 {
                time::sleep(Duration::from_micros(random.below(3_000)));
            }
            stage.kill(name)?;
            // Its next instance takes the same memory at once, and watches it.
            stage.restart(name)?;
            time::sleep(if stage.is_bare() { Duration::from_millis(150) } else { Duration::from_millis(30) });
            let now = engine.info()?;
            ensure_eq!(now.address, before.address, "where the device of the next instance is");
            ensure!(
                !engine.is_overwritten()?,
                "{name} of round {round} has written to memory of the next instance"
            );
        }
    }
    Ok(())
}

pub(crate) fn the_next_instance_gets_its_device_ready_for_use(stage: &Arc<Stage>) -> Outcome {
    for (name, engine) in both(stage) {
        for _ in 0..stage.rounds(10, 2) {
            ensure!(engine.begin()?, "{name} does not copy");
            stage.kill(name)?;
            stage.restart(name)?;
            let copied = engine.copy(message(b"in the next instance"))?;
            ensure!(&copied[..] == b"in the next instance", "{name} has made {copied:?} of it");
        }
    }
    Ok(())
}

pub(crate) fn an_interrupt_of_an_earlier_instance_is_dropped(stage: &Arc<Stage>) -> Outcome {
    for _ in 0..stage.rounds(20, 5) {
        stage.engine.raise(1)?;
        stage.kill("engine")?;
        stage.restart("engine")?;
        ensure_eq!(
            stage.engine.wait(after(Duration::from_millis(3)))?,
            None,
            "an interrupt of the instance before"
        );
        // The device's own, and nobody else's.
        ensure_eq!(stage.slow_engine.wait(after(Duration::ZERO))?, None, "an interrupt of another device");
    }
    Ok(())
}

pub(crate) fn kills_with_dma_under_way_leak_nothing(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(1000, 15), |round| {
        ensure!(stage.engine.begin()?, "the engine does not copy");
        stage.engine.raise(round)?;
        let waiter = stage.clone();
        let waiting = promise(Builder::new(), move || waiter.engine.wait(u64::MAX).map(drop))?;
        stage.kill("engine")?;
        let _ = waiting.keep();
        stage.restart("engine")
    })
}

pub(crate) fn a_trace_shows_how_a_device_was_brought_to_rest(stage: &Arc<Stage>) -> Outcome {
    /// As the kernel's trace has them.
    const STOPPED: u64 = 0;
    const RESET: u64 = 1;
    const CUT_OFF: u64 = 2;

    let rest_of = |name: &str| -> Outcome<u64> {
        while stage.control.next_trace()?.is_some() {}
        stage.control.set_tracing(true)?;
        stage.kill(name)?;
        stage.control.set_tracing(false)?;
        stage.restart(name)?;
        while let Some(record) = stage.control.next_trace()? {
            if &*record.kind == "quiesce" {
                return Ok(record.detail & 0xff);
            }
        }
        Err(Failure(format!("the trace has no event of {name}'s device")))
    };
    ensure_eq!(rest_of("slow-engine")?, STOPPED, "how a device was brought to rest that had nothing to do");
    ensure!(stage.slow_engine.begin()?, "the engine does not copy");
    // Longer than a stop order is waited for. QEMU's device cannot be reset, the model can, and bare may have either.
    let rest = rest_of("slow-engine")?;
    let is_expected = rest == RESET || stage.is_bare() && rest == CUT_OFF;
    ensure!(is_expected, "a device that was busy was brought to rest in way {rest}");
    Ok(())
}

pub(crate) fn a_kill_at_any_instant_of_a_device_service_leaks_nothing(stage: &Arc<Stage>) -> Outcome {
    let mut random = stage.random(1);
    stage.leaks_nothing(stage.rounds(400, 20), |_| {
        let callers: Result<Vec<_>, _> = (0..2)
            .map(|number: u32| {
                let stage = stage.clone();
                promise(Builder::new().affinity(1 << (number % stage.cpus)), move || {
                    let engine = &stage.engine;
                    // Until it is dead.
                    while engine.invert(number).is_ok()
                        && engine.take_and_drop(1, 1 + number).is_ok()
                        && engine.raise(1 + number).is_ok()
                        && engine.wait(after(Duration::from_micros(20))).is_ok()
                        && engine.misuse(Misuse::OtherVector).is_ok()
                    {}
                })
            })
            .collect();
        spin(Duration::from_micros(random.below(400)));
        stage.kill("engine")?;
        for caller in callers? {
            caller.keep();
        }
        stage.restart("engine")
    })
}
