//! [`Forwarding`]: the client of a driver that crashes, which forwards frames through its shadow.

use coppice_bench_harness::CrashClient;
use coppice_runtime::time::tsc;

use crate::path::{Failure, FramePath};
use crate::tester::turn_back;

/// A path that forwards each frame. An answer is a frame through the next instance of the driver.
pub(crate) struct Forwarding<'a, T>(pub(crate) &'a mut T);

impl<T: FramePath> CrashClient for Forwarding<'_, T> {
    type Error = Failure;

    fn work_until(&mut self, end: u64) -> Result<u64, Failure> {
        let mut received = 0;
        while tsc() < end {
            received += self.0.forward(turn_back)?.received as u64;
        }
        Ok(received)
    }

    fn poll(&mut self) -> Result<Option<u64>, Failure> {
        let received = self.0.forward(turn_back)?.received;
        Ok((received > 0).then(tsc))
    }

    fn silence(&self) -> Failure {
        Failure::Silence
    }
}
