//! [`CrashTarget`]: a domain that a benchmark kills, to measure the effect on its clients.

use alloc::vec::Vec;
use core::time::Duration;

use coppice_control::{Control, ControlError};
use coppice_interfaces::{Handle, RpcError, Text};
use coppice_runtime::thread::{Builder, Refused};
use coppice_runtime::time::{self, tsc};

/// The interval between crashes, and the measuring window of [`CrashTarget::losses`].
const WINDOW: Duration = Duration::from_secs(1);

/// The time for which the domain works between two crashes of [`CrashTarget::outages`].
const HEALTHY_NS: u64 = 3_000_000;

/// The limit for the wait for the first answer after a crash.
const TIMEOUT_NS: u64 = 5_000_000_000;

/// A client of the domain, behind its shadow.
pub trait CrashClient {
    /// The error of its work.
    type Error: From<KillError>;

    /// Works until the time-stamp counter passes `end`, and returns the amount of work.
    ///
    /// # Errors
    /// The client's error, which ends the measurement.
    fn work_until(&mut self, end: u64) -> Result<u64, Self::Error>;

    /// Has as much work in flight as possible when it returns. A crash follows.
    ///
    /// # Errors
    /// As [`Self::work_until`].
    fn fill(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Works once, and returns the time of an answer if there is one.
    ///
    /// # Errors
    /// As [`Self::work_until`].
    fn poll(&mut self) -> Result<Option<u64>, Self::Error>;

    /// The error for a missing answer after a crash.
    fn silence(&self) -> Self::Error;
}

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

    /// Kills the domain `count` times under load. Returns the nanoseconds from each kill to the first answer,
    /// which include the kernel's own work for the kill.
    ///
    /// # Errors
    /// [`KillError`], or the error of the client.
    pub fn outages<C: CrashClient>(&self, count: usize, client: &mut C) -> Result<Vec<f64>, C::Error> {
        let mut outages = Vec::with_capacity(count);
        for _ in 0..count {
            client.work_until(tsc() + self.ticks(HEALTHY_NS))?;
            client.fill()?;
            let start = tsc();
            self.kill()?;
            let late = start + self.ticks(TIMEOUT_NS);
            let end = loop {
                if let Some(now) = client.poll()? {
                    break now;
                }
                if tsc() > late {
                    return Err(client.silence());
                }
            };
            outages.push(self.ns(end - start));
        }
        Ok(outages)
    }

    /// Measures the throughput loss of one crash per second, in percent. Each of `pairs` pairs has a second
    /// with a crash in its middle and one without.
    ///
    /// # Errors
    /// [`KillError`], or the error of the client.
    pub fn losses<C: CrashClient>(&self, pairs: usize, client: &mut C) -> Result<Vec<f64>, C::Error> {
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
                done[half] = client.work_until(tsc() + self.ticks(WINDOW.as_nanos() as u64))?;
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
