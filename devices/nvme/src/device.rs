//! The device as its host sees it.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use device_bus::{
    AlreadyAttached, Bar, BarKind, ClassCode, Host, Inbox, Model, MsixLayout, PciIdentity, Port,
};

use crate::admin::VENDOR;
use crate::cache::{Medium, Survivors};
use crate::config::{ConfigError, FORMATS, NvmeConfig};
use crate::controller::{Controller, State};
use crate::disk::Disk;
use crate::engine::{self, Request};
use crate::fault_injection::FaultInjector;
use crate::fault_injection::host::UnreliableHost;
use crate::features::Features;
use crate::logs::Log;
use crate::namespace::Namespace;
use crate::prp::PrpWalk;
use crate::registers::{Registers, attention};
use crate::schedule::Schedule;

/// Device id: "NV".
const DEVICE: u16 = 0x4e56;
/// The BAR of the registers, and the one of the MSI-X table.
const REGISTERS_BAR: u8 = 0;
const MSIX_BAR: u8 = 4;

/// An NVMe controller with its namespaces.
///
/// Dropping it is pulling the plug: what only its volatile cache holds is lost, unless the driver shut it down or
/// flushed.
pub struct Nvme {
    identity: PciIdentity,
    registers: Arc<Registers>,
    port: Arc<Port>,
    faults: Arc<FaultInjector>,
    inbox: Arc<Inbox<Request>>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// What a loss of power leaves on the disk of what only the cache held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PowerLoss {
    /// Nothing.
    DropAll,
    /// Parts of it, whole blocks, chosen by this seed: a cache may have written back any of it.
    DropSome(u64),
}

impl Nvme {
    /// Makes a device with the disks that `config` names, and starts its thread.
    ///
    /// # Errors
    /// [`ConfigError`] for what no device could be, or a file that cannot be used.
    pub fn new(config: NvmeConfig) -> Result<Self, ConfigError> {
        let disks = config.open_disks()?;
        Self::with_disks(config, disks)
    }

    /// The same with disks of the caller's, one per namespace; `config.namespaces` is not looked at.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_disks(config: NvmeConfig, disks: Vec<Arc<dyn Disk>>) -> Result<Self, ConfigError> {
        config.check(&disks)?;
        let format = FORMATS.iter().position(|bytes| *bytes == config.lba_bytes).unwrap_or(0);
        let cache_bytes = config.cache_bytes;
        let namespaces = disks
            .into_iter()
            .map(|disk| Namespace { medium: Medium::new(disk, cache_bytes), format })
            .collect();
        let queues = usize::from(config.queues) + 1;
        let registers = Arc::new(Registers::new(&config));
        let port = Arc::new(Port::new());
        let faults = Arc::new(FaultInjector::new(config.seed, config.spare_admin, &config.faults));
        let inbox = Arc::new(Inbox::default());
        let identity = identity(&config, &registers);
        let controller = Controller {
            registers: registers.clone(),
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
        let worker = std::thread::Builder::new()
            .name("nvme-model".into())
            .spawn({
                let inbox = inbox.clone();
                move || engine::run(controller, inbox)
            })
            .map_err(ConfigError::Thread)?;
        Ok(Self { identity, registers, port, faults, inbox, worker: Mutex::new(Some(worker)) })
    }

    /// The switches of its misbehaviour.
    pub fn faults(&self) -> &Arc<FaultInjector> {
        &self.faults
    }

    /// Cuts the power and brings it back: the cache is lost, and the function is as after power-on.
    pub fn lose_power(&self, loss: PowerLoss) {
        self.port.set_open(false);
        let survivors = match loss {
            PowerLoss::DropAll => Survivors::None,
            PowerLoss::DropSome(seed) => Survivors::Some(seed),
        };
        self.ask(Request::LosePower(survivors));
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

    /// Makes it as warm as this, in Kelvin; it starts with 300.
    pub fn set_temperature(&self, kelvin: u16) {
        self.ask(Request::SetTemperature(kelvin));
    }

    /// Has it report that a namespace changed.
    pub fn announce_change(&self, nsid: u32) {
        self.ask(Request::NamespaceChanged(nsid));
    }

    /// Waits until the device's thread has done it.
    fn ask(&self, request: Request) {
        self.inbox.ask(&self.registers.attention, attention::REQUEST, request);
    }
}

impl Model for Nvme {
    fn identity(&self) -> PciIdentity {
        self.identity.clone()
    }

    fn attach(&self, host: Arc<dyn Host>) -> Result<(), AlreadyAttached> {
        let vectors = self.identity.msix.vectors;
        self.port.attach(Arc::new(UnreliableHost { host, faults: self.faults.clone(), vectors }))
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
        self.ask(Request::ResetFunction);
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

impl Drop for Nvme {
    fn drop(&mut self) {
        self.port.set_open(false);
        self.ask(Request::Stop);
        if let Some(worker) = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It ends without a result; a panic of its was printed.
            let _ = worker.join();
        }
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
        bars: vec![Bar { index: REGISTERS_BAR, bytes: registers.window_bytes(), kind: BarKind::Memory64 }],
        msix: MsixLayout { vectors: config.queues + 1, bar: MSIX_BAR },
    }
}
