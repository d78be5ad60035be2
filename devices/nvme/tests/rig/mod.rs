//! The least that drives a controller: queues in a bench's memory, one command at a time or many.
//!
//! Offsets and codes stand here as numbers, apart from the model's: a wrong one must not agree with itself.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use device_bus::{Bench, Host, Model};
use nvme_model::{Disk, MemoryDisk, Nvme, NvmeConfig};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const PAGE: u64 = 4096;

/// A completion queue entry, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Done {
    pub(crate) dword0: u32,
    pub(crate) head: u16,
    pub(crate) queue: u16,
    pub(crate) id: u16,
    /// SCT and SC.
    pub(crate) code: u16,
    pub(crate) more: bool,
    pub(crate) final_: bool,
}

/// A submission queue and its completion queue.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) id: u16,
    pub(crate) submission: u64,
    pub(crate) completion: u64,
    pub(crate) entries: u32,
    pub(crate) tail: u32,
    pub(crate) head: u32,
    pub(crate) phase: bool,
    next_id: u16,
}

pub(crate) struct Rig {
    pub(crate) bench: Arc<Bench>,
    pub(crate) nvme: Nvme,
    pub(crate) admin: Pair,
}

impl Rig {
    /// A controller that was enabled, on a memory disk of 1 MiB.
    pub(crate) fn new(text: &str) -> Self {
        let rig = Self::off(text);
        rig.enable();
        rig
    }

    /// The same with a disk of the test's.
    pub(crate) fn with_disk(text: &str, disk: Arc<MemoryDisk>) -> Self {
        let config = NvmeConfig::parse(text).expect("a test's own text");
        let nvme = Nvme::with_disks(config, vec![disk as Arc<dyn Disk>]).expect("a sound device");
        let rig = Self::around(nvme);
        rig.enable();
        rig
    }

    /// Attached and not enabled.
    pub(crate) fn off(text: &str) -> Self {
        let config = NvmeConfig::parse(&format!("memory=1M,{text}")).expect("a test's own text");
        Self::around(Nvme::new(config).expect("a sound device"))
    }

    fn around(nvme: Nvme) -> Self {
        let bench = Arc::new(Bench::new(8 << 20, 256));
        nvme.attach(bench.clone() as Arc<dyn Host>).expect("a new device");
        nvme.set_bus_master(true);
        let admin = Pair::new(&bench, 0, 16);
        Self { bench, nvme, admin }
    }

    pub(crate) fn read32(&self, offset: u64) -> u32 {
        self.nvme.read(0, offset, 4) as u32
    }

    pub(crate) fn write32(&self, offset: u64, value: u32) {
        self.nvme.write(0, offset, 4, u64::from(value));
    }

    /// Waits until CSTS, under `mask`, is `value`; whether that happened in `limit`.
    pub(crate) fn wait_status(&self, mask: u32, value: u32, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.read32(0x1c) & mask != value {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    pub(crate) fn start(&self) {
        let size = self.admin.entries - 1;
        self.write32(0x24, size << 16 | size);
        self.nvme.write(0, 0x28, 8, self.admin.submission);
        self.nvme.write(0, 0x30, 8, self.admin.completion);
        self.write32(0x14, 4 << 20 | 6 << 16 | 1);
    }

    pub(crate) fn enable(&self) {
        self.start();
        assert!(self.wait_status(3, 1, LIMIT), "not ready: CSTS is {:#x}", self.read32(0x1c));
    }

    pub(crate) fn disable(&self) {
        self.write32(0x14, 0);
        assert!(self.wait_status(1, 0, LIMIT), "still ready");
    }

    /// Forgets the admin queue's state and enables again.
    pub(crate) fn restart(&mut self) {
        self.admin = Pair::new(&self.bench, 0, 16);
        self.enable();
    }

    /// One admin command and its completion.
    pub(crate) fn admin(&mut self, command: Sqe) -> Done {
        let mut pair = self.admin.clone();
        let done = self.call(&mut pair, command);
        self.admin = pair;
        done
    }

    /// An I/O queue pair with an interrupt of the same number.
    pub(crate) fn pair(&mut self, id: u16, entries: u32) -> Pair {
        let pair = Pair::new(&self.bench, id, entries);
        let size = (entries - 1) << 16 | u32::from(id);
        let created = self.admin(Sqe::new(5).prp(pair.completion, 0).d10(size).d11(u32::from(id) << 16 | 3));
        assert_eq!(created.code, 0, "completion queue");
        let created = self.admin(Sqe::new(1).prp(pair.submission, 0).d10(size).d11(u32::from(id) << 16 | 1));
        assert_eq!(created.code, 0, "submission queue");
        pair
    }

    /// Writes a command into a queue, without the doorbell; its id.
    pub(crate) fn put(&self, pair: &mut Pair, command: Sqe) -> u16 {
        let id = pair.next_id;
        pair.next_id = pair.next_id.wrapping_add(1);
        let mut words = command.0;
        words[0] |= u32::from(id) << 16;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.bench.poke(pair.submission + u64::from(pair.tail) * 64, &bytes);
        pair.tail = (pair.tail + 1) % pair.entries;
        id
    }

    pub(crate) fn ring(&self, pair: &Pair) {
        self.write32(0x1000 + 8 * u64::from(pair.id), pair.tail);
    }

    pub(crate) fn submit(&self, pair: &mut Pair, command: Sqe) -> u16 {
        let id = self.put(pair, command);
        self.ring(pair);
        id
    }

    /// The next completion, if it is there.
    pub(crate) fn poll(&self, pair: &mut Pair) -> Option<Done> {
        let place = pair.completion + u64::from(pair.head) * 16;
        let last = self.bench.peek_u32(place + 12);
        if (last >> 16 & 1 != 0) != pair.phase {
            return None;
        }
        let queue_head = self.bench.peek_u32(place + 8);
        let done = Done {
            dword0: self.bench.peek_u32(place),
            head: queue_head as u16,
            queue: (queue_head >> 16) as u16,
            id: last as u16,
            code: (last >> 17 & 0x7ff) as u16,
            more: last >> 30 & 1 != 0,
            final_: last >> 31 != 0,
        };
        pair.head += 1;
        if pair.head == pair.entries {
            pair.head = 0;
            pair.phase = !pair.phase;
        }
        Some(done)
    }

    /// Tells the controller how far completions were taken.
    pub(crate) fn release(&self, pair: &Pair) {
        self.write32(0x1004 + 8 * u64::from(pair.id), pair.head);
    }

    /// The next completion, which must come in time.
    pub(crate) fn wait(&self, pair: &mut Pair) -> Done {
        self.wait_for(pair, LIMIT).expect("a completion")
    }

    pub(crate) fn wait_for(&self, pair: &mut Pair, limit: Duration) -> Option<Done> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(done) = self.poll(pair) {
                self.release(pair);
                return Some(done);
            }
            if Instant::now() > deadline {
                return None;
            }
            std::thread::yield_now();
        }
    }

    pub(crate) fn call(&self, pair: &mut Pair, command: Sqe) -> Done {
        let id = self.submit(pair, command);
        let done = self.wait(pair);
        assert_eq!((done.id, done.queue), (id, pair.id), "answers another command");
        done
    }

    /// Identify, as bytes.
    pub(crate) fn identify(&mut self, cns: u32, nsid: u32) -> Result<Vec<u8>, u16> {
        let page = self.bench.allocate(PAGE);
        let done = self.admin(Sqe::new(6).nsid(nsid).prp(page, 0).d10(cns));
        if done.code == 0 { Ok(self.bench.peek(page, PAGE as usize)) } else { Err(done.code) }
    }

    /// A log page of `bytes`.
    pub(crate) fn log(&mut self, page: u32, bytes: u32) -> Result<Vec<u8>, u16> {
        let memory = self.bench.allocate(PAGE);
        let command = Sqe::new(2).nsid(u32::MAX).prp(memory, 0).d10(page | (bytes / 4 - 1) << 16);
        let done = self.admin(command);
        if done.code == 0 { Ok(self.bench.peek(memory, bytes as usize)) } else { Err(done.code) }
    }

    /// Writes one block of 512 bytes by way of a fresh page.
    pub(crate) fn write_block(&self, pair: &mut Pair, lba: u64, byte: u8, flags: u32) -> Done {
        let page = self.bench.allocate(PAGE);
        self.bench.poke(page, &[byte; 512]);
        self.call(pair, Sqe::write(1, lba, 1).prp(page, 0).or12(flags))
    }

    pub(crate) fn read_block(&self, pair: &mut Pair, lba: u64) -> Vec<u8> {
        let page = self.bench.allocate(PAGE);
        assert_eq!(self.call(pair, Sqe::read(1, lba, 1).prp(page, 0)).code, 0);
        self.bench.peek(page, 512)
    }
}

impl Pair {
    pub(crate) fn new(bench: &Bench, id: u16, entries: u32) -> Self {
        Self {
            id,
            submission: bench.allocate(u64::from(entries) * 64),
            completion: bench.allocate(u64::from(entries) * 16),
            entries,
            tail: 0,
            head: 0,
            phase: true,
            next_id: 1,
        }
    }
}

/// A submission queue entry being put together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sqe(pub(crate) [u32; 16]);

impl Sqe {
    pub(crate) fn new(opcode: u32) -> Self {
        let mut words = [0; 16];
        words[0] = opcode;
        Self(words)
    }

    pub(crate) fn read(nsid: u32, lba: u64, blocks: u32) -> Self {
        Self::new(2).nsid(nsid).d10(lba as u32).d11((lba >> 32) as u32).d12(blocks - 1)
    }

    pub(crate) fn write(nsid: u32, lba: u64, blocks: u32) -> Self {
        Self::new(1).nsid(nsid).d10(lba as u32).d11((lba >> 32) as u32).d12(blocks - 1)
    }

    pub(crate) fn nsid(mut self, nsid: u32) -> Self {
        self.0[1] = nsid;
        self
    }

    pub(crate) fn prp(mut self, prp1: u64, prp2: u64) -> Self {
        self.0[6] = prp1 as u32;
        self.0[7] = (prp1 >> 32) as u32;
        self.0[8] = prp2 as u32;
        self.0[9] = (prp2 >> 32) as u32;
        self
    }

    pub(crate) fn d10(mut self, value: u32) -> Self {
        self.0[10] = value;
        self
    }

    pub(crate) fn d11(mut self, value: u32) -> Self {
        self.0[11] = value;
        self
    }

    pub(crate) fn d12(mut self, value: u32) -> Self {
        self.0[12] = value;
        self
    }

    pub(crate) fn or12(mut self, value: u32) -> Self {
        self.0[12] |= value;
        self
    }
}
