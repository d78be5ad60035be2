//! [`Services`]: all that a domain image can ask of the kernel without holding an interface object.
//!
//! A table of functions, handed to the image's entry and kept in a static of that image. Each function runs as
//! a kernel section (see [`crate::crossing`]): a kill that arrives meanwhile takes effect at its way out. None
//! of them grants authority over another domain; that takes an interface object.

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::{DeviceInfo, DeviceRefusal, DmaBlock, DomainId, Fingerprint, StopStep, UpcallEntry, Window};

/// A trait object's two words, for code that moves it without knowing the trait.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct RawObject {
    /// The object.
    pub data: *mut (),
    /// Its vtable: in the kernel's image for a proxy, in the exporting domain's image for a target.
    pub vtable: *const (),
}

/// Drops an exported object; runs inside the domain that exported it.
pub type DropTarget = unsafe extern "C" fn(target: RawObject);

/// Where a thread that a domain spawns begins.
pub type ThreadEntry = unsafe extern "C" fn(argument: *mut c_void);

/// What ended a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum CrashKind {
    /// A Rust panic.
    Panic,
    /// The domain asked to be ended as broken.
    Abort,
    /// A CPU exception while its code ran.
    Exception,
    /// A page fault on a guard page: the stack ran out.
    StackOverflow,
    /// It was refused memory that it cannot go on without: private or shared, by its quota or by the machine.
    OutOfMemory,
    /// Somebody with the authority ended it.
    Killed,
    /// The call never reached the domain: it was not alive.
    NotRunning,
    /// The call never reached the domain: its caller had too little stack left for it.
    NoStack,
    /// A call into it took longer than its manifest allows.
    Deadline,
    /// It was asked to give up what it has too much of, and did not.
    OverQuota,
    /// The domain that answers for it has ended.
    Orphaned,
}

impl CrashKind {
    /// The inverse of `as u16`; a number that is none means the same as no report.
    pub const fn from_number(number: u16) -> Self {
        const KINDS: [CrashKind; 11] = [
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
        ];
        if (number as usize) < KINDS.len() { KINDS[number as usize] } else { CrashKind::Killed }
    }
}

/// Why there is no shared object for a domain that asked for one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Refusal {
    /// The machine has no memory left for the shared heap.
    Memory,
    /// The domain owns as much of the shared heap as its manifest allows.
    Quota,
    /// The kernel does not know the interface of which a handle is wanted.
    UnknownInterface,
}

impl Refusal {
    /// As a last word.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Memory => "the machine has no memory left for the shared heap",
            Self::Quota => "the shared heap's quota is exhausted",
            Self::UnknownInterface => "the kernel does not know the interface",
        }
    }
}

/// What a dying domain says of itself.
#[repr(C)]
pub struct CrashReport<'a> {
    /// What happened.
    pub kind: CrashKind,
    /// Line in `file`; 0 when unknown.
    pub line: u32,
    /// Source file, or empty.
    pub file: &'a str,
    /// The panic's message, or empty.
    pub message: &'a str,
}

/// How loud a log record is; the `log` crate's levels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u32)]
pub enum LogLevel {
    /// Something failed.
    Error = 1,
    /// Something looks wrong.
    Warn,
    /// Something an operator wants to know.
    Info,
    /// Something a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The level of that number, which is also the `log` crate's; the last one for numbers beyond.
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

/// The kernel's functions. Every pointer argument is read or written during the call only.
///
/// A field more or fewer changes [`crate::note::ABI`], so an image of another build is refused.
#[repr(C)]
pub struct Services {
    /// Allocates a shared object of size class `class`, for a value of `size` bytes at `align`, and returns its
    /// value's address, or null when the shared heap or the domain's share of it is exhausted. The caller owns
    /// it; it has no type until its maker publishes one (docs/rref.md, R4). When the share seems exhausted, the caller
    /// waits until it has been counted exactly (docs/rref.md, "Who pays").
    pub shared_alloc: unsafe extern "C" fn(class: usize, size: usize, align: usize) -> *mut u8,
    /// Frees a shared object without running a destructor.
    pub shared_free: unsafe extern "C" fn(value: *mut u8),
    /// Runs a shared object's destructor by its type id, then frees it.
    pub shared_drop: unsafe extern "C" fn(value: *mut u8),
    /// Gives a lent shared object back to its lender; frees it when the lender is dead or has let go of it.
    pub shared_return: unsafe extern "C" fn(value: *mut u8),
    /// Why the calling thread's last request for a shared object (this or a handle's) got null.
    pub shared_refusal: extern "C" fn() -> Refusal,
    /// Whether the kernel's registry has a destructor for this type.
    pub shared_type_known: extern "C" fn(type_id: Fingerprint) -> bool,

    /// Makes a proxy of `interface` for `target` and returns a handle's shared object, or null when the kernel does not
    /// know the interface or memory is exhausted.
    pub object_export:
        unsafe extern "C" fn(interface: Fingerprint, target: RawObject, drop_target: DropTarget) -> *mut u8,
    /// Another handle's shared object for the same proxy, or null when memory is exhausted.
    pub object_clone: unsafe extern "C" fn(handle: *mut u8) -> *mut u8,
    /// Makes a gate to the port that `handle` leads to: a proxy that leads to the port's present instance, and does not
    /// follow when the port does. Returns a handle to it, owned by the calling domain; null when `handle` leads to no
    /// port, or memory is exhausted.
    pub object_gate: unsafe extern "C" fn(handle: *mut u8) -> *mut u8,
    /// Has `gate` lead to where `next` leads. Both are gates to one port, and the caller has no two calls of this under
    /// way for one gate. Refused, with false, unless `next` leads to a later instance.
    pub object_follow: unsafe extern "C" fn(gate: *mut u8, next: *mut u8) -> bool,
    /// Blocks until the port that `handle` leads to leads to another instance than `past` and that instance goes on, or the
    /// deadline (`u64::MAX`: none). Returns whether it does.
    pub object_await: unsafe extern "C" fn(handle: *mut u8, past: DomainId, deadline_ns: u64) -> bool,

    /// `count` adjacent zeroed pages for the private heap, or null when the quota does not allow them.
    pub pages_alloc: extern "C" fn(count: usize) -> *mut u8,

    /// Starts a thread of the calling domain at `entry(argument)`. Returns its number, or 0 on refusal.
    pub thread_spawn:
        unsafe extern "C" fn(entry: ThreadEntry, argument: *mut c_void, priority: u8, affinity: u64) -> u64,
    /// Waits until the thread of that number has ended. Returns at once for a number that is not running.
    pub thread_join: extern "C" fn(thread: u64),
    /// Lets another thread of the same priority run.
    pub thread_yield: extern "C" fn(),
    /// Sleeps until the clock passes `deadline_ns`.
    pub thread_sleep_until: extern "C" fn(deadline_ns: u64),
    /// The number of the CPU that runs the caller; it may be another one by the time this returns.
    pub cpu: extern "C" fn() -> u32,

    /// Blocks while `*word == expected`, until [`Self::wake`] or the deadline (`u64::MAX`: none). Returns
    /// whether it was woken.
    pub wait: unsafe extern "C" fn(word: *const AtomicU32, expected: u32, deadline_ns: u64) -> bool,
    /// Wakes up to `count` threads that wait on `word`, first come first served. Returns how many.
    pub wake: unsafe extern "C" fn(word: *const AtomicU32, count: u32) -> u32,

    /// Nanoseconds since boot.
    pub now_ns: extern "C" fn() -> u64,
    /// Writes a log record whose source is the calling domain.
    pub log: unsafe extern "C" fn(level: LogLevel, text: *const u8, len: usize),
    /// Ends the calling domain. Its callers get an error that carries the report.
    pub crash: unsafe extern "C" fn(report: *const CrashReport<'_>) -> !,
    /// Copies what is remembered of the end of that instance into `text`: lines of UTF-8, who died of what, where, called by
    /// whom and in which functions. As many whole lines as fit; returns the length of all of them in bytes, 0 when nothing
    /// is remembered.
    pub crash_text: unsafe extern "C" fn(domain: DomainId, text: *mut u8, capacity: usize) -> usize,

    // Devices: each named by its place in the manifest's `devices` of the calling domain, so that nobody can speak of
    // another one's. Plain Rust functions, as those of interfaces are: one compiler builds both sides.
    /// What the device is.
    pub device_info: fn(device: u32) -> Result<DeviceInfo, DeviceRefusal>,
    /// Where the registers of a BAR are. They stay there while the domain lives.
    pub device_window: fn(device: u32, bar: u8) -> Result<Window, DeviceRefusal>,
    /// Reads `bytes` (1, 2, 4 or 8) of a window that is not in memory; all ones where there is no register.
    pub device_read: fn(device: u32, bar: u8, offset: usize, bytes: usize) -> u64,
    /// Writes to such a window; nothing where there is no register.
    pub device_write: fn(device: u32, bar: u8, offset: usize, bytes: usize, value: u64),
    /// Zeroed adjacent pages that the device can reach, which are the domain's as long as it lives, and charged to its
    /// private heap.
    pub device_memory: fn(device: u32, pages: usize) -> Result<DmaBlock, DeviceRefusal>,
    /// Lets the device reach memory. When the domain has ended, `stop` is what makes the device leave it alone.
    pub device_enable: fn(device: u32, stop: &[StopStep]) -> Result<(), DeviceRefusal>,
    /// Has the interrupt messages of that number counted.
    pub device_open_interrupt: fn(device: u32, vector: u16) -> Result<(), DeviceRefusal>,
    /// Blocks while as many messages of an open vector as `seen` have been counted, or until the deadline (0: not at all).
    /// Answers how many there are.
    pub device_await_interrupt: fn(device: u32, vector: u16, seen: u32, deadline_ns: u64) -> u32,
}

/// What the kernel hands to an image's entry function, and what it gets back.
#[repr(C)]
pub struct EntryArguments {
    /// The kernel's functions.
    pub services: *const Services,
    /// Who the image's code is in this instance.
    pub domain: DomainId,
    /// A handle cell for each import, in the order of the image's import notes; the entry owns them.
    pub handles: *const *mut u8,
    /// How many.
    pub handle_count: usize,
    /// The manifest's `args`.
    pub args: *const &'static str,
    /// How many.
    pub arg_count: usize,
    /// What to take from an address to get what devices call it.
    pub physical_offset: usize,
    /// Written by the entry: the handle cell that it exports, or null.
    pub export: *mut u8,
    /// Written by the entry: where the kernel calls the domain from then on, on its own account.
    pub upcall: Option<UpcallEntry>,
}

static SERVICES: AtomicPtr<Services> = AtomicPtr::new(ptr::null_mut());
static ME: AtomicU64 = AtomicU64::new(DomainId::KERNEL.to_bits());

/// Gives this image its kernel and its identity. The entry macro calls it before anything else.
///
/// # Safety
/// `table` is the kernel's, and `domain` the instance that this image was loaded for: what the functions answer is believed.
pub unsafe fn attach(table: &'static Services, domain: DomainId) {
    ME.store(domain.to_bits(), Ordering::Relaxed);
    SERVICES.store(ptr::from_ref(table).cast_mut(), Ordering::Release);
}

/// The kernel's functions.
///
/// # Panics
/// Before [`attach`].
#[inline(always)]
pub fn services() -> &'static Services {
    let table = SERVICES.load(Ordering::Relaxed);
    // SAFETY: `attach` is the only writer and stores a `&'static Services`; null is refused by `as_ref`.
    unsafe { table.as_ref() }.expect("the entry macro attaches the services before domain code runs")
}

/// The domain that this image's code belongs to, in its present instance.
#[inline(always)]
pub fn me() -> DomainId {
    DomainId::from_bits(ME.load(Ordering::Relaxed))
}
