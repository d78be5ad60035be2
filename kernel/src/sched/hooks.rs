//! The functions of higher storeys that scheduling calls, set once at boot.

use coppice_abi::crossing::Continuation;
use spin::Once;

use crate::platform::sync;

/// Stored in every new thread, or called on the way out of a dead domain: never during a switch.
pub(crate) struct Hooks {
    /// Runs at the end of an outermost section in which a checkpoint was requested
    /// ([`coppice_abi::crossing::ThreadControl::checkpoint`]).
    pub(crate) checkpoint: extern "C" fn(),
    /// Handles the requests for a checkpoint in the middle of an outermost section.
    pub(crate) pause: fn(),
    /// Continues after a call whose caller died ([`coppice_abi::crossing::ThreadControl::abandon`]).
    pub(crate) abandon: unsafe extern "C" fn(*mut Continuation) -> !,
    /// Leaves the dead domain that the running thread is in. In the outermost section, owning nothing.
    pub(crate) unwind: fn() -> !,
}

static HOOKS: Once<Hooks> = Once::new();

/// Sets the hooks, before the first thread is made.
pub(crate) fn install(hooks: Hooks) {
    HOOKS.call_once(|| hooks);
}

/// Lets other threads run if a checkpoint was requested, as at the end of the section, except that a thread
/// whose domain has been ended continues here. In the outermost section, holding no lock. Other CPUs may stop
/// the world during the pause, and the thread may continue on another CPU.
pub(crate) fn pause() {
    if sync::is_checkpoint_requested() {
        (hooks().pause)();
    }
}

pub(super) fn hooks() -> &'static Hooks {
    HOOKS.get().expect("boot installs the hooks before it makes a thread")
}
