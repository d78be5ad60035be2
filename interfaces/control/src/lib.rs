//! [`Control`]: the kernel's own interface, for domains that the manifest trusts to manage the others.
//!
//! The kernel exports the object; a manifest wires it by the name `kernel`.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use core::fmt;

use coppice_interfaces::{DomainId, InterfaceEntry, RpcResult, Text, interface};
use coppice_rref::{Flat, Shareable};

/// The interfaces of this family, for the list of a kernel image.
pub const ALL: &[InterfaceEntry] = &[InterfaceEntry::of::<dyn Control>()];

/// The state of a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum DomainState {
    /// The domain has not been loaded, or its image was refused.
    Absent,
    /// The entry function has not returned yet.
    Starting,
    /// The domain can be called.
    Running,
    /// The domain has ended, and its resources are reclaimed.
    Dead,
}

/// The identity, the resources and the limits of one domain.
#[derive(Clone, Copy, Debug, Shareable, Flat)]
pub struct DomainInfo {
    /// The domain's name in the manifest.
    pub name: Text<32>,
    /// The current instance, or the latest one.
    pub id: DomainId,
    /// The state of the domain.
    pub state: DomainState,
    /// The restart that is planned for the domain.
    pub restart_plan: RestartPlan,
    /// The parent in the supervision tree: a domain, or `kernel`.
    pub parent: Text<32>,
    /// The number of crossings into the domain, over all instances.
    pub calls: u64,
    /// The CPU time in the domain's code, over all instances. It is measured when a thread is switched or
    /// interrupted, also by a watchdog tick, and charged to the domain that runs at that moment.
    pub cpu_ns: u64,
    /// The size of the image in memory, its pristine copy included.
    pub image_bytes: u64,
    /// The size of the private heap, in whole pages.
    pub heap_bytes: u64,
    /// The quota of the private heap, less the part that live children have reserved.
    pub heap_quota: u64,
    /// The quota of owned shared objects, less the part that live children have reserved.
    pub shared_quota: u64,
    /// The quota of threads, less the part that live children have reserved.
    pub thread_quota: u32,
    /// The number of shared objects that the domain owns as roots.
    pub shared_objects: u64,
    /// The size of these objects, headers included. Objects inside them that are allocated separately do not
    /// count.
    pub shared_bytes: u64,
    /// The number of threads that the domain spawned and that have not ended.
    pub threads: u32,
    /// The number of threads of ended instances that are still inside other domains. They are a part of the
    /// quota of threads.
    pub threads_abroad: u32,
    /// The size of objects of ended instances that calls still read. They are a part of the quota of shared
    /// objects.
    pub kept_bytes: u64,
    /// The number of bytes of the kernel's own heap on behalf of the domain, over all instances: proxies,
    /// records of threads, of the private heap and of the image.
    pub kernel_bytes: u64,
    /// The quota of these bytes.
    pub kernel_quota: u64,
    /// The CPU time of the threads that the domain spawned, over all instances, in the code of any domain.
    pub own_cpu_ns: u64,
    /// The part of one CPU's time that these threads may use, in percent; 0 for no limit.
    pub cpu_percent: u32,
    /// The longest time for one call into the domain; 0 for no limit.
    pub deadline_ns: u64,
    /// The number of its log records that were dropped, over all instances.
    pub log_dropped: u64,
}

/// The restart that is planned for a dead domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum RestartPlan {
    /// No restart is planned: the domain is running, or stays dead until it or its parent is restarted by a
    /// call.
    None,
    /// A restart is scheduled.
    Restart {
        /// The time of the restart, in nanoseconds since boot.
        due_ns: u64,
    },
    /// The parent has been asked for its verdict.
    AwaitingParent,
    /// The parent has given the domain up.
    GivenUp,
}

/// A resource that a domain can be told to give back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum Resource {
    /// The shared objects that the domain owns, in bytes, headers included.
    SharedHeap,
    /// The CPU time that the domain may use from now on, in percent of one CPU.
    Cpu,
}

/// The machine's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct MemoryInfo {
    /// The memory that the kernel manages.
    pub total_bytes: u64,
    /// The free memory.
    pub free_bytes: u64,
    /// The memory of the shared heap, free objects included.
    pub shared_bytes: u64,
    /// The memory of stacks, cached ones included.
    pub stack_bytes: u64,
    /// The memory of the kernel's tables and of its own heap.
    pub kernel_bytes: u64,
}

/// A part of the kernel's own heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct KernelHeapLine {
    /// The payer: a domain, or `kernel`.
    pub payer: Text<32>,
    /// The purpose of the memory.
    pub what: Text<16>,
    /// The number of allocations.
    pub objects: u64,
    /// Their size in bytes, with the heap's record of each.
    pub bytes: u64,
}

/// The resources in use by all domains at one instant, and the pending work that will change them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct InUse {
    /// Memory of the machine outside private heaps, images and the stacks of threads. The shared heap's spans
    /// and the kernel's own memory count as free: the number of frames that a number of objects takes depends
    /// on their places. The other counts are of these objects.
    pub free_bytes: u64,
    /// Bytes of the kernel's own heap, exactly. Two kinds of lists are left out, because they grow with what
    /// the observer does and keep their size: the kernel's tables of threads and timers, and the lists of the
    /// blocks of private heaps. The audit compares the bytes of these with the lists themselves.
    pub kernel_bytes: u64,
    /// The number of allocations that have these bytes.
    pub kernel_objects: u64,
    /// Objects that domains or the kernel own at the root.
    pub shared_objects: u64,
    /// Bytes of these objects.
    pub shared_bytes: u64,
    /// Threads of the present instances of all domains.
    pub threads: u32,
    /// Threads of ended instances that have not left other domains yet, and calls that continue for an ended
    /// caller and keep their borrowed objects.
    pub leaving: u32,
    /// Planned and running restarts, and other work of the kernel's threads: destructors, supervision, the
    /// crash log.
    pub kernel_work: u32,
    /// Other threads that run or are ready.
    pub busy: u32,
}

/// A time for which a CPU does not react.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum LatencyKind {
    /// The CPU ran kernel code in a section, which defers interrupts, preemption and the end of domains. A
    /// few short sections are not timed ([`LatencyKind::DeferredInterrupt`] covers them).
    Section,
    /// The CPU stopped all others.
    WorldStop,
    /// The CPU had interrupts off.
    InterruptsOff,
    /// An interrupt found the CPU in a section that is not timed, and was deferred to its end.
    DeferredInterrupt,
}

impl LatencyKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Section, Self::WorldStop, Self::InterruptsOff, Self::DeferredInterrupt];

    /// The name of the kind in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Section => "section",
            Self::WorldStop => "world-stop",
            Self::InterruptsOff => "interrupts-off",
            Self::DeferredInterrupt => "deferred-interrupt",
        }
    }
}

/// The number of classes in a [`Latency`].
pub const LATENCY_CLASSES: usize = 40;

/// The latencies of one kind on one CPU since boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct Latency {
    /// The number of latencies by class: class 0 is up to 1 ns, and class `n` from 2^`n` ns up to twice that.
    pub counts: [u64; LATENCY_CLASSES],
    /// The longest.
    pub longest_ns: u64,
    /// The code that began the longest: a source location, or a code address where none is known.
    pub place: Text<96>,
}

impl Latency {
    /// The number of latencies.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The upper limit of the class in which the latency lies that a part of `parts_of_million` does not
    /// exceed; 0 if there is none.
    pub fn quantile_ns(&self, parts_of_million: u64) -> u64 {
        let rank = (u128::from(self.count()) * u128::from(parts_of_million)).div_ceil(1_000_000) as u64;
        let mut seen = 0;
        let class = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank.max(1)
        });
        class.map_or(0, |class| (2_u64 << class).min(self.longest_ns))
    }
}

/// The result of the kernel's audit of its own accounting.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct AuditSummary {
    /// The number of frames of the machine. A sum of all lines that differs is a finding.
    pub frames: u64,
    /// The number of lines, for [`Control::audit_line`].
    pub lines: u32,
    /// The number of inconsistencies. It is zero unless the kernel has a bug.
    pub findings: u32,
}

/// One use of the machine's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct AuditLine {
    /// The owner: a domain, `kernel`, `shared heap`, or `none` for free memory.
    pub owner: Text<32>,
    /// The purpose of the memory.
    pub what: Text<16>,
    /// The number of 4 KiB frames.
    pub frames: u64,
}

/// An error of a [`Control`] call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum ControlError {
    /// No domain of this system has that name.
    NoSuchDomain {
        /// The requested name.
        name: Text<32>,
    },
    /// The call does not apply to a domain in this state.
    WrongState {
        /// The state of the domain.
        state: DomainState,
    },
    /// The domain did not start; the log and the crash record say why.
    DidNotStart,
    /// The call would end the caller itself or one of its ancestors.
    Itself,
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchDomain { name } => write!(f, "there is no domain {name}"),
            Self::WrongState { state } => write!(f, "the domain is {state:?}"),
            Self::DidNotStart => f.write_str("the domain did not start"),
            Self::Itself => f.write_str("the call would end the caller or one of its ancestors"),
        }
    }
}

impl core::error::Error for ControlError {}

/// One event of the trace ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct TraceRecord {
    /// The time of the event, in nanoseconds since boot.
    pub time_ns: u64,
    /// The CPU that recorded it.
    pub cpu: u32,
    /// `crossing`, `fault`, `restart`, `interrupt`, `eviction`, `sweep`, `visit`, `pages` or `quiesce`.
    pub kind: Text<16>,
    /// The domain that the event concerns.
    pub domain: DomainId,
    /// A number that depends on the kind: a crossing's caller (the bits of its id), a fault's kind, an
    /// interrupt's sources, an evicted thread, a sweep's freed objects (from bit 32 on) and returned objects,
    /// the number of slots of the shared heap that the sweep looked at, the number of freed pages, the
    /// outcome of quiescing a device (from bit 8 on: microseconds).
    pub detail: u64,
}

/// Manages domains. Exported by the kernel.
#[interface]
pub trait Control {
    /// Returns the number of domains in the system. They are numbered from 0 in the manifest's order.
    fn domain_count(&self) -> RpcResult<u32>;
    /// Returns the domain of that number.
    fn domain(&self, number: u32) -> RpcResult<Option<DomainInfo>>;
    /// Returns the domain of that name.
    ///
    /// # Errors
    /// [`ControlError::NoSuchDomain`] when there is none.
    fn find(&self, name: Text<32>) -> RpcResult<Result<DomainInfo, ControlError>>;
    /// Returns the exporter that import number `import` of domain number `from` is wired to, and the import's
    /// name.
    fn wire(&self, from: u32, import: u32) -> RpcResult<Option<(Text<32>, Text<32>)>>;
    /// Returns the machine's memory. First empties the caches of free shared objects and of stacks, as far as
    /// the calling CPU can reach them, so that two results can be compared.
    fn memory(&self) -> RpcResult<MemoryInfo>;
    /// Stops all CPUs, empties the caches of free objects and stacks, and counts the resources in use.
    fn in_use(&self) -> RpcResult<InUse>;
    /// Stops all CPUs, walks all memory, objects, threads, proxies and timers, and compares the kernel's
    /// redundant records of them. Lines and findings are kept until the next audit.
    fn audit(&self) -> RpcResult<AuditSummary>;
    /// Returns that line of the last audit.
    fn audit_line(&self, number: u32) -> RpcResult<Option<AuditLine>>;
    /// Returns that finding of the last audit; `None` from the first finding on that did not fit into the
    /// kernel's list.
    fn audit_finding(&self, number: u32) -> RpcResult<Option<Text<160>>>;
    /// Returns that part of the kernel's own heap at present, by payer and purpose; parts without bytes are
    /// left out. `None` after the last part.
    fn kernel_heap_line(&self, number: u32) -> RpcResult<Option<KernelHeapLine>>;
    /// Returns the latencies of one kind on a CPU; `None` if there is no such CPU.
    fn latency(&self, cpu: u32, kind: LatencyKind) -> RpcResult<Option<Latency>>;
    /// Returns the number of CPUs in use.
    fn cpu_count(&self) -> RpcResult<u32>;
    /// Ends a domain and its descendants in the supervision tree, and reclaims their resources.
    ///
    /// # Errors
    /// [`ControlError::NoSuchDomain`] or [`ControlError::WrongState`] when no such domain runs;
    /// [`ControlError::Itself`] when the caller would end with it.
    fn kill(&self, name: Text<32>) -> RpcResult<Result<(), ControlError>>;
    /// Starts a dead domain, or ends and starts a running one: new generation, same wiring. Returns when its
    /// entry function has returned; its descendants follow by their own policies.
    ///
    /// # Errors
    /// Those of [`Control::kill`]; [`ControlError::DidNotStart`] when the new instance did not start.
    fn restart(&self, name: Text<32>) -> RpcResult<Result<(), ControlError>>;
    /// As [`Control::restart`], but loads the image file again instead of using the pristine copy.
    ///
    /// # Errors
    /// As [`Control::restart`].
    fn reload(&self, name: Text<32>) -> RpcResult<Result<(), ControlError>>;
    /// Tells a running domain to reduce a resource to `allowed`, and ends it if it does not comply by its
    /// manifest's `upcall-deadline`. Does not wait for that. Returns false, and tells the domain nothing, if
    /// it has no more than that.
    ///
    /// # Errors
    /// [`ControlError::NoSuchDomain`] or [`ControlError::WrongState`] when no such domain runs.
    fn revoke(
        &self,
        name: Text<32>,
        resource: Resource,
        allowed: u64,
    ) -> RpcResult<Result<bool, ControlError>>;
    /// Returns the crash record of that instance: kind, message and source location. `None` while it runs, or
    /// when later crashes have pushed the record out of the crash log.
    fn crash_record(&self, domain: DomainId) -> RpcResult<Option<Text<256>>>;
    /// Returns the instance whose crash record was written `back` records before the latest, which is number
    /// 0.
    fn death(&self, back: u32) -> RpcResult<Option<DomainId>>;
    /// Returns line number `line`, from 0, of that instance's post-mortem: the cause, the source location,
    /// the callers and the backtrace; and if tracing was on, the events of all CPUs around the crash, unless
    /// later crashes have replaced them. `None` after the last line.
    fn post_mortem(&self, domain: DomainId, line: u32) -> RpcResult<Option<Text<256>>>;
    /// Turns the trace ring on or off.
    fn set_tracing(&self, on: bool) -> RpcResult<()>;
    /// Removes and returns the oldest event of the trace ring.
    fn next_trace(&self) -> RpcResult<Option<TraceRecord>>;
    /// Returns the frequency of the time-stamp counter in ticks per second.
    fn tsc_hz(&self) -> RpcResult<u64>;
    /// Returns `bare` or `hosted`.
    fn machine(&self) -> RpcResult<Text<16>>;
    /// Returns the value of a `name=value` word of the kernel's command line.
    fn option(&self, name: Text<32>) -> RpcResult<Option<Text<128>>>;
    /// Writes a line to the console, without the log's prefix; control characters are escaped. Returns when
    /// the console has taken the line, or has taken nothing for 5 s. Only the caller waits for that.
    fn print(&self, line: Text<256>) -> RpcResult<()>;
    /// Waits for a line of console input and returns it without the line break.
    fn read_line(&self) -> RpcResult<Text<256>>;
    /// Ends the system, with success or failure as its exit status, once the console has taken the log. A
    /// console that takes nothing for 2 s, or not all within 10 s, gets no more.
    fn shut_down(&self, success: bool) -> RpcResult<()>;
}
