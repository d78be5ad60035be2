//! A model as a VFIO-user device, for QEMU's `vfio-user-pci` and other clients of the protocol.
//!
//! The client keeps the MSI-X table, and passes an event counter for each vector that it uses.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context, Result, anyhow};
use device_bus::{CONFIG_BYTES, CONFIG_EXTENDED_BYTES, DmaError, Function, Host, Model};
use device_models::DeviceOption;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_NORESIZE, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_BAR5_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo, Server, ServerBackend, ServerRegion};

use crate::memory::Memory;

/// Serves `device` at `socket`: one client if `once`, or one after the other.
pub(crate) fn run(device: &DeviceOption, socket: &Path, once: bool) -> Result<()> {
    let client = Arc::new(Client::default());
    let function = Function::with_host_vectors(device.make()?, client.clone())?;
    let server = Server::new(socket, true, interrupts(&function), regions(&function))
        .map_err(|error| anyhow!("{error}"))
        .with_context(|| format!("creating a socket at {}", socket.display()))?;
    eprintln!("{} is available at {}", device.name(), socket.display());
    let mut device = FunctionBackend { function, client };
    loop {
        let served = server.run(&mut device);
        device.disconnect();
        match served {
            Ok(()) => eprintln!("the client has disconnected"),
            Err(error) => eprintln!("the client has disconnected: {error}"),
        }
        if once {
            return Ok(());
        }
    }
}

fn regions(function: &Function<Arc<dyn Model>>) -> Vec<ServerRegion> {
    let region = |index| {
        let size = match index {
            VFIO_PCI_BAR0_REGION_INDEX..=VFIO_PCI_BAR5_REGION_INDEX => function.bar_bytes(index as u8),
            VFIO_PCI_CONFIG_REGION_INDEX => CONFIG_EXTENDED_BYTES as u64,
            _ => 0,
        };
        let flags = if size > 0 { VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE } else { 0 };
        let region_info = vfio_region_info {
            argsz: size_of::<vfio_region_info>() as u32,
            flags,
            index,
            size,
            ..Default::default()
        };
        ServerRegion { region_info, sparse_areas: Vec::new(), mmap_fd: None }
    };
    (0..VFIO_PCI_NUM_REGIONS).map(region).collect()
}

fn interrupts(function: &Function<Arc<dyn Model>>) -> Vec<IrqInfo> {
    let vectors = function.model().identity().msix.vectors.into();
    let interrupt = |index| {
        let count = if index == VFIO_PCI_MSIX_IRQ_INDEX { vectors } else { 0 };
        IrqInfo { index, flags: VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE, count }
    };
    (0..VFIO_PCI_NUM_IRQS).map(interrupt).collect()
}

/// The client as the host of the model.
#[derive(Default)]
struct Client {
    memory: Memory,
    /// The event counter of each vector that the client uses.
    vectors: RwLock<Vec<Option<File>>>,
}

impl Client {
    fn change_vectors(&self, change: impl FnOnce(&mut Vec<Option<File>>)) {
        change(&mut self.vectors.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Host for Client {
    fn read_memory(&self, address: u64, into: &mut [u8]) -> Result<(), DmaError> {
        self.memory.read(address, into)
    }

    fn write_memory(&self, address: u64, from: &[u8]) -> Result<(), DmaError> {
        self.memory.write(address, from)
    }

    fn publish_u32(&self, address: u64, value: u32) -> Result<(), DmaError> {
        self.memory.publish(address, value)
    }

    fn raise(&self, vector: u16) {
        let vectors = self.vectors.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(Some(counter)) = vectors.get(usize::from(vector)) {
            let mut counter = counter;
            // A full counter has a notification pending; one of an ended client needs none.
            let _ = counter.write(&1u64.to_ne_bytes());
        }
    }
}

/// The function as a backend of the server.
struct FunctionBackend {
    function: Function<Arc<dyn Model>>,
    client: Arc<Client>,
}

impl FunctionBackend {
    /// Resets the function and drops the resources of the client.
    fn disconnect(&self) {
        self.function.reset();
        self.client.change_vectors(Vec::clear);
        self.client.memory.unmap(&(0..u64::MAX));
    }
}

/// Splits an access to `bytes` at `offset` into bus accesses: aligned, of 1, 2, 4 or 8 bytes, at most
/// `largest`.
fn bus_accesses(
    offset: u64,
    bytes: usize,
    largest: usize,
) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let at = offset + start as u64;
        let size = [8, 4, 2, 1]
            .into_iter()
            .find(|&size| size <= largest && size <= bytes - start && at.is_multiple_of(size as u64))?;
        start += size;
        Some((at, start - size..start))
    })
}

fn invalid_offset(region: u32, offset: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("region {region} has no offset {offset:#x}"))
}

impl ServerBackend for FunctionBackend {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => {
                for (at, range) in bus_accesses(offset, data.len(), 4) {
                    let size = range.len();
                    // The extended space is empty.
                    let value = match usize::try_from(at) {
                        Ok(at) if at < CONFIG_BYTES => self.function.config_read(at, size),
                        _ => 0,
                    };
                    data[range].copy_from_slice(&value.to_le_bytes()[..size]);
                }
            }
            VFIO_PCI_BAR0_REGION_INDEX..=VFIO_PCI_BAR5_REGION_INDEX => {
                for (at, range) in bus_accesses(offset, data.len(), 8) {
                    let size = range.len();
                    let value = self.function.read(region as u8, at, size as u8);
                    data[range].copy_from_slice(&value.to_le_bytes()[..size]);
                }
            }
            _ => return Err(invalid_offset(region, offset)),
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        let value = |range: std::ops::Range<usize>| {
            let mut bytes = [0; 8];
            bytes[..range.len()].copy_from_slice(&data[range]);
            u64::from_le_bytes(bytes)
        };
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => {
                for (at, range) in bus_accesses(offset, data.len(), 4) {
                    if let Ok(at @ ..CONFIG_BYTES) = usize::try_from(at) {
                        self.function.config_write(at, range.len(), value(range) as u32);
                    }
                }
            }
            VFIO_PCI_BAR0_REGION_INDEX..=VFIO_PCI_BAR5_REGION_INDEX => {
                for (at, range) in bus_accesses(offset, data.len(), 8) {
                    self.function.write(region as u8, at, range.len() as u8, value(range));
                }
            }
            _ => return Err(invalid_offset(region, offset)),
        }
        Ok(())
    }

    fn dma_map(
        &mut self,
        _: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        file: Option<File>,
    ) -> io::Result<()> {
        // Memory without a file, such as firmware, is accessible only through the client. No driver has
        // buffers there.
        let Some(file) = file else { return Ok(()) };
        self.client.memory.map(address, size, file, offset).map_err(io::Error::other)
    }

    fn dma_unmap(&mut self, _: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        self.client.memory.unmap(&(address..address.saturating_add(size)));
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        self.function.reset();
        Ok(())
    }

    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        files: Vec<File>,
    ) -> io::Result<()> {
        // The function has no other interrupts, and the client masks them itself.
        if index != VFIO_PCI_MSIX_IRQ_INDEX || flags & VFIO_IRQ_SET_ACTION_TRIGGER == 0 {
            return Ok(());
        }
        let total = self.function.model().identity().msix.vectors;
        let (start, count) = (start as usize, count as usize);
        if start + count > usize::from(total) {
            let text = format!("vectors {start} to {} of {total}", start + count);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if flags & VFIO_IRQ_SET_DATA_EVENTFD != 0 {
            // Without files the client removes its event counters.
            let mut files = files.into_iter();
            self.client.change_vectors(|vectors| {
                vectors.resize_with(total.into(), || None);
                vectors[start..start + count].iter_mut().for_each(|vector| *vector = files.next());
            });
        } else if count == 0 {
            self.client.change_vectors(Vec::clear);
        } else {
            (start..start + count).for_each(|vector| self.client.raise(vector as u16));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
