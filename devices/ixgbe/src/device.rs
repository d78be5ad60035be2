//! The device as its host sees it.

use std::convert::Infallible;
use std::sync::Arc;

use device_bus::{
    Bar, BarKind, ClassCode, DmaPort, Host, Model, ModelFrontend, ModelRequest, ModelThread, MsixLayout,
    PciIdentity, ThreadedModel, WorkSignal,
};
use device_link::{LossCounters, Wire};

use crate::config::{Chip, ConfigError, IxgbeConfig};
use crate::engine::Engine;
use crate::fault_injection::FaultInjector;
use crate::fault_injection::host::UnreliableHost;
use crate::interrupts::VECTORS;
use crate::losses::Losses;
use crate::registers::{Registers, work};
use crate::serial::Serial;

/// Intel.
const VENDOR: u16 = 0x8086;
/// The BAR of the MSI-X table.
const MSIX_BAR: u8 = 4;
/// Registers, and the flash behind them (section 9.3.6.1).
const BAR_BYTES: u64 = 512 << 10;

/// An 82599 or X540, plugged into a wire.
pub struct Ixgbe {
    thread: ModelThread<Frontend, Infallible>,
    registers: Arc<Registers>,
    faults: Arc<FaultInjector>,
    wire_losses: Arc<LossCounters>,
}

/// The registers behind their fault injection.
struct Frontend {
    registers: Arc<Registers>,
    faults: Arc<FaultInjector>,
    /// Whether fault injection takes part between the device and its host.
    is_unreliable: bool,
}

impl Ixgbe {
    /// Makes a device on the wire that `config` describes, and starts its thread.
    ///
    /// # Errors
    /// [`ConfigError`] for what no device could be, or an end that cannot be had.
    pub fn new(config: IxgbeConfig) -> Result<Self, ConfigError> {
        let wire = config.wire.open().map_err(ConfigError::Open)?;
        Self::with_wire(config, wire)
    }

    /// The same with a wire of the caller's; `config.wire` is not looked at.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_wire(config: IxgbeConfig, wire: Wire) -> Result<Self, ConfigError> {
        config.check()?;
        let device = config.chip.device_id();
        let serial = Serial::new(config.mac, device, config.chip == Chip::X540);
        let registers = Arc::new(Registers::new(config.mac, serial));
        let port = Arc::new(DmaPort::new());
        let faults = Arc::new(FaultInjector::new(config.seed, &config.faults));
        let wire_losses = wire.losses().clone();
        let engine = Engine::new(
            registers.clone(),
            port.clone(),
            faults.clone(),
            wire,
            config.spin_ns,
            config.link_ns,
        );
        let is_unreliable = !config.faults.is_empty();
        let frontend = Frontend { registers: registers.clone(), faults: faults.clone(), is_unreliable };
        let thread = ModelThread::start("ixgbe-model", identity(config.chip), frontend, port, engine)
            .map_err(ConfigError::Thread)?;
        Ok(Self { thread, registers, faults, wire_losses })
    }

    /// The switches of its misbehaviour.
    pub fn faults(&self) -> &Arc<FaultInjector> {
        &self.faults
    }

    /// The frames that the device did not deliver so far.
    pub fn losses(&self) -> Losses {
        self.registers.losses.read()
    }

    /// The frames that its wire did not deliver so far.
    pub fn wire_losses(&self) -> device_link::Losses {
        self.wire_losses.read()
    }

    /// Pulls the device out of its slot, for good or for the duration that [`Kind::Unplug`](crate::Kind::Unplug) has.
    pub fn unplug(&self) {
        self.thread.unplug();
    }

    /// Plugs an unplugged device in again, as after a function level reset.
    pub fn replug(&self) {
        self.thread.request(ModelRequest::Replug);
    }
}

impl ThreadedModel for Ixgbe {
    fn thread(&self) -> &dyn Model {
        &self.thread
    }
}

impl ModelFrontend for Frontend {
    const REQUEST_BIT: u32 = work::REQUEST;
    const PORT_BIT: u32 = work::PORT;

    fn work_signal(&self) -> &WorkSignal {
        &self.registers.work_signal
    }

    fn read(&self, offset: u64, size: u8) -> u64 {
        self.faults.read(&self.registers, offset, size)
    }

    fn write(&self, offset: u64, size: u8, value: u64) {
        self.faults.write(&self.registers, offset, size, value);
    }

    fn wrap_host(&self, host: Arc<dyn Host>) -> Arc<dyn Host> {
        if !self.is_unreliable {
            return host;
        }
        Arc::new(UnreliableHost::new(host, self.faults.clone(), self.registers.clone()))
    }

    fn unplug(&self) {
        self.faults.unplug();
    }

    fn is_unplugged(&self) -> bool {
        self.faults.is_unplugged()
    }

    fn insertions(&self) -> u64 {
        self.faults.insertions()
    }
}

fn identity(chip: Chip) -> PciIdentity {
    PciIdentity {
        vendor: VENDOR,
        device: chip.device_id(),
        // Network, Ethernet.
        class: ClassCode { base: 2, sub: 0, interface: 0 },
        revision: 1,
        subsystem_vendor: VENDOR,
        subsystem: 0x0003,
        bars: vec![Bar { index: 0, bytes: BAR_BYTES, kind: BarKind::Memory64 }],
        msix: MsixLayout { vectors: VECTORS, bar: MSIX_BAR },
    }
}
