//! [`Control`]: the kernel's own interface, for a domain that the manifest trusts to look after the others.

use core::fmt;

use coppice_interface_macros::interface;
use coppice_rref::{Flat, Shareable};

use crate::{DomainId, RpcResult, Text};

/// What a domain is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum DomainState {
    /// Not loaded, or its image was refused.
    Absent,
    /// Its entry function has not returned yet.
    Starting,
    /// Calls reach it.
    Running,
    /// It ended and what it had is taken back.
    Dead,
}

/// One domain, as accounting sees it.
#[derive(Clone, Copy, Debug, Shareable, Flat)]
pub struct DomainInfo {
    /// The manifest's name.
    pub name: Text<32>,
    /// Its present instance, or its last one.
    pub id: DomainId,
    /// What it is doing.
    pub state: DomainState,
    /// What is planned for it.
    pub prospect: Prospect,
    /// Who answers for it: a domain, or `kernel`.
    pub parent: Text<32>,
    /// Crossings into it, over all lives.
    pub calls: u64,
    /// CPU time in its code, over all lives; measured when a thread is switched or interrupted, by a watch tick too,
    /// and charged to the domain that runs at that moment.
    pub cpu_ns: u64,
    /// Frames that hold its image, its pristine copy included.
    pub image_bytes: u64,
    /// Private heap, in whole pages.
    pub heap_bytes: u64,
    /// Quota of the private heap, less what its living children have of it.
    pub heap_quota: u64,
    /// Quota of the shared objects that it may own, likewise.
    pub shared_quota: u64,
    /// Most threads that it may have, likewise.
    pub thread_quota: u32,
    /// Shared objects that it owns at the root.
    pub shared_objects: u64,
    /// Bytes that these take, headers included; what they hold inside is counted with them only as long as it is
    /// in the same object.
    pub shared_bytes: u64,
    /// Threads that it spawned and that have not ended.
    pub threads: u32,
    /// CPU time of the threads that it spawned, over all lives, in whatever code.
    pub own_cpu_ns: u64,
    /// How much of a CPU's time these may use, in percent; 0 is all.
    pub cpu_percent: u32,
    /// Longest time for one call into it; 0 is for ever.
    pub deadline_ns: u64,
}

/// What is planned for a domain that is dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum Prospect {
    /// Nothing: it lives, or stays dead until somebody restarts it or its parent.
    Open,
    /// A new instance.
    Restart {
        /// When, in nanoseconds since boot.
        due_ns: u64,
    },
    /// What its parent wants, which is being asked.
    Verdict,
    /// Nothing, because its parent has given it up.
    GivenUp,
}

/// What a domain can be asked to give up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum Resource {
    /// Shared objects that it owns, in bytes, headers included.
    SharedHeap,
    /// CPU time from now on, in percent of one CPU.
    Cpu,
}

/// The machine's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct MemoryInfo {
    /// All that the kernel manages.
    pub total_bytes: u64,
    /// What nobody has.
    pub free_bytes: u64,
    /// What the shared heap holds, free objects included.
    pub shared_bytes: u64,
    /// What stacks hold, cached ones included.
    pub stack_bytes: u64,
    /// What the kernel's tables and its own heap have.
    pub kernel_bytes: u64,
}

/// What all domains use at one instant, and what is about to change that although no domain does anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct InUse {
    /// Memory of the machine that is in no private heap and no image, and not the stack of a thread. The shared heap's spans and the
    /// kernel's own memory count as free: how many frames a number of objects takes depends on where they lie.
    pub free_bytes: u64,
    /// Objects that all domains own at the root.
    pub shared_objects: u64,
    /// Bytes that these take.
    pub shared_bytes: u64,
    /// Threads of all domains' present instances.
    pub threads: u32,
    /// Threads of ended instances that have not left other domains yet, and calls that go on for a caller that has ended and
    /// keep what they read.
    pub leaving: u32,
    /// Restarts that are planned or under way, and other work of the kernel's threads: destructors, supervision, the crash log.
    pub kernel_work: u32,
    /// Other threads that run or are ready to.
    pub busy: u32,
}

/// What the kernel's audit of itself came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct AuditSummary {
    /// Frames that the machine has: what all lines together come to, or that is a finding.
    pub frames: u64,
    /// How many lines there are to read.
    pub lines: u32,
    /// How many books do not agree. There are none, or the kernel is broken.
    pub findings: u32,
}

/// Who has how much of the machine's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct AuditLine {
    /// A domain, `kernel`, `shared heap`, or `none`.
    pub owner: Text<32>,
    /// What it has it for.
    pub what: Text<16>,
    /// Frames of 4 KiB.
    pub frames: u64,
}

/// Why the kernel does not do what it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum ControlError {
    /// No domain of this system has that name.
    NoSuchDomain {
        /// As given.
        name: Text<32>,
    },
    /// The domain would have to be running, or not to be.
    WrongState {
        /// What it is.
        state: DomainState,
    },
    /// It did not come up again; the log says why.
    DidNotStart,
    /// The kernel would end the caller itself, or the domain that answers for it.
    Itself,
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchDomain { name } => write!(f, "there is no domain {name}"),
            Self::WrongState { state } => write!(f, "the domain is {state:?}"),
            Self::DidNotStart => f.write_str("the domain did not come up again"),
            Self::Itself => f.write_str("the kernel would end the caller, or who answers for it"),
        }
    }
}

impl core::error::Error for ControlError {}

/// One event of the trace ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct TraceRecord {
    /// Nanoseconds since boot.
    pub time_ns: u64,
    /// Where it happened.
    pub cpu: u32,
    /// `crossing`, `fault`, `restart`, `interrupt`, `eviction`, `sweep` or `pages`.
    pub kind: Text<16>,
    /// Whom it concerns.
    pub domain: DomainId,
    /// An event's own number: a crossing's caller (the bits of its id), a fault's kind, an interrupt's sources, an evicted
    /// thread, objects freed (from bit 32 on) and given back, pages freed.
    pub detail: u64,
}

/// Looks after domains. Exported by the kernel.
#[interface]
pub trait Control {
    /// How many domains the system has; they are numbered from 0 in the manifest's order.
    fn domain_count(&self) -> RpcResult<u32>;
    /// The domain of that number.
    fn domain(&self, number: u32) -> RpcResult<Option<DomainInfo>>;
    /// The domain of that name.
    fn find(&self, name: Text<32>) -> RpcResult<Result<DomainInfo, ControlError>>;
    /// The name of what domain number `from`'s import number `import` is wired to, and the import's name.
    fn wire(&self, from: u32, import: u32) -> RpcResult<Option<(Text<32>, Text<32>)>>;
    /// The machine's memory. Empties the caches of the shared heap's free objects and of stacks first, as far as the
    /// calling CPU can reach them, so that two answers can be compared.
    fn memory(&self) -> RpcResult<MemoryInfo>;
    /// Stops everything, empties the caches of free objects and stacks, and counts.
    fn in_use(&self) -> RpcResult<InUse>;
    /// Stops everything, walks all memory, objects, threads, proxies and timers, and compares what the kernel knows of them in
    /// more than one way. Lines and findings are kept until the next audit.
    fn audit(&self) -> RpcResult<AuditSummary>;
    /// That line of the last audit.
    fn audit_line(&self, number: u32) -> RpcResult<Option<AuditLine>>;
    /// That finding of the last audit; `None` from the first on that was not kept for want of room.
    fn audit_finding(&self, number: u32) -> RpcResult<Option<Text<160>>>;
    /// How many CPUs the system runs on.
    fn cpu_count(&self) -> RpcResult<u32>;
    /// Ends a domain, and those below it in the tree of supervision, and takes back what they had.
    fn kill(&self, name: Text<32>) -> RpcResult<Result<(), ControlError>>;
    /// Starts a dead domain again, or ends and starts a running one: new generation, same wiring. Returns when its
    /// entry function has; the domains below it follow by their own policies.
    fn restart(&self, name: Text<32>) -> RpcResult<Result<(), ControlError>>;
    /// As [`Control::restart`], but from the image file: the pristine copy is thrown away and made again.
    fn reload(&self, name: Text<32>) -> RpcResult<Result<(), ControlError>>;
    /// Has a running domain asked to have no more than `allowed` of something, and ended if it does not comply by its
    /// manifest's `upcall-deadline`. Does not wait for that. Answers false, and asks nothing, if it has no more.
    fn revoke(
        &self,
        name: Text<32>,
        resource: Resource,
        allowed: u64,
    ) -> RpcResult<Result<bool, ControlError>>;
    /// What that instance of that domain died of: kind, message and source place. `None` when it lives or when so many
    /// have died since that the report is gone.
    fn crash_record(&self, domain: DomainId) -> RpcResult<Option<Text<256>>>;
    /// The instance that ended `back` remembered deaths before the latest, which is number 0.
    fn death(&self, back: u32) -> RpcResult<Option<DomainId>>;
    /// Line number `line`, from 0, of the post-mortem of that instance: who died of what, where, called by whom and in which
    /// functions; and if tracing was on and not too many have died since, what happened around it on all CPUs. `None`
    /// behind the last line.
    fn post_mortem(&self, domain: DomainId, line: u32) -> RpcResult<Option<Text<256>>>;
    /// Turns the trace ring on or off.
    fn set_tracing(&self, on: bool) -> RpcResult<()>;
    /// Takes the oldest event of the trace ring.
    fn next_trace(&self) -> RpcResult<Option<TraceRecord>>;
    /// Ticks of the time-stamp counter in a second.
    fn tsc_hz(&self) -> RpcResult<u64>;
    /// `bare` or `hosted`.
    fn machine(&self) -> RpcResult<Text<16>>;
    /// The value of a `name=value` word of the command line.
    fn option(&self, name: Text<32>) -> RpcResult<Option<Text<128>>>;
    /// Writes a line to the console as it is, without the log's prefix.
    fn print(&self, line: Text<256>) -> RpcResult<()>;
    /// Waits for a typed line, without its end.
    fn read_line(&self) -> RpcResult<Text<256>>;
    /// Ends the system: in success or not.
    fn shut_down(&self, success: bool) -> RpcResult<()>;
}
