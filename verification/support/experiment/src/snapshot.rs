//! [`ResourceSnapshot`]: all resources in use that could leak.

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use coppice_control::{Control, ControlError, InUse};
use coppice_interfaces::{Handle, RpcError, Text};
use coppice_runtime::time;

/// Memory that is not allocated permanently, the kernel's own heap, shared objects, and threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResourceSnapshot {
    /// Free memory as in [`InUse`], plus the observer's own heap. A leak within the shared heap shows in its
    /// object count and in the kernel's audit.
    pub free_bytes: u64,
    /// Bytes of the kernel's own heap, as in [`InUse`].
    pub kernel_bytes: u64,
    /// Allocations that have these bytes.
    pub kernel_objects: u64,
    /// Root objects of all domains and of the kernel.
    pub shared_objects: u64,
    /// Bytes of these objects.
    pub shared_bytes: u64,
    /// Threads of all domains.
    pub threads: u32,
}

impl ResourceSnapshot {
    /// Returns the fields in which a later snapshot differs, as text.
    pub fn difference(self, after: Self) -> impl fmt::Display {
        Difference(self, after)
    }
}

struct Difference(ResourceSnapshot, ResourceSnapshot);

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(before, after) = self;
        let fields: [(&str, u64, u64); 6] = [
            ("free_bytes", before.free_bytes, after.free_bytes),
            ("kernel_bytes", before.kernel_bytes, after.kernel_bytes),
            ("kernel_objects", before.kernel_objects, after.kernel_objects),
            ("shared_objects", before.shared_objects, after.shared_objects),
            ("shared_bytes", before.shared_bytes, after.shared_bytes),
            ("threads", before.threads.into(), after.threads.into()),
        ];
        let mut separator = "";
        for (name, before, after) in fields.into_iter().filter(|(_, before, after)| before != after) {
            write!(f, "{separator}{name} {before} -> {after}")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// The reason why there is no snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotError {
    /// The call to the kernel failed.
    Rpc(RpcError),
    /// The kernel refused.
    Control(ControlError),
    /// The system was busy until the timeout.
    NeverIdle(InUse),
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rpc(error) => error.fmt(f),
            Self::Control(error) => write!(f, "the kernel refused: {error:?}"),
            Self::NeverIdle(InUse { leaving, kernel_work, busy, .. }) => write!(
                f,
                "after {TIMEOUT:?} threads and calls of ended domains: {leaving}, work of the kernel: {kernel_work}, busy \
                 threads: {busy}"
            ),
        }
    }
}

impl core::error::Error for SnapshotError {}

impl From<RpcError> for SnapshotError {
    fn from(error: RpcError) -> Self {
        Self::Rpc(error)
    }
}

impl From<ControlError> for SnapshotError {
    fn from(error: ControlError) -> Self {
        Self::Control(error)
    }
}

/// The timeout for ended instances to leave, on the busiest host.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The time of an idle system with a different snapshot that counts as a leak: longer than the longest period
/// of any timed work of the running threads.
const LEAK_AFTER: Duration = Duration::from_secs(10);

/// The polling interval.
const POLL_INTERVAL: Duration = Duration::from_micros(500);

impl ResourceSnapshot {
    /// Takes a snapshot together with the activity that may still change it. `observer` is the caller's
    /// domain; `context` holds the control.
    fn take<S>(context: &Arc<S>, observer: &str) -> Result<(Self, InUse), SnapshotError>
    where
        S: AsRef<Handle<dyn Control>>,
    {
        let control: &Handle<dyn Control> = (**context).as_ref();
        let own = control.find(Text::new(observer))??;
        let now = control.in_use()?;
        let snapshot = Self {
            free_bytes: now.free_bytes + own.heap_bytes,
            kernel_bytes: now.kernel_bytes,
            kernel_objects: now.kernel_objects,
            shared_objects: now.shared_objects,
            shared_bytes: now.shared_bytes,
            threads: now.threads,
        };
        Ok((snapshot, now))
    }

    /// Returns the snapshot of the idle system: the last thread of each ended instance has left, the kernel
    /// has no work, and all other threads are waiting. Threads with periodic work return to that state.
    ///
    /// # Errors
    /// [`SnapshotError`] when the system does not become idle or the kernel refuses.
    pub fn at_rest<S>(context: &Arc<S>, observer: &str) -> Result<Self, SnapshotError>
    where
        S: AsRef<Handle<dyn Control>>,
    {
        let deadline = time::now() + TIMEOUT;
        loop {
            let (snapshot, now) = Self::take(context, observer)?;
            if is_idle(&now) {
                return Ok(snapshot);
            }
            if time::now() > deadline {
                return Err(SnapshotError::NeverIdle(now));
            }
            time::sleep(POLL_INTERVAL);
        }
    }

    /// Waits until the snapshot equals `self`, since ended instances may still be leaving. Returns the latest
    /// snapshot if the system is idle and it still differs.
    ///
    /// # Errors
    /// [`SnapshotError`] when ended instances do not leave or the kernel refuses.
    pub fn wait_for_return<S>(
        self,
        context: &Arc<S>,
        observer: &str,
    ) -> Result<Result<(), Self>, SnapshotError>
    where
        S: AsRef<Handle<dyn Control>>,
    {
        let deadline = time::now() + TIMEOUT;
        let mut idle_since = None;
        loop {
            let (snapshot, now) = Self::take(context, observer)?;
            if snapshot == self && now.leaving == 0 && now.kernel_work == 0 {
                return Ok(Ok(()));
            }
            let time = time::now();
            // Other threads may stay busy. Their work is no reason to wait longer.
            if now.leaving > 0 || now.kernel_work > 0 {
                idle_since = None;
            } else if time - *idle_since.get_or_insert(time) > LEAK_AFTER {
                return Ok(Err(snapshot));
            }
            if time > deadline {
                return Err(SnapshotError::NeverIdle(now));
            }
            time::sleep(POLL_INTERVAL);
        }
    }
}

fn is_idle(now: &InUse) -> bool {
    now.leaving == 0 && now.kernel_work == 0 && now.busy == 0
}
