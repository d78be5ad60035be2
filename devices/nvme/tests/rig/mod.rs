//! A minimal driver for tests: queues in the memory of a test host, one command at a time or many.
//!
//! Offsets and codes are numbers, not the constants of the model: a wrong offset must not agree with itself.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use device_bus::{Host, Model, TestHost};
use nvme_model::{Disk, MemoryDisk, Nvme, NvmeConfig};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const PAGE: u64 = 4096;

/// A decoded completion queue entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cqe {
    pub(crate) dword0: u32,
    pub(crate) head: u16,
    pub(crate) queue: u16,
    pub(crate) id: u16,
    /// SCT and SC.
    pub(crate) code: u16,
    pub(crate) more: bool,
    pub(crate) do_not_retry: bool,
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
    pub(crate) host: Arc<TestHost>,
    pub(crate) nvme: Nvme,
    pub(crate) admin: Pair,
}

impl Rig {
    /// An enabled controller with a memory disk of 1 MiB.
    pub(crate) fn new(text: &str) -> Self {
        let rig = Self::off(text);
        rig.enable();
        rig
    }

    /// An enabled controller with the test's disk.
    pub(crate) fn with_disk(text: &str, disk: Arc<MemoryDisk>) -> Self {
        let config = NvmeConfig::parse(text).expect("the description is valid");
        let nvme = Nvme::with_disks(config, vec![disk as Arc<dyn Disk>]).expect("the device is valid");
        let rig = Self::around(nvme);
        rig.enable();
        rig
    }

    /// A controller that is attached and not enabled.
    pub(crate) fn off(text: &str) -> Self {
        let config = NvmeConfig::parse(&format!("memory=1M,{text}")).expect("the description is valid");
        Self::around(Nvme::new(config).expect("the device is valid"))
    }

    fn around(nvme: Nvme) -> Self {
        let host = Arc::new(TestHost::new(8 << 20, 256));
        nvme.attach(host.clone() as Arc<dyn Host>).expect("a new device");
        nvme.set_bus_master(true);
        let admin = Pair::new(&host, 0, 16);
        Self { host, nvme, admin }
    }

    pub(crate) fn read32(&self, offset: u64) -> u32 {
        self.nvme.read(0, offset, 4) as u32
    }

    pub(crate) fn write32(&self, offset: u64, value: u32) {
        self.nvme.write(0, offset, 4, u64::from(value));
    }

    /// Waits until CSTS, under `mask`, is `value`; returns false after `limit`.
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

    /// Enables the controller again, with a new admin queue.
    pub(crate) fn restart(&mut self) {
        self.admin = Pair::new(&self.host, 0, 16);
        self.enable();
    }

    /// Executes one admin command.
    pub(crate) fn admin(&mut self, command: Sqe) -> Cqe {
        let mut pair = self.admin.clone();
        let done = self.call(&mut pair, command);
        self.admin = pair;
        done
    }

    /// Creates an I/O queue pair with the interrupt vector of the same number.
    pub(crate) fn pair(&mut self, id: u16, entries: u32) -> Pair {
        let pair = Pair::new(&self.host, id, entries);
        let size = (entries - 1) << 16 | u32::from(id);
        let created = self.admin(Sqe::new(5).prp(pair.completion, 0).d10(size).d11(u32::from(id) << 16 | 3));
        assert_eq!(created.code, 0, "completion queue");
        let created = self.admin(Sqe::new(1).prp(pair.submission, 0).d10(size).d11(u32::from(id) << 16 | 1));
        assert_eq!(created.code, 0, "submission queue");
        pair
    }

    /// Writes a command into a queue, without the doorbell; returns its id.
    pub(crate) fn put(&self, pair: &mut Pair, command: Sqe) -> u16 {
        let id = pair.next_id;
        pair.next_id = pair.next_id.wrapping_add(1);
        let mut words = command.0;
        words[0] |= u32::from(id) << 16;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.host.poke(pair.submission + u64::from(pair.tail) * 64, &bytes);
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

    /// Takes the next completion, if there is one.
    pub(crate) fn poll(&self, pair: &mut Pair) -> Option<Cqe> {
        let entry = pair.completion + u64::from(pair.head) * 16;
        let last = self.host.peek_u32(entry + 12);
        if (last >> 16 & 1 != 0) != pair.phase {
            return None;
        }
        let queue_head = self.host.peek_u32(entry + 8);
        let done = Cqe {
            dword0: self.host.peek_u32(entry),
            head: queue_head as u16,
            queue: (queue_head >> 16) as u16,
            id: last as u16,
            code: (last >> 17 & 0x7ff) as u16,
            more: last >> 30 & 1 != 0,
            do_not_retry: last >> 31 != 0,
        };
        pair.head += 1;
        if pair.head == pair.entries {
            pair.head = 0;
            pair.phase = !pair.phase;
        }
        Some(done)
    }

    /// Writes the doorbell of the completion queue.
    pub(crate) fn release(&self, pair: &Pair) {
        self.write32(0x1004 + 8 * u64::from(pair.id), pair.head);
    }

    /// Waits for the next completion, which must arrive within [`LIMIT`].
    pub(crate) fn wait(&self, pair: &mut Pair) -> Cqe {
        self.wait_for(pair, LIMIT).expect("a completion arrives")
    }

    pub(crate) fn wait_for(&self, pair: &mut Pair, limit: Duration) -> Option<Cqe> {
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

    pub(crate) fn call(&self, pair: &mut Pair, command: Sqe) -> Cqe {
        let id = self.submit(pair, command);
        let done = self.wait(pair);
        assert_eq!((done.id, done.queue), (id, pair.id), "the completion is of another command");
        done
    }

    /// Executes Identify.
    pub(crate) fn identify(&mut self, cns: u32, nsid: u32) -> Result<Vec<u8>, u16> {
        let page = self.host.allocate(PAGE);
        let done = self.admin(Sqe::new(6).nsid(nsid).prp(page, 0).d10(cns));
        if done.code == 0 { Ok(self.host.peek(page, PAGE as usize)) } else { Err(done.code) }
    }

    /// Reads `bytes` of a log page.
    pub(crate) fn log(&mut self, page: u32, bytes: u32) -> Result<Vec<u8>, u16> {
        let memory = self.host.allocate(PAGE);
        let command = Sqe::new(2).nsid(u32::MAX).prp(memory, 0).d10(page | (bytes / 4 - 1) << 16);
        let done = self.admin(command);
        if done.code == 0 { Ok(self.host.peek(memory, bytes as usize)) } else { Err(done.code) }
    }

    /// Writes one block of 512 bytes from a new page.
    pub(crate) fn write_block(&self, pair: &mut Pair, lba: u64, byte: u8, flags: u32) -> Cqe {
        let page = self.host.allocate(PAGE);
        self.host.poke(page, &[byte; 512]);
        self.call(pair, Sqe::write(1, lba, 1).prp(page, 0).or12(flags))
    }

    pub(crate) fn read_block(&self, pair: &mut Pair, lba: u64) -> Vec<u8> {
        let page = self.host.allocate(PAGE);
        assert_eq!(self.call(pair, Sqe::read(1, lba, 1).prp(page, 0)).code, 0);
        self.host.peek(page, 512)
    }
}

impl Pair {
    pub(crate) fn new(host: &TestHost, id: u16, entries: u32) -> Self {
        Self {
            id,
            submission: host.allocate(u64::from(entries) * 64),
            completion: host.allocate(u64::from(entries) * 16),
            entries,
            tail: 0,
            head: 0,
            phase: true,
            next_id: 1,
        }
    }
}

/// A submission queue entry under construction.
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
