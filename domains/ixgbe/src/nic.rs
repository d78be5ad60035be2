//! [`Nic`]: a controller, its resets, and the service that exports it.

use alloc::sync::Arc;
use core::fmt;

use coppice_hardware::Device;
use coppice_interfaces::{Handle, RpcResult, Text};
use coppice_net::{
    Link, MacAddr, NetConfig, NetDevice, NetError, NetInfo, NetQueue, Offloads, QueueDepth, Statistics,
};
use coppice_runtime::sync::Mutex;
use coppice_runtime::time;
use driver_polling::ResetBudget;
use ixgbe_driver::{Controller, Fault, IxgbeError, Options, QueueOptions};

use crate::counters::Counters;
use crate::queue::Queue;
use crate::translate::{config, error, link, statistics};
use crate::{Format, Settings};

/// A network controller, shared by all its queues.
pub struct Nic {
    controller: Controller,
    info: NetInfo,
    pub(crate) settings: Settings,
    config: Mutex<NetConfig>,
    reset_budget: Mutex<ResetBudget>,
    pub(crate) counters: Counters,
}

impl Nic {
    /// Initializes the device and configures it with [`NetConfig::default`].
    ///
    /// # Errors
    /// When the device is none that the driver supports, or does not come up.
    pub fn open(device: Device, settings: Settings) -> Result<Arc<Self>, IxgbeError> {
        let options = Options {
            step_timeout_ns: settings.timeout.as_nanos() as u64,
            settle_ns: settings.settle.as_nanos() as u64,
            hang_ns: settings.hang.as_nanos() as u64,
            spin_ns: settings.spin.as_nanos() as u64,
            interrupt_gap_us: settings.gap.as_micros() as u32,
        };
        let controller = Controller::open(device, options)?;
        let info = describe(&controller, &settings);
        let default = NetConfig::default();
        controller.configure(&config(&default)?)?;
        Ok(Arc::new(Self {
            controller,
            info,
            settings,
            config: Mutex::new(default),
            reset_budget: Mutex::new(ResetBudget::new()),
            counters: Counters::default(),
        }))
    }

    /// The model, address and limits of the device.
    pub fn info(&self) -> &NetInfo {
        &self.info
    }

    /// Exports the device.
    pub fn serve(self: &Arc<Self>) -> Handle<dyn NetDevice> {
        <dyn NetDevice>::export(Service(self.clone()))
    }

    /// Runs an operation on the controller. Resets the device and repeats the operation once if the device is
    /// at fault.
    fn with_reset<T>(&self, operation: impl Fn(&Controller) -> Result<T, IxgbeError>) -> Result<T, NetError> {
        let resets = self.controller.resets();
        let result = match operation(&self.controller) {
            Err(IxgbeError::Fault(fault)) => {
                self.reset(fault, resets);
                operation(&self.controller)
            }
            result => result,
        };
        result.map_err(error)
    }

    /// Resets the device, unless its reset count is no longer `resets`: then another thread has reset it. The
    /// queues notice a reset at their next use.
    #[cold]
    fn reset(&self, fault: Fault, resets: u32) {
        if self.controller.resets() != resets {
            return;
        }
        self.record_fault(fault);
        if let Err(second) = self.controller.reset(resets) {
            panic!("{fault}, and the reset failed: {second}");
        }
    }

    /// Counts a fault of the device.
    ///
    /// # Panics
    /// When the fault is final or the reset budget is exhausted: the shadow continues with a restarted
    /// domain.
    #[cold]
    pub(crate) fn record_fault(&self, fault: Fault) {
        if fault == Fault::WasReset {
            return;
        }
        log::warn!("{fault}");
        assert!(!fault.is_final(), "{fault}");
        let count = self.reset_budget.lock().record_fault(time::now().as_nanos() as u64);
        assert!(count <= self.settings.resets, "{fault}: fault {count} within seconds, resets do not help");
    }
}

fn describe(controller: &Controller, settings: &Settings) -> NetInfo {
    let info = controller.info();
    NetInfo {
        mac: MacAddr(info.mac),
        model: Text::new(info.model),
        queues: info.queues.into(),
        max_send_depth: info.most_depth,
        max_receive_depth: info.most_depth,
        longest_frame: info.longest_frame,
        min_packet_bytes: settings.packet_bytes,
        offloads: Offloads {
            send_ip_checksum: true,
            send_transport_checksum: true,
            receive_checksums: true,
            rss: true,
            scatter_gather: info.most_parts > 1,
        },
    }
}

struct Service(Arc<Nic>);

impl NetDevice for Service {
    fn info(&self) -> RpcResult<NetInfo> {
        Ok(self.0.info)
    }

    fn link(&self) -> RpcResult<Result<Link, NetError>> {
        Ok(self.0.with_reset(Controller::link).map(link))
    }

    fn statistics(&self) -> RpcResult<Result<Statistics, NetError>> {
        let counted = self.0.with_reset(Controller::statistics);
        Ok(counted.map(|counted| statistics(counted, &self.0.counters)))
    }

    fn config(&self) -> RpcResult<NetConfig> {
        Ok(*self.0.config.lock())
    }

    fn configure(&self, wanted: NetConfig) -> RpcResult<Result<(), NetError>> {
        let nic = &self.0;
        if let Err(error) = wanted.check(&nic.info) {
            return Ok(Err(error));
        }
        // The lock is held during the call, so that the recorded configuration is that of the device.
        let mut config = nic.config.lock();
        let set = nic.with_reset(|controller| controller.configure(&crate::translate::config(&wanted)?));
        if set.is_ok() {
            *config = wanted;
        }
        Ok(set)
    }

    fn open(&self, depth: QueueDepth) -> RpcResult<Result<Handle<dyn NetQueue>, NetError>> {
        let nic = &self.0;
        let options = QueueOptions {
            send_depth: depth.send,
            receive_depth: depth.receive,
            packet_bytes: nic.settings.packet_bytes,
        };
        let opened = nic.with_reset(|controller| controller.open_queue::<Format>(options));
        let export = |queue| <dyn NetQueue>::export(Queue::new(nic.clone(), queue, depth.max_received()));
        Ok(opened.map(export))
    }
}

impl fmt::Display for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, {} queues", self.info.model, self.info.mac, self.info.queues)
    }
}
