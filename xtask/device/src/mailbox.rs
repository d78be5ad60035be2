//! The process's half of the mailbox ([`coppice_mailbox`]).

use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use coppice_mailbox::{self as mailbox, MailboxRequest as Request};
use device_bus::Model;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

/// How long the process looks for the next request before it sleeps.
const SPIN: Duration = Duration::from_micros(50);

/// The shared memory.
pub(crate) struct Mailbox {
    mapping: MmapRegion,
    file: File,
}

impl Mailbox {
    /// A mailbox of `model`, which nobody has asked for anything yet.
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

    /// What the machine maps.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Whether the device may reach memory, by the machine's own word.
    pub(crate) fn may_reach_memory(&self) -> bool {
        self.word(mailbox::MASTERING).load(Ordering::Relaxed) != 0
    }

    /// Whether somebody wants interrupts of `vector`.
    pub(crate) fn is_open(&self, vector: u16) -> bool {
        let open = self.word64(mailbox::OPEN).load(Ordering::Relaxed);
        open.checked_shr(vector.into()).is_some_and(|bits| bits & 1 != 0)
    }

    /// Whether the machine has asked for anything.
    pub(crate) fn is_in_use(&self) -> bool {
        self.word(mailbox::TAIL).load(Ordering::Relaxed) != 0
    }

    /// Shows the machine, for as long as this process runs, that it does.
    pub(crate) fn beat(&self) -> ! {
        loop {
            self.word(mailbox::BEAT).fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_nanos(mailbox::BEAT_NS));
        }
    }

    /// Says that the device is out of its slot.
    pub(crate) fn leave(&self) {
        self.word(mailbox::GONE).store(1, Ordering::Release);
    }

    /// Does what is asked for, until that makes no sense any more. The machine writes to `doorbell` when we sleep.
    pub(crate) fn serve(&self, model: &dyn Model, doorbell: &File) -> Result<()> {
        let mut done: u32 = 0;
        loop {
            let asked = self.wait(done, doorbell)?;
            if asked.wrapping_sub(done) > mailbox::RING_ENTRIES {
                bail!("the machine says that it has asked {asked} times, {done} of which are done");
            }
            while done != asked {
                let entry = self.entry(done);
                match Request::decode(entry) {
                    Some(request) => self.answer(request, model),
                    None => bail!("the machine asks for {entry:x?}, which means nothing"),
                }
                done = done.wrapping_add(1);
                self.word(mailbox::HEAD).store(done, Ordering::Release);
            }
        }
    }

    /// Waits until more has been asked for than is done.
    fn wait(&self, done: u32, mut doorbell: &File) -> Result<u32> {
        let tail = || self.word(mailbox::TAIL).load(Ordering::Acquire);
        let start = Instant::now();
        loop {
            let asked = tail();
            if asked != done {
                return Ok(asked);
            }
            if start.elapsed() < SPIN {
                std::hint::spin_loop();
                continue;
            }
            self.set(mailbox::ASLEEP, 1);
            // One of the two sides sees the other: coppice_mailbox says how.
            fence(Ordering::SeqCst);
            if tail() == done {
                // The machine has made it one that does not wait by itself: the counter is one for both.
                poll(&mut [PollFd::new(doorbell, PollFlags::IN)], None)
                    .context("waiting for the doorbell")?;
            }
            self.set(mailbox::ASLEEP, 0);
            // What counts is how much has been asked for, whether this was rung for it or not.
            if doorbell.read(&mut [0; 8]).is_ok() {
                self.set(mailbox::RUNG, 1);
            }
        }
    }

    fn answer(&self, request: Request, model: &dyn Model) {
        let answer = match request {
            Request::Read { bar, offset, bytes } => model.read(bar, offset.into(), bytes),
            Request::Write { bar, offset, bytes, value } => {
                return model.write(bar, offset.into(), bytes, value);
            }
            Request::SetBusMaster { on } => {
                model.set_bus_master(on);
                0
            }
            Request::Reset => {
                model.reset();
                0
            }
            Request::IsBusy => model.transactions_pending().into(),
        };
        self.word64(mailbox::ANSWER).store(answer, Ordering::Relaxed);
    }

    fn entry(&self, number: u32) -> (u32, u32, u64) {
        let place = Request::offset(number);
        let head = self.word(place).load(Ordering::Relaxed);
        let offset = self.word(place + 4).load(Ordering::Relaxed);
        (head, offset, self.word64(place + 8).load(Ordering::Relaxed))
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
