//! [`Controller`]: brings a device up and opens queues on it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use coppice_hardware::{Device, DmaBuffer};

use crate::admin::Admin;
use crate::prp::{MAX_TRANSFER_BYTES, PAGE};
use crate::register_block::RegisterBlock;
use crate::shared::Shared;
use crate::{
    ControllerInfo, ErrorEntry, Event, Health, IoQueue, Namespace, NamespaceRefusal, NvmeError, Options,
};

/// The poll interval of a wait for an event, interrupt or not.
const EVENT_POLL_INTERVAL_NS: u64 = 1_000_000_000;

/// A working controller. Its queues share ownership of it: when it and the last queue are dropped, it is shut
/// down in order.
pub struct Controller {
    shared: Arc<Shared>,
    namespaces: Vec<Namespace>,
    refused: Vec<(u32, NamespaceRefusal)>,
}

impl Controller {
    /// Resets the controller and brings it up, in the order of Base 3.5.1.
    ///
    /// # Errors
    /// When the machine or the controller refuses a step, or the controller does not complete one in the time
    /// that it reports (CAP.TO).
    pub fn new(device: Device, options: Options) -> Result<Self, NvmeError> {
        let max_transfer_bytes = options.max_transfer_bytes.clamp(PAGE, MAX_TRANSFER_BYTES);
        let regs = RegisterBlock::new(device, Options { max_transfer_bytes, ..options })?;
        // An earlier driver may have used the controller. It must forget that driver's memory before it may
        // access any.
        regs.disable()?;
        regs.device.enable_dma(&regs.stop_order())?;
        // Opened before the first command: an interrupt message of a vector that is not open is lost.
        let _ = regs.admin_interrupt();
        let mut admin = Admin::new(&regs)?;
        match bring_up(&regs, &mut admin) {
            Ok((info, (namespaces, refused))) => {
                Ok(Self { shared: Arc::new(Shared::new(regs, info, admin)), namespaces, refused })
            }
            Err(error) => {
                // The controller must stop using its queues before their memory is freed.
                let _ = regs.disable();
                Err(error)
            }
        }
    }

    /// Returns the controller's identity and limits.
    pub fn info(&self) -> &ControllerInfo {
        &self.shared.info
    }

    /// Returns the usable namespaces.
    pub fn namespaces(&self) -> &[Namespace] {
        &self.namespaces
    }

    /// Returns the active namespaces that cannot be used, each with the reason.
    pub fn refused_namespaces(&self) -> &[(u32, NamespaceRefusal)] {
        &self.refused
    }

    /// Opens a queue for commands to `namespace`, for up to `depth` commands in flight, or as many as the
    /// controller allows ([`IoQueue::depth`]).
    ///
    /// # Errors
    /// When the controller has no free queue, or memory is short.
    pub fn open_queue<B: DmaBuffer>(
        &self,
        namespace: &Namespace,
        depth: u16,
    ) -> Result<IoQueue<B>, NvmeError> {
        IoQueue::open(&self.shared, namespace, depth)
    }

    /// Reads the SMART and health information of the controller and all its namespaces.
    ///
    /// # Errors
    /// When the controller refuses the command or is faulty.
    pub fn health(&self) -> Result<Health, NvmeError> {
        self.shared.admin().health(&self.shared.regs)
    }

    /// Reads the newest entries of the error log, the newest first; at most 64.
    ///
    /// # Errors
    /// When the controller refuses the command or is faulty.
    pub fn errors(&self, most: usize) -> Result<Vec<ErrorEntry>, NvmeError> {
        self.shared.admin().errors(&self.shared.regs, most)
    }

    /// Returns the next event that the controller has reported, if there is one.
    ///
    /// # Errors
    /// When the controller is faulty.
    pub fn next_event(&self) -> Result<Option<Event>, NvmeError> {
        self.shared.admin().next_event(&self.shared.regs)
    }

    /// Waits for an event until the deadline. An event that arrives while another thread executes an admin
    /// command may be returned a second late.
    ///
    /// # Errors
    /// When the controller is faulty.
    pub fn wait_event(&self, deadline_ns: u64) -> Result<Option<Event>, NvmeError> {
        let regs = &self.shared.regs;
        loop {
            if let Some(interrupt) = regs.admin_interrupt() {
                interrupt.forget();
            }
            if let Some(event) = self.next_event()? {
                return Ok(Some(event));
            }
            let now = regs.device.now_ns();
            if now >= deadline_ns {
                return Ok(None);
            }
            let until = deadline_ns.min(now.saturating_add(EVENT_POLL_INTERVAL_NS));
            match regs.admin_interrupt() {
                Some(interrupt) => _ = interrupt.wait(until),
                None => regs.device.sleep_until(until),
            }
        }
    }

    /// Returns the number of resets since the controller was brought up.
    pub fn resets(&self) -> u32 {
        self.shared.resets()
    }

    /// Resets the controller, for all queues, unless it has been reset since the caller read `seen` from
    /// [`Self::resets`]. Each queue then reports [`crate::Fault::WasReset`] and returns its commands.
    ///
    /// # Errors
    /// When the controller could not be stopped, or does not work after the reset.
    pub fn reset(&self, seen: u32) -> Result<(), NvmeError> {
        self.shared.reset(seen)
    }
}

/// Enables the controller, identifies it and its namespaces, and enables events.
fn bring_up(regs: &RegisterBlock, admin: &mut Admin) -> Result<(ControllerInfo, Namespaces), NvmeError> {
    regs.enable(&admin.queue_addresses())?;

    let mut info = admin.identify_controller(regs)?;
    if info.controller_type > 1 {
        return Err(NvmeError::NotIoController { controller_type: info.controller_type });
    }
    if !info.supports_entry_sizes() {
        let (submission, completion) = (info.submission_entry, info.completion_entry);
        return Err(NvmeError::EntrySizes { submission, completion });
    }
    // A queue of n entries is full with n - 1 (Base 3.3.1.4), and has at least two.
    info.max_depth = (regs.capabilities.queue_entries() - 1).min(4095) as u16;
    if info.max_depth == 0 {
        return Err(NvmeError::Depth { depth: 1 });
    }
    let queues = regs.options.queues.min(regs.queues_in_window());
    if queues == 0 {
        return Err(NvmeError::NoQueue { queues });
    }
    info.queues = admin.set_queues(regs, queues)?;
    let (namespaces, refused) = find_namespaces(admin, regs, &info)?;
    admin.enable_events(regs, &info)?;
    Ok((info, (namespaces, refused)))
}

type Namespaces = (Vec<Namespace>, Vec<(u32, NamespaceRefusal)>);

fn find_namespaces(
    admin: &mut Admin,
    regs: &RegisterBlock,
    info: &ControllerInfo,
) -> Result<Namespaces, NvmeError> {
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    let mut last = 0;
    loop {
        let ids = admin.active_namespaces(regs, last)?;
        for &id in &ids {
            // The list is in ascending order. A controller that breaks it could make this loop endless.
            if id <= last {
                return Ok((found, refused));
            }
            last = id;
            match admin.identify_namespace(regs, id, info.max_transfer_bytes)? {
                Ok(namespace) => found.push(namespace),
                Err(refusal) => refused.push((id, refusal)),
            }
        }
        if ids.len() < PAGE / 4 {
            return Ok((found, refused));
        }
    }
}
