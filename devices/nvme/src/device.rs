//! [`Nvme`], the device as a [`Model`].

use std::sync::Arc;

use device_bus::{
    Bar, BarKind, ClassCode, DmaPort, Host, Model, ModelFrontend, ModelRequest, ModelThread, MsixLayout,
    PciIdentity, Presence, ThreadedModel, WorkSignal,
};

use crate::cache::{CachedDisk, Survivors};
use crate::config::{ConfigError, FORMATS, NvmeConfig};
use crate::controller::{Controller, State};
use crate::disk::Disk;
use crate::engine::ControlCommand;
use crate::fault_injection::FaultInjector;
use crate::fault_injection::host::UnreliableHost;
use crate::features::Features;
use crate::logs::Log;
use crate::namespace::Namespace;
use crate::prp::PrpWalk;
use crate::registers::{Registers, work};
use crate::schedule::Schedule;
use crate::spec::VENDOR;

/// Device id: "NV".
const DEVICE: u16 = 0x4e56;
/// The BAR of the MSI-X table.
const MSIX_BAR: u8 = 4;

/// An NVMe controller with its namespaces.
///
/// Dropping it cuts the power: data in its volatile cache is lost, unless the driver has flushed it or shut
/// the controller down.
pub struct Nvme {
    thread: ModelThread<Frontend, ControlCommand>,
    faults: Arc<FaultInjector>,
}

/// The registers behind their fault injection.
struct Frontend {
    registers: Arc<Registers>,
    faults: Arc<FaultInjector>,
    vectors: u16,
}

/// The part of the cached data that reaches the disk at a loss of power.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PowerLoss {
    /// None of it.
    DropAll,
    /// A random selection of whole blocks, by this seed: a cache may have written back any of them.
    DropSome(u64),
}

impl Nvme {
    /// Creates a device with the disks of `config`, and starts its thread.
    ///
    /// # Errors
    /// [`ConfigError`] if a value of `config` is outside of its limits, a file is not usable as a disk, or
    /// the host cannot start a thread.
    pub fn new(config: NvmeConfig) -> Result<Self, ConfigError> {
        let disks = config.open_disks()?;
        Self::with_disks(config, disks)
    }

    /// Like [`new`](Self::new), with the caller's disks, one per namespace, instead of those of
    /// `config.namespaces`.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn with_disks(config: NvmeConfig, disks: Vec<Arc<dyn Disk>>) -> Result<Self, ConfigError> {
        config.check(&disks)?;
        let format = FORMATS.iter().position(|bytes| *bytes == config.lba_bytes).unwrap_or(0);
        let cache_bytes = config.cache_bytes;
        let namespaces = disks
            .into_iter()
            .map(|disk| Namespace { disk: CachedDisk::new(disk, cache_bytes), format })
            .collect();
        let queues = usize::from(config.queues) + 1;
        let registers = Arc::new(Registers::new(&config));
        let port = Arc::new(DmaPort::new());
        let faults = Arc::new(FaultInjector::new(config.seed, config.spare_admin, &config.faults));
        let frontend =
            Frontend { registers: registers.clone(), faults: faults.clone(), vectors: config.queues + 1 };
        let identity = identity(&config, &registers);
        let controller = Controller {
            registers,
            port: port.clone(),
            faults: faults.clone(),
            namespaces,
            submission: (0..queues).map(|_| None).collect(),
            completion: (0..queues).map(|_| None).collect(),
            schedule: Schedule::new(),
            features: Features::new(&config),
            log: Log::new(),
            prp: PrpWalk::new(),
            page_bytes: 4096,
            scratch: Vec::new(),
            state: State::Off,
            now_ns: 0,
            config,
        };
        let thread = ModelThread::start("nvme-model", identity, frontend, port, controller)
            .map_err(ConfigError::Thread)?;
        Ok(Self { thread, faults })
    }

    /// The fault injection of this device.
    pub fn faults(&self) -> &Arc<FaultInjector> {
        &self.faults
    }

    /// Cuts the power and restores it: the cache is lost, and the function is as after power-on.
    pub fn lose_power(&self, loss: PowerLoss) {
        self.thread.set_bus_master(false);
        let survivors = match loss {
            PowerLoss::DropAll => Survivors::None,
            PowerLoss::DropSome(seed) => Survivors::Some(seed),
        };
        self.control(ControlCommand::LosePower(survivors));
    }

    /// Unplugs the device, for the duration of the rule of [`Kind::Unplug`](crate::Kind::Unplug): by default
    /// until it is plugged in by [`replug`](Self::replug).
    pub fn unplug(&self) {
        self.thread.unplug();
    }

    /// Plugs an unplugged device in again, as after a function level reset.
    pub fn replug(&self) {
        self.thread.request(ModelRequest::Replug);
    }

    /// Sets the composite temperature, in Kelvin; initially 300.
    pub fn set_temperature(&self, kelvin: u16) {
        self.control(ControlCommand::SetTemperature(kelvin));
    }

    /// Makes the device report a changed namespace.
    pub fn announce_change(&self, nsid: u32) {
        self.control(ControlCommand::NamespaceChanged(nsid));
    }

    /// Waits until the device's thread has executed the command.
    fn control(&self, command: ControlCommand) {
        self.thread.request(ModelRequest::Command(command));
    }
}

impl ThreadedModel for Nvme {
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
        Arc::new(UnreliableHost { host, faults: self.faults.clone(), vectors: self.vectors })
    }

    fn presence(&self) -> &Presence {
        self.faults.presence()
    }

    fn unplug_ns(&self) -> u64 {
        self.faults.unplug_ns()
    }
}

fn identity(config: &NvmeConfig, registers: &Registers) -> PciIdentity {
    PciIdentity {
        vendor: VENDOR,
        device: DEVICE,
        // Mass storage, non-volatile memory, NVM Express (PCIe, section 3.8.1).
        class: ClassCode { base: 1, sub: 8, interface: 2 },
        revision: 1,
        subsystem_vendor: VENDOR,
        subsystem: DEVICE,
        bars: vec![Bar { index: 0, bytes: registers.window_bytes(), kind: BarKind::Memory64 }],
        msix: MsixLayout { vectors: config.queues + 1, bar: MSIX_BAR },
    }
}
