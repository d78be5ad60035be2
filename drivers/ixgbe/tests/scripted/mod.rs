//! A device under the test's control: registers that keep the written values, those that have to change by
//! themselves, and rings that the test processes by hand.
//!
//! The model of `devices/ixgbe` behaves correctly or injects faults at random. Here the test controls each
//! descriptor.

// Each test binary uses only some of the items.
#![allow(dead_code, unreachable_pub, reason = "shared by test binaries that each use a part")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use device_bus::{AlreadyAttached, Bar, BarKind, ClassCode, Host, Model, MsixLayout, PciIdentity};
use device_harness::Bench;
use ixgbe_driver::{Controller, IxgbeError, Options};

/// The register offsets of a chip that tests need.
#[derive(Clone, Copy)]
pub struct Map {
    pub device: u16,
    pub receive: u64,
    pub transmit: u64,
    pub ral: u64,
    pub eims: u64,
    pub eimc: u64,
}

pub const I82599: Map =
    Map { device: 0x10FB, receive: 0x1000, transmit: 0x6000, ral: 0xA200, eims: 0x880, eimc: 0x888 };
pub const I82576: Map =
    Map { device: 0x10C9, receive: 0xC000, transmit: 0xE000, ral: 0x5400, eims: 0x1524, eimc: 0x1528 };

pub const MAC: [u8; 6] = [2, 0xC0, 0xFF, 0xEE, 0, 1];

/// State that the test may change at any time.
pub struct Script {
    registers: BTreeMap<u64, u32>,
    /// Register bits with a fixed value: mask and value.
    pub pinned: BTreeMap<u64, (u32, u32)>,
    /// All register writes, in order.
    pub log: Vec<(u64, u32)>,
    /// The number of resets.
    pub resets: u32,
    /// True if all registers read as ones.
    pub gone: bool,
    /// Vectors whose messages are enabled.
    enabled: u32,
}

pub struct Scripted {
    script: Mutex<Script>,
    host: OnceLock<Arc<dyn Host>>,
    pub map: Map,
    vectors: u16,
}

impl Scripted {
    pub fn new(map: Map) -> Arc<Self> {
        Self::with(map, 9)
    }

    pub fn with(map: Map, vectors: u16) -> Arc<Self> {
        let script = Script {
            registers: BTreeMap::new(),
            pinned: BTreeMap::new(),
            log: Vec::new(),
            resets: 0,
            gone: false,
            enabled: 0,
        };
        let device = Self { script: Mutex::new(script), host: OnceLock::new(), map, vectors };
        device.power_on(&mut device.script());
        Arc::new(device)
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("no test panics with the lock held")
    }

    /// Attaches the device to a test bench and brings it up.
    pub fn start(self: &Arc<Self>) -> Result<(Bench, Controller), IxgbeError> {
        let bench = Bench::new(self.clone(), 4096);
        let controller = Controller::open(bench.device(), options())?;
        Ok((bench, controller))
    }

    fn power_on(&self, script: &mut Script) {
        script.registers.clear();
        script.enabled = 0;
        let [a, b, c, d, e, f] = MAC;
        let mut set = |register, value| script.registers.insert(register, value);
        set(self.map.ral, u32::from_le_bytes([a, b, c, d]));
        set(self.map.ral + 4, u32::from_le_bytes([e, f, 0, 0x80]));
        if self.map.device == I82576.device {
            // EECD: read. STATUS: link up, 1 Gb/s, master enabled.
            set(0x10, 1 << 9);
            set(0x08, 1 << 1 | 0b10 << 6 | 1 << 19);
        } else {
            // EEC: read. RDRXCTL: DMA is initialised. SECRXSTAT: ready. LINKS: up, 10 Gb/s.
            set(0x1_0010, 1 << 9);
            set(0x2F00, 1 << 3);
            set(0x8D04, 1);
            set(0x42A4, 1 << 30 | 0b11 << 28);
            set(0x08, 1 << 19);
        }
    }

    pub fn register(&self, register: u64) -> u32 {
        self.script().registers.get(&register).copied().unwrap_or(0)
    }

    pub fn set(&self, register: u64, value: u32) {
        self.script().registers.insert(register, value);
    }

    /// Returns the number of writes to `register`.
    pub fn writes(&self, register: u64) -> usize {
        self.script().log.iter().filter(|(at, _)| *at == register).count()
    }

    /// Returns the values written to `register`, in order.
    pub fn written(&self, register: u64) -> Vec<u32> {
        self.script().log.iter().filter(|(at, _)| *at == register).map(|(_, value)| *value).collect()
    }

    fn host(&self) -> &dyn Host {
        self.host.get().expect("the device is attached").as_ref()
    }

    fn base(&self, first: u64) -> u64 {
        u64::from(self.register(first)) | u64::from(self.register(first + 4)) << 32
    }

    /// Returns the first register of the transmit ring of queue `queue`.
    pub fn transmit(&self, queue: u64) -> u64 {
        self.map.transmit + 0x40 * queue
    }

    /// Returns the first register of the receive ring of queue `queue`.
    pub fn receive(&self, queue: u64) -> u64 {
        self.map.receive + 0x40 * queue
    }

    fn descriptor(&self, base: u64, index: u32) -> [u64; 2] {
        let mut bytes = [0; 16];
        self.host().read_memory(base + 16 * u64::from(index), &mut bytes).expect("the ring is in memory");
        let words = bytes.as_chunks::<8>().0;
        [u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1])]
    }

    pub fn put_descriptor(&self, base: u64, index: u32, words: [u64; 2]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.host().write_memory(base + 16 * u64::from(index), &bytes).expect("the ring is in memory");
    }

    /// Returns the address of the receive ring.
    pub fn receive_base(&self, queue: u64) -> u64 {
        self.base(self.receive(queue))
    }

    /// Fetches all announced transmit descriptors. Returns the index and words of each.
    pub fn fetch(&self, queue: u64) -> Vec<(u32, [u64; 2])> {
        let first = self.transmit(queue);
        let (base, entries) = (self.base(first), self.register(first + 8) / 16);
        let (mut head, tail) = (self.register(first + 0x10), self.register(first + 0x18));
        let mut fetched = Vec::new();
        while head != tail {
            fetched.push((head, self.descriptor(base, head)));
            head = (head + 1) % entries;
        }
        self.set(first + 0x10, head);
        fetched
    }

    /// Reports those of `fetched` that request it as done. Returns their number.
    pub fn report(&self, queue: u64, fetched: &[(u32, [u64; 2])]) -> usize {
        let base = self.base(self.transmit(queue));
        let asked: Vec<u32> =
            fetched.iter().filter(|(_, words)| words[1] >> 27 & 1 != 0).map(|(index, _)| *index).collect();
        for &index in &asked {
            self.put_descriptor(base, index, [0, 1 << 32]);
        }
        asked.len()
    }

    /// Returns the bytes that a transmit descriptor points to.
    pub fn bytes(&self, words: [u64; 2]) -> Vec<u8> {
        let mut bytes = vec![0; (words[1] & 0xFFFF) as usize];
        self.host().read_memory(words[0], &mut bytes).expect("a frame is in memory");
        bytes
    }

    /// Returns the number of packets that the device has to receive into.
    pub fn buffers(&self, queue: u64) -> u32 {
        let first = self.receive(queue);
        let (entries, head, tail) =
            (self.register(first + 8) / 16, self.register(first + 0x10), self.register(first + 0x18));
        (tail + entries - head) % entries
    }

    /// Receives `bytes` into the next packet, with these descriptor words.
    pub fn deliver(&self, queue: u64, bytes: &[u8], first_word: u64, status: u32) {
        assert!(self.buffers(queue) > 0, "no buffer");
        let first = self.receive(queue);
        let (base, entries) = (self.base(first), self.register(first + 8) / 16);
        let head = self.register(first + 0x10);
        let [address, _] = self.descriptor(base, head);
        self.host().write_memory(address, bytes).expect("a buffer is in memory");
        self.put_descriptor(base, head, [first_word, u64::from(status) | (bytes.len() as u64) << 32]);
        self.set(first + 0x10, (head + 1) % entries);
    }

    /// Sends a message if the vector is enabled, which disables it.
    pub fn raise(&self, vector: u16) {
        let wanted = {
            let mut script = self.script();
            let wanted = script.enabled >> vector & 1 != 0;
            script.enabled &= !(1 << vector);
            wanted
        };
        if wanted {
            self.host().raise(vector);
        }
    }
}

/// Short timeouts, so that failing operations fail quickly.
pub fn options() -> Options {
    Options {
        step_timeout_ns: 30_000_000,
        settle_ns: 0,
        hang_ns: 40_000_000,
        spin_ns: 20_000,
        ..Options::default()
    }
}

impl Model for Scripted {
    fn identity(&self) -> PciIdentity {
        PciIdentity {
            vendor: 0x8086,
            device: self.map.device,
            class: ClassCode { base: 2, sub: 0, interface: 0 },
            revision: 1,
            subsystem_vendor: 0,
            subsystem: 0,
            bars: vec![Bar { index: 0, bytes: 0x2_0000, kind: BarKind::Memory64 }],
            msix: MsixLayout { vectors: self.vectors, bar: 4 },
        }
    }

    fn attach(&self, host: Arc<dyn Host>) -> Result<(), AlreadyAttached> {
        self.host.set(host).map_err(|_| AlreadyAttached)
    }

    fn read(&self, _: u8, offset: u64, _: u8) -> u64 {
        let script = self.script();
        if script.gone {
            return u32::MAX.into();
        }
        let value = script.registers.get(&offset).copied().unwrap_or(0);
        let (mask, pinned) = script.pinned.get(&offset).copied().unwrap_or((0, 0));
        u64::from(value & !mask | pinned)
    }

    fn write(&self, _: u8, offset: u64, _: u8, value: u64) {
        let value = value as u32;
        let mut script = self.script();
        if script.gone {
            return;
        }
        script.log.push((offset, value));
        if offset == 0 {
            let status = script.registers.get(&8).copied().unwrap_or(0);
            let master = if value & 1 << 2 != 0 { 0 } else { 1 << 19 };
            if value & 1 << 26 != 0 {
                script.resets += 1;
                self.power_on(&mut script);
            } else {
                script.registers.insert(8, status & !(1 << 19) | master);
                script.registers.insert(0, value);
            }
        } else if offset == self.map.eims {
            script.enabled |= value;
        } else if offset == self.map.eimc {
            script.enabled &= !value;
        } else {
            script.registers.insert(offset, value);
        }
    }

    fn set_bus_master(&self, _: bool) {}

    fn reset(&self) {}

    fn transactions_pending(&self) -> bool {
        false
    }
}
