//! CPU shares: limits on the CPU time of a domain's threads, in windows of [`WINDOW_NS`].
//!
//! Time is counted by the thread's domain and not by the code it runs: a client cannot use up a server's
//! share by calling it, and spends its own instead. A window begins when a watch tick first finds a thread of
//! the domain running after the previous window has ended; domains that do not run are not examined.

use coppice_abi::{DomainId, SLOT_LIMIT};
use coppice_control::Resource;

use crate::domain::{self, Domain};
use crate::platform::machine::machine;
use crate::platform::sync::Lock;
use crate::policy::revoke;

/// The length of a window: long enough for a burst of work, short enough that other domains hardly notice
/// one.
pub(crate) const WINDOW_NS: u64 = 100_000_000;

/// The current window of a domain.
struct Window {
    instance: DomainId,
    began_ns: u64,
    /// The CPU time of its threads when the window began.
    used_before_ns: u64,
}

/// An instance whose threads have used more than their share.
#[derive(Clone, Copy)]
pub(crate) struct CpuExcess {
    pub(crate) instance: DomainId,
    used_ns: u64,
    allowed_ns: u64,
}

/// The current window of each slot's domain.
static WINDOWS: [Lock<Window>; SLOT_LIMIT] = [const { Lock::new(Window::new()) }; SLOT_LIMIT];

impl Window {
    const fn new() -> Self {
        Self { instance: DomainId::NONE, began_ns: 0, used_before_ns: 0 }
    }

    /// Returns the time that `instance` has used in this window; `total_ns` is its threads' time in all.
    /// Begins a new window if this one has ended.
    fn used(&mut self, instance: DomainId, now_ns: u64, total_ns: u64) -> u64 {
        if self.instance != instance || now_ns.saturating_sub(self.began_ns) >= WINDOW_NS {
            *self = Self { instance, began_ns: now_ns, used_before_ns: total_ns };
        }
        total_ns.saturating_sub(self.used_before_ns)
    }
}

/// Returns true if the quota of `domain` is less than the CPU time of this machine.
pub(crate) fn limits(domain: &Domain) -> bool {
    let all = 100 * machine().cpu_count() as u64;
    domain.manifest.cpu_percent.is_some_and(|percent| u64::from(percent) < all)
}

/// Checks whether `instance`, of which a thread runs and has been charged, is over its share.
pub(crate) fn check(instance: DomainId, now_ns: u64) -> Option<CpuExcess> {
    let domain = domain::get(instance.slot())?;
    let percent = domain.manifest.cpu_percent?;
    if !limits(domain) || domain.instance() != Some(instance) {
        return None;
    }
    // If the lock is held, another CPU is checking just now.
    let used_ns = WINDOWS[domain.slot].try_lock()?.used(instance, now_ns, domain.own_cpu_ns());
    let allowed_ns = WINDOW_NS * u64::from(percent) / 100;
    (used_ns > allowed_ns).then_some(CpuExcess { instance, used_ns, allowed_ns })
}

/// Requests a domain that is over its share to use less. It is ended if it does not.
pub(crate) fn demand_less(excess: CpuExcess) {
    let percent = |ns: u64| ns.saturating_mul(100).div_ceil(WINDOW_NS);
    revoke::request(excess.instance, Resource::Cpu, percent(excess.used_ns), percent(excess.allowed_ns));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_counts_from_its_begin_and_for_one_instance() {
        let (first, second) = (DomainId::new(2, 0), DomainId::new(2, 1));
        let mut window = Window::new();
        assert_eq!(window.used(first, 5, 1_000), 0, "earlier use does not count");
        assert_eq!(window.used(first, 5 + WINDOW_NS - 1, 1_700), 700);
        assert_eq!(window.used(first, 5 + WINDOW_NS, 1_800), 0, "a new window");
        assert_eq!(window.used(first, 6 + WINDOW_NS, 1_900), 100);
        assert_eq!(window.used(second, 7 + WINDOW_NS, 2_000), 0, "another instance");
    }
}
