//! The device as its host sees it.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use device_bus::{
    AlreadyAttached, Bar, BarKind, ClassCode, Host, Inbox, Model, MsixLayout, PciIdentity, Port,
};
use device_link::{LossCounters, Wire};

use crate::config::{Chip, ConfigError, IxgbeConfig};
use crate::engine::{Engine, Request};
use crate::fault_injection::FaultInjector;
use crate::fault_injection::host::UnreliableHost;
use crate::interrupts::VECTORS;
use crate::losses::Losses;
use crate::registers::{Registers, attention};
use crate::serial::Serial;

/// Intel.
const VENDOR: u16 = 0x8086;
/// The BAR of the registers, and the one of the MSI-X table.
const REGISTERS_BAR: u8 = 0;
const MSIX_BAR: u8 = 4;
/// Registers, and the flash behind them (section 9.3.6.1).
const BAR_BYTES: u64 = 512 << 10;

/// An 82599 or X540, plugged into a wire.
pub struct Ixgbe {
    identity: PciIdentity,
    registers: Arc<Registers>,
    port: Arc<Port>,
    faults: Arc<FaultInjector>,
    wire_losses: Arc<LossCounters>,
    /// Whether fault injection takes part between the device and its host.
    is_unreliable: bool,
    inbox: Arc<Inbox<Request>>,
    worker: Mutex<Option<JoinHandle<()>>>,
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
        let port = Arc::new(Port::new());
        let inbox = Arc::new(Inbox::default());
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
        let worker = std::thread::Builder::new()
            .name("ixgbe-model".into())
            .spawn({
                let inbox = inbox.clone();
                move || engine.run(&inbox)
            })
            .map_err(ConfigError::Thread)?;
        Ok(Self {
            identity: identity(config.chip),
            registers,
            port,
            faults,
            wire_losses,
            is_unreliable: !config.faults.is_empty(),
            inbox,
            worker: Mutex::new(Some(worker)),
        })
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
        self.faults.unplug();
        // Its thread looks at when to come back.
        self.registers.attention.call(attention::PORT);
    }

    /// Plugs an unplugged device in again, as after a function level reset.
    pub fn replug(&self) {
        self.ask(Request::Replug);
    }

    /// Waits until the device's thread has done it.
    fn ask(&self, request: Request) {
        self.inbox.ask(&self.registers.attention, attention::REQUEST, request);
    }
}

impl Model for Ixgbe {
    fn identity(&self) -> PciIdentity {
        self.identity.clone()
    }

    fn attach(&self, host: Arc<dyn Host>) -> Result<(), AlreadyAttached> {
        if !self.is_unreliable {
            return self.port.attach(host);
        }
        let (faults, registers) = (self.faults.clone(), self.registers.clone());
        self.port.attach(Arc::new(UnreliableHost::new(host, faults, registers)))
    }

    fn read(&self, bar: u8, offset: u64, size: u8) -> u64 {
        if bar == REGISTERS_BAR { self.faults.read(&self.registers, offset, size) } else { 0 }
    }

    fn write(&self, bar: u8, offset: u64, size: u8, value: u64) {
        if bar == REGISTERS_BAR {
            self.faults.write(&self.registers, offset, size, value);
        }
    }

    fn set_bus_master(&self, on: bool) {
        if on && self.faults.is_unplugged() {
            // The write finds no device. The one that comes back masters no bus, as after power-on.
            return;
        }
        self.port.set_open(on);
        if on {
            self.registers.attention.call(attention::PORT);
        }
    }

    fn reset(&self) {
        self.port.set_open(false);
        self.ask(Request::Reset);
    }

    fn transactions_pending(&self) -> bool {
        self.port.is_busy()
    }

    fn is_present(&self) -> bool {
        !self.faults.is_unplugged()
    }

    fn insertions(&self) -> u64 {
        self.faults.insertions()
    }
}

impl Drop for Ixgbe {
    fn drop(&mut self) {
        self.port.set_open(false);
        self.ask(Request::Stop);
        if let Some(worker) = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It ends without a result; a panic of its was printed.
            let _ = worker.join();
        }
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
        bars: vec![Bar { index: REGISTERS_BAR, bytes: BAR_BYTES, kind: BarKind::Memory64 }],
        msix: MsixLayout { vectors: VECTORS, bar: MSIX_BAR },
    }
}
