//! [`Controller`]: from a device to queues.

use alloc::sync::Arc;
use alloc::vec::Vec;

use coppice_hardware::{Device, DmaBuffer};

use crate::admin::Admin;
use crate::prp::{MOST_BYTES, PAGE};
use crate::shared::{Port, Shared};
use crate::{ControllerInfo, ErrorEntry, Event, Health, IoQueue, Namespace, NamespaceRefusal, NvmeError};

/// How often a wait for an event looks without an interrupt.
const EVENT_LOOK_NS: u64 = 1_000_000_000;

/// How a controller is driven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// After so long a command is aborted, and after so long again the controller is at fault.
    pub command_timeout_ns: u64,
    /// After so long without an answer to an admin command the controller is at fault.
    pub admin_timeout_ns: u64,
    /// For how long a wait spins at most before it sleeps; 0 for never.
    pub spin_ns: u64,
    /// Most bytes that one command moves, if the controller allows as many; at most 2 MiB.
    pub max_transfer_bytes: usize,
    /// How many I/O queues to ask for.
    pub queues: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            command_timeout_ns: 5_000_000_000,
            admin_timeout_ns: 5_000_000_000,
            spin_ns: 20_000,
            max_transfer_bytes: 1 << 20,
            queues: 64,
        }
    }
}

/// A controller that works. Its queues keep it: when it and the last of them are gone, it is shut down in good order.
pub struct Controller {
    shared: Arc<Shared>,
    namespaces: Vec<Namespace>,
    refused: Vec<(u32, NamespaceRefusal)>,
}

impl Controller {
    /// Resets the controller and brings it up, in the order of Base 3.5.1.
    ///
    /// # Errors
    /// When the machine or the controller refuses something, or the controller does not do what it has to in the time that
    /// it says (CAP.TO).
    pub fn new(device: Device, options: Options) -> Result<Self, NvmeError> {
        let max_transfer_bytes = options.max_transfer_bytes.clamp(PAGE, MOST_BYTES);
        let port = Port::new(device, Options { max_transfer_bytes, ..options })?;
        // Somebody may have used it before. It must forget his memory before it may reach any.
        port.disable()?;
        port.device.enable_dma(&port.stop_order())?;
        let mut admin = Admin::new(&port)?;
        port.enable(&admin)?;

        let mut info = admin.identify_controller(&port)?;
        if info.controller_type > 1 {
            return Err(NvmeError::NotIoController { controller_type: info.controller_type });
        }
        if !info.takes_entries() {
            let (submission, completion) = (info.submission_entry, info.completion_entry);
            return Err(NvmeError::EntrySizes { submission, completion });
        }
        // A queue of n entries is full with n - 1 (Base 3.3.1.4), and has two at least.
        info.max_depth = (port.capabilities.queue_entries() - 1).min(4095) as u16;
        if info.max_depth == 0 {
            return Err(NvmeError::Depth { depth: 1 });
        }
        let queues = options.queues.min(port.queues_in_window());
        if queues == 0 {
            return Err(NvmeError::NoQueue { queues });
        }
        info.queues = admin.set_queues(&port, queues)?;
        let (namespaces, refused) = find_namespaces(&mut admin, &port, &info)?;
        admin.ask_for_events(&port, &info)?;
        Ok(Self { shared: Arc::new(Shared::new(port, info, admin)), namespaces, refused })
    }

    /// What it is.
    pub fn info(&self) -> &ControllerInfo {
        &self.shared.info
    }

    /// The namespaces that can be used.
    pub fn namespaces(&self) -> &[Namespace] {
        &self.namespaces
    }

    /// Those that are active and can't be used, and why.
    pub fn refused_namespaces(&self) -> &[(u32, NamespaceRefusal)] {
        &self.refused
    }

    /// Opens a queue for commands to `namespace`, for up to `depth` in flight, or as many as the controller allows
    /// ([`IoQueue::depth`] says how many).
    ///
    /// # Errors
    /// When the controller has no queue left, or memory is short.
    pub fn open_queue<B: DmaBuffer>(
        &self,
        namespace: &Namespace,
        depth: u16,
    ) -> Result<IoQueue<B>, NvmeError> {
        IoQueue::open(&self.shared, namespace, depth)
    }

    /// SMART and health information, of the controller and all its namespaces.
    ///
    /// # Errors
    /// When the controller refuses or is at fault.
    pub fn health(&self) -> Result<Health, NvmeError> {
        self.shared.admin().health(&self.shared.port)
    }

    /// The newest entries of the error log, the newest first; at most 64.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub fn errors(&self, most: usize) -> Result<Vec<ErrorEntry>, NvmeError> {
        self.shared.admin().errors(&self.shared.port, most)
    }

    /// What the controller has told of itself; `None` if there is nothing new.
    ///
    /// # Errors
    /// When the controller is at fault.
    pub fn next_event(&self) -> Result<Option<Event>, NvmeError> {
        self.shared.admin().next_event(&self.shared.port)
    }

    /// Waits for that, or the deadline. What arrives while another thread has an admin command may be told a second late.
    ///
    /// # Errors
    /// As [`Self::next_event`].
    pub fn wait_event(&self, deadline_ns: u64) -> Result<Option<Event>, NvmeError> {
        let port = &self.shared.port;
        loop {
            if let Some(interrupt) = port.admin_interrupt() {
                interrupt.forget();
            }
            if let Some(event) = self.next_event()? {
                return Ok(Some(event));
            }
            let now = port.device.now_ns();
            if now >= deadline_ns {
                return Ok(None);
            }
            let until = deadline_ns.min(now.saturating_add(EVENT_LOOK_NS));
            match port.admin_interrupt() {
                Some(interrupt) => _ = interrupt.wait(until),
                None => port.device.sleep_until(until),
            }
        }
    }

    /// How often it was reset since it was brought up.
    pub fn resets(&self) -> u32 {
        self.shared.resets()
    }

    /// Resets it, for all queues, unless somebody has since `seen` was read off [`Self::resets`]; each queue then reports
    /// [`crate::Fault::WasReset`] and hands its commands back.
    ///
    /// # Errors
    /// When it could not be stopped, or does not work again.
    pub fn reset(&self, seen: u32) -> Result<(), NvmeError> {
        self.shared.reset(seen)
    }
}

type Namespaces = (Vec<Namespace>, Vec<(u32, NamespaceRefusal)>);

fn find_namespaces(admin: &mut Admin, port: &Port, info: &ControllerInfo) -> Result<Namespaces, NvmeError> {
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    let mut last = 0;
    loop {
        let ids = admin.active_namespaces(port, last)?;
        for &id in &ids {
            // In order, each once; anything else would have no end.
            if id <= last {
                return Ok((found, refused));
            }
            last = id;
            match admin.identify_namespace(port, id, info.max_transfer_bytes)? {
                Ok(namespace) => found.push(namespace),
                Err(refusal) => refused.push((id, refusal)),
            }
        }
        if ids.len() < PAGE / 4 {
            return Ok((found, refused));
        }
    }
}
