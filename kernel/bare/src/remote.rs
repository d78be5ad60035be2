//! Device models in another process, as PCI functions: [`RemoteFunction`], over the mailbox in an ivshmem device's memory.
//!
//! What is said there, and in which order, is in [`coppice_mailbox`]. Interrupts are the ivshmem device's own MSI-X messages.
//!
//! A process that does not answer is given up: the device is gone, as if it had been pulled out. From then on registers read as
//! ones and nothing is waited for.

use core::hint::spin_loop;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

use coppice_abi::{BAR_LIMIT, DeviceInfo, DeviceRefusal, Window};
use coppice_kernel::pci::PciFunction;
use coppice_mailbox::{self as mailbox, Request};
use spin::Mutex;

use crate::clock;
use crate::functions::BareFunction;

/// How long an answer may take. Whatever it is about is quick, but the host may have better things to do than to run the process.
const PATIENCE_NS: u64 = 2_000_000_000;

const _: () = assert!(mailbox::BAR_COUNT == BAR_LIMIT);

/// A model in another process.
///
/// # Invariants
/// - **B1** `memory` is where [`mailbox::BYTES`] of the ivshmem device's shared memory are mapped, for good, at the start of a page.
pub(crate) struct RemoteFunction {
    /// The ivshmem device.
    local: BareFunction,
    info: DeviceInfo,
    memory: usize,
    /// How many requests there have been. Who holds it asks.
    asked: Mutex<u32>,
    is_gone: AtomicBool,
}

impl RemoteFunction {
    /// The model behind `local`, if that is an ivshmem device with a mailbox.
    #[expect(clippy::result_large_err, reason = "once for each function, at boot")]
    pub(crate) fn new(local: BareFunction) -> Result<Self, BareFunction> {
        let own = local.info();
        if (own.vendor, own.device) != mailbox::IVSHMEM_ID {
            return Err(local);
        }
        let memory = match local.window(mailbox::IVSHMEM_MEMORY) {
            Ok(window) if window.len >= mailbox::BYTES => window.memory.expose_provenance(),
            _ => return Err(local),
        };
        let mut function =
            Self { local, info: own, memory, asked: Mutex::new(0), is_gone: AtomicBool::new(false) };
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
        // A machine that is booted once more goes on where it was.
        *function.asked.get_mut() = function.word(mailbox::TAIL).load(Ordering::Relaxed);
        Ok(function)
    }

    /// Takes bus mastering from it and resets it.
    pub(crate) fn be_harmless(&self) {
        self.local.be_harmless();
        self.word64(mailbox::OPEN).store(0, Ordering::Relaxed);
        self.set_bus_master(false);
        self.begin_reset();
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        let place = ptr::with_exposed_provenance_mut::<u32>(self.memory + at);
        // SAFETY: B1: offsets are constants of the mailbox, aligned and inside it; the process writes whole words.
        unsafe { AtomicU32::from_ptr(place) }
    }

    fn word64(&self, at: usize) -> &AtomicU64 {
        let place = ptr::with_exposed_provenance_mut::<u64>(self.memory + at);
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(place) }
    }

    /// Asks the process, and waits for the answer if there is one; 0 if there is none. `None` if the device is gone.
    ///
    /// Interrupts are as they were: the kernel calls in a section, where they only leave a note.
    fn ask(&self, request: Request) -> Option<u64> {
        let mut asked = self.asked.lock();
        let number = *asked;
        let undone = || number.wrapping_sub(self.word(mailbox::HEAD).load(Ordering::Acquire));
        self.wait(|| undone() < mailbox::RING_ENTRIES)?;
        let (head, offset, value) = request.encode();
        let place = Request::place(number);
        self.word(place).store(head, Ordering::Relaxed);
        self.word(place + 4).store(offset, Ordering::Relaxed);
        self.word64(place + 8).store(value, Ordering::Relaxed);
        *asked = number.wrapping_add(1);
        self.word(mailbox::TAIL).store(*asked, Ordering::Release);
        // One of the two sides sees the other: coppice_mailbox says how.
        fence(Ordering::SeqCst);
        if self.word(mailbox::ASLEEP).load(Ordering::Relaxed) != 0 {
            let peer = u64::from(mailbox::DEVICE_PEER) << 16;
            self.local.write(mailbox::IVSHMEM_REGISTERS, mailbox::IVSHMEM_DOORBELL, 4, peer);
        }
        if !request.is_answered() {
            return Some(0);
        }
        let done = *asked;
        self.wait(|| self.word(mailbox::HEAD).load(Ordering::Acquire) == done)?;
        Some(self.word64(mailbox::ANSWER).load(Ordering::Relaxed))
    }

    /// Waits until `condition` holds; `None` if the device is gone, or is given up.
    fn wait(&self, condition: impl Fn() -> bool) -> Option<()> {
        if self.is_gone.load(Ordering::Relaxed) {
            return None;
        }
        let mut deadline = None;
        while !condition() {
            let now = clock::now_ns();
            let is_over = now >= *deadline.get_or_insert(now + PATIENCE_NS);
            if is_over || self.word(mailbox::GONE).load(Ordering::Relaxed) != 0 {
                self.is_gone.store(true, Ordering::Relaxed);
                return None;
            }
            spin_loop();
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
            Some(&len) if len > 0 => Ok(Window { memory: ptr::null_mut(), len: len as usize }),
            _ => Err(DeviceRefusal::NoBar { bar }),
        }
    }

    fn read(&self, bar: u8, offset: usize, bytes: usize) -> u64 {
        let request = Request::Read { bar, offset: offset as u32, bytes: bytes as u8 };
        self.ask(request).unwrap_or(u64::MAX)
    }

    fn write(&self, bar: u8, offset: usize, bytes: usize, value: u64) {
        self.ask(Request::Write { bar, offset: offset as u32, bytes: bytes as u8, value });
    }

    fn set_bus_master(&self, on: bool) {
        // First, for a process that is late: it looks at this before each access.
        self.word(mailbox::MASTERING).store(on.into(), Ordering::SeqCst);
        // Its messages are writes of the ivshmem device.
        self.local.set_bus_master(on);
        self.ask(Request::SetBusMaster { on });
    }

    fn has_transactions_pending(&self) -> bool {
        self.ask(Request::IsBusy).is_some_and(|answer| answer != 0)
    }

    fn begin_reset(&self) -> bool {
        self.ask(Request::Reset).is_some()
    }

    fn end_reset(&self) -> bool {
        // The answer came when it was over.
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
