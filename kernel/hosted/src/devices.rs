//! PCI functions: device models, each a [`PciFunction`] for the kernel and a host for the model.
//!
//! A model accesses the machine's one mapping of memory like a device: at any time, by physical address,
//! bypassing the kernel. It cannot reach addresses without memory, and pages that are not writable at the
//! moment: a device on a bus would reach the latter too, but in a process such an access would fault on a
//! thread that belongs to no domain.

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use coppice_abi::{BAR_LIMIT, DeviceInfo, DeviceRefusal, Window};
use coppice_kernel::pci::PciFunction;
use coppice_kernel::trap;
use device_bus::{AlreadyAttached, DmaError, Host, Model};
use device_models::{DeviceError, DeviceOption};

use crate::cpus;
use crate::heap::on_host_heap;
use crate::memory::Memory;

/// The reason why the machine's devices cannot be made.
#[derive(Debug)]
pub(crate) enum Error {
    /// A device cannot be made.
    Device(DeviceError),
    /// A device's own thread panicked while the device was made; its message has been printed.
    Broken,
    /// The device is attached to another machine.
    Attached(AlreadyAttached),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(error) => error.fmt(f),
            Self::Broken => f.write_str("a model broke when it was made"),
            Self::Attached(error) => error.fmt(f),
        }
    }
}

/// Makes the devices, from 00:01.0 on, attached to `memory`. Their threads stay off the host CPUs to which
/// `cpus` CPUs of this machine are pinned, if the host has others.
pub(crate) fn make(
    options: Vec<DeviceOption>,
    memory: &'static Memory,
    cpus: usize,
) -> Result<Vec<ModelFunction>, Error> {
    if options.is_empty() {
        return Ok(Vec::new());
    }
    // A model's threads inherit the affinity of this one.
    let maker = std::thread::spawn(move || {
        cpus::avoid(cpus);
        let functions = options.into_iter().enumerate().map(|(index, device)| {
            let model = device.make().map_err(Error::Device)?;
            ModelFunction::new(model, memory, index)
        });
        functions.collect()
    });
    maker.join().unwrap_or(Err(Error::Broken))
}

/// A device model as a PCI function for the kernel.
pub(crate) struct ModelFunction {
    model: Arc<dyn Model>,
    info: DeviceInfo,
    slot: Arc<Slot>,
}

impl ModelFunction {
    fn new(model: Arc<dyn Model>, memory: &'static Memory, index: usize) -> Result<Self, Error> {
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
        model.attach(slot.clone()).map_err(Error::Attached)?;
        Ok(Self { model, info, slot })
    }
}

impl PciFunction for ModelFunction {
    fn info(&self) -> DeviceInfo {
        self.info
    }

    fn window(&self, bar: u8) -> Result<Window, DeviceRefusal> {
        match self.info.bars.get(usize::from(bar)) {
            Some(&len) if len > 0 => Ok(Window::called(len as usize)),
            _ => Err(DeviceRefusal::NoBar { bar }),
        }
    }

    fn read(&self, bar: u8, offset: usize, bytes: usize) -> u64 {
        on_host_heap(|| self.model.read(bar, offset as u64, bytes as u8))
    }

    fn write(&self, bar: u8, offset: usize, bytes: usize, value: u64) {
        on_host_heap(|| self.model.write(bar, offset as u64, bytes as u8, value));
    }

    fn set_bus_master(&self, on: bool) {
        on_host_heap(|| self.model.set_bus_master(on));
    }

    fn has_transactions_pending(&self) -> bool {
        on_host_heap(|| self.model.transactions_pending())
    }

    fn begin_reset(&self) -> bool {
        on_host_heap(|| self.model.reset());
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

/// Maximum number of bytes that are prefetched at a model's request; the hardware prefetcher continues from
/// there.
const PREFETCHED_BYTES: usize = 256;
const CACHE_LINE: usize = 64;

/// A model's connection to the machine.
struct Slot {
    memory: &'static Memory,
    /// For each vector, 1 + the number with which its messages are reported to the kernel; 0 while it is
    /// closed.
    messages: Box<[AtomicU8]>,
}

impl Slot {
    fn address_of(&self, address: u64, len: usize) -> Result<*mut u8, DmaError> {
        let place = self.memory.for_device(address, len);
        place.ok_or(DmaError::Unreachable { address, bytes: len as u64 })
    }
}

impl Host for Slot {
    fn read_memory(&self, address: u64, into: &mut [u8]) -> Result<(), DmaError> {
        let place = self.address_of(address, into.len())?;
        std::sync::atomic::fence(Ordering::Acquire);
        // SAFETY: memory of the mapping, which is readable and never unmapped. A concurrent write gives the
        // same result as with a device: a mixture of old and new bytes.
        unsafe { into.as_mut_ptr().copy_from_nonoverlapping(place, into.len()) };
        Ok(())
    }

    fn write_memory(&self, address: u64, from: &[u8]) -> Result<(), DmaError> {
        let place = self.address_of(address, from.len())?;
        // SAFETY: memory of the mapping, which is writable. Drivers and the kernel ensure that only plain
        // bytes lie there, as with any device.
        unsafe { place.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
        Ok(())
    }

    fn publish_u32(&self, address: u64, value: u32) -> Result<(), DmaError> {
        let place = self.address_of(address, 4)?.cast::<u32>();
        if !place.is_aligned() {
            return Err(DmaError::Unreachable { address, bytes: 4 });
        }
        // SAFETY: as above, and aligned; a driver reads it whole.
        unsafe { std::sync::atomic::AtomicU32::from_ptr(place) }.store(value, Ordering::Release);
        Ok(())
    }

    fn publish_descriptors(&self, address: u64, descriptors: &[[u64; 2]]) -> Result<(), DmaError> {
        let bytes = size_of_val(descriptors);
        let place = self.address_of(address, bytes)?.cast::<[AtomicU64; 2]>();
        if !place.is_aligned() {
            return Err(DmaError::Unreachable { address, bytes: bytes as u64 });
        }
        // SAFETY: (1) memory of the mapping, as above, of this many descriptors, and aligned; (2) concurrent
        // accesses are those of a driver to memory that it shares with a device: atomic or volatile.
        let places = unsafe { std::slice::from_raw_parts(place, descriptors.len()) };
        for ([first, last], &[begin, end]) in places.iter().zip(descriptors) {
            first.store(begin, Ordering::Relaxed);
            last.store(end, Ordering::Release);
        }
        Ok(())
    }

    fn prefetch(&self, address: u64, bytes: usize) {
        let bytes = bytes.min(PREFETCHED_BYTES);
        let Ok(place) = self.address_of(address, bytes) else { return };
        for offset in (0..bytes).step_by(CACHE_LINE) {
            // SAFETY: a hint, which cannot fault; and the address is within the mapping.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(place.wrapping_add(offset).cast()) };
        }
    }

    fn raise(&self, vector: u16) {
        let message =
            self.messages.get(usize::from(vector)).map_or(0, |message| message.load(Ordering::Acquire));
        if let Some(number) = message.checked_sub(1) {
            trap::message(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_the_order_of_the_command_line_and_the_identity_of_their_models() {
        let memory: &'static Memory = Box::leak(Box::new(Memory::map(1 << 20).expect("the host has 1 MiB")));
        let options = ["edu", "nvme,memory=1M,queues=2"].map(|text| text.parse().expect("it is well-formed"));
        let functions = make(options.into(), memory, 1).expect("both can be made");
        let [edu, nvme] = &functions[..] else { panic!("{} functions", functions.len()) };
        assert_eq!((edu.info().address, nvme.info().address), (1 << 3, 2 << 3));
        assert_eq!((edu.info().vendor, nvme.info().class), (0x1234, 0x01_0802));
        assert_eq!((edu.info().vectors, nvme.info().vectors), (1, 3));
        assert_eq!(edu.window(0).map(|window| window.len()), Ok(1 << 20));
        assert_eq!(edu.window(1).err(), Some(DeviceRefusal::NoBar { bar: 1 }));
        assert_eq!(edu.open_vector(1, 0, 0), Err(DeviceRefusal::NoVector { vector: 1 }));
    }

    #[test]
    fn descriptors_are_stored_whole_and_only_in_memory() {
        let memory: &'static Memory = Box::leak(Box::new(Memory::map(1 << 20).expect("the host has 1 MiB")));
        let slot = Slot { memory, messages: Box::new([]) };
        let descriptors = [[1, 2], [3, 4]];
        assert_eq!(slot.publish_descriptors(4096, &descriptors), Ok(()));
        let mut bytes = [0; 32];
        slot.read_memory(4096, &mut bytes).expect("it is memory");
        assert_eq!(bytes.as_chunks::<8>().0.iter().map(|word| word[0]).collect::<Vec<_>>(), [1, 2, 3, 4]);
        for address in [(1 << 20) - 16, 4100] {
            let error = DmaError::Unreachable { address, bytes: 32 };
            assert_eq!(slot.publish_descriptors(address, &descriptors), Err(error));
        }
        // A prefetch outside memory has no effect.
        slot.prefetch(u64::MAX - 100, 64);
        slot.prefetch((1 << 20) - 64, 64);
    }
}
