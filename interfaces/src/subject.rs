//! [`Subject`]: a domain that does to itself what an experiment asks for.

use coppice_interface_macros::interface;
use coppice_rref::{Lent, RRef};

use crate::{Control, Counter, Fault, Handle, Message, RpcError, RpcResult};

/// Gets into all kinds of situations in which a domain can be when it is ended.
#[interface]
pub trait Subject {
    /// Goes wrong in that way. Comes back, if at all, only when the fault could not be raised here.
    fn fail(&self, fault: Fault) -> RpcResult<()>;
    /// A counter that ends the subject with a panic when it is dropped.
    fn set_trap(&self) -> RpcResult<Handle<dyn Counter>>;
    /// As [`Self::fail`], but writes the time-stamp counter to `clock` right before. What is lent survives the borrower, so
    /// the lender learns when it happened.
    fn fail_by_the_clock(&self, fault: Fault, clock: Lent<u64>) -> RpcResult<()>;
    /// How often this was called in the domain's present instance; counted in a static.
    fn count(&self) -> RpcResult<u64>;
    /// Writes and reads back `bytes` of private heap, in one piece, and keeps them if `keep`. Answers whether it read what
    /// it wrote.
    fn fill_heap(&self, bytes: u64, keep: bool) -> RpcResult<bool>;
    /// Keeps `count` messages on the shared heap.
    fn own(&self, count: u32) -> RpcResult<()>;
    /// Keeps somebody else's counter.
    fn adopt(&self, counter: Handle<dyn Counter>) -> RpcResult<()>;
    /// Starts threads that sleep until the domain ends, as many as it is allowed but at most `count`; answers how many.
    fn spawn(&self, count: u32) -> RpcResult<u32>;
    /// Computes for `milliseconds`, without ever calling anybody.
    fn spin(&self, milliseconds: u32) -> RpcResult<()>;
    /// Lends `count` messages to its keeper and keeps the claims. Answers what the keeper's answers were.
    fn lend(&self, count: u32) -> RpcResult<Result<(), RpcError>>;
    /// Has a thread of its own call [`crate::Keeper::read_late`] with a message that it owns.
    fn read_late(&self) -> RpcResult<()>;
    /// Has a thread of its own call a slow counter of the keeper's to which it has the only handle.
    fn count_slowly(&self) -> RpcResult<()>;
    /// Has a thread of its own call [`crate::Keeper::stay_locked`].
    fn stay_locked(&self) -> RpcResult<()>;
    /// A counter that ends the subject when it is asked.
    fn deadly_counter(&self) -> RpcResult<Handle<dyn Counter>>;
    /// Makes its echo panic, and answers what it heard of that.
    fn provoke(&self) -> RpcResult<Option<RpcError>>;
    /// Has `threads` threads of its own ask the kernel for everything that there is to ask for, again and again, until the
    /// domain ends.
    fn labour(&self, threads: u32) -> RpcResult<()>;
    /// Calls itself `depth` times without asking the kernel for anything; answers how deep it came.
    fn dive(&self, depth: u32) -> RpcResult<u32>;
    /// Calls its echo from ever deeper down until that fails, and answers why it did.
    fn call_from_the_deep(&self) -> RpcResult<RpcError>;
    /// Has a thread of its own panic.
    fn panic_in_thread(&self) -> RpcResult<()>;
    /// Lets `microseconds` pass, asleep or computing, and gives the message back.
    fn linger(&self, message: RRef<Message>, microseconds: u32, asleep: bool) -> RpcResult<RRef<Message>>;
    /// Has `threads` threads of its own compute until the domain ends.
    fn compute(&self, threads: u32) -> RpcResult<()>;
    /// A counter that takes the subject's lock for each number.
    fn locked_counter(&self) -> RpcResult<Handle<dyn Counter>>;
    /// Takes that lock, waits a little, and asks `counter` for a number. Answers what it heard.
    fn count_locked(&self, counter: Handle<dyn Counter>) -> RpcResult<Result<u64, RpcError>>;
    /// A counter that gives a number only while `callers` calls of it are inside: those before wait for the last.
    fn meeting(&self, callers: u32) -> RpcResult<Handle<dyn Counter>>;
    /// Has a thread of its own take that lock, call `meeting`, and then call `counter` with the lock held. Returns a counter
    /// that takes the same lock.
    fn hold_and_count(
        &self,
        counter: Handle<dyn Counter>,
        meeting: Handle<dyn Counter>,
    ) -> RpcResult<Handle<dyn Counter>>;
    /// The error of the latest such call of `counter`, once there is one.
    fn held_error(&self) -> RpcResult<Option<RpcError>>;
    /// A counter whose destructor does not come back.
    fn sticky_counter(&self) -> RpcResult<Handle<dyn Counter>>;
    /// Waits for a typed line, in a thread of its own if `in_thread`.
    fn read_line(&self, control: Handle<dyn Control>, in_thread: bool) -> RpcResult<()>;
    /// Logs a record of each level that ends in `word`.
    fn log(&self, word: crate::Text<32>) -> RpcResult<()>;
}
