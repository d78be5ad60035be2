//! [`FaultTarget`]: a domain that gets into the state that a test asks for.

use coppice_control::Control;
use coppice_example_interfaces::{Counter, Message};
use coppice_interfaces::{Handle, RpcError, RpcResult, Text, interface};
use coppice_rref::{Lent, RRef};

use crate::Fault;

/// Brings itself into every state in which a domain may be when it is ended.
#[interface]
pub trait FaultTarget {
    /// Raises `fault`. Returns only if the fault cannot be raised on this machine.
    fn fail(&self, fault: Fault) -> RpcResult<()>;
    /// Returns a counter whose destructor panics.
    fn counter_panicking_on_drop(&self) -> RpcResult<Handle<dyn Counter>>;
    /// As [`Self::fail`], but writes the time-stamp counter to `clock` right before. A lent object survives
    /// the borrower, so the lender learns the time of the fault.
    fn fail_with_timestamp(&self, fault: Fault, clock: Lent<u64>) -> RpcResult<()>;
    /// Returns the number of calls of this method in the domain's current instance, counted in a static.
    fn count(&self) -> RpcResult<u64>;
    /// Writes and reads back `bytes` of private heap, in one allocation, and keeps them if `keep`. Returns
    /// true if it read back the same bytes.
    fn fill_heap(&self, bytes: u64, keep: bool) -> RpcResult<bool>;
    /// Keeps `count` messages on the shared heap.
    fn own(&self, count: u32) -> RpcResult<()>;
    /// Keeps another domain's counter.
    fn adopt(&self, counter: Handle<dyn Counter>) -> RpcResult<()>;
    /// Starts threads that sleep until the domain ends, up to its quota and up to `count`. Returns the number
    /// started.
    fn spawn(&self, count: u32) -> RpcResult<u32>;
    /// Computes for `milliseconds` without a call to the kernel.
    fn spin(&self, milliseconds: u32) -> RpcResult<()>;
    /// Lends `count` messages to its holder and keeps the loans. Returns the results of the holder's calls.
    fn lend(&self, count: u32) -> RpcResult<Result<(), RpcError>>;
    /// Calls [`crate::Holder::read_late`] on a thread of its own, with a message that it owns.
    fn read_late(&self) -> RpcResult<()>;
    /// Calls [`crate::Holder::read_late`] on threads of its own as [`Self::read_late`] does, up to its quota
    /// and up to `threads`. Returns the number of threads started.
    fn read_late_on(&self, threads: u32) -> RpcResult<u32>;
    /// Calls a slow counter of the holder on a thread of its own, through the only handle to it.
    fn call_slow_counter(&self) -> RpcResult<()>;
    /// Calls [`crate::Holder::hold_lock`] on a thread of its own.
    fn hold_lock(&self) -> RpcResult<()>;
    /// Returns a counter that panics when it is called.
    fn panicking_counter(&self) -> RpcResult<Handle<dyn Counter>>;
    /// Makes its echo panic. Returns the error of that call.
    fn crash_echo(&self) -> RpcResult<Option<RpcError>>;
    /// Calls every service of the kernel again and again on `threads` threads of its own, until the domain
    /// ends.
    fn stress_services(&self, threads: u32) -> RpcResult<()>;
    /// Calls itself `depth` times without a call to the kernel. Returns the depth that it reached.
    fn recurse(&self, depth: u32) -> RpcResult<u32>;
    /// Calls its echo with less and less stack left until the call fails. Returns the error.
    fn call_at_stack_limit(&self) -> RpcResult<RpcError>;
    /// Panics on a thread of its own.
    fn panic_in_thread(&self) -> RpcResult<()>;
    /// Returns the message after `microseconds`, which it spends asleep or computing.
    fn delay(&self, message: RRef<Message>, microseconds: u32, asleep: bool) -> RpcResult<RRef<Message>>;
    /// Computes on `threads` threads of its own until the domain ends.
    fn compute(&self, threads: u32) -> RpcResult<()>;
    /// Returns a counter that takes this domain's lock for each number.
    fn locked_counter(&self) -> RpcResult<Handle<dyn Counter>>;
    /// Takes that lock, waits a little, and calls `counter`. Returns the result of that call.
    fn count_locked(&self, counter: Handle<dyn Counter>) -> RpcResult<Result<u64, RpcError>>;
    /// Returns a counter whose calls return only when `callers` of them are inside: earlier ones wait for the
    /// last.
    fn meeting(&self, callers: u32) -> RpcResult<Handle<dyn Counter>>;
    /// Makes a thread of this domain take the lock, call `meeting`, and then call `counter` with the lock
    /// held. Returns a counter that takes the same lock.
    fn hold_and_count(
        &self,
        counter: Handle<dyn Counter>,
        meeting: Handle<dyn Counter>,
    ) -> RpcResult<Handle<dyn Counter>>;
    /// Returns the error of the latest such call of `counter`, once there is one.
    fn held_error(&self) -> RpcResult<Option<RpcError>>;
    /// Returns a counter whose destructor does not return.
    fn counter_hanging_on_drop(&self) -> RpcResult<Handle<dyn Counter>>;
    /// Waits for a line of console input, on a thread of its own if `in_thread`.
    fn read_line(&self, control: Handle<dyn Control>, in_thread: bool) -> RpcResult<()>;
    /// Writes a log record of each level that ends in `word`.
    fn log(&self, word: Text<32>) -> RpcResult<()>;
    /// Writes log records without end, on a thread of its own.
    fn flood_log(&self) -> RpcResult<()>;
    /// Spawns a thread on each of the CPUs in `affinity`, with the highest priority, that computes for
    /// `milliseconds`. Returns the number of threads.
    fn spin_on(&self, affinity: u64, milliseconds: u32) -> RpcResult<u32>;
}
