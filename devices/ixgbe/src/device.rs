//! [`Ixgbe`]: the device as its host sees it.

use std::convert::Infallible;
use std::sync::Arc;

use device_bus::{
    Bar, BarKind, ClassCode, DmaPort, Host, Model, ModelFrontend, ModelRequest, ModelThread, MsixLayout,
    PciIdentity, Presence, ThreadedModel, WorkSignal,
};
use device_link::{LossCounters, Wire};

use crate::config::{Chip, ConfigError, IxgbeConfig};
use crate::engine::Engine;
use crate::fault_injection::FaultInjector;
use crate::fault_injection::host::UnreliableHost;
use crate::interrupts::VECTORS;
use crate::losses::Losses;
use crate::registers::{Registers, signal};
use crate::serial::Serial;

/// The vendor id of Intel.
const VENDOR: u16 = 0x8086;
/// The BAR of the MSI-X table.
const MSIX_BAR: u8 = 4;
/// The size of the registers and the flash behind them (section 9.3.6.1).
const BAR_BYTES: u64 = 512 << 10;

/// An 82599 or X540 at a wire.
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
    /// True if faults are injected between the device and its host.
    is_unreliable: bool,
}

impl Ixgbe {
    /// Creates a device at the wire that `config` describes, and starts its thread.
    ///
    /// # Errors
    /// [`ConfigError`] if a field of `config` is not valid, or the host cannot open the peer or start the
    /// thread.
    pub fn new(config: IxgbeConfig) -> Result<Self, ConfigError> {
        let wire = config.wire.open().map_err(ConfigError::Open)?;
        Self::with_wire(config, wire)
    }

    /// Creates a device at `wire`; `config.wire` is ignored.
    ///
    /// # Errors
    /// As [`new`](Self::new), except for the peer.
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

    /// The fault injector of the device.
    pub fn faults(&self) -> &Arc<FaultInjector> {
        &self.faults
    }

    /// The frames that the device has not delivered so far.
    pub fn losses(&self) -> Losses {
        self.registers.losses.read()
    }

    /// The frames that its wire has not delivered so far.
    pub fn wire_losses(&self) -> device_link::Losses {
        self.wire_losses.read()
    }

    /// Unplugs the device, for good or for the duration that the rule of
    /// [`Fault::Unplug`](crate::Fault::Unplug) has.
    pub fn unplug(&self) {
        self.thread.unplug();
    }

    /// Plugs the device in again, as after a function level reset. Does nothing if it is plugged in.
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
    const REQUEST_BIT: u32 = signal::REQUEST;
    const PORT_BIT: u32 = signal::PORT;

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

    fn presence(&self) -> &Presence {
        self.faults.presence()
    }

    fn unplug_ns(&self) -> u64 {
        self.faults.unplug_ns()
    }
}

fn identity(chip: Chip) -> PciIdentity {
    PciIdentity {
        vendor: VENDOR,
        device: chip.device_id(),
        // A network controller for Ethernet.
        class: ClassCode { base: 2, sub: 0, interface: 0 },
        revision: 1,
        subsystem_vendor: VENDOR,
        subsystem: 0x0003,
        bars: vec![Bar { index: 0, bytes: BAR_BYTES, kind: BarKind::Memory64 }],
        msix: MsixLayout { vectors: VECTORS, bar: MSIX_BAR },
    }
}
