//! [`Victim`]: a domain that is ended while somebody uses what it offers, to see what that costs them.

use alloc::vec::Vec;
use core::time::Duration;

use coppice_control::{Control, ControlError};
use coppice_interfaces::{Handle, RpcError, Text};
use coppice_runtime::thread::{Builder, Refused};
use coppice_runtime::time::{self, tsc};

/// One crash in so long: the windows that [`Victim::losses`] compares.
const WINDOW: Duration = Duration::from_secs(1);

/// Why it cannot be ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spared {
    /// The kernel did not answer.
    Rpc(RpcError),
    /// It refused.
    Control(ControlError),
    /// There is no thread to do it.
    NoThread(Refused),
}

impl core::fmt::Display for Spared {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Rpc(error) => error.fmt(f),
            Self::Control(error) => write!(f, "the domain cannot be ended: {error:?}"),
            Self::NoThread(refused) => write!(f, "the manifest allows too few threads: {refused}"),
        }
    }
}

/// A domain that can be ended at any time.
pub struct Victim<'a> {
    /// What ends it.
    pub control: &'a Handle<dyn Control>,
    /// Its name in the manifest.
    pub name: &'static str,
    /// Ticks of the time-stamp counter in a second.
    pub tsc_hz: u64,
}

impl Victim<'_> {
    /// Ticks in nanoseconds.
    pub fn ns(&self, ticks: u64) -> f64 {
        ticks as f64 * 1e9 / self.tsc_hz as f64
    }

    /// Nanoseconds in ticks.
    pub fn ticks(&self, ns: u64) -> u64 {
        (ns as f64 * self.tsc_hz as f64 / 1e9) as u64
    }

    /// Ends it.
    ///
    /// # Errors
    /// [`Spared`].
    pub fn kill(&self) -> Result<(), Spared> {
        kill(self.control, self.name)
    }

    /// What one crash in a second takes away: for each of `pairs` seconds with a crash in their middle and as many without, in
    /// turn, by how many percent less was done. `run` works until the counter passes what it is given, and answers how much it
    /// did.
    ///
    /// # Errors
    /// [`Spared`], or what `run` says.
    pub fn losses<E: From<Spared>>(
        &self,
        pairs: usize,
        mut run: impl FnMut(u64) -> Result<u64, E>,
    ) -> Result<Vec<f64>, E> {
        let mut losses = Vec::with_capacity(pairs);
        for pair in 0..pairs {
            let mut done = [0; 2];
            // What is first in one pair is last in the next: a machine that gets slower or faster is not blamed on either.
            for half in [pair % 2, 1 - pair % 2] {
                let (control, name) = (self.control.clone(), self.name);
                // On another CPU if there is one, and in any case at any point of a call.
                let killer = Builder::new().affinity(1).priority(1).spawn(move || {
                    time::sleep(WINDOW / 2);
                    if half == 1
                        && let Err(error) = kill(&control, name)
                    {
                        log::error!("{error}");
                    }
                });
                let killer = killer.map_err(Spared::NoThread)?;
                done[half] = run(tsc() + self.ticks(WINDOW.as_nanos() as u64))?;
                killer.join();
            }
            let [healthy, crashed] = done.map(|count| count as f64);
            losses.push((1.0 - crashed / healthy.max(1.0)) * 100.0);
        }
        Ok(losses)
    }
}

fn kill(control: &Handle<dyn Control>, name: &'static str) -> Result<(), Spared> {
    control.kill(Text::new(name)).map_err(Spared::Rpc)?.map_err(Spared::Control)
}
