//! Device models in another process, as PCI functions: [`RemoteFunction`], over the mailbox in an ivshmem
//! device's memory.
//!
//! [`coppice_mailbox`] specifies the protocol. Interrupts are the ivshmem device's own MSI-X messages.
//!
//! A process that has stopped is given up: the device is gone, as if it had been unplugged. From then on
//! registers read as ones and nothing waits.

use core::hint::spin_loop;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use coppice_abi::{BAR_LIMIT, DeviceInfo, DeviceRefusal, Window};
use coppice_kernel::pci::PciFunction;
use coppice_mailbox::{self as mailbox, MailboxRequest, Signs, Step, Wait};
use spin::Mutex;

use crate::clock;
use crate::functions::BareFunction;

const _: () = assert!(mailbox::BAR_COUNT == BAR_LIMIT);

/// A model in another process.
///
/// # Invariants
/// - **B1** `memory` is the address at which [`mailbox::BYTES`] of the ivshmem device's shared memory are
///   mapped, for good, at the start of a page.
pub(crate) struct RemoteFunction {
    /// The ivshmem device.
    local: BareFunction,
    info: DeviceInfo,
    memory: usize,
    /// Number of requests so far. Held during a request.
    sent: Mutex<u32>,
    is_gone: AtomicBool,
}

impl RemoteFunction {
    /// Returns the model behind `local`, if that is an ivshmem device with a mailbox.
    #[expect(clippy::result_large_err, reason = "once for each function, at boot")]
    pub(crate) fn new(local: BareFunction) -> Result<Self, BareFunction> {
        let own = local.info();
        if (own.vendor, own.device) != mailbox::IVSHMEM_ID {
            return Err(local);
        }
        let memory = match local.window(mailbox::IVSHMEM_MEMORY) {
            Ok(window) if window.len() >= mailbox::BYTES => window.memory().expose_provenance(),
            _ => return Err(local),
        };
        let mut function =
            Self { local, info: own, memory, sent: Mutex::new(0), is_gone: AtomicBool::new(false) };
        if function.word64(mailbox::MAGIC_AT).load(Ordering::Acquire) != mailbox::MAGIC {
            return Err(function.local);
        }
        let word = |at| function.word(at).load(Ordering::Relaxed);
        let (id, class, vectors) = (word(mailbox::ID), word(mailbox::CLASS), word(mailbox::VECTORS));
        let bars =
            core::array::from_fn(|bar| function.word64(mailbox::BARS + 8 * bar).load(Ordering::Relaxed));
        function.info = DeviceInfo {
            vendor: id as u16,
            device: (id >> 16) as u16,
            class: class >> 8,
            revision: class as u8,
            address: own.address,
            bars,
            vectors: own.vectors.min(vectors.min(u32::from(mailbox::VECTOR_LIMIT)) as u16),
        };
        // A machine that is rebooted continues with the numbers of the earlier boot.
        *function.sent.get_mut() = function.word(mailbox::TAIL).load(Ordering::Relaxed);
        Ok(function)
    }

    /// Disables its bus mastering and resets it.
    pub(crate) fn quiesce(&self) {
        self.local.quiesce();
        self.word64(mailbox::OPEN).store(0, Ordering::Relaxed);
        self.set_bus_master(false);
        self.begin_reset();
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        let place = ptr::with_exposed_provenance_mut::<u32>(self.memory + at);
        // SAFETY: B1: offsets are constants of the mailbox, aligned and inside it; the process writes whole
        // words.
        unsafe { AtomicU32::from_ptr(place) }
    }

    fn word64(&self, at: usize) -> &AtomicU64 {
        let place = ptr::with_exposed_provenance_mut::<u64>(self.memory + at);
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(place) }
    }

    /// Sends a request, and waits for the reply if it has one; returns 0 if it has none. `None` if the device
    /// is gone.
    ///
    /// The interrupt state does not change: the kernel calls in a section, in which interrupts are only
    /// noted.
    fn send(&self, request: MailboxRequest) -> Option<u64> {
        let mut sent = self.sent.lock();
        let number = *sent;
        let undone = || number.wrapping_sub(self.word(mailbox::HEAD).load(Ordering::Acquire));
        self.wait(|| undone() < mailbox::RING_ENTRIES)?;
        let (head, offset, value) = request.encode();
        let place = MailboxRequest::offset(number);
        self.word(place).store(head, Ordering::Relaxed);
        self.word(place + 4).store(offset, Ordering::Relaxed);
        self.word64(place + 8).store(value, Ordering::Relaxed);
        *sent = number.wrapping_add(1);
        self.word(mailbox::TAIL).store(*sent, Ordering::Release);
        // One of the two sides sees the other, as coppice_mailbox explains.
        fence(Ordering::SeqCst);
        if self.word(mailbox::ASLEEP).load(Ordering::Relaxed) != 0 {
            self.ring();
        }
        // Until the first ring has arrived, QEMU may drop any ring, and a posted write would never be done.
        if !request.has_reply() && self.word(mailbox::RUNG).load(Ordering::Relaxed) != 0 {
            return Some(0);
        }
        let done = *sent;
        self.wait(|| self.word(mailbox::HEAD).load(Ordering::Acquire) == done)?;
        Some(if request.has_reply() { self.word64(mailbox::ANSWER).load(Ordering::Relaxed) } else { 0 })
    }

    /// Wakes the process.
    fn ring(&self) {
        let peer = u64::from(mailbox::DEVICE_PEER) << 16;
        self.local.write(mailbox::IVSHMEM_REGISTERS, mailbox::IVSHMEM_DOORBELL, 4, peer);
    }

    /// Waits until `condition` holds; `None` if the device is gone, or is given up.
    fn wait(&self, condition: impl Fn() -> bool) -> Option<()> {
        if self.is_gone.load(Ordering::Relaxed) {
            return None;
        }
        let word = |at| self.word(at).load(Ordering::Relaxed);
        let signs = || Signs {
            is_asleep: word(mailbox::ASLEEP) != 0,
            is_gone: word(mailbox::GONE) != 0,
            beat: word(mailbox::BEAT),
            head: word(mailbox::HEAD),
        };
        // Most waits are shorter than a look at the clock.
        let mut wait = None;
        while !condition() {
            let (now, signs) = (clock::now_ns(), signs());
            match wait.get_or_insert(Wait::new(now, signs)).step(now, signs) {
                Step::Look => spin_loop(),
                Step::Ring => self.ring(),
                Step::GiveUp => {
                    self.is_gone.store(true, Ordering::Relaxed);
                    return None;
                }
            }
        }
        Some(())
    }
}

impl PciFunction for RemoteFunction {
    fn info(&self) -> DeviceInfo {
        self.info
    }

    fn window(&self, bar: u8) -> Result<Window, DeviceRefusal> {
        match self.info.bars.get(usize::from(bar)) {
            Some(&len) if len > 0 => Ok(Window::called(len as usize)),
            _ => Err(DeviceRefusal::NoBar { bar }),
        }
    }

    fn read(&self, bar: u8, offset: usize, bytes: usize) -> u64 {
        let request = MailboxRequest::Read { bar, offset: offset as u32, bytes: bytes as u8 };
        self.send(request).unwrap_or(u64::MAX)
    }

    fn write(&self, bar: u8, offset: usize, bytes: usize, value: u64) {
        self.send(MailboxRequest::Write { bar, offset: offset as u32, bytes: bytes as u8, value });
    }

    fn set_bus_master(&self, on: bool) {
        // First, for a process that is late: it checks this before each access.
        self.word(mailbox::MASTERING).store(on.into(), Ordering::SeqCst);
        // Its messages are writes of the ivshmem device.
        self.local.set_bus_master(on);
        self.send(MailboxRequest::SetBusMaster { on });
    }

    fn has_transactions_pending(&self) -> bool {
        self.send(MailboxRequest::IsBusy).is_some_and(|reply| reply != 0)
    }

    fn begin_reset(&self) -> bool {
        self.send(MailboxRequest::Reset).is_some()
    }

    fn end_reset(&self) -> bool {
        // The reply came after the reset.
        true
    }

    fn open_vector(&self, vector: u16, number: u8, cpu: usize) -> Result<(), DeviceRefusal> {
        if vector >= self.info.vectors {
            return Err(DeviceRefusal::NoVector { vector });
        }
        self.local.open_vector(vector, number, cpu)?;
        self.word64(mailbox::OPEN).fetch_or(1 << vector, Ordering::SeqCst);
        Ok(())
    }

    fn close_vector(&self, vector: u16) {
        self.word64(mailbox::OPEN).fetch_and(!(1 << vector), Ordering::SeqCst);
        self.local.close_vector(vector);
    }
}
