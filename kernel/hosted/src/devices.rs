//! PCI functions: device models, each a [`PciFunction`] for the kernel and a host for the model.
//!
//! A model reads and writes the machine's one mapping of memory as a device does: at any time, by physical address, past the
//! kernel. What it can't reach is what is no memory, and pages that are not writable at the moment: a device on a bus would
//! reach those too, but in a process that would be a fault on a thread that no domain can be blamed for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::{fmt, ptr};

use coppice_abi::{BAR_LIMIT, DeviceInfo, DeviceRefusal, Window};
use coppice_kernel::pci::PciFunction;
use coppice_kernel::trap;
use device_bus::{DmaError, Host, Model};
use edu_model::{Edu, EduConfig};
use nvme_model::{Nvme, NvmeConfig};

use crate::cpus;
use crate::memory::Memory;

/// A device that the command line asks for: `MODEL` or `MODEL,OPTIONS`.
#[derive(Clone, Debug)]
pub(crate) struct DeviceOption {
    make: fn(&str) -> Result<Arc<dyn Model>, String>,
    options: String,
}

/// What models there are, and what makes one of its options.
type Maker = fn(&str) -> Result<Arc<dyn Model>, String>;

const MODELS: [(&str, Maker); 2] = [
    ("edu", |options| {
        let config = EduConfig::parse(options).map_err(|error| error.to_string())?;
        Ok(Arc::new(Edu::new(config)))
    }),
    ("nvme", |options| {
        let config = NvmeConfig::parse(options).map_err(|error| error.to_string())?;
        Ok(Arc::new(Nvme::new(config).map_err(|error| error.to_string())?))
    }),
];

impl std::str::FromStr for DeviceOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, options) = text.split_once(',').unwrap_or((text, ""));
        match MODELS.iter().find(|(known, _)| *known == name) {
            Some(&(_, make)) => Ok(Self { make, options: options.into() }),
            None => {
                let known: Vec<_> = MODELS.iter().map(|(known, _)| *known).collect();
                Err(format!("`{name}` is no device model; there are: {}", known.join(", ")))
            }
        }
    }
}

/// Why a device cannot be had.
#[derive(Debug)]
pub(crate) struct DeviceError(String);

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes the devices, from 00:01.0 on, attached to `memory`. Their threads stay off the host CPUs that `cpus` CPUs of ours run
/// on, if the host has others.
pub(crate) fn make(
    options: Vec<DeviceOption>,
    memory: &'static Memory,
    cpus: usize,
) -> Result<Vec<ModelFunction>, DeviceError> {
    if options.is_empty() {
        return Ok(Vec::new());
    }
    // A model's threads inherit where this one may run.
    let workshop = std::thread::spawn(move || {
        cpus::avoid(cpus);
        let functions = options.into_iter().enumerate().map(|(index, device)| {
            let model = (device.make)(&device.options).map_err(DeviceError)?;
            ModelFunction::new(model, memory, index)
        });
        functions.collect()
    });
    workshop.join().unwrap_or_else(|_| Err(DeviceError("a model broke when it was made".into())))
}

/// A model as the kernel sees it.
pub(crate) struct ModelFunction {
    model: Arc<dyn Model>,
    info: DeviceInfo,
    slot: Arc<Slot>,
}

impl ModelFunction {
    fn new(model: Arc<dyn Model>, memory: &'static Memory, index: usize) -> Result<Self, DeviceError> {
        let identity = model.identity();
        let mut bars = [0; BAR_LIMIT];
        for bar in &identity.bars {
            bars[usize::from(bar.index)] = bar.bytes;
        }
        let class = identity.class;
        let info = DeviceInfo {
            vendor: identity.vendor,
            device: identity.device,
            class: u32::from(class.base) << 16 | u32::from(class.sub) << 8 | u32::from(class.interface),
            revision: identity.revision,
            address: (index as u32 + 1) << 3,
            bars,
            vectors: identity.msix.vectors,
        };
        let messages = (0..info.vectors).map(|_| AtomicU8::new(0)).collect();
        let slot = Arc::new(Slot { memory, messages });
        model.attach(slot.clone()).map_err(|error| DeviceError(error.to_string()))?;
        Ok(Self { model, info, slot })
    }
}

impl PciFunction for ModelFunction {
    fn info(&self) -> DeviceInfo {
        self.info
    }

    fn window(&self, bar: u8) -> Result<Window, DeviceRefusal> {
        match self.info.bars.get(usize::from(bar)) {
            Some(&len) if len > 0 => Ok(Window { memory: ptr::null_mut(), len: len as usize }),
            _ => Err(DeviceRefusal::NoBar { bar }),
        }
    }

    fn read(&self, bar: u8, offset: usize, bytes: usize) -> u64 {
        self.model.read(bar, offset as u64, bytes as u8)
    }

    fn write(&self, bar: u8, offset: usize, bytes: usize, value: u64) {
        self.model.write(bar, offset as u64, bytes as u8, value);
    }

    fn set_bus_master(&self, on: bool) {
        self.model.set_bus_master(on);
    }

    fn has_transactions_pending(&self) -> bool {
        self.model.transactions_pending()
    }

    fn begin_reset(&self) -> bool {
        self.model.reset();
        true
    }

    fn end_reset(&self) -> bool {
        true
    }

    fn open_vector(&self, vector: u16, number: u8, _: usize) -> Result<(), DeviceRefusal> {
        let message =
            self.slot.messages.get(usize::from(vector)).ok_or(DeviceRefusal::NoVector { vector })?;
        message.store(number + 1, Ordering::Release);
        Ok(())
    }

    fn close_vector(&self, vector: u16) {
        if let Some(message) = self.slot.messages.get(usize::from(vector)) {
            message.store(0, Ordering::Release);
        }
    }
}

/// What a model is plugged into.
struct Slot {
    memory: &'static Memory,
    /// For each vector 1 + the number that its messages are reported as; 0 while it is closed.
    messages: Box<[AtomicU8]>,
}

impl Slot {
    fn place(&self, address: u64, len: usize) -> Result<*mut u8, DmaError> {
        let place = self.memory.for_device(address, len);
        place.ok_or(DmaError::Unreachable { address, bytes: len as u64 })
    }
}

impl Host for Slot {
    fn read_memory(&self, address: u64, into: &mut [u8]) -> Result<(), DmaError> {
        let place = self.place(address, into.len())?;
        std::sync::atomic::fence(Ordering::Acquire);
        // SAFETY: memory of the mapping, which is readable and never unmapped. Whoever writes there meanwhile gets what a
        // device gets: some of either.
        unsafe { into.as_mut_ptr().copy_from_nonoverlapping(place, into.len()) };
        Ok(())
    }

    fn write_memory(&self, address: u64, from: &[u8]) -> Result<(), DmaError> {
        let place = self.place(address, from.len())?;
        // SAFETY: memory of the mapping, which is writable. That no Rust value lies there that is not plain bytes is what
        // drivers and the kernel see to, as with any device.
        unsafe { place.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
        Ok(())
    }

    fn publish_u32(&self, address: u64, value: u32) -> Result<(), DmaError> {
        let place = self.place(address, 4)?.cast::<u32>();
        if !place.is_aligned() {
            return Err(DmaError::Unreachable { address, bytes: 4 });
        }
        // SAFETY: as above, and aligned; a driver reads it whole.
        unsafe { std::sync::atomic::AtomicU32::from_ptr(place) }.store(value, Ordering::Release);
        Ok(())
    }

    fn raise(&self, vector: u16) {
        let message =
            self.messages.get(usize::from(vector)).map_or(0, |message| message.load(Ordering::Acquire));
        if let Some(number) = message.checked_sub(1) {
            trap::message(number);
        }
    }
}
