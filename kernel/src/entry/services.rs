//! The table of functions that domain images call. [`coppice_abi::Services`] specifies each.

use core::arch::{asm, naked_asm};
use core::ffi::c_void;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, Ordering};

use coppice_abi::{
    CrashReport, DeviceInfo, DeviceRefusal, DmaBlock, DomainId, DropTarget, Fingerprint, LogLevel, RawObject,
    Refusal, Services, ServicesSeal, StopStep, ThreadEntry, TypeNumber, Window,
};
use coppice_interfaces::Text;

use crate::device::{self, console};
use crate::domain::proxy::{self, gate};
use crate::domain::{self, private_heap, shared_heap, shared_types};
use crate::fault::{crash, crash_log, post_mortem};
use crate::platform::backtrace::Registers;
use crate::platform::machine::machine;
use crate::platform::sync::Section;
use crate::sched::cpu::{current_domain, this_cpu};
use crate::sched::{scheduler, thread, wait};

static TABLE: Services = Services {
    // SAFETY: `Services` specifies the functions, and this module implements them.
    seal: unsafe { ServicesSeal::new() },
    shared_alloc,
    shared_free,
    shared_drop,
    shared_return,
    shared_remember,
    shared_refusal,
    shared_type,
    object_export,
    object_clone,
    object_gate,
    object_follow,
    object_await,
    pages_alloc,
    thread_spawn,
    thread_join,
    thread_yield,
    thread_sleep_until,
    cpu,
    wait: wait_on,
    wake,
    now_ns,
    log: log_text,
    crash: crash_now,
    crash_text,
    device_info,
    device_window,
    device_read,
    device_write,
    device_memory,
    device_enable,
    device_open_interrupt,
    device_await_interrupt,
};

/// Returns the table.
pub(crate) fn table() -> &'static Services {
    &TABLE
}

/// The stack bytes that a service may use. A crossing leaves a callee more ([`thread::HEADROOM`]), so a
/// domain that has less left has used it up itself.
const SERVICE_STACK: usize = 12 * 1024;

/// Begins a service's section. A domain that has left the kernel too little stack ends here, as if it had hit
/// the guard page itself; otherwise the kernel would hit it.
#[inline(always)]
#[track_caller]
fn begin() -> Section {
    check_stack(Section::enter())
}

/// As [`begin`], for the services that take no longer than the timing of a section does.
#[inline(always)]
fn begin_short() -> Section {
    check_stack(Section::enter_short())
}

#[inline(always)]
fn check_stack(section: Section) -> Section {
    if stack_pointer() + (thread::HEADROOM - SERVICE_STACK) < thread::current().control().stack_limit() {
        end_on_overflow(&section);
    }
    section
}

#[inline(always)]
fn stack_pointer() -> usize {
    let rsp;
    // SAFETY: reads a register and nothing else.
    unsafe { asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags)) };
    rsp
}

#[cold]
fn end_on_overflow(section: &Section) {
    // Destructors call services from inside a service, which has checked the stack already.
    if section.is_outermost() {
        crash::by_overflow();
    }
}

fn as_pointer(memory: Option<NonNull<u8>>) -> *mut u8 {
    memory.map_or(ptr::null_mut(), NonNull::as_ptr)
}

fn object(value: *mut u8) -> NonNull<u8> {
    NonNull::new(value).expect("an RRef is never null")
}

unsafe extern "C" fn shared_alloc(class: usize, size: usize, align: usize) -> *mut u8 {
    let section = begin_short();
    match shared_heap::alloc(current_domain(), class, size, align) {
        Ok(value) => value.as_ptr(),
        Err(refusal) => alloc_again(section, refusal, class, size, align),
    }
}

/// A separate function, so that its closure does not force the arguments into memory for allocations that
/// succeed at once.
#[cold]
fn alloc_again(mut section: Section, refusal: Refusal, class: usize, size: usize, align: usize) -> *mut u8 {
    section.begin_timing();
    as_pointer(shared_heap::retry_or_record(&section, refusal, || {
        shared_heap::alloc(current_domain(), class, size, align)
    }))
}

unsafe extern "C" fn shared_free(value: *mut u8) {
    let _section = begin_short();
    // SAFETY: the caller's promise, by the table's contract.
    unsafe { shared_heap::free(object(value)) };
}

unsafe extern "C" fn shared_drop(value: *mut u8) {
    let _section = begin();
    // SAFETY: as above.
    unsafe { shared_heap::destroy(object(value)) };
}

unsafe extern "C" fn shared_return(value: *mut u8) {
    let _section = begin();
    // SAFETY: as above.
    unsafe { shared_heap::return_lent(object(value)) };
}

unsafe extern "C" fn shared_remember(value: *mut u8, owner: DomainId) {
    let _section = begin();
    // SAFETY: as above.
    unsafe { shared_heap::remember(object(value), owner) };
}

extern "C" fn shared_refusal() -> Refusal {
    let _section = begin();
    // SAFETY: T3: the fields are the running thread's own.
    unsafe { thread::current().fields() }.refusal
}

extern "C" fn shared_type(type_id: Fingerprint) -> TypeNumber {
    shared_types::number(type_id)
}

unsafe extern "C" fn object_export(
    interface: Fingerprint,
    target: RawObject,
    drop_target: DropTarget,
) -> *mut u8 {
    let section = begin();
    let attempt = || proxy::export(current_domain(), interface, target, drop_target);
    as_pointer(
        attempt().map_or_else(|refusal| shared_heap::retry_or_record(&section, refusal, attempt), Some),
    )
}

unsafe extern "C" fn object_clone(handle: *mut u8) -> *mut u8 {
    let section = begin();
    // SAFETY: the caller's promise: a live handle cell.
    let attempt = || unsafe { proxy::clone(object(handle), current_domain()) };
    as_pointer(
        attempt().map_or_else(|refusal| shared_heap::retry_or_record(&section, refusal, attempt), Some),
    )
}

unsafe extern "C" fn object_gate(handle: *mut u8) -> *mut u8 {
    let _section = begin();
    // SAFETY: the caller's promise: a live handle cell.
    as_pointer(unsafe { gate::make(object(handle), current_domain()) })
}

unsafe extern "C" fn object_follow(gate: *mut u8, next: *mut u8) -> bool {
    let _section = begin();
    // SAFETY: the caller's promise: live handle cells of gates, and one call at a time.
    unsafe { gate::follow(object(gate), object(next)) }
}

unsafe extern "C" fn object_await(handle: *mut u8, past: DomainId, deadline_ns: u64) -> bool {
    let _section = begin();
    // SAFETY: the caller's promise: a live handle cell, for the length of the call.
    unsafe { gate::await_instance(object(handle), past, deadline_ns) }
}

extern "C" fn pages_alloc(count: usize) -> *mut u8 {
    let _section = begin();
    as_pointer(domain::get(current_domain().slot()).and_then(|domain| domain.grow_heap(count)))
}

unsafe extern "C" fn thread_spawn(
    entry: ThreadEntry,
    argument: *mut c_void,
    priority: u8,
    affinity: u64,
) -> u64 {
    let _section = begin();
    let id = current_domain();
    let Some(domain) = domain::get(id.slot()) else { return 0 };
    let argument = argument.expose_provenance();
    let body = move || {
        // SAFETY: the image that spawned the thread stays loaded while we are inside its domain.
        unsafe { entry(ptr::with_exposed_provenance_mut(argument)) };
    };
    let priority = thread::of_domain(priority.max(domain.manifest.priority));
    domain.spawn(id, priority, affinity, body).unwrap_or_else(|error| {
        log::warn!("{}: cannot spawn a thread: {error:?}", domain.manifest.name);
        0
    })
}

extern "C" fn thread_join(thread: u64) {
    let _section = begin();
    thread::join(thread);
}

extern "C" fn thread_yield() {
    let _section = begin();
    scheduler::yield_now();
    thread::leave_if_killed();
}

extern "C" fn thread_sleep_until(deadline_ns: u64) {
    let _section = begin();
    wait::sleep_until(deadline_ns);
}

extern "C" fn cpu() -> u32 {
    let _section = begin();
    this_cpu().number as u32
}

unsafe extern "C" fn wait_on(word: *const AtomicU32, expected: u32, deadline_ns: u64) -> bool {
    let _section = begin();
    // SAFETY: the caller's promise: a live word of the caller's own memory, for the length of the call.
    let unchanged = || unsafe { &*word }.load(Ordering::Acquire) == expected;
    wait::block(wait::Key::Word(word.addr()), unchanged, deadline_ns)
}

unsafe extern "C" fn wake(word: *const AtomicU32, count: u32) -> u32 {
    let _section = begin();
    wait::wake(wait::Key::Word(word.addr()), count)
}

extern "C" fn now_ns() -> u64 {
    machine().now_ns()
}

unsafe extern "C" fn log_text(level: LogLevel, text: *const u8, len: usize) {
    let _section = begin();
    // SAFETY: the caller's promise: readable for the length of the call.
    let bytes = unsafe { core::slice::from_raw_parts(text, len) };
    let text = core::str::from_utf8(bytes).unwrap_or("(a log record that is not UTF-8)");
    let source = current_domain();
    console::write(level, source.slot(), domain::name(source), format_args!("{text}"));
}

/// Passes the caller's registers on, with which a backtrace begins.
#[unsafe(naked)]
unsafe extern "C" fn crash_now(report: *const CrashReport<'_>) -> ! {
    naked_asm!("mov rsi, rsp", "mov rdx, rbp", "jmp {crash}", crash = sym crash_from)
}

/// # Safety
/// The service's contract. `rsp` and `rbp` are the registers at the entry of the service.
unsafe extern "C" fn crash_from(report: *const CrashReport<'_>, rsp: *const usize, rbp: usize) -> ! {
    // The section is ended by the crash path when it leaves the domain.
    core::mem::forget(begin());
    // SAFETY: a call pushes its return address.
    let rip = unsafe { *rsp };
    let registers = Registers { rip, rsp: rsp.addr() + 8, rbp, r11: 0, is_return: true };
    // SAFETY: the caller's promise: readable for the length of the call.
    crash::by_report(unsafe { &*report }, registers)
}

unsafe extern "C" fn crash_text(domain: DomainId, text: *mut u8, capacity: usize) -> usize {
    let _section = begin();
    let Some(record) = crash_log::find(domain) else { return 0 };
    let mut copied = 0;
    let mut len = 0;
    post_mortem::describe(&record, &mut |line| {
        let line = Text::<257>::format(format_args!("{line}\n"));
        len += line.len();
        // Whole lines only.
        if len <= capacity {
            // SAFETY: the caller's promise: writable for `capacity` bytes.
            let target = unsafe { text.add(copied) };
            // SAFETY: as above.
            unsafe { target.copy_from_nonoverlapping(line.as_ptr(), line.len()) };
            copied = len;
        }
    });
    len
}

fn device_info(device: u32) -> Result<DeviceInfo, DeviceRefusal> {
    let _section = begin();
    device::info(device)
}

fn device_window(device: u32, bar: u8) -> Result<Window, DeviceRefusal> {
    let _section = begin();
    device::window(device, bar)
}

fn device_read(device: u32, bar: u8, offset: usize, bytes: usize) -> u64 {
    let _section = begin();
    device::read(device, bar, offset, bytes)
}

fn device_write(device: u32, bar: u8, offset: usize, bytes: usize, value: u64) {
    let _section = begin();
    device::write(device, bar, offset, bytes, value);
}

fn device_memory(device: u32, pages: usize) -> Result<DmaBlock, DeviceRefusal> {
    let _section = begin();
    private_heap::take_dma_memory(device, pages)
}

fn device_enable(device: u32, stop: &[StopStep]) -> Result<(), DeviceRefusal> {
    let _section = begin();
    device::enable(device, stop)
}

fn device_open_interrupt(device: u32, vector: u16) -> Result<(), DeviceRefusal> {
    let _section = begin();
    device::open(device, vector)
}

fn device_await_interrupt(device: u32, vector: u16, seen: u32, deadline_ns: u64) -> u32 {
    let _section = begin();
    device::await_message(device, vector, seen, deadline_ns)
}
