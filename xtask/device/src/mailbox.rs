//! [`Mailbox`], the device side of the mailbox ([`coppice_mailbox`]).

use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use coppice_mailbox::{self as mailbox, MailboxRequest};
use device_bus::Model;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

/// The time for which the process polls for the next request before it sleeps.
const SPIN: Duration = Duration::from_micros(50);

/// The memory that machine and process share.
pub(crate) struct Mailbox {
    mapping: MmapRegion,
    file: File,
}

impl Mailbox {
    /// A mailbox for `model` without requests.
    pub(crate) fn new(model: &dyn Model) -> Result<Self> {
        let file = File::from(memfd_create("coppice-mailbox", MemfdFlags::CLOEXEC)?);
        file.set_len(mailbox::BYTES as u64)?;
        let mapping = MmapRegion::from_file(FileOffset::new(file.try_clone()?, 0), mailbox::BYTES)?;
        let this = Self { mapping, file };
        let identity = model.identity();
        let class = identity.class;
        let class = [identity.revision, class.interface, class.sub, class.base];
        this.set(mailbox::ID, u32::from(identity.vendor) | u32::from(identity.device) << 16);
        this.set(mailbox::CLASS, u32::from_le_bytes(class));
        this.set(mailbox::VECTORS, identity.msix.vectors.min(mailbox::VECTOR_LIMIT).into());
        for bar in &identity.bars {
            this.word64(mailbox::BARS + 8 * usize::from(bar.index)).store(bar.bytes, Ordering::Relaxed);
        }
        this.word64(mailbox::MAGIC_AT).store(mailbox::MAGIC, Ordering::Release);
        Ok(this)
    }

    /// Returns the memory file that the machine maps.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Returns true if the machine permits the device to access memory.
    pub(crate) fn may_reach_memory(&self) -> bool {
        self.word(mailbox::MASTERING).load(Ordering::Relaxed) != 0
    }

    /// Returns true if the machine has opened `vector`.
    pub(crate) fn is_open(&self, vector: u16) -> bool {
        let open = self.word64(mailbox::OPEN).load(Ordering::Relaxed);
        open.checked_shr(vector.into()).is_some_and(|bits| bits & 1 != 0)
    }

    /// Returns true if the machine has posted a request.
    pub(crate) fn is_in_use(&self) -> bool {
        self.word(mailbox::TAIL).load(Ordering::Relaxed) != 0
    }

    /// Increments the heartbeat counter until the process ends.
    pub(crate) fn run_heartbeat(&self) -> ! {
        loop {
            self.word(mailbox::BEAT).fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_nanos(mailbox::BEAT_NS));
        }
    }

    /// Reports to the machine that the device is unplugged.
    pub(crate) fn leave(&self) {
        self.word(mailbox::GONE).store(1, Ordering::Release);
    }

    /// Serves requests. The machine writes to `doorbell` while the process sleeps.
    ///
    /// # Errors
    /// Returns only on an error: if the tail or a request is invalid, or waiting for the doorbell fails.
    pub(crate) fn serve(&self, model: &dyn Model, doorbell: &File) -> Result<()> {
        let mut head: u32 = 0;
        loop {
            let tail = self.wait(head, doorbell)?;
            if tail.wrapping_sub(head) > mailbox::RING_ENTRIES {
                bail!("the machine has posted request {tail} while request {head} is not done");
            }
            while head != tail {
                let entry = self.entry(head);
                match MailboxRequest::decode(entry) {
                    Some(request) => self.execute(request, model),
                    None => bail!("the machine has posted the invalid request {entry:x?}"),
                }
                head = head.wrapping_add(1);
                self.word(mailbox::HEAD).store(head, Ordering::Release);
            }
        }
    }

    /// Waits until the tail is not `head`, and returns the tail.
    fn wait(&self, head: u32, mut doorbell: &File) -> Result<u32> {
        let load_tail = || self.word(mailbox::TAIL).load(Ordering::Acquire);
        let start = Instant::now();
        loop {
            let tail = load_tail();
            if tail != head {
                return Ok(tail);
            }
            if start.elapsed() < SPIN {
                std::hint::spin_loop();
                continue;
            }
            self.set(mailbox::ASLEEP, 1);
            // Pairs with the fence of the machine, as described in coppice_mailbox: one of the two sees the
            // other.
            fence(Ordering::SeqCst);
            if load_tail() == head {
                // The machine has made the event counter, which both share, non-blocking: so poll.
                poll(&mut [PollFd::new(doorbell, PollFlags::IN)], None)
                    .context("waiting for the doorbell")?;
            }
            self.set(mailbox::ASLEEP, 0);
            // Only the tail counts, whether the doorbell was rung for it or not.
            if doorbell.read(&mut [0; 8]).is_ok() {
                self.set(mailbox::RUNG, 1);
            }
        }
    }

    fn execute(&self, request: MailboxRequest, model: &dyn Model) {
        let result = match request {
            MailboxRequest::Read { bar, offset, bytes } => model.read(bar, offset.into(), bytes),
            MailboxRequest::Write { bar, offset, bytes, value } => {
                return model.write(bar, offset.into(), bytes, value);
            }
            MailboxRequest::SetBusMaster { on } => {
                model.set_bus_master(on);
                0
            }
            MailboxRequest::Reset => {
                model.reset();
                0
            }
            MailboxRequest::IsBusy => model.transactions_pending().into(),
        };
        self.word64(mailbox::ANSWER).store(result, Ordering::Relaxed);
    }

    fn entry(&self, number: u32) -> (u32, u32, u64) {
        let entry = MailboxRequest::offset(number);
        let head = self.word(entry).load(Ordering::Relaxed);
        let offset = self.word(entry + 4).load(Ordering::Relaxed);
        (head, offset, self.word64(entry + 8).load(Ordering::Relaxed))
    }

    fn set(&self, at: usize, value: u32) {
        self.word(at).store(value, Ordering::Relaxed);
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        self.mapping.get_atomic_ref(at).expect("offsets are constants of the mailbox, aligned and inside it")
    }

    fn word64(&self, at: usize) -> &AtomicU64 {
        self.mapping.get_atomic_ref(at).expect("offsets are constants of the mailbox, aligned and inside it")
    }
}
