//! A controller under the test's control: it completes admin commands by itself, and I/O commands as the test
//! says.
//!
//! The model of `devices/nvme` behaves correctly or injects faults at random. Here the test controls each
//! completion.

// Each test binary uses only some of the items.
#![allow(dead_code, unreachable_pub, reason = "shared by test binaries that each use a part")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use device_bus::{AlreadyAttached, Bar, BarKind, ClassCode, Host, Model, MsixLayout, PciIdentity};
use device_harness::Bench;
use nvme_driver::{Controller, IoQueue, NvmeError, Options};

/// A submission queue entry fetched from an I/O queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fetched {
    pub queue: u16,
    pub dwords: [u32; 16],
}

impl Fetched {
    pub fn id(&self) -> u16 {
        (self.dwords[0] >> 16) as u16
    }

    pub fn opcode(&self) -> u8 {
        self.dwords[0] as u8
    }

    pub fn qword(&self, at: usize) -> u64 {
        u64::from(self.dwords[at]) | u64::from(self.dwords[at + 1]) << 32
    }
}

/// A completion to post.
#[derive(Clone, Copy, Debug)]
pub struct PostedCompletion {
    /// The completion queue.
    pub queue: u16,
    pub id: u16,
    /// Status without the phase tag.
    pub status: u16,
    /// SQ Head Pointer; `None` for the correct one.
    pub head: Option<u16>,
    /// SQ Identifier; `None` for the correct one.
    pub submission_queue: Option<u16>,
}

impl PostedCompletion {
    pub fn to(command: &Fetched) -> Self {
        Self { queue: command.queue, id: command.id(), status: 0, head: None, submission_queue: None }
    }
}

struct Ring {
    base: u64,
    entries: u32,
    /// The head of a submission queue, the tail of a completion queue.
    at: u32,
    phase: bool,
    vector: Option<u16>,
}

/// State that the test may change at any time.
pub struct Script {
    pub cap: u64,
    /// CSTS.RDY does not follow CC.EN.
    pub stuck: bool,
    /// CSTS.CFS.
    pub fatal: bool,
    /// Opcodes of admin commands that are never completed.
    pub swallowed: BTreeSet<u8>,
    /// The status for admin commands of an opcode.
    pub admin_status: BTreeMap<u8, u16>,
    /// True if Abort ends the command with status 07h; otherwise it has no effect.
    pub aborts: bool,
    /// The numbers of transitions of CC.EN from 0 to 1, and of SHN from 0.
    pub enables: u32,
    pub shutdowns: u32,
    /// Data of Identify.
    pub controller: Vec<u8>,
    pub namespaces: BTreeMap<u32, Vec<u8>>,
    pub queues: u32,
    /// All admin commands, in order.
    pub admin: Vec<[u32; 16]>,
    /// I/O commands that were fetched and not completed.
    pub pending: Vec<Fetched>,
    cc: u32,
    ready: bool,
    shut: bool,
    registers: BTreeMap<u64, u64>,
    submissions: BTreeMap<u16, Ring>,
    completions: BTreeMap<u16, Ring>,
    events: Vec<u16>,
}

pub struct Scripted {
    script: Mutex<Script>,
    host: OnceLock<Arc<dyn Host>>,
    registers_bytes: u64,
    vectors: u16,
}

/// Contiguous queues, MQES 63, TO 1 (500 ms), the NVM command set.
pub const CAP: u64 = 63 | 1 << 16 | 1 << 24 | 1 << 37;

/// Returns the Identify data of a namespace of `blocks` blocks of 2^`exponent` bytes.
pub fn namespace(blocks: u64, exponent: u8) -> Vec<u8> {
    let mut data = vec![0; 4096];
    data[0..8].copy_from_slice(&blocks.to_le_bytes());
    data[130] = exponent;
    data
}

fn controller() -> Vec<u8> {
    let mut data = vec![0; 4096];
    data[4..24].copy_from_slice(b"SCRIPT-1            ");
    data[24..64].fill(b' ');
    data[77] = 5;
    data[259] = 3;
    (data[512], data[513]) = (0x66, 0x44);
    // Compare, Dataset Management, Write Zeroes; volatile write cache.
    data[520] = 0b1101;
    data[525] = 1;
    data
}

impl Script {
    /// Disables the interrupt of a completion queue.
    pub fn mute(&mut self, queue: u16) {
        if let Some(ring) = self.completions.get_mut(&queue) {
            ring.vector = None;
        }
    }
}

impl Scripted {
    pub fn new() -> Arc<Self> {
        Self::with(0x4000, 9)
    }

    pub fn with(registers_bytes: u64, vectors: u16) -> Arc<Self> {
        let script = Script {
            cap: CAP,
            stuck: false,
            fatal: false,
            swallowed: BTreeSet::new(),
            admin_status: BTreeMap::new(),
            aborts: false,
            enables: 0,
            shutdowns: 0,
            controller: controller(),
            namespaces: BTreeMap::from([(1, namespace(1 << 20, 9))]),
            queues: 8,
            admin: Vec::new(),
            pending: Vec::new(),
            cc: 0,
            ready: false,
            shut: false,
            registers: BTreeMap::new(),
            submissions: BTreeMap::new(),
            completions: BTreeMap::new(),
            events: Vec::new(),
        };
        Arc::new(Self { script: Mutex::new(script), host: OnceLock::new(), registers_bytes, vectors })
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("no test panics with the lock held")
    }

    /// Attaches the model to a test bench and brings it up.
    pub fn start(self: &Arc<Self>) -> Result<(Bench, Controller), NvmeError> {
        self.start_with(options())
    }

    /// Does the same with other options.
    pub fn start_with(self: &Arc<Self>, options: Options) -> Result<(Bench, Controller), NvmeError> {
        let bench = Bench::new(self.clone(), 1024);
        let controller = Controller::new(bench.device(), options)?;
        Ok((bench, controller))
    }

    /// Opens a queue on the first namespace.
    pub fn queue<B: coppice_hardware::DmaBuffer>(controller: &Controller, depth: u16) -> IoQueue<B> {
        controller.open_queue(&controller.namespaces()[0], depth).expect("a queue")
    }

    /// Returns all I/O commands fetched since the last call.
    pub fn take(&self) -> Vec<Fetched> {
        std::mem::take(&mut self.script().pending)
    }

    /// Posts a completion.
    pub fn complete(&self, completion: PostedCompletion) {
        self.post(&mut self.script(), completion, 0);
    }

    /// Posts an asynchronous event. Returns false if no event request is pending.
    pub fn event(&self, result: u32) -> bool {
        let mut script = self.script();
        let Some(id) = script.events.pop() else { return false };
        self.post(
            &mut script,
            PostedCompletion { queue: 0, id, status: 0, head: None, submission_queue: None },
            result,
        );
        true
    }

    fn host(&self) -> &dyn Host {
        self.host.get().expect("the model is attached").as_ref()
    }

    fn post(&self, script: &mut Script, completion: PostedCompletion, result: u32) {
        let head = completion
            .head
            .unwrap_or_else(|| script.submissions.get(&completion.queue).map_or(0, |ring| ring.at as u16));
        let ring = script.completions.get_mut(&completion.queue).expect("the completion queue exists");
        let at = ring.base + u64::from(ring.at) * 16;
        let queue = completion.submission_queue.unwrap_or(completion.queue);
        let mut entry = [0; 12];
        entry[..4].copy_from_slice(&result.to_le_bytes());
        entry[8..].copy_from_slice(&(u32::from(queue) << 16 | u32::from(head)).to_le_bytes());
        self.host().write_memory(at, &entry).expect("the queue is in memory");
        let last =
            u32::from(completion.status) << 17 | u32::from(ring.phase) << 16 | u32::from(completion.id);
        self.host().publish_u32(at + 12, last).expect("the queue is in memory");
        ring.at += 1;
        if ring.at == ring.entries {
            ring.at = 0;
            ring.phase = !ring.phase;
        }
        if let Some(vector) = ring.vector {
            self.host().raise(vector);
        }
    }

    fn fetch(&self, ring: &mut Ring, tail: u32) -> Vec<[u32; 16]> {
        let mut fetched = Vec::new();
        while ring.at != tail {
            let mut bytes = [0; 64];
            self.host().read_memory(ring.base + u64::from(ring.at) * 64, &mut bytes).expect("in memory");
            fetched.push(std::array::from_fn(|at| {
                u32::from_le_bytes(bytes[4 * at..][..4].try_into().expect("4 bytes"))
            }));
            ring.at = (ring.at + 1) % ring.entries;
        }
        fetched
    }

    fn doorbell(&self, script: &mut Script, index: u64, value: u32) {
        let queue = (index / 2) as u16;
        if index % 2 == 1 {
            return;
        }
        let Some(mut ring) = script.submissions.remove(&queue) else { return };
        let fetched = self.fetch(&mut ring, value);
        script.submissions.insert(queue, ring);
        for dwords in fetched {
            if queue == 0 {
                script.admin.push(dwords);
                self.admin(script, dwords);
            } else {
                script.pending.push(Fetched { queue, dwords });
            }
        }
    }

    fn admin(&self, script: &mut Script, dwords: [u32; 16]) {
        let (opcode, id) = (dwords[0] as u8, (dwords[0] >> 16) as u16);
        if script.swallowed.contains(&opcode) {
            return;
        }
        let address = u64::from(dwords[6]) | u64::from(dwords[7]) << 32;
        let (low, high) = (dwords[10] as u16, dwords[10] >> 16);
        let mut status = script.admin_status.get(&opcode).copied().unwrap_or(0);
        let mut result = 0;
        let ring = |vector| Ring { base: address, entries: high + 1, at: 0, phase: true, vector };
        match opcode {
            _ if status != 0 => {}
            0x00 => {
                script.submissions.remove(&low);
                script.pending.retain(|command| command.queue != low);
            }
            0x01 => _ = script.submissions.insert(low, ring(None)),
            0x04 => _ = script.completions.remove(&low),
            0x05 => {
                let vector = (dwords[11] & 2 != 0).then_some((dwords[11] >> 16) as u16);
                _ = script.completions.insert(low, ring(vector));
            }
            0x06 => {
                let data = match (low, dwords[1]) {
                    (0, namespace) => script.namespaces.get(&namespace).cloned(),
                    (1, _) => Some(script.controller.clone()),
                    (2, last) => {
                        let ids = script.namespaces.keys().filter(|&&id| id > last);
                        let mut data: Vec<u8> = ids.flat_map(|id| id.to_le_bytes()).collect();
                        data.resize(4096, 0);
                        Some(data)
                    }
                    _ => None,
                };
                match data {
                    Some(data) => self.host().write_memory(address, &data).expect("in memory"),
                    None => status = 0x0B | 1 << 14,
                }
            }
            0x08 => {
                let (queue, aborted) = (low, high as u16);
                let found = script.pending.iter().position(|one| one.queue == queue && one.id() == aborted);
                match found {
                    Some(at) if script.aborts => {
                        let command = script.pending.remove(at);
                        self.post(
                            script,
                            PostedCompletion { status: 0x07, ..PostedCompletion::to(&command) },
                            0,
                        );
                    }
                    _ => result = 1,
                }
            }
            0x09 if low == 7 => result = (script.queues - 1) << 16 | (script.queues - 1),
            0x0C => {
                script.events.push(id);
                return;
            }
            0x02 => self.host().write_memory(address, &[0; 64]).expect("in memory"),
            _ => {}
        }
        self.post(
            script,
            PostedCompletion { queue: 0, id, status, head: None, submission_queue: None },
            result,
        );
    }

    fn configure(&self, script: &mut Script, cc: u32) {
        let was = script.cc;
        script.cc = cc;
        if cc >> 14 & 3 != 0 && was >> 14 & 3 == 0 {
            script.shutdowns += 1;
            script.shut = true;
        }
        if (cc ^ was) & 1 == 0 || script.stuck {
            return;
        }
        script.ready = cc & 1 != 0;
        script.shut = false;
        script.submissions.clear();
        script.completions.clear();
        script.pending.clear();
        script.events.clear();
        if script.ready {
            script.enables += 1;
            let register = |at| script.registers.get(&at).copied().unwrap_or(0);
            let (aqa, asq, acq) = (register(0x24), register(0x28), register(0x30));
            let ring = |base, entries: u64, vector| Ring {
                base,
                entries: (entries & 0xFFF) as u32 + 1,
                at: 0,
                phase: true,
                vector,
            };
            script.submissions.insert(0, ring(asq, aqa, None));
            script.completions.insert(0, ring(acq, aqa >> 16, Some(0)));
        }
    }
}

/// Short timeouts, so that failing operations fail quickly.
pub fn options() -> Options {
    Options {
        command_timeout_ns: 40_000_000,
        admin_timeout_ns: 100_000_000,
        spin_ns: 20_000,
        ..Options::default()
    }
}

/// A command timeout that no stall of the test machine reaches, for tests in which commands complete.
pub fn options_without_timeouts() -> Options {
    Options { command_timeout_ns: 600_000_000_000, ..options() }
}

impl Model for Scripted {
    fn identity(&self) -> PciIdentity {
        PciIdentity {
            vendor: 0x1B36,
            device: 0x0010,
            class: ClassCode { base: 1, sub: 8, interface: 2 },
            revision: 0,
            subsystem_vendor: 0,
            subsystem: 0,
            bars: vec![Bar { index: 0, bytes: self.registers_bytes, kind: BarKind::Memory64 }],
            msix: MsixLayout { vectors: self.vectors, bar: 4 },
        }
    }

    fn attach(&self, host: Arc<dyn Host>) -> Result<(), AlreadyAttached> {
        self.host.set(host).map_err(|_| AlreadyAttached)
    }

    fn read(&self, _: u8, offset: u64, size: u8) -> u64 {
        let script = self.script();
        match (offset, size) {
            (0x00, 8) => script.cap,
            (0x08, _) => 0x0002_0000,
            (0x14, _) => script.cc.into(),
            (0x1C, _) => u64::from(script.ready) | u64::from(script.fatal) << 1 | u64::from(script.shut) << 3,
            _ => script.registers.get(&offset).copied().unwrap_or(0),
        }
    }

    fn write(&self, _: u8, offset: u64, _: u8, value: u64) {
        let script = &mut *self.script();
        let stride = 4 << (script.cap >> 32 & 0xF);
        match offset {
            0x14 => self.configure(script, value as u32),
            0x1000.. => self.doorbell(script, (offset - 0x1000) / stride, value as u32),
            _ => _ = script.registers.insert(offset, value),
        }
    }

    fn set_bus_master(&self, _: bool) {}

    fn reset(&self) {}

    fn transactions_pending(&self) -> bool {
        false
    }
}
