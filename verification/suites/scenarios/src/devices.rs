//! Devices: a driver has access to its own device only, and its DMA ends with it.
//!
//! The device copies memory after a delay and cannot be told to stop: 100 ms on QEMU, 2 ms (`engine`) and 20
//! ms (`slow-engine`) on the hosted machine. So a kill finds DMA in flight. The kernel waits for the first
//! device; it resets the second where that is possible and cuts it off where it is not.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use coppice_example_interfaces::{Engine, Misuse};
use coppice_interfaces::{CrashKind, Handle};
use coppice_runtime::thread::Builder;
use coppice_runtime::time;

use crate::context::{Context, Failure, Outcome, ensure, ensure_eq, message, spawn_with_result, spin};

const IDENTIFICATION: u32 = 0x0100_00ed;

/// Returns a deadline in nanoseconds, `wait` from now.
fn after(wait: Duration) -> u64 {
    (time::now() + wait).as_nanos() as u64
}

fn both(context: &Context) -> [(&'static str, &Handle<dyn Engine>); 2] {
    [("edu-2ms", &context.edu_2ms), ("edu-20ms", &context.edu_20ms)]
}

pub(crate) fn a_driver_reads_and_writes_registers_of_its_device(context: &Arc<Context>) -> Outcome {
    ensure_eq!(context.edu_2ms.info()?.identification, IDENTIFICATION, "the device's identification");
    for number in [0, 1, 0x1234_5678, u32::MAX] {
        ensure_eq!(context.edu_2ms.invert(number)?, !number, "an inverted number");
    }
    Ok(())
}

pub(crate) fn two_drivers_own_separate_devices(context: &Arc<Context>) -> Outcome {
    let [one, other] = [context.edu_2ms.info()?, context.edu_20ms.info()?];
    ensure!(one.address != other.address, "both drive the device at {:#x}", one.address);
    context.on_threads(2, |context, number| {
        let (_, engine) = both(context)[number as usize];
        for round in 0..context.rounds(1000, 100) {
            let value = round * 2 + number;
            ensure_eq!(engine.invert(value)?, !value, "an inverted number");
        }
        Ok(())
    })
}

pub(crate) fn a_domain_without_devices_gets_none(context: &Arc<Context>) -> Outcome {
    ensure!(!context.has_device, "the scenarios were given a device that the manifest does not grant them");
    Ok(())
}

pub(crate) fn a_device_copies_memory_both_ways(context: &Arc<Context>) -> Outcome {
    for (name, engine) in both(context) {
        let copied = engine.copy(message(b"through the device and back"))?;
        ensure!(&copied[..] == b"through the device and back", "{name} returned {copied:?}");
    }
    Ok(())
}

pub(crate) fn an_interrupt_wakes_its_waiting_thread(context: &Arc<Context>) -> Outcome {
    ensure_eq!(context.edu_2ms.factorial(10)?, Some(3_628_800), "a factorial");
    for round in 1..=context.rounds(50, 10) {
        let waiter = context.clone();
        let waiting =
            spawn_with_result(Builder::new(), move || waiter.edu_2ms.wait(after(Duration::from_secs(5))))?;
        if round % 2 == 0 {
            time::sleep(Duration::from_millis(2));
        }
        context.edu_2ms.raise(round << 8)?;
        ensure_eq!(waiting.join()?, Some(round << 8), "the cause of the interrupt");
    }
    Ok(())
}

pub(crate) fn a_wait_for_an_interrupt_ends_at_its_deadline(context: &Arc<Context>) -> Outcome {
    let deadline = after(Duration::from_millis(5));
    ensure_eq!(context.edu_2ms.wait(deadline)?, None, "a spurious interrupt");
    ensure!(after(Duration::ZERO) >= deadline, "the wait ended early");
    Ok(())
}

pub(crate) fn interrupts_without_a_waiter_are_harmless(context: &Arc<Context>) -> Outcome {
    for cause in 1..context.rounds(10_000, 1000) {
        context.edu_2ms.raise(cause)?;
    }
    ensure!(context.edu_2ms.wait(after(Duration::from_secs(5)))?.is_some(), "no interrupt was counted");
    // One wait takes all interrupts that have arrived.
    context.eventually("no further interrupt comes", || {
        Ok(context.edu_2ms.wait(after(Duration::from_millis(2)))?.is_none())
    })
}

pub(crate) fn a_wait_for_an_interrupt_ends_with_its_domain(context: &Arc<Context>) -> Outcome {
    for _ in 0..context.rounds(20, 5) {
        let waiter = context.clone();
        let waiting = spawn_with_result(Builder::new(), move || waiter.edu_2ms.wait(u64::MAX))?;
        time::sleep(Duration::from_millis(1));
        context.kill("edu-2ms")?;
        let error = waiting.join().err().map(|error| error.kind());
        ensure!(
            matches!(error, Some(CrashKind::Killed | CrashKind::NotRunning)),
            "the waiting caller's error is {error:?}"
        );
        context.restart("edu-2ms")?;
    }
    ensure_eq!(context.edu_2ms.factorial(5)?, Some(120), "a factorial");
    Ok(())
}

pub(crate) fn device_accesses_beyond_the_grant_are_refused(context: &Arc<Context>) -> Outcome {
    for how in [
        Misuse::OtherDevice,
        Misuse::SameDevice,
        Misuse::OtherBar,
        Misuse::OtherVector,
        Misuse::BadStep,
        Misuse::LongOrder,
        Misuse::TooMuchMemory,
    ] {
        ensure!(context.edu_2ms.misuse(how)?, "{how:?} was not refused");
    }
    ensure_eq!(context.edu_2ms.invert(1)?, !1, "the device's next answer");
    Ok(())
}

pub(crate) fn an_access_outside_registers_or_memory_ends_only_the_driver(context: &Arc<Context>) -> Outcome {
    for how in [Misuse::OtherRegister, Misuse::OddRegister, Misuse::BehindMemory] {
        let error = context.edu_2ms.misuse(how).err().map(|error| error.kind());
        ensure_eq!(error, Some(CrashKind::Panic), "the caller's error");
        ensure_eq!(context.edu_20ms.invert(1)?, !1, "the other driver's device");
        context.restart("edu-2ms")?;
    }
    Ok(())
}

pub(crate) fn dma_memory_that_a_driver_drops_is_reused(context: &Arc<Context>) -> Outcome {
    // This is sixteen times the quota.
    let last = context.edu_2ms.take_and_drop(2048, 4)?;
    ensure!(last.is_some(), "memory for DMA was used up by dropping it");
    ensure_eq!(context.edu_2ms.take_and_drop(1, 3)?, last, "the address of a smaller allocation");
    let info = context.info("edu-2ms")?;
    ensure!(
        info.heap_bytes <= info.heap_quota,
        "{} bytes are charged, of {}",
        info.heap_bytes,
        info.heap_quota
    );
    context.restart("edu-2ms")
}

pub(crate) fn dma_memory_is_charged_and_audited(context: &Arc<Context>) -> Outcome {
    let dma_frames = || -> Outcome<u64> {
        let summary = context.control.audit()?;
        for number in 0..summary.lines {
            if let Some(line) = context.control.audit_line(number)?
                && &*line.owner == "edu-2ms"
                && &*line.what == "DMA memory"
            {
                return Ok(line.frames);
            }
        }
        Ok(0)
    };
    let (before, charged) = (dma_frames()?, context.info("edu-2ms")?.heap_bytes);
    ensure!(before > 0, "the audit shows no DMA memory of the engine");
    ensure!(context.edu_2ms.take_and_drop(1, 16)?.is_some(), "16 pages were refused");
    ensure_eq!(dma_frames()?, before + 16, "frames for DMA");
    // The driver's allocator may grow by a step of its own.
    ensure!(context.info("edu-2ms")?.heap_bytes >= charged + 16 * 4096, "16 pages were not charged");
    context.kill("edu-2ms")?;
    ensure_eq!(dma_frames()?, 0, "frames for DMA of a dead domain");
    context.restart("edu-2ms")
}

pub(crate) fn a_kill_during_dma_corrupts_no_memory(context: &Arc<Context>) -> Outcome {
    let mut random = context.random(0);
    for round in 0..context.rounds(40, 3) {
        for (name, engine) in both(context) {
            ensure!(engine.fill(0xc3)?, "{name} was not filled");
            let before = engine.info()?;
            ensure!(engine.begin()?, "{name} does not copy");
            if round % 2 == 1 {
                time::sleep(Duration::from_micros(random.below(3_000)));
            }
            context.kill(name)?;
            // The next instance takes the same memory at once and watches it.
            context.restart(name)?;
            time::sleep(if context.is_bare() {
                Duration::from_millis(150)
            } else {
                Duration::from_millis(30)
            });
            let now = engine.info()?;
            ensure_eq!(now.address, before.address, "the address of the device in the next instance");
            ensure!(
                !engine.is_overwritten()?,
                "{name} of round {round} has written to memory of the next instance"
            );
        }
    }
    Ok(())
}

pub(crate) fn a_restarted_driver_gets_a_usable_device(context: &Arc<Context>) -> Outcome {
    for (name, engine) in both(context) {
        for _ in 0..context.rounds(10, 2) {
            ensure!(engine.begin()?, "{name} does not copy");
            context.kill(name)?;
            context.restart(name)?;
            let copied = engine.copy(message(b"in the next instance"))?;
            ensure!(&copied[..] == b"in the next instance", "{name} returned {copied:?}");
        }
    }
    Ok(())
}

pub(crate) fn an_interrupt_of_an_earlier_instance_is_dropped(context: &Arc<Context>) -> Outcome {
    for _ in 0..context.rounds(20, 5) {
        context.edu_2ms.raise(1)?;
        context.kill("edu-2ms")?;
        context.restart("edu-2ms")?;
        ensure_eq!(
            context.edu_2ms.wait(after(Duration::from_millis(3)))?,
            None,
            "an interrupt of the previous instance"
        );
        // The wait of the other driver reports only interrupts of its own device.
        ensure_eq!(context.edu_20ms.wait(after(Duration::ZERO))?, None, "an interrupt of another device");
    }
    Ok(())
}

pub(crate) fn kills_during_dma_leak_nothing(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(1000, 15), |round| {
        ensure!(context.edu_2ms.begin()?, "the engine does not copy");
        context.edu_2ms.raise(round)?;
        let waiter = context.clone();
        let waiting = spawn_with_result(Builder::new(), move || waiter.edu_2ms.wait(u64::MAX).map(drop))?;
        context.kill("edu-2ms")?;
        let _ = waiting.join();
        context.restart("edu-2ms")
    })
}

pub(crate) fn the_trace_shows_how_a_device_was_quiesced(context: &Arc<Context>) -> Outcome {
    /// The values that the kernel's trace uses.
    const STOPPED: u64 = 0;
    const RESET: u64 = 1;
    const CUT_OFF: u64 = 2;

    let rest_of = |name: &str| -> Outcome<u64> {
        while context.control.next_trace()?.is_some() {}
        context.control.set_tracing(true)?;
        context.kill(name)?;
        context.control.set_tracing(false)?;
        context.restart(name)?;
        while let Some(record) = context.control.next_trace()? {
            if &*record.kind == "quiesce" {
                return Ok(record.detail & 0xff);
            }
        }
        Err(Failure(format!("the trace has no event of {name}'s device")))
    };
    ensure_eq!(rest_of("edu-20ms")?, STOPPED, "the way an idle device was quiesced");
    ensure!(context.edu_20ms.begin()?, "the engine does not copy");
    // The copy lasts longer than the kernel waits after a stop order. QEMU's device cannot be reset, the
    // model can, and the bare machine may have either.
    let rest = rest_of("edu-20ms")?;
    let is_expected = rest == RESET || context.is_bare() && rest == CUT_OFF;
    ensure!(is_expected, "a busy device was quiesced in way {rest}");
    Ok(())
}

pub(crate) fn a_kill_at_any_instant_of_a_device_service_leaks_nothing(context: &Arc<Context>) -> Outcome {
    let mut random = context.random(1);
    context.leaks_nothing(context.rounds(400, 20), |_| {
        let callers: Result<Vec<_>, _> = (0..2)
            .map(|number: u32| {
                let context = context.clone();
                spawn_with_result(Builder::new().affinity(1 << (number % context.cpus)), move || {
                    let engine = &context.edu_2ms;
                    // Until the driver is dead.
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
        context.kill("edu-2ms")?;
        for caller in callers? {
            caller.join();
        }
        context.restart("edu-2ms")
    })
}
