//! [`Disk`]: one namespace of a controller, the resets of that controller, and the service that exports it.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use coppice_block::{BlockDevice, BlockError, BlockInfo, BlockQueue, Health, Identity, OpenError};
use coppice_hardware::Device;
use coppice_interfaces::{Handle, RpcResult, Text};
use coppice_runtime::sync::Mutex;
use coppice_runtime::{thread, time};
use driver_polling::ResetBudget;
use nvme_driver::{Controller, Fault, Namespace, NamespaceRefusal, NvmeError, Options};

use crate::Settings;
use crate::queue::{Queue, operations};

/// The reason why a disk was not opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// The controller is at fault or has refused a command.
    Controller(NvmeError),
    /// The first namespace, or the one that the settings name, cannot be used.
    Refused {
        /// The id of the namespace.
        namespace: u32,
        /// The reason, from the driver.
        refusal: NamespaceRefusal,
    },
    /// The controller has no namespace of that id, or none at all if no id is given.
    NoNamespace {
        /// The id from the settings.
        namespace: Option<u32>,
    },
}

impl From<NvmeError> for DiskError {
    fn from(error: NvmeError) -> Self {
        Self::Controller(error)
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller(error) => error.fmt(f),
            Self::Refused { namespace, refusal } => write!(f, "namespace {namespace} {refusal}"),
            Self::NoNamespace { namespace: Some(namespace) } => {
                write!(f, "there is no namespace {namespace}")
            }
            Self::NoNamespace { namespace: None } => f.write_str("the controller has no namespace"),
        }
    }
}

impl core::error::Error for DiskError {}

/// A controller and one of its namespaces, shared by all queues.
pub struct Disk {
    controller: Controller,
    namespace: Namespace,
    info: BlockInfo,
    pub(crate) settings: Settings,
    reset_budget: Mutex<ResetBudget>,
}

impl Disk {
    /// Initializes the controller and selects a namespace.
    ///
    /// # Errors
    /// When the controller does not start, or when it has no usable namespace that the settings allow.
    pub fn open(device: Device, settings: Settings) -> Result<Arc<Self>, DiskError> {
        let options = Options {
            command_timeout_ns: settings.timeout.as_nanos() as u64,
            admin_timeout_ns: settings.admin_timeout.as_nanos() as u64,
            spin_ns: settings.spin.as_nanos() as u64,
            queues: settings.queues,
            ..Options::default()
        };
        let controller = Controller::new(device, options)?;
        let wanted = |id| settings.namespace.is_none_or(|wanted| wanted == id);
        let Some(namespace) = controller.namespaces().iter().find(|one| wanted(one.id())).copied() else {
            let refused = controller.refused_namespaces().iter().find(|(id, _)| wanted(*id));
            return Err(match refused {
                Some(&(namespace, refusal)) => DiskError::Refused { namespace, refusal },
                None => DiskError::NoNamespace { namespace: settings.namespace },
            });
        };
        let info = describe(&controller, &namespace, &settings);
        Ok(Arc::new(Self {
            controller,
            namespace,
            info,
            settings,
            reset_budget: Mutex::new(ResetBudget::new()),
        }))
    }

    /// The size, limits and identity of the disk.
    pub fn info(&self) -> &BlockInfo {
        &self.info
    }

    /// Exports the disk, and starts a thread that logs the controller's asynchronous events.
    pub fn serve(self: &Arc<Self>) -> Handle<dyn BlockDevice> {
        let disk = self.clone();
        if thread::Builder::new().spawn(move || disk.log_events()).is_err() {
            log::warn!("no thread is left: events of the controller are not logged");
        }
        <dyn BlockDevice>::export(Service(self.clone()))
    }

    fn log_events(&self) {
        loop {
            let resets = self.controller.resets();
            match self.controller.wait_event(u64::MAX) {
                Ok(Some(event)) => log::warn!("event of the controller: {event:?}"),
                Ok(None) => {}
                // A queue in use noticed the fault first and has reset the controller.
                Err(_) if self.controller.resets() != resets => {}
                Err(error) => {
                    time::sleep(core::time::Duration::from_secs(1));
                    self.reset(error, resets);
                }
            }
        }
    }

    /// Runs an admin command. Resets the controller and repeats the command once if the controller is at
    /// fault.
    fn admin<T>(&self, command: impl Fn(&Controller) -> Result<T, NvmeError>) -> Result<T, NvmeError> {
        let resets = self.controller.resets();
        match command(&self.controller) {
            Err(error @ NvmeError::Fault(_)) => {
                self.reset(error, resets);
                command(&self.controller)
            }
            result => result,
        }
    }

    /// Resets the controller, unless its reset count is no longer `resets`: then another thread has reset it.
    /// The queues resubmit their requests.
    #[cold]
    fn reset(&self, error: NvmeError, resets: u32) {
        if self.controller.resets() != resets {
            return;
        }
        if let NvmeError::Fault(fault) = error {
            self.record_fault(fault);
        }
        if let Err(second) = self.controller.reset(resets) {
            panic!("{error}, and the reset failed: {second}");
        }
    }

    /// Counts a fault of the controller.
    ///
    /// # Panics
    /// When the fault is final or the reset budget is exhausted: the shadow continues with a restarted
    /// domain.
    #[cold]
    pub(crate) fn record_fault(&self, fault: Fault) {
        log::warn!("{fault}");
        assert!(!fault.is_final(), "{fault}");
        if fault == Fault::WasReset {
            return;
        }
        let count = self.reset_budget.lock().record_fault(time::now().as_nanos() as u64);
        assert!(count <= self.settings.resets, "{fault}: fault {count} within seconds, resets do not help");
    }
}

fn describe(controller: &Controller, namespace: &Namespace, settings: &Settings) -> BlockInfo {
    let info = controller.info();
    let text = |bytes: &[u8]| String::from(String::from_utf8_lossy(bytes).trim_matches([' ', '\0']));
    BlockInfo {
        block_bytes: namespace.block_bytes(),
        blocks: namespace.blocks(),
        max_transfer_blocks: info.max_transfer_bytes as u32 / namespace.block_bytes(),
        max_range_blocks: 1 << 16,
        queue_depth: u32::from(info.max_depth.min(settings.depth)),
        queues: info.queues.into(),
        volatile_write_cache: info.volatile_write_cache,
        operations: operations(info),
        identity: Identity {
            model: Text::new(&text(&info.model)),
            serial: Text::new(&text(&info.serial)),
            namespace: namespace.id(),
            unique: namespace.unique_id(),
        },
    }
}

struct Service(Arc<Disk>);

impl BlockDevice for Service {
    fn info(&self) -> RpcResult<BlockInfo> {
        Ok(self.0.info)
    }

    fn open(&self, depth: u32) -> RpcResult<Result<Handle<dyn BlockQueue>, OpenError>> {
        let disk = &self.0;
        let most = disk.info.queue_depth;
        if depth == 0 || depth > most {
            return Ok(Err(OpenError::Depth { depth, most }));
        }
        Ok(match disk.admin(|controller| controller.open_queue(&disk.namespace, depth as u16)) {
            Ok(queue) => Ok(<dyn BlockQueue>::export(Queue::new(disk.clone(), queue))),
            Err(NvmeError::NoQueue { queues }) => Err(OpenError::NoQueue { queues: queues.into() }),
            Err(error) => Err(OpenError::Device(admin_error(error))),
        })
    }

    fn health(&self) -> RpcResult<Result<Health, BlockError>> {
        Ok(self.0.admin(Controller::health).map_err(admin_error).map(|health| Health {
            critical_warning: health.critical_warning,
            // The log page counts whole kelvins.
            temperature_celsius: health.temperature.cast_signed().saturating_sub(273),
            available_spare: health.available_spare,
            percentage_used: health.percentage_used,
            power_on_hours: health.power_on_hours,
            unsafe_shutdowns: health.unsafe_shutdowns,
            media_errors: health.media_errors,
        }))
    }
}

/// The interface's error for a failed admin command.
fn admin_error(error: NvmeError) -> BlockError {
    log::warn!("{error}");
    let NvmeError::Admin { status, .. } = error else { return BlockError::DeviceFault { status: 0 } };
    BlockError::DeviceFault { status: status.to_bits() }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BlockInfo { identity, block_bytes, blocks, .. } = &self.info;
        write!(
            f,
            "{} {}, namespace {}: {blocks} blocks of {block_bytes} bytes",
            identity.model, identity.serial, identity.namespace
        )
    }
}
