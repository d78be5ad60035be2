//! [`Bench`], the machine between a driver and a device model.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use coppice_hardware::{
    Arena, BAR_LIMIT, Backend, Device, DeviceInfo, DeviceRefusal, DmaRange, Region, RegisterWidth,
    RegisterWindow, STOP_LIMIT, StopStep,
};
use device_bus::Model;

use crate::host::BenchHost;
use crate::interrupts::Interrupts;

/// A register access, as an interceptor sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// The BAR.
    pub bar: u8,
    /// The offset in the BAR.
    pub offset: usize,
    /// The width of the access: 4 or 8.
    pub bytes: usize,
    /// True for a write.
    pub is_write: bool,
    /// The value written by the driver, or returned by the model.
    pub value: u64,
}

/// An interceptor of register accesses. It returns the value to pass on; after `None` a write does not reach
/// the model, and a read returns all ones.
pub type Intercept = dyn Fn(Access) -> Option<u64> + Send + Sync;

/// A machine with one device.
#[derive(Clone)]
pub struct Bench(Arc<Machine>);

struct Machine {
    arena: Arc<Arena>,
    model: Option<Arc<dyn Model>>,
    host: Arc<BenchHost>,
    interrupts: Arc<Interrupts>,
    vectors: u16,
    intercept: Mutex<Option<Arc<Intercept>>>,
    intercepts: AtomicBool,
    /// The number of writes to each double word of BAR0.
    writes: Vec<AtomicU64>,
    stop: Mutex<Vec<StopStep>>,
    start: Instant,
}

impl Bench {
    /// A bench with `pages` pages of memory, to which `model` is attached.
    ///
    /// # Panics
    /// If the model has a host.
    pub fn new(model: Arc<dyn Model>, pages: usize) -> Self {
        let bench = Self::with(Some(model.clone()), pages);
        model.attach(bench.0.host.clone()).expect("the model has no host");
        bench
    }

    /// A bench with memory and no device.
    pub fn memory(pages: usize) -> Self {
        Self::with(None, pages)
    }

    fn with(model: Option<Arc<dyn Model>>, pages: usize) -> Self {
        let identity = model.as_ref().map(|model| model.identity());
        let vectors = identity.as_ref().map_or(0, |identity| identity.msix.vectors);
        let registers = identity
            .map_or(0, |identity| identity.bars.iter().find(|bar| bar.index == 0).map_or(0, |bar| bar.bytes));
        let arena = Arc::new(Arena::new(pages));
        let interrupts = Arc::new(Interrupts::new(vectors));
        let host = Arc::new(BenchHost::new(arena.clone(), interrupts.clone()));
        Self(Arc::new(Machine {
            arena,
            model,
            host,
            interrupts,
            vectors,
            intercept: Mutex::new(None),
            intercepts: AtomicBool::new(false),
            writes: (0..registers / 4).map(|_| AtomicU64::new(0)).collect(),
            stop: Mutex::new(Vec::new()),
            start: Instant::now(),
        }))
    }

    /// Returns the device, for its driver. The caller must have dropped an earlier one: the bench does not
    /// check.
    pub fn device(&self) -> Device {
        Device::new(self.0.clone())
    }

    /// Passes each register access through `intercept`.
    pub fn intercept(&self, intercept: impl Fn(Access) -> Option<u64> + Send + Sync + 'static) {
        *self.0.intercept.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(intercept));
        self.0.intercepts.store(true, Ordering::SeqCst);
    }

    /// Ends the interception of register accesses.
    pub fn stop_intercepting(&self) {
        self.0.intercepts.store(false, Ordering::SeqCst);
    }

    /// The number of writes of the driver to the register of BAR0 at `offset`.
    pub fn writes(&self, offset: usize) -> u64 {
        self.0.writes.get(offset / 4).map_or(0, |count| count.load(Ordering::SeqCst))
    }

    /// The number of interrupt messages of `vector`.
    pub fn messages(&self, vector: u16) -> u32 {
        self.0.interrupts.count(vector)
    }

    /// Sends a spurious interrupt message.
    pub fn raise(&self, vector: u16) {
        self.0.interrupts.raise(vector);
    }

    /// Forbids the device to access `range` from now on.
    pub fn forbid(&self, range: DmaRange) {
        let start = range.addr(0).to_bits();
        self.0.host.forbidden(|forbidden| forbidden.add(start, start + range.len() as u64));
    }

    /// Permits the device to access `range` again.
    pub fn allow(&self, range: DmaRange) {
        let start = range.addr(0).to_bits();
        self.0.host.forbidden(|forbidden| forbidden.allow(start, start + range.len() as u64));
    }

    /// The accesses of the device to forbidden memory: first address, and the address after the last.
    pub fn forbidden_accesses(&self) -> Vec<(u64, u64)> {
        self.0.host.forbidden(|forbidden| forbidden.accesses())
    }

    /// Reads memory at device address `address`.
    ///
    /// # Panics
    /// If the range is outside of memory.
    pub fn read(&self, address: u64, into: &mut [u8]) {
        self.0.arena.read(address, into).expect("tests read inside of memory");
    }

    /// Quiesces the device like a kernel after a crash of the driver: executes the driver's stop sequence,
    /// then switches bus mastering off. Returns true if the device completed the sequence in time.
    pub fn quiesce(&self) -> bool {
        let steps = self.0.stop.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(model) = &self.0.model else { return true };
        let is_complete = steps.iter().all(|step| match *step {
            StopStep::Update { bar, offset, clear, set } => {
                let value = model.read(bar, offset.into(), 4);
                model.write(bar, offset.into(), 4, value & !u64::from(clear) | u64::from(set));
                true
            }
            StopStep::Await { bar, offset, mask, value, timeout_ns } => {
                let end = Instant::now() + Duration::from_nanos(timeout_ns);
                loop {
                    if model.read(bar, offset.into(), 4) as u32 & mask == value {
                        break true;
                    }
                    if Instant::now() >= end {
                        break false;
                    }
                    std::thread::sleep(Duration::from_micros(10));
                }
            }
        });
        model.set_bus_master(false);
        is_complete
    }

    /// Nanoseconds since the creation of the bench: the clock of the device's deadlines.
    pub fn now_ns(&self) -> u64 {
        self.0.now_ns()
    }
}

impl Machine {
    fn model(&self) -> &dyn Model {
        self.model.as_deref().expect("a bench without a model has no registers")
    }

    /// Returns the value to pass on for an access.
    fn filter(&self, access: Access) -> Option<u64> {
        if !self.intercepts.load(Ordering::SeqCst) {
            return Some(access.value);
        }
        let intercept = self.intercept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        intercept.map_or(Some(access.value), |intercept| intercept(access))
    }
}

impl Backend for Machine {
    fn info(&self) -> DeviceInfo {
        let Some(model) = &self.model else { return DeviceInfo::default() };
        let identity = model.identity();
        let mut bars = [0; BAR_LIMIT];
        for bar in &identity.bars {
            bars[usize::from(bar.index)] = bar.bytes;
        }
        let class = identity.class;
        DeviceInfo {
            vendor: identity.vendor,
            device: identity.device,
            class: u32::from_be_bytes([0, class.base, class.sub, class.interface]),
            revision: identity.revision,
            address: 0,
            bars,
            vectors: self.vectors,
        }
    }

    fn window(&self, bar: u8) -> Result<RegisterWindow, DeviceRefusal> {
        let bytes = self.info().bars.get(usize::from(bar)).copied().unwrap_or(0);
        if bytes == 0 {
            return Err(DeviceRefusal::NoBar { bar });
        }
        Ok(RegisterWindow::Called { len: bytes as usize })
    }

    fn read(&self, bar: u8, offset: usize, width: RegisterWidth) -> u64 {
        let bytes = width.bytes();
        let ones = u64::MAX >> (64 - 8 * bytes);
        let value = self.model().read(bar, offset as u64, bytes as u8);
        self.filter(Access { bar, offset, bytes, is_write: false, value }).unwrap_or(ones)
    }

    fn write(&self, bar: u8, offset: usize, width: RegisterWidth, value: u64) {
        let bytes = width.bytes();
        if bar == 0
            && let Some(count) = self.writes.get(offset / 4)
        {
            count.fetch_add(1, Ordering::SeqCst);
        }
        if let Some(value) = self.filter(Access { bar, offset, bytes, is_write: true, value }) {
            self.model().write(bar, offset as u64, bytes as u8, value);
        }
    }

    fn region(&self, pages: usize) -> Result<Region, DeviceRefusal> {
        self.arena.region(pages)
    }

    fn enable_dma(&self, stop: &[StopStep]) -> Result<(), DeviceRefusal> {
        if stop.len() > STOP_LIMIT {
            return Err(DeviceRefusal::BadStep { step: STOP_LIMIT });
        }
        let bars = self.info().bars;
        let outside = |step: &StopStep| {
            let (StopStep::Update { bar, offset, .. } | StopStep::Await { bar, offset, .. }) = *step;
            bars.get(usize::from(bar)).is_none_or(|&bytes| u64::from(offset) + 4 > bytes)
        };
        if let Some(step) = stop.iter().position(outside) {
            return Err(DeviceRefusal::BadStep { step });
        }
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = stop.to_vec();
        self.model().set_bus_master(true);
        Ok(())
    }

    fn open_interrupt(&self, vector: u16) -> Result<(), DeviceRefusal> {
        if vector < self.vectors { Ok(()) } else { Err(DeviceRefusal::NoVector { vector }) }
    }

    fn await_interrupt(&self, vector: u16, seen: u32, deadline_ns: u64) -> u32 {
        let timeout = Duration::from_nanos(deadline_ns.saturating_sub(self.now_ns()));
        // Bounded, because the deadline of a condition variable may overflow its clock.
        self.interrupts.wait(vector, seen, timeout.min(Duration::from_secs(3600)))
    }

    fn mask_interrupt(&self, vector: u16, masked: bool) {
        self.interrupts.mask(vector, masked);
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn sleep_until(&self, deadline_ns: u64) {
        std::thread::sleep(Duration::from_nanos(deadline_ns.saturating_sub(self.now_ns())));
    }
}
