//! [`CrashTarget`]: a domain that an experiment kills, to measure the effect on its clients.

use alloc::vec::Vec;
use core::time::Duration;

use coppice_control::{Control, ControlError};
use coppice_interfaces::{Handle, RpcError, Text};
use coppice_runtime::thread::{Builder, Refused};
use coppice_runtime::time::{self, tsc};

/// The interval between crashes, and the measuring window of [`CrashTarget::losses`].
const WINDOW: Duration = Duration::from_secs(1);

/// The reason why the domain cannot be killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KillError {
    /// The call to the kernel failed.
    Rpc(RpcError),
    /// The kernel refused.
    Control(ControlError),
    /// There is no thread to do it.
    NoThread(Refused),
}

impl core::fmt::Display for KillError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Rpc(error) => error.fmt(f),
            Self::Control(error) => write!(f, "the domain cannot be killed: {error:?}"),
            Self::NoThread(refused) => write!(f, "the manifest allows too few threads: {refused}"),
        }
    }
}

/// A domain that can be killed at any time.
pub struct CrashTarget<'a> {
    /// The kernel's control interface.
    pub control: &'a Handle<dyn Control>,
    /// The name in the manifest.
    pub name: &'static str,
    /// Ticks of the time-stamp counter in a second.
    pub tsc_hz: u64,
}

impl CrashTarget<'_> {
    /// Converts ticks to nanoseconds.
    pub fn ns(&self, ticks: u64) -> f64 {
        ticks as f64 * 1e9 / self.tsc_hz as f64
    }

    /// Converts nanoseconds to ticks.
    pub fn ticks(&self, ns: u64) -> u64 {
        (ns as f64 * self.tsc_hz as f64 / 1e9) as u64
    }

    /// Kills the domain.
    ///
    /// # Errors
    /// [`KillError`] when the kernel refuses or cannot be called.
    pub fn kill(&self) -> Result<(), KillError> {
        kill(self.control, self.name)
    }

    /// Measures the throughput loss of one crash per second, in percent. Each of `pairs` pairs has a second
    /// with a crash in its middle and one without. `run` works until the counter passes its argument and
    /// returns the amount of work.
    ///
    /// # Errors
    /// [`KillError`], or the error of `run`.
    pub fn losses<E: From<KillError>>(
        &self,
        pairs: usize,
        mut run: impl FnMut(u64) -> Result<u64, E>,
    ) -> Result<Vec<f64>, E> {
        let mut losses = Vec::with_capacity(pairs);
        for pair in 0..pairs {
            let mut done = [0; 2];
            // The order alternates between pairs, so that a drift of the machine's speed affects both alike.
            for half in [pair % 2, 1 - pair % 2] {
                let (control, name) = (self.control.clone(), self.name);
                // The killer runs on another CPU if there is one, so that the kill can hit any point of a
                // call.
                let killer = Builder::new().affinity(1).priority(1).spawn(move || {
                    time::sleep(WINDOW / 2);
                    if half == 1
                        && let Err(error) = kill(&control, name)
                    {
                        log::error!("{error}");
                    }
                });
                let killer = killer.map_err(KillError::NoThread)?;
                done[half] = run(tsc() + self.ticks(WINDOW.as_nanos() as u64))?;
                killer.join();
            }
            let [healthy, crashed] = done.map(|count| count as f64);
            losses.push((1.0 - crashed / healthy.max(1.0)) * 100.0);
        }
        Ok(losses)
    }
}

fn kill(control: &Handle<dyn Control>, name: &'static str) -> Result<(), KillError> {
    control.kill(Text::new(name)).map_err(KillError::Rpc)?.map_err(KillError::Control)
}
