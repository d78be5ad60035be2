//! [`Bench`]: a running benchmark.

use alloc::vec::Vec;
use core::fmt::Display;
use core::ops::Deref;

use coppice_control::{Control, Latency, LatencyKind};
use coppice_interfaces::{Handle, RpcError, RpcResult, Text};
use coppice_run_protocol::bench::{Figure, Line};
use coppice_runtime::StartError;
use coppice_runtime::thread::Builder;

use crate::crash_target::CrashTarget;
use crate::options::Options;
use crate::samples::{self, Samples};

/// A running benchmark: its options, to which it dereferences, and its report.
pub struct Bench {
    control: Handle<dyn Control>,
    options: Options,
    cpus: u32,
    tsc_hz: u64,
}

impl Deref for Bench {
    type Target = Options;

    fn deref(&self) -> &Options {
        &self.options
    }
}

impl Bench {
    /// The number of CPUs.
    pub fn cpus(&self) -> u32 {
        self.cpus
    }

    /// Ticks of the time-stamp counter in a second.
    pub fn tsc_hz(&self) -> u64 {
        self.tsc_hz
    }

    /// The domain called `name`, for crashes under load.
    pub fn crash_target(&self, name: &'static str) -> CrashTarget<'_> {
        CrashTarget { control: &self.control, name, tsc_hz: self.tsc_hz }
    }

    /// Reports a figure in cycles.
    ///
    /// # Errors
    /// [`RpcError`] when the call to the kernel fails.
    pub fn report(&self, id: &str, samples: &Samples) -> RpcResult<()> {
        self.print(samples.figure(id))
    }

    /// Reports a figure in another unit.
    ///
    /// # Errors
    /// [`RpcError`] when the call to the kernel fails.
    pub fn report_values(&self, id: &str, unit: &str, values: Vec<f64>) -> RpcResult<()> {
        self.print(samples::figure(id, unit, values))
    }

    /// Reports the times for which CPUs have not reacted since the boot.
    ///
    /// # Errors
    /// [`RpcError`] when the call to the kernel fails.
    pub fn report_latencies(&self) -> RpcResult<()> {
        for cpu in 0..self.control.cpu_count()? {
            for kind in LatencyKind::ALL {
                if let Some(latency) = self.control.latency(cpu, kind)? {
                    self.print(samples::latency(cpu, kind, &latency))?;
                    let Latency { longest_ns, place, .. } = latency;
                    log::info!("CPU {cpu}, {}: the longest of {longest_ns} ns began at {place}", kind.name());
                }
            }
        }
        Ok(())
    }

    /// Prints a figure, as `cargo xtask bench` collects it.
    ///
    /// # Errors
    /// [`RpcError`] when the call to the kernel fails.
    pub fn print(&self, figure: Figure) -> RpcResult<()> {
        self.control.print(Text::format(format_args!("{}", Line::from(figure))))
    }
}

/// Runs `measure` on a thread of its own, logs its error, and shuts the system down, successfully if it
/// succeeded. `default_seconds` is the time limit for all figures together if no option sets one.
///
/// # Errors
/// [`StartError`] when the manifest allows no thread or the kernel cannot be called.
pub fn start<E: Display + From<RpcError>>(
    control: &Handle<dyn Control>,
    default_seconds: u32,
    measure: impl FnOnce(&Bench) -> Result<(), E> + Send + 'static,
) -> Result<(), StartError> {
    let control = control.clone();
    // One thread on one CPU: the last one, since the first handles the console.
    let cpus = control.cpu_count()?;
    Builder::new().affinity(1 << (cpus - 1)).spawn(move || {
        let result = run(&control, cpus, default_seconds, measure);
        if let Err(error) = &result {
            log::error!("{error}");
        }
        // The call fails only when this domain is being killed, so the error has no reader.
        let _ = control.shut_down(result.is_ok());
    })?;
    Ok(())
}

fn run<E: From<RpcError>>(
    control: &Handle<dyn Control>,
    cpus: u32,
    default_seconds: u32,
    measure: impl FnOnce(&Bench) -> Result<(), E>,
) -> Result<(), E> {
    let options = Options::read(control, default_seconds)?;
    measure(&Bench { control: control.clone(), options, cpus, tsc_hz: control.tsc_hz()? })
}
