//! The cost of isolation.
//!
//! Each figure is the median and the 99th percentile over samples. A sample is the mean of a batch, which
//! spreads the counter's own cost. `call/dyn` is the baseline of the same run: the same trait and method
//! without a domain in between. Under an instruction-counting emulator the counter counts instructions, and
//! all samples are equal.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod blocks;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::hint::black_box;
use core::sync::atomic::{AtomicBool, Ordering};

use coppice_block::BlockDevice;
use coppice_control::Control;
use coppice_example_interfaces::{Echo, Factory, Message};
use coppice_experiment::{Budget, Samples, print_figure};
use coppice_interfaces::{Handle, Imports, RpcResult, Text};
use coppice_rref::{RRef, RRefDeque};
use coppice_runtime::thread::{self, Builder};
use coppice_runtime::{Domain, Environment, StartError};

/// The default of the option `seconds`: the time for all figures.
const DEFAULT_SECONDS: u32 = 30;
/// The number of figures.
const FIGURES: u32 = 18 + blocks::FIGURES;

/// The domain that runs the benchmark.
pub struct CrossingBench;

/// The domains and services that the manifest wires to the benchmark.
#[derive(Imports)]
pub struct Wires {
    control: Handle<dyn Control>,
    echo: Handle<dyn Echo>,
    watched: Handle<dyn Echo>,
    factory: Handle<dyn Factory>,
    relay: Handle<dyn Echo>,
    shadow: Handle<dyn Echo>,
    null_block: Handle<dyn BlockDevice>,
    shadow_block: Handle<dyn BlockDevice>,
}

impl Domain for CrossingBench {
    type Imports = Wires;
    type Export = ();

    fn start(_: &Environment<'_>, wires: Wires) -> Result<(), StartError> {
        // One thread on one CPU: the last one, since the first handles the console.
        let cpus = wires.control.cpu_count().unwrap_or(1);
        let bench = Builder::new().affinity(1 << (cpus - 1)).spawn(move || {
            let result = measure(&wires, cpus);
            if let Err(error) = &result {
                log::error!("{error}");
            }
            let _ = wires.control.shut_down(result.is_ok());
        });
        bench?;
        Ok(())
    }
}

/// The same service without a domain around it.
struct Local;

impl Echo for Local {
    fn ping(&self, number: u64) -> RpcResult<u64> {
        Ok(number)
    }
    fn echo(&self, message: RRef<Message>) -> RpcResult<RRef<Message>> {
        Ok(message)
    }
    fn sum(&self, message: &RRef<Message>) -> RpcResult<u64> {
        Ok(message.iter().map(|&byte| u64::from(byte)).sum())
    }
    fn reverse(&self, batch: RRef<RRefDeque<Message, 32>>) -> RpcResult<RRef<RRefDeque<Message, 32>>> {
        Ok(batch)
    }
    fn panic(&self, _: RRef<Message>, _: u32) -> RpcResult<()> {
        Ok(())
    }
}

fn measure(wires: &Wires, cpus: u32) -> RpcResult<()> {
    let report = |id: &str, samples: Samples| print_figure(&wires.control, samples.figure(id));
    let seconds = wires.control.option(Text::new("seconds"))?.and_then(|seconds| seconds.parse().ok());
    let budget = Budget::new(seconds.unwrap_or(DEFAULT_SECONDS), FIGURES);
    calls(wires, budget, &report)?;
    shadow(wires, budget, &report)?;
    shared_heap(cpus, budget, &report)?;
    blocks::measure(wires, budget, &report)?;
    threads(budget, &report)?;
    instances(wires, budget, &report)
}

fn calls(wires: &Wires, budget: Budget, report: &dyn Fn(&str, Samples) -> RpcResult<()>) -> RpcResult<()> {
    let local: Box<dyn Echo> = black_box(Box::new(Local));
    report("call/dyn", Samples::of_batches(budget, || ping(&*local)))?;
    report("crossing/null", Samples::of_batches(budget, || ping(&*wires.echo)))?;
    report("crossing/null_watched", Samples::of_batches(budget, || ping(&*wires.watched)))?;
    report("crossing/null_relayed", Samples::of_batches(budget, || ping(&*wires.relay)))?;

    let mut message = Some(Message::new_shared());
    report(
        "crossing/rref",
        Samples::of_batches(budget, || {
            message = message.take().and_then(|moved| wires.echo.echo(moved).ok())
        }),
    )?;
    let kept = Message::new_shared();
    report("crossing/borrow", Samples::of_batches(budget, || keep(wires.echo.sum(&kept))))?;
    let mut counter = Some(wires.factory.make(0)?);
    report(
        "crossing/interface_object",
        Samples::of_batches(budget, || {
            counter = counter.take().and_then(|moved| wires.factory.pass(moved).ok())
        }),
    )?;
    let counter = wires.factory.make(0)?;
    report("crossing/object_call", Samples::of_batches(budget, || keep(counter.next())))?;

    wires.control.set_tracing(true)?;
    report("crossing/null_traced", Samples::of_batches(budget, || ping(&*wires.echo)))?;
    wires.control.set_tracing(false)
}

/// Measures the same calls through a shadow that would hide a crash, to be compared with `crossing/null` and
/// `crossing/rref`.
fn shadow(wires: &Wires, budget: Budget, report: &dyn Fn(&str, Samples) -> RpcResult<()>) -> RpcResult<()> {
    report("shadow/null", Samples::of_batches(budget, || ping(&*wires.shadow)))?;
    let mut message = Some(Message::new_shared());
    report(
        "shadow/rref",
        Samples::of_batches(budget, || {
            message = message.take().and_then(|moved| wires.shadow.echo(moved).ok())
        }),
    )
}

#[inline(always)]
fn ping(echo: &dyn Echo) {
    keep(echo.ping(black_box(7)));
}

/// Makes the compiler treat a result as used.
#[inline(always)]
fn keep<T>(answer: T) {
    black_box(answer);
}

fn shared_heap(cpus: u32, budget: Budget, report: &dyn Fn(&str, Samples) -> RpcResult<()>) -> RpcResult<()> {
    let alloc_free = || drop(black_box(RRef::new(black_box([0_u64; 4]))));
    report("rref/alloc_free", Samples::of_batches(budget, alloc_free))?;
    if cpus > 1 {
        // Another CPU does the same during the measurement.
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let rival = Builder::new().affinity(1).spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                alloc_free();
            }
        });
        report("rref/alloc_free_contended", Samples::of_batches(budget, alloc_free))?;
        stop.store(true, Ordering::Relaxed);
        rival.expect("the manifest allows a second thread").join();
    }
    Ok(())
}

fn threads(budget: Budget, report: &dyn Fn(&str, Samples) -> RpcResult<()>) -> RpcResult<()> {
    let here = 1 << thread::cpu();
    let stop = Arc::new(AtomicBool::new(false));
    let seen = stop.clone();
    let partner = Builder::new().affinity(here).spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            thread::yield_now();
        }
    });
    // There and back are two switches.
    report("thread/switch", Samples::of_batches(budget, thread::yield_now).divided_by(2.0))?;
    stop.store(true, Ordering::Relaxed);
    partner.expect("the manifest allows a second thread").join();

    let spawn_exit = || {
        let thread = Builder::new().affinity(here).spawn(|| {});
        thread.expect("the manifest allows a second thread").join();
    };
    report("thread/spawn_exit", Samples::one_by_one(budget, 2000, spawn_exit))
}

fn instances(
    wires: &Wires,
    budget: Budget,
    report: &dyn Fn(&str, Samples) -> RpcResult<()>,
) -> RpcResult<()> {
    let echo = Text::new("echo");
    report(
        "domain/restart",
        Samples::one_by_one(budget, 500, || assert!(matches!(wires.control.restart(echo), Ok(Ok(()))))),
    )?;
    // `domain/restart`, and the wait of a client until the shadow has an answer of the new instance.
    report(
        "shadow/restart",
        Samples::one_by_one(budget, 500, || {
            assert!(matches!(wires.control.restart(echo), Ok(Ok(()))));
            assert!(wires.shadow.ping(7).is_ok());
        }),
    )?;
    report(
        "domain/load",
        Samples::one_by_one(budget, 200, || assert!(matches!(wires.control.reload(echo), Ok(Ok(()))))),
    )
}
