//! [`Services`]: the kernel functions that a domain image can call without holding an interface object.
//!
//! The table is passed to the image's entry and kept in a static of that image. Each function runs as a
//! kernel section (see [`crate::crossing`]): a kill that arrives during it takes effect when it returns. No
//! function grants authority over another domain; that takes an interface object.

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::{
    DeviceInfo, DeviceRefusal, DmaBlock, DomainId, Fingerprint, StopStep, TypeNumber, UpcallEntry, Window,
};

/// A trait object's two words, for code that moves it without knowing the trait.
///
/// Trusted code calls what they lead to, so only trusted code makes one.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct RawObject {
    /// The object.
    data: *mut (),
    /// Its vtable: in the kernel's image for a proxy, in the exporting domain's image for a target.
    vtable: *const (),
}

impl RawObject {
    /// Makes the words of an object.
    ///
    /// # Safety
    /// They are those of a trait object, or the receivers of the result never use it as one.
    pub const unsafe fn new(data: *mut (), vtable: *const ()) -> Self {
        Self { data, vtable }
    }

    /// The object's address.
    #[inline(always)]
    pub const fn data(self) -> *mut () {
        self.data
    }
}

/// Drops an exported object; runs inside the domain that exported it.
pub type DropTarget = unsafe extern "C" fn(target: RawObject);

/// The entry point of a thread that a domain spawns.
pub type ThreadEntry = unsafe extern "C" fn(argument: *mut c_void);

/// The reason why a domain ended, or why a call did not reach it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum CrashKind {
    /// A Rust panic.
    Panic,
    /// The domain aborted itself.
    Abort,
    /// A CPU exception while its code ran.
    Exception,
    /// A page fault on a guard page: the stack ran out.
    StackOverflow,
    /// A memory request that the domain cannot do without was refused: private or shared, by its quota or by
    /// the machine.
    OutOfMemory,
    /// A holder of the authority ended it.
    Killed,
    /// The call never reached the domain, which was not alive.
    NotRunning,
    /// The call never reached the domain: its caller had too little stack left.
    NoStack,
    /// A call into it took longer than its manifest allows.
    Deadline,
    /// It was told to release what exceeds its quota, and did not.
    OverQuota,
    /// Its parent domain has ended.
    Orphaned,
    /// The instance did not start: its image or its wires were refused, or its entry function returned an
    /// error.
    StartFailed,
    /// A CPU did not react for too long. The record is the kernel's; no domain ends by it.
    Lockup,
}

impl CrashKind {
    /// The inverse of `as u16`. An unknown number means `Killed`, like a missing report.
    pub const fn from_number(number: u16) -> Self {
        const KINDS: [CrashKind; 13] = [
            CrashKind::Panic,
            CrashKind::Abort,
            CrashKind::Exception,
            CrashKind::StackOverflow,
            CrashKind::OutOfMemory,
            CrashKind::Killed,
            CrashKind::NotRunning,
            CrashKind::NoStack,
            CrashKind::Deadline,
            CrashKind::OverQuota,
            CrashKind::Orphaned,
            CrashKind::StartFailed,
            CrashKind::Lockup,
        ];
        if (number as usize) < KINDS.len() { KINDS[number as usize] } else { CrashKind::Killed }
    }
}

/// The reason why a domain's request for a shared object was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Refusal {
    /// The machine has no memory left for the shared heap.
    Memory,
    /// The domain owns as much of the shared heap as its manifest allows.
    Quota,
    /// The kernel does not know the interface of the requested handle.
    UnknownInterface,
    /// The domain uses as much of the kernel's heap as its manifest allows, or the machine has no memory left
    /// for it.
    KernelHeap,
}

impl Refusal {
    /// The message of a domain that ends because of this.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Memory => "the machine has no memory left for the shared heap",
            Self::Quota => "the shared heap's quota is exhausted",
            Self::UnknownInterface => "the kernel does not know the interface",
            Self::KernelHeap => "the quota of the kernel's heap is exhausted",
        }
    }
}

/// A dying domain's own report.
#[repr(C)]
pub struct CrashReport<'a> {
    /// The kind of crash.
    pub kind: CrashKind,
    /// Line in `file`; 0 when unknown.
    pub line: u32,
    /// Source file, or empty.
    pub file: &'a str,
    /// The panic's message, or empty.
    pub message: &'a str,
}

/// The severity of a log record; the levels are those of the `log` crate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u32)]
pub enum LogLevel {
    /// A failure.
    Error = 1,
    /// A suspicious condition.
    Warn,
    /// Information for an operator.
    Info,
    /// Information for a developer.
    Debug,
    /// Everything else.
    Trace,
}

impl LogLevel {
    /// Returns the level of a number of the `log` crate; `Trace` for larger numbers.
    pub const fn from_number(number: usize) -> Self {
        match number {
            0 | 1 => Self::Error,
            2 => Self::Warn,
            3 => Self::Info,
            4 => Self::Debug,
            _ => Self::Trace,
        }
    }
}

/// The kernel's functions. Every pointer argument is accessed during the call only.
///
/// A changed number of fields changes [`crate::note::ABI`], so an image of another build is refused.
///
/// The fields can be read, but only trusted code can make a table.
#[repr(C)]
pub struct Services {
    /// Makes the others true.
    pub seal: ServicesSeal,

    /// Allocates a shared object of size class `class`, for a value of `size` bytes at `align`, and returns
    /// its value's address, or null when the shared heap or the domain's quota of it is exhausted. The caller
    /// owns it; it has no type until its maker publishes one (docs/rref.md, R4). When the quota seems
    /// exhausted, the caller waits until it has been counted exactly (docs/rref.md, "Who pays").
    pub shared_alloc: unsafe extern "C" fn(class: usize, size: usize, align: usize) -> *mut u8,
    /// Frees a shared object without running a destructor.
    pub shared_free: unsafe extern "C" fn(value: *mut u8),
    /// Runs a shared object's destructor by its type id, then frees it.
    pub shared_drop: unsafe extern "C" fn(value: *mut u8),
    /// Returns a lent shared object to its lender; frees it when the lender is dead or has dropped its loan.
    pub shared_return: unsafe extern "C" fn(value: *mut u8),
    /// Makes the sweep of `owner` find a shared object that is about to be its own.
    pub shared_remember: unsafe extern "C" fn(value: *mut u8, owner: DomainId),
    /// The reason why the calling thread's last request for a shared object (this or a handle's) returned
    /// null.
    pub shared_refusal: extern "C" fn() -> Refusal,
    /// Returns the number of a type with references inside in the kernel's registry of destructors, or
    /// [`TypeNumber::NONE`] if it has none.
    pub shared_type: extern "C" fn(type_id: Fingerprint) -> TypeNumber,

    /// Makes a proxy of `interface` for `target` and returns a handle's shared object, or null when the
    /// kernel does not know the interface or memory is exhausted.
    pub object_export:
        unsafe extern "C" fn(interface: Fingerprint, target: RawObject, drop_target: DropTarget) -> *mut u8,
    /// Returns another handle's shared object for the same proxy, or null when memory is exhausted.
    pub object_clone: unsafe extern "C" fn(handle: *mut u8) -> *mut u8,
    /// Makes a gate to the port of `handle`: a proxy that leads to the port's current instance and does not
    /// follow when the port moves. Returns a handle to it, owned by the calling domain; null when `handle`
    /// does not lead to a port, or memory is exhausted.
    pub object_gate: unsafe extern "C" fn(handle: *mut u8) -> *mut u8,
    /// Makes `gate` lead to the target of `next`. Both are gates to one port, and the caller has no two calls
    /// of this under way for one gate. Refused, with false, unless `next` leads to a later instance.
    pub object_follow: unsafe extern "C" fn(gate: *mut u8, next: *mut u8) -> bool,
    /// Blocks until the port of `handle` leads to an instance other than `past` that is running, or until the
    /// deadline (`u64::MAX`: none). Returns true if the port leads to one.
    pub object_await: unsafe extern "C" fn(handle: *mut u8, past: DomainId, deadline_ns: u64) -> bool,

    /// Returns `count` adjacent zeroed pages for the private heap, or null when the quota does not allow
    /// them.
    pub pages_alloc: extern "C" fn(count: usize) -> *mut u8,

    /// Starts a thread of the calling domain at `entry(argument)`. Returns its number, or 0 on refusal.
    pub thread_spawn:
        unsafe extern "C" fn(entry: ThreadEntry, argument: *mut c_void, priority: u8, affinity: u64) -> u64,
    /// Waits until the thread of that number has ended. Returns at once if no such thread runs.
    pub thread_join: extern "C" fn(thread: u64),
    /// Yields to another thread of the same priority.
    pub thread_yield: extern "C" fn(),
    /// Sleeps until the clock passes `deadline_ns`.
    pub thread_sleep_until: extern "C" fn(deadline_ns: u64),
    /// Returns the number of the CPU that runs the caller, which may move before it uses the number.
    pub cpu: extern "C" fn() -> u32,

    /// Blocks while `*word == expected`, until [`Self::wake`] or the deadline (`u64::MAX`: none). Returns
    /// true if it was woken.
    pub wait: unsafe extern "C" fn(word: *const AtomicU32, expected: u32, deadline_ns: u64) -> bool,
    /// Wakes up to `count` threads that wait on `word`, first come first served. Returns the number woken.
    pub wake: unsafe extern "C" fn(word: *const AtomicU32, count: u32) -> u32,

    /// Nanoseconds since boot.
    pub now_ns: extern "C" fn() -> u64,
    /// Writes a log record whose source is the calling domain.
    pub log: unsafe extern "C" fn(level: LogLevel, text: *const u8, len: usize),
    /// Ends the calling domain. Its callers get an error that carries the report.
    pub crash: unsafe extern "C" fn(report: *const CrashReport<'_>) -> !,
    /// Copies the crash record of that instance into `text`: lines of UTF-8 with the cause, the place, the
    /// callers and the functions on the stack. Copies only whole lines that fit; returns the length of all of
    /// them in bytes, 0 when no record is left.
    pub crash_text: unsafe extern "C" fn(domain: DomainId, text: *mut u8, capacity: usize) -> usize,

    // Devices: each named by its index in the `devices` of the calling domain's manifest entry, so a domain
    // can only name its own. Plain Rust functions, like those of interfaces: one compiler builds both sides.
    /// Returns the ids, BAR sizes and vectors of the device.
    pub device_info: fn(device: u32) -> Result<DeviceInfo, DeviceRefusal>,
    /// Maps the registers of a BAR. The mapping stays until the domain ends.
    pub device_window: fn(device: u32, bar: u8) -> Result<Window, DeviceRefusal>,
    /// Reads `bytes` (1, 2, 4 or 8) of a window that is not in memory; all ones if there is no register.
    pub device_read: fn(device: u32, bar: u8, offset: usize, bytes: usize) -> u64,
    /// Writes to such a window; ignored if there is no register.
    pub device_write: fn(device: u32, bar: u8, offset: usize, bytes: usize, value: u64),
    /// Returns zeroed adjacent pages that the device can reach. They belong to the domain until it ends and
    /// are charged to its private heap.
    pub device_memory: fn(device: u32, pages: usize) -> Result<DmaBlock, DeviceRefusal>,
    /// Lets the device reach memory. After the domain has ended, the kernel runs `stop` to end the device's
    /// DMA.
    pub device_enable: fn(device: u32, stop: &[StopStep]) -> Result<(), DeviceRefusal>,
    /// Starts to count the interrupt messages of that vector.
    pub device_open_interrupt: fn(device: u32, vector: u16) -> Result<(), DeviceRefusal>,
    /// Blocks while the message count of an open vector equals `seen`, or until the deadline (0: not at all).
    /// Returns the count.
    pub device_await_interrupt: fn(device: u32, vector: u16, seen: u32, deadline_ns: u64) -> u32,
}

/// A field that only trusted code can make.
#[derive(Debug)]
pub struct ServicesSeal {
    _private: (),
}

impl ServicesSeal {
    /// Makes the seal of a table.
    ///
    /// # Safety
    /// Each function of the table keeps its contract.
    pub const unsafe fn new() -> Self {
        Self { _private: () }
    }
}

/// Arguments and results of an image's entry function.
#[repr(C)]
pub struct EntryArguments {
    /// The kernel's functions.
    services: *const Services,
    /// This instance.
    domain: DomainId,
    /// A handle cell for each import, in the order of the image's import notes; the entry owns them.
    handles: *const *mut u8,
    /// Number of handles.
    handle_count: usize,
    /// The manifest's `args`, for the length of the call.
    args: *const &'static str,
    /// Number of args.
    arg_count: usize,
    /// Subtracted from an address to get the device address of the same byte.
    physical_offset: usize,
    /// Written by the entry: the exported handle's cell, or null.
    export: *mut u8,
    /// Written by the entry: the kernel's entry point for upcalls.
    upcall: Option<UpcallEntry>,
    /// Written by the entry if the domain does not start; `export` and `upcall` are ignored then.
    failure: Option<StartFailure>,
}

impl EntryArguments {
    /// Makes the arguments of the entry function of instance `domain`.
    ///
    /// # Safety
    /// The table is the kernel's. The entry function owns each of `handles`, which are in the order of its
    /// image's import notes. `handles` and `args` outlive the call. All memory of shared objects has its
    /// device address at `physical_offset` below its address.
    pub unsafe fn new(
        services: &'static Services,
        domain: DomainId,
        handles: &[*mut u8],
        args: &[&str],
        physical_offset: usize,
    ) -> Self {
        Self {
            services,
            domain,
            handles: handles.as_ptr(),
            handle_count: handles.len(),
            args: args.as_ptr().cast(),
            arg_count: args.len(),
            physical_offset,
            export: ptr::null_mut(),
            upcall: None,
            failure: None,
        }
    }

    /// The kernel's functions.
    ///
    /// # Safety
    /// The kernel made the arguments for the calling image's entry function, which has not returned.
    pub const unsafe fn services(&self) -> &'static Services {
        // SAFETY: the promise of `new`.
        unsafe { &*self.services }
    }

    /// The new instance.
    pub const fn domain(&self) -> DomainId {
        self.domain
    }

    /// A handle cell for each import.
    ///
    /// # Safety
    /// As [`Self::services`].
    pub const unsafe fn handles(&self) -> &[*mut u8] {
        // SAFETY: the promise of `new`.
        unsafe { core::slice::from_raw_parts(self.handles, self.handle_count) }
    }

    /// The manifest's `args`.
    ///
    /// # Safety
    /// As [`Self::services`].
    pub const unsafe fn args<'a>(&self) -> &'a [&'static str] {
        // SAFETY: the promise of `new`.
        unsafe { core::slice::from_raw_parts(self.args, self.arg_count) }
    }

    /// The number that is subtracted from an address to get the device address of the same byte.
    pub const fn physical_offset(&self) -> usize {
        self.physical_offset
    }

    /// Reports that the instance has started.
    ///
    /// # Safety
    /// `export` is a handle cell of the interface that the image's export note names, which the caller gives
    /// up, or null if there is no note. `upcall` is a function of the image.
    pub const unsafe fn set_started(&mut self, export: *mut u8, upcall: UpcallEntry) {
        self.export = export;
        self.upcall = Some(upcall);
    }

    /// Reports that the instance does not start.
    pub const fn set_failure(&mut self, failure: StartFailure) {
        self.failure = Some(failure);
    }

    /// The exported handle's cell, or null.
    pub const fn export(&self) -> *mut u8 {
        self.export
    }

    /// The image's entry point for upcalls.
    pub const fn upcall(&self) -> Option<UpcallEntry> {
        self.upcall
    }

    /// The reason why the instance does not start.
    pub const fn failure(&self) -> Option<&StartFailure> {
        self.failure.as_ref()
    }
}

/// The reason why a domain did not start, in its own words.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct StartFailure {
    /// UTF-8 text; the bytes from `len` on are unused.
    text: [u8; START_FAILURE_LIMIT],
    /// The length of the text in bytes.
    len: usize,
}

/// The longest text of a [`StartFailure`] in bytes.
pub const START_FAILURE_LIMIT: usize = 200;

impl StartFailure {
    /// Returns a failure with this text, cut at a character boundary if it is too long.
    pub fn new(words: &str) -> Self {
        let len = words.floor_char_boundary(START_FAILURE_LIMIT);
        let mut text = [0; START_FAILURE_LIMIT];
        text[..len].copy_from_slice(&words.as_bytes()[..len]);
        Self { text, len }
    }

    /// The text. Empty if the image wrote a bad length or bad UTF-8.
    pub fn as_str(&self) -> &str {
        self.text.get(..self.len).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

static SERVICES: AtomicPtr<Services> = AtomicPtr::new(ptr::null_mut());
static ME: AtomicU64 = AtomicU64::new(DomainId::KERNEL.to_bits());

/// Sets this image's kernel functions and identity. The entry macro calls it before anything else.
///
/// # Safety
/// `table` is the kernel's, and `domain` the instance that this image was loaded for: the results of its
/// functions are trusted.
pub unsafe fn attach(table: &'static Services, domain: DomainId) {
    ME.store(domain.to_bits(), Ordering::Relaxed);
    SERVICES.store(ptr::from_ref(table).cast_mut(), Ordering::Release);
}

/// Returns the kernel's functions.
///
/// # Panics
/// Before [`attach`].
#[inline(always)]
pub fn services() -> &'static Services {
    let table = SERVICES.load(Ordering::Relaxed);
    // SAFETY: `attach` is the only writer and stores a `&'static Services`; null is refused by `as_ref`.
    unsafe { table.as_ref() }.expect("the entry macro attaches the services before domain code runs")
}

/// Returns the instance that this image's code belongs to.
#[inline(always)]
pub fn me() -> DomainId {
    DomainId::from_bits(ME.load(Ordering::Relaxed))
}
