//! [`Disk`]: one namespace of a controller.

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

/// Why there is no disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// The controller does not work.
    Controller(NvmeError),
    /// Its first namespace cannot be used, or the one that was asked for.
    Refused {
        /// Which.
        namespace: u32,
        /// Why.
        refusal: NamespaceRefusal,
    },
    /// There is no such namespace; without a number, there is none at all.
    NoNamespace {
        /// As asked for.
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

/// A disk, to its queues.
pub struct Disk {
    controller: Controller,
    namespace: Namespace,
    info: BlockInfo,
    pub(crate) settings: Settings,
    reset_budget: Mutex<ResetBudget>,
}

impl Disk {
    /// Brings the controller up.
    ///
    /// # Errors
    /// [`DiskError`].
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

    /// What it is.
    pub fn info(&self) -> &BlockInfo {
        &self.info
    }

    /// The exported object. What the controller tells of itself is logged from now on.
    pub fn serve(self: &Arc<Self>) -> Handle<dyn BlockDevice> {
        let disk = self.clone();
        if thread::Builder::new().spawn(move || disk.listen()).is_err() {
            log::warn!("no thread is left: what the controller tells of itself is not heard");
        }
        <dyn BlockDevice>::export(Service(self.clone()))
    }

    fn listen(&self) {
        loop {
            let resets = self.controller.resets();
            match self.controller.wait_event(u64::MAX) {
                Ok(Some(event)) => log::warn!("the controller says: {event:?}"),
                Ok(None) => {}
                // A queue that is in use finds that out too, and sooner.
                Err(_) if self.controller.resets() != resets => {}
                Err(error) => {
                    time::sleep(core::time::Duration::from_secs(1));
                    self.reset(error, resets);
                }
            }
        }
    }

    /// An admin command; once more after a reset, if it is the controller that is at fault.
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

    /// Has the controller reset, unless somebody has since it had been `resets` times. Queues submit their requests again.
    #[cold]
    fn reset(&self, error: NvmeError, resets: u32) {
        if self.controller.resets() != resets {
            return;
        }
        if let NvmeError::Fault(fault) = error {
            self.judge(fault);
        }
        if let Err(again) = self.controller.reset(resets) {
            panic!("{error}, and a reset does not help: {again}");
        }
    }

    /// Decides whether a fault is one too many.
    #[cold]
    pub(crate) fn judge(&self, fault: Fault) {
        log::warn!("{fault}");
        assert!(!fault.is_final(), "{fault}");
        if fault == Fault::WasReset {
            return;
        }
        let count = self.reset_budget.lock().record_fault(time::now().as_nanos() as u64);
        assert!(count <= self.settings.resets, "{fault}: fault {count} within seconds, and no reset helps");
    }
}

fn describe(controller: &Controller, namespace: &Namespace, settings: &Settings) -> BlockInfo {
    let info = controller.info();
    let word = |bytes: &[u8]| String::from(String::from_utf8_lossy(bytes).trim_matches([' ', '\0']));
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
            model: Text::new(&word(&info.model)),
            serial: Text::new(&word(&info.serial)),
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
            Err(error) => Err(OpenError::Device(refused(error))),
        })
    }

    fn health(&self) -> RpcResult<Result<Health, BlockError>> {
        Ok(self.0.admin(Controller::health).map_err(refused).map(|health| Health {
            critical_warning: health.critical_warning,
            // Kelvin, without the fraction, as the specification has it.
            temperature_celsius: health.temperature.cast_signed().saturating_sub(273),
            available_spare: health.available_spare,
            percentage_used: health.percentage_used,
            power_on_hours: health.power_on_hours,
            unsafe_shutdowns: health.unsafe_shutdowns,
            media_errors: health.media_errors,
        }))
    }
}

/// What the controller has refused.
fn refused(error: NvmeError) -> BlockError {
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
