//! PCI functions for the kernel: [`BareFunction`], over configuration space, BARs and MSI or MSI-X. Some of
//! them lead to a model in another process ([`crate::remote`]).

use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use coppice_abi::{DeviceInfo, DeviceRefusal, Window};
use coppice_bare::acpi::Platform;
use coppice_bare::pci::Function;
use coppice_kernel::pci::{MESSAGE_LIMIT, PciFunction};
use pci_types::{Bar, CommandRegister, ConfigRegionAccess, MAX_BARS, PciHeader};
use spin::Once;

use crate::config_space::ConfigSpace;
use crate::console::say;
use crate::msi::{self, MsiError, MsiTarget};
use crate::remote::RemoteFunction;
use crate::{cpu, paging, traps};

/// Maximum number of functions for drivers; further ones are reported and left alone.
const FUNCTION_LIMIT: usize = 64;

// Each message has an interrupt vector of its own.
const _: () = assert!(MESSAGE_LIMIT <= traps::vector::DEVICE_COUNT as usize);

/// Base class of bridges, which no driver gets.
const BRIDGE: u8 = 0x06;

/// Offset of the BARs in configuration space.
const BARS: u16 = 0x10;

/// Registers of the PCI Express capability, by dword (PCI Express Base Specification 3.0, sections 7.8.3 to
/// 7.8.5).
const EXPRESS_CAPABILITIES: u16 = 0x04;
const CAN_RESET: u32 = 1 << 28;
/// Device Control, and Device Status in the upper half.
const EXPRESS_CONTROL: u16 = 0x08;
const INITIATE_RESET: u32 = 1 << 15;
const TRANSACTIONS_PENDING: u32 = 1 << 21;

static CONFIG: Once<ConfigSpace> = Once::new();
/// All functions. Initialised in place: the boot stack is too small for all of them.
static ALL: [Once<AnyFunction>; FUNCTION_LIMIT] = [const { Once::new() }; FUNCTION_LIMIT];

/// A function, and the way to its device.
enum AnyFunction {
    Local(BareFunction),
    Remote(RemoteFunction),
}

impl AnyFunction {
    fn new(function: Function, config: &'static ConfigSpace) -> Self {
        let function = BareFunction::new(function, config);
        // Its memory has to be decoded before anything in it can be read.
        function.quiesce();
        match RemoteFunction::new(function) {
            Ok(remote) => {
                remote.quiesce();
                Self::Remote(remote)
            }
            Err(local) => Self::Local(local),
        }
    }
}

/// Finds all functions and quiesces each of them: no bus master, no interrupts. Call it once, before the
/// kernel starts.
pub(crate) fn discover(platform: &Platform) {
    let config = match ConfigSpace::new(platform) {
        Ok(config) => CONFIG.call_once(|| config),
        Err(error) => return say!("no devices for drivers: PCI configuration space: {error}"),
    };
    let mut slots = ALL.iter();
    let mut left_out = 0;
    config.functions(&mut |function| {
        if function.is_endpoint && function.class.0 != BRIDGE {
            match slots.next() {
                Some(slot) => {
                    slot.call_once(|| AnyFunction::new(function, config));
                }
                None => left_out += 1,
            }
        }
    });
    if left_out > 0 {
        say!("{left_out} PCI functions are left alone: the kernel is built for {FUNCTION_LIMIT}");
    }
}

/// Returns the functions that [`discover`] has found.
pub(crate) fn all() -> impl Iterator<Item = &'static dyn PciFunction> {
    ALL.iter().map_while(Once::get).map(|found| match found {
        AnyFunction::Local(function) => function as &dyn PciFunction,
        AnyFunction::Remote(function) => function,
    })
}

/// A function that a driver may be granted.
pub(crate) struct BareFunction {
    function: Function,
    config: &'static ConfigSpace,
    info: DeviceInfo,
    /// The values of its BARs, restored after a reset.
    bars: [u32; MAX_BARS],
    /// Address of each mapped BAR; 0 while it is not mapped.
    windows: [AtomicUsize; MAX_BARS],
    /// Number of open vectors.
    open: AtomicU32,
}

impl BareFunction {
    fn new(function: Function, config: &'static ConfigSpace) -> Self {
        let (base, sub, interface) = function.class;
        let at = function.address;
        let address = u32::from(at.segment()) << 16
            | u32::from(at.bus()) << 8
            | u32::from(at.device()) << 3
            | u32::from(at.function());
        let info = DeviceInfo {
            vendor: function.id.0,
            device: function.id.1,
            class: u32::from_be_bytes([0, base, sub, interface]),
            revision: function.revision,
            address,
            bars: function.bars.map(|bar| memory(bar).map_or(0, |(_, len)| len)),
            vectors: match (&function.msix, &function.msi) {
                (Some(msix), _) => msix.table_size(),
                (None, Some(_)) => 1,
                (None, None) => 0,
            },
        };
        let bars = core::array::from_fn(|bar| {
            // SAFETY: reading a BAR changes nothing.
            unsafe { config.read(at, BARS + 4 * bar as u16) }
        });
        Self { function, config, info, bars, windows: Default::default(), open: AtomicU32::new(0) }
    }

    /// Lets it decode its memory BARs, and disables bus mastering and interrupts.
    pub(crate) fn quiesce(&self) {
        PciHeader::new(self.function.address).update_command(self.config, |command| {
            (command - CommandRegister::BUS_MASTER_ENABLE)
                | CommandRegister::MEMORY_ENABLE
                | CommandRegister::INTERRUPT_DISABLE
        });
        msi::disable_msi(self.config, &self.function);
        msi::disable_msix(self.config, &self.function);
    }

    /// Returns true if the function responds.
    fn is_present(&self) -> bool {
        PciHeader::new(self.function.address).id(self.config).0 != 0xffff
    }

    fn read_express(&self, register: u16) -> Option<u32> {
        let at = self.function.express? + register;
        // SAFETY: reading this capability changes nothing.
        let value = unsafe { self.config.read(self.function.address, at) };
        (value != u32::MAX).then_some(value)
    }

    /// Returns the address of a BAR, which is mapped on first use.
    fn window_address(&self, bar: u8) -> Result<*mut u8, DeviceRefusal> {
        let slot = self.windows.get(usize::from(bar)).ok_or(DeviceRefusal::NoBar { bar })?;
        let known = slot.load(Ordering::Acquire);
        if known != 0 {
            return Ok(ptr::with_exposed_provenance_mut(known));
        }
        let (address, len) =
            memory(self.function.bars[usize::from(bar)]).ok_or(DeviceRefusal::NoBar { bar })?;
        let place = paging::map_device(address, len).map_err(|error| {
            say!("{}: BAR{bar}: {error}", self.function.address);
            DeviceRefusal::NotMapped { bar }
        })?;
        slot.store(place.expose_provenance(), Ordering::Release);
        Ok(place)
    }
}

/// Returns address and length of a memory BAR.
fn memory(bar: Option<Bar>) -> Option<(u64, u64)> {
    match bar? {
        Bar::Memory32 { address, size, .. } => Some((address.into(), size.into())),
        Bar::Memory64 { address, size, .. } => Some((address, size)),
        Bar::Io { .. } => None,
    }
}

impl PciFunction for BareFunction {
    fn info(&self) -> DeviceInfo {
        self.info
    }

    fn window(&self, bar: u8) -> Result<Window, DeviceRefusal> {
        let memory = self.window_address(bar)?;
        let len = self.info.bars[usize::from(bar)] as usize;
        // SAFETY: `window_address` maps the BAR, and the mapping stays.
        Ok(unsafe { Window::mapped(memory, len) })
    }

    fn read(&self, bar: u8, offset: usize, bytes: usize) -> u64 {
        let Ok(place) = self.window_address(bar) else { return u64::MAX };
        let place = place.wrapping_add(offset);
        match bytes {
            // SAFETY: registers of the BAR, which is mapped; by the contract inside it and aligned.
            1 => unsafe { place.read_volatile() }.into(),
            // SAFETY: as above.
            2 => unsafe { place.cast::<u16>().read_volatile() }.into(),
            // SAFETY: as above.
            4 => unsafe { place.cast::<u32>().read_volatile() }.into(),
            // SAFETY: as above.
            _ => unsafe { place.cast::<u64>().read_volatile() },
        }
    }

    fn write(&self, bar: u8, offset: usize, bytes: usize, value: u64) {
        let Ok(place) = self.window_address(bar) else { return };
        let place = place.wrapping_add(offset);
        match bytes {
            // SAFETY: as in `read`; the driver is responsible for the effect on the device.
            1 => unsafe { place.write_volatile(value as u8) },
            // SAFETY: as above.
            2 => unsafe { place.cast::<u16>().write_volatile(value as u16) },
            // SAFETY: as above.
            4 => unsafe { place.cast::<u32>().write_volatile(value as u32) },
            // SAFETY: as above.
            _ => unsafe { place.cast::<u64>().write_volatile(value) },
        }
    }

    fn set_bus_master(&self, on: bool) {
        PciHeader::new(self.function.address).update_command(self.config, |command| {
            if on {
                command | CommandRegister::BUS_MASTER_ENABLE
            } else {
                command - CommandRegister::BUS_MASTER_ENABLE
            }
        });
        // The reply arrives after everything that the function has written before (PCI Express Base
        // Specification 3.0, section 2.4.1: a completion does not pass posted requests).
        self.is_present();
    }

    fn has_transactions_pending(&self) -> bool {
        self.read_express(EXPRESS_CONTROL).is_some_and(|control| control & TRANSACTIONS_PENDING != 0)
    }

    fn begin_reset(&self) -> bool {
        let can_reset = self.read_express(EXPRESS_CAPABILITIES).is_some_and(|value| value & CAN_RESET != 0);
        let (true, Some(control)) = (can_reset, self.read_express(EXPRESS_CONTROL)) else { return false };
        let at = self.function.express.unwrap_or_default() + EXPRESS_CONTROL;
        // The upper half is status bits, some of which are cleared by writing ones.
        let reset = control & 0xffff | INITIATE_RESET;
        // SAFETY: resets this function only, whose driver is dead.
        unsafe { self.config.write(self.function.address, at, reset) };
        true
    }

    fn end_reset(&self) -> bool {
        if !self.is_present() {
            return false;
        }
        for (bar, &value) in self.bars.iter().enumerate() {
            // SAFETY: the earlier values, so the function decodes the same addresses as before.
            unsafe { self.config.write(self.function.address, BARS + 4 * bar as u16, value) };
        }
        self.quiesce();
        true
    }

    fn open_vector(&self, vector: u16, number: u8, cpu: usize) -> Result<(), DeviceRefusal> {
        let refusal = DeviceRefusal::NoVector { vector };
        let apic_id = u8::try_from(cpu::apic_id(cpu)).map_err(|_| refusal)?;
        let target = MsiTarget { apic_id, vector: traps::vector::DEVICE + number };
        let opened = match self.function.msix {
            Some(_) => msi::enable_msix(self.config, &self.function, vector, target),
            None => msi::enable_msi(self.config, &self.function, target),
        };
        opened.map_err(|error: MsiError| {
            say!("{}: vector {vector}: {error}", self.function.address);
            refusal
        })?;
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn close_vector(&self, vector: u16) {
        msi::mask_msix(&self.function, vector);
        if self.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            msi::disable_msi(self.config, &self.function);
            msi::disable_msix(self.config, &self.function);
        }
    }
}
