//! A mock kernel for this crate's tests: the real shared heap on host memory behind a [`Services`] table.
//!
//! Freed memory is not reused until the test ends. So a double free or a write after free is detected: see
//! [`Kernel::check_freed`].

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use coppice_abi::{
    CrashReport, DeviceRefusal, DomainId, DropTarget, Fingerprint, LogLevel, RawObject, Refusal, Services,
    ServicesSeal, ThreadEntry, TypeNumber, attach, me,
};

use crate::heap::{Cache, REGION_BYTES, SPAN_BYTES, SharedHeap, SpanSource, Sweep, World};
use crate::{Header, Payer, Shareable, TypeEntry, model};

pub(crate) const A: DomainId = DomainId::new(2, 0);
pub(crate) const B: DomainId = DomainId::new(3, 0);
pub(crate) const C: DomainId = DomainId::new(4, 0);

/// The first word of a freed value.
const POISON: u64 = 0xdddd_dddd_dddd_dddd;

/// Host memory, counted in spans.
#[derive(Default)]
pub(crate) struct Host {
    pub(crate) taken: AtomicUsize,
    pub(crate) limit: Option<usize>,
}

fn layout(count: usize) -> Layout {
    let bytes = count * SPAN_BYTES;
    let align = bytes.next_power_of_two().min(REGION_BYTES);
    Layout::from_size_align(bytes, align).expect("a span's alignment is a power of two")
}

/// The content of fresh memory.
const JUNK: u8 = 0xa5;

// SAFETY: fresh memory of the requested layout.
unsafe impl SpanSource for Host {
    fn take(&self, count: usize) -> Option<NonNull<u8>> {
        if self.limit.is_some_and(|limit| self.taken.load(Ordering::Relaxed) + count > limit) {
            return None;
        }
        self.taken.fetch_add(count, Ordering::Relaxed);
        // SAFETY: the layout is not empty.
        let memory = NonNull::new(unsafe { alloc(layout(count)) })?;
        // SAFETY: fresh memory of this size.
        unsafe { memory.write_bytes(JUNK, count * SPAN_BYTES) };
        Some(memory)
    }
    fn give(&self, memory: NonNull<u8>, count: usize) {
        self.taken.fetch_sub(count, Ordering::Relaxed);
        // SAFETY: from `take` with the same count.
        unsafe { dealloc(memory.as_ptr(), layout(count)) };
    }
}

/// Makes a cache without a copy of it on the stack: that of loom's threads is too small.
fn empty_cache() -> Box<Cache> {
    // SAFETY: the layout is not empty.
    let cache = unsafe { alloc_zeroed(Layout::new::<Cache>()) };
    // SAFETY: of this layout, and not null unless the host has no memory. All zero is an empty cache: no
    // magazine has an object, and `None` is null.
    unsafe { Box::from_raw(cache.cast::<Cache>()) }
}

/// The mock kernel of the tests on one thread.
pub(crate) struct Kernel {
    pub(crate) heap: SharedHeap<Host>,
    pub(crate) caches: [RefCell<Box<Cache>>; model::CPUS],
    dead: RefCell<Vec<DomainId>>,
    types: RefCell<Vec<&'static TypeEntry>>,
    freed: RefCell<BTreeSet<NonNull<u8>>>,
    broken: RefCell<Vec<&'static str>>,
    /// The system has more domains than buckets.
    pub(crate) shared_buckets: Cell<bool>,
}

thread_local! {
    static KERNEL: RefCell<Option<Rc<Kernel>>> = const { RefCell::new(None) };
}

/// The identity that [`attach`] sets is one for the whole process.
static ONE_TEST: Mutex<()> = Mutex::new(());

/// A test's own kernel, and the right to be the only test that has one.
pub(crate) struct ExclusiveKernel {
    kernel: Rc<Kernel>,
    _turn: MutexGuard<'static, ()>,
}

impl ExclusiveKernel {
    /// Waits for other tests, and continues as domain [`A`] under a new kernel.
    pub(crate) fn new() -> Self {
        let turn = ONE_TEST.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let kernel = Kernel::install();
        ALLOCATIONS_LEFT.set(usize::MAX);
        run_as(A);
        Self { kernel, _turn: turn }
    }

    /// Waits for other tests; the caller installs kernels as it needs them.
    pub(crate) fn turn() -> MutexGuard<'static, ()> {
        ONE_TEST.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl std::ops::Deref for ExclusiveKernel {
    type Target = Kernel;
    fn deref(&self) -> &Kernel {
        &self.kernel
    }
}

impl Drop for ExclusiveKernel {
    fn drop(&mut self) {
        Kernel::uninstall();
    }
}

impl Kernel {
    /// Installs an empty kernel for this thread.
    pub(crate) fn install() -> Rc<Self> {
        let kernel = Rc::new(Self {
            heap: SharedHeap::new(Host::default()),
            caches: [(); model::CPUS].map(|()| RefCell::new(empty_cache())),
            dead: RefCell::default(),
            types: RefCell::default(),
            freed: RefCell::default(),
            broken: RefCell::default(),
            shared_buckets: Cell::default(),
        });
        KERNEL.set(Some(kernel.clone()));
        run_as(DomainId::KERNEL);
        kernel
    }

    pub(crate) fn uninstall() {
        KERNEL.set(None);
    }

    pub(crate) fn get() -> Rc<Self> {
        KERNEL.with_borrow(|kernel| kernel.clone()).expect("the test has installed a kernel")
    }

    /// Registers the types that an interface that mentions `T` would register.
    pub(crate) fn register<T: Shareable>(&self) {
        crate::RRef::<T>::for_each_type(&mut |entry| {
            self.types.borrow_mut().push(Box::leak(Box::new(entry)))
        });
    }

    pub(crate) fn end_instance(&self, domain: DomainId) {
        self.dead.borrow_mut().push(domain);
    }

    /// Ends `domain` on a machine with one thread, which is not inside it.
    pub(crate) fn kill(&self, domain: DomainId) -> Sweep {
        self.end_instance(domain);
        // SAFETY: there is no other thread.
        unsafe { self.heap.sweep(domain, self) }
    }

    pub(crate) fn objects(&self, owner: DomainId) -> usize {
        self.heap.usage(owner, || ()).objects
    }

    /// Runs the heap's audit.
    pub(crate) fn audit(&self, find: &mut dyn FnMut(std::fmt::Arguments<'_>)) {
        let caches: Vec<_> = self.caches.iter().map(RefCell::borrow).collect();
        // Objects that tests have freed are kept out of the caches, so the audit counts them as missing.
        let freed = self.freed.borrow().len();
        let mut find = |finding: std::fmt::Arguments<'_>| {
            let text = finding.to_string();
            let expected = freed > 0 && text.contains("slots have left their spans");
            if !expected {
                find(finding);
            }
        };
        // SAFETY: there is no other thread, and this one is not inside the heap.
        unsafe { self.heap.audit(caches.iter().map(|cache| &***cache), self, &mut find) };
    }

    /// Returns the owners of all objects in use.
    pub(crate) fn owners(&self) -> Vec<DomainId> {
        self.heap.owners()
    }

    pub(crate) fn was_freed(&self, value: NonNull<u8>) -> bool {
        self.freed.borrow().contains(&value)
    }

    /// Records a failure unless `is_true`. Services cannot panic: their callers do not expect it.
    pub(crate) fn check(&self, is_true: bool, otherwise: &'static str) {
        if !is_true {
            self.broken.borrow_mut().push(otherwise);
        }
    }

    /// Checks that there was no failure, and that no freed object was written.
    #[track_caller]
    pub(crate) fn check_freed(&self) {
        assert_eq!(*self.broken.borrow(), [""; 0]);
        for &value in self.freed.borrow().iter() {
            // SAFETY: freed objects keep their memory until the test ends.
            let owner = unsafe { Header::of(value) }.owner();
            assert_eq!(owner, DomainId::NONE, "a freed object has an owner");
            // SAFETY: as above.
            let header = unsafe { Header::of(value) };
            assert_eq!(
                [header.lender(), header.middle()],
                [DomainId::NONE; 2],
                "a freed object has a lender"
            );
            // SAFETY: as above; the smallest slot holds more than a word.
            assert_eq!(unsafe { value.cast::<u64>().read() }, POISON, "a freed object was written");
        }
    }

    /// Checks that every object was freed once, and none is left.
    #[track_caller]
    pub(crate) fn check_empty(&self) {
        self.check_freed();
        assert_eq!(self.owners(), [], "objects are lost");
    }

    fn free(&self, value: NonNull<u8>) {
        // SAFETY: freed objects keep their memory until the test ends.
        let header = unsafe { Header::of(value) };
        self.check(self.freed.borrow_mut().insert(value), "an object is freed twice");
        // SAFETY: the value is not used any more.
        unsafe { value.cast::<u64>().write(POISON) };
        // SAFETY: R1, R3: as `SharedHeap::free`.
        unsafe { header.set_owner(DomainId::NONE) };
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let cache = self.caches[0].get_mut();
        for &value in self.freed.get_mut().iter() {
            // SAFETY: freed once by the test (`free`).
            unsafe { self.heap.free(cache, &mut (), value) };
        }
        for cache in &mut self.caches {
            self.heap.flush(cache.get_mut(), &mut ());
        }
    }
}

impl World for Kernel {
    fn type_entry(&self, number: TypeNumber) -> Option<&TypeEntry> {
        let index = number.to_bits().checked_sub(1)? as usize;
        self.types.borrow().get(index).copied()
    }
    fn is_alive(&self, domain: DomainId) -> bool {
        !self.dead.borrow().contains(&domain)
    }
    fn change_payer(&self, _: Payer, _: Payer, _: usize) {}
    fn shares_bucket(&self, _: DomainId) -> bool {
        self.shared_buckets.get()
    }
    /// Each access of the sweep to a header is a step already.
    fn pause(&self) {}
    unsafe fn destroy(&self, value: NonNull<u8>) {
        if self.was_freed(value) {
            return self.check(false, "an object is destroyed after it was freed");
        }
        // SAFETY: not freed.
        let header = unsafe { Header::of(value) };
        if let Some(entry) = self.type_entry(header.type_number()) {
            // SAFETY: R4.
            unsafe { entry.drop_value(value.as_ptr()) };
        }
        self.free(value);
    }
}

/// Continues as code of `domain`.
pub(crate) fn run_as(domain: DomainId) {
    // SAFETY: the table below.
    unsafe { attach(&SERVICES, domain) };
}

/// Runs `code` as `domain`, then continues as the previous domain.
pub(crate) fn inside<R>(domain: DomainId, code: impl FnOnce() -> R) -> R {
    let before = me();
    run_as(domain);
    let result = code();
    run_as(before);
    result
}

thread_local! {
    /// Number of allocations that are still granted.
    pub(crate) static ALLOCATIONS_LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
}

unsafe extern "C" fn shared_alloc(class: usize, size: usize, align: usize) -> *mut u8 {
    let kernel = Kernel::get();
    let granted = ALLOCATIONS_LEFT.get();
    if granted == 0 {
        return ptr::null_mut();
    }
    ALLOCATIONS_LEFT.set(granted - 1);
    let _section = model::Section::enter();
    let mut cache = kernel.caches[model::cpu()].borrow_mut();
    let value = kernel.heap.alloc(&mut cache, &mut (), me(), class, size, align);
    value.map_or(ptr::null_mut(), NonNull::as_ptr)
}

unsafe extern "C" fn shared_free(value: *mut u8) {
    if !model::is_unwinding() {
        let _section = model::Section::enter();
        Kernel::get().free(NonNull::new(value).expect("an object's address"));
    }
}

unsafe extern "C" fn shared_drop(value: *mut u8) {
    if !model::is_unwinding() {
        let _section = model::Section::enter();
        // SAFETY: the service's contract.
        unsafe { Kernel::get().destroy(NonNull::new(value).expect("an object's address")) };
    }
}

unsafe extern "C" fn shared_return(value: *mut u8) {
    if !model::is_unwinding() {
        let _section = model::Section::enter();
        let kernel = Kernel::get();
        let value = NonNull::new(value).expect("an object's address");
        // SAFETY: the service's contract.
        unsafe { kernel.heap.return_lent(value, &*kernel) };
    }
}

unsafe extern "C" fn shared_remember(value: *mut u8, owner: DomainId) {
    if !model::is_unwinding() {
        let _section = model::Section::enter();
        let value = NonNull::new(value).expect("an object's address");
        // SAFETY: the service's contract.
        unsafe { Kernel::get().heap.remember(value, owner) };
    }
}

extern "C" fn shared_refusal() -> Refusal {
    Refusal::Memory
}

extern "C" fn shared_type(type_id: Fingerprint) -> TypeNumber {
    let kernel = Kernel::get();
    let index = kernel.types.borrow().iter().position(|entry| entry.id() == type_id);
    TypeNumber::from_bits(index.map_or(0, |index| index as u64 + 1))
}

static SERVICES: Services = Services {
    // SAFETY: the functions below, as far as the shared heap uses them.
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
    wait,
    wake,
    now_ns,
    log,
    crash,
    crash_text,
    device_info: |device| Err(DeviceRefusal::NotGranted { device }),
    device_window: |device, _| Err(DeviceRefusal::NotGranted { device }),
    device_read: |_, _, _, _| u64::MAX,
    device_write: |_, _, _, _, _| {},
    device_memory: |device, _| Err(DeviceRefusal::NotGranted { device }),
    device_enable: |device, _| Err(DeviceRefusal::NotGranted { device }),
    device_open_interrupt: |device, _| Err(DeviceRefusal::NotGranted { device }),
    device_await_interrupt: |_, _, seen, _| seen,
};

// The other services are not called by the shared heap.
unsafe extern "C" fn object_export(_: Fingerprint, _: RawObject, _: DropTarget) -> *mut u8 {
    unimplemented!()
}
unsafe extern "C" fn object_clone(_: *mut u8) -> *mut u8 {
    unimplemented!()
}
unsafe extern "C" fn object_gate(_: *mut u8) -> *mut u8 {
    unimplemented!()
}
unsafe extern "C" fn object_follow(_: *mut u8, _: *mut u8) -> bool {
    unimplemented!()
}
unsafe extern "C" fn object_await(_: *mut u8, _: DomainId, _: u64) -> bool {
    unimplemented!()
}
extern "C" fn pages_alloc(_: usize) -> *mut u8 {
    unimplemented!()
}
unsafe extern "C" fn thread_spawn(_: ThreadEntry, _: *mut c_void, _: u8, _: u64) -> u64 {
    unimplemented!()
}
extern "C" fn thread_join(_: u64) {}
extern "C" fn thread_yield() {}
extern "C" fn thread_sleep_until(_: u64) {}
extern "C" fn cpu() -> u32 {
    0
}
unsafe extern "C" fn wait(_: *const AtomicU32, _: u32, _: u64) -> bool {
    unimplemented!()
}
unsafe extern "C" fn wake(_: *const AtomicU32, _: u32) -> u32 {
    unimplemented!()
}
extern "C" fn now_ns() -> u64 {
    0
}
unsafe extern "C" fn log(_: LogLevel, _: *const u8, _: usize) {}
unsafe extern "C" fn crash(_: *const CrashReport<'_>) -> ! {
    unimplemented!()
}
unsafe extern "C" fn crash_text(_: DomainId, _: *mut u8, _: usize) -> usize {
    0
}
