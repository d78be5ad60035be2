//! The driver's cost of a forwarded packet, without an interface or a domain around it.
//!
//!     cargo run --release -p ixgbe-driver --example cycles
//!
//! First against memory: the same thread writes the rings between the measured rounds, so the result is the
//! driver's own instructions, with packets that come from no other cache. Then against the model on another
//! thread, with an unlimited link, which adds the transfer of the rings between two CPUs. There only
//! exchanges that moved packets count, in windows of a few thousand packets, since other programs may preempt
//! either CPU at any time.
//!
//! A packet is a page of DMA memory here, whose accessors check more than a shared object's do; so the
//! results are upper bounds.

#[path = "../tests/packets/mod.rs"]
mod packets;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use coppice_hardware::{
    Arena, Backend, Device, DeviceInfo, DeviceRefusal, DmaMemory, Region, RegisterWidth, RegisterWindow,
    StopStep,
};
use device_harness::Bench;
use ixgbe_driver::{Config, Controller, Options, Queue, QueueOptions};
use ixgbe_model::{Ixgbe, IxgbeConfig};
use packets::{Packets, START, fill, frame, set_len, spare};

const WINDOW: usize = 0x2_0000;
const DEPTH: u32 = 1024;
const FRAME: usize = 60;
/// Packets per measured round.
const ROUND: usize = 256;
const ROUNDS: usize = 4000;
/// Packets per window against the model, and the number of windows.
const WINDOW_PACKETS: usize = 5000;
const WINDOWS: usize = 400;

/// A device that is memory: registers keep the written values, and descriptors change only by this program.
struct Memory {
    arena: Arc<Arena>,
    registers: Vec<AtomicU32>,
    start: Instant,
}

impl Memory {
    fn new() -> Arc<Self> {
        let registers: Vec<AtomicU32> = (0..WINDOW / 4).map(|_| AtomicU32::new(0)).collect();
        // RAL, RAH, EEC, RDRXCTL, SECRXSTAT, LINKS.
        for (register, value) in [
            (0xA200, 0x0002),
            (0xA204, 0x8000_0100),
            (0x1_0010, 1 << 9),
            (0x2F00, 1 << 3),
            (0x8D04, 1),
            (0x42A4, 0xF << 28),
        ] {
            registers[register / 4].store(value, Ordering::Relaxed);
        }
        Arc::new(Self { arena: Arc::new(Arena::new(8192)), registers, start: Instant::now() })
    }

    fn get(&self, register: usize) -> u32 {
        self.registers[register / 4].load(Ordering::Relaxed)
    }

    /// Fills the next `count` packets, starting at position `first`.
    fn deliver(&self, first: u32, count: usize) {
        for number in 0..count as u32 {
            let at = u64::from(self.get(0x1000)) + 16 * u64::from((first + number) % DEPTH);
            let second = (FRAME as u64) << 32 | 0b11;
            self.arena.write(at, &0_u64.to_le_bytes()).expect("a ring");
            self.arena.write(at + 8, &second.to_le_bytes()).expect("a ring");
        }
    }

    /// Reports the descriptors that request it among `count` starting at position `first`.
    fn report(&self, first: u32, count: usize) {
        for number in 0..count as u32 {
            let at = u64::from(self.get(0x6000)) + 16 * u64::from((first + number) % DEPTH) + 8;
            let mut second = [0; 8];
            self.arena.read(at, &mut second).expect("a ring");
            if u64::from_le_bytes(second) >> 27 & 1 != 0 {
                self.arena.write(at, &(1_u64 << 32).to_le_bytes()).expect("a ring");
            }
        }
    }
}

impl Backend for Memory {
    fn info(&self) -> DeviceInfo {
        DeviceInfo { vendor: 0x8086, device: 0x10FB, ..DeviceInfo::default() }
    }

    fn window(&self, _: u8) -> Result<RegisterWindow, DeviceRefusal> {
        Ok(RegisterWindow::Called { len: WINDOW })
    }

    fn read(&self, _: u8, offset: usize, _: RegisterWidth) -> u64 {
        self.get(offset).into()
    }

    fn write(&self, _: u8, offset: usize, _: RegisterWidth, value: u64) {
        // CTRL.RST clears at once.
        let value = if offset == 0 { value as u32 & !(1 << 26) } else { value as u32 };
        self.registers[offset / 4].store(value, Ordering::Relaxed);
    }

    fn region(&self, pages: usize) -> Result<Region, DeviceRefusal> {
        self.arena.region(pages)
    }

    fn enable_dma(&self, _: &[StopStep]) -> Result<(), DeviceRefusal> {
        Ok(())
    }

    fn open_interrupt(&self, vector: u16) -> Result<(), DeviceRefusal> {
        Err(DeviceRefusal::NoVector { vector })
    }

    fn await_interrupt(&self, _: u16, seen: u32, _: u64) -> u32 {
        seen
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn sleep_until(&self, deadline_ns: u64) {
        while self.now_ns() < deadline_ns {
            std::hint::spin_loop();
        }
    }
}

fn options() -> Options {
    Options { settle_ns: 0, ..Options::default() }
}

fn open(controller: &Controller, memory: &Device, buffers: u32) -> Queue<Packets> {
    let depths = QueueOptions { send_depth: DEPTH, receive_depth: DEPTH, packet_bytes: 2048 };
    let mut queue = controller.open_queue(depths).expect("a queue");
    for number in 0..buffers {
        assert!(queue.give(spare(memory, number)).is_ok(), "there is room");
    }
    queue.poll(0, |_, _| {}).expect("no fault");
    queue
}

/// Performs one exchange: sends the packets received by the last one. Returns the number of received packets.
fn exchange(queue: &mut Queue<Packets>, batch: &mut Vec<DmaMemory>, most: usize) -> usize {
    let mut sending = batch.drain(..);
    queue.send(|| sending.next(), |_, why| assert!(why.is_none(), "{why:?}")).expect("no fault");
    drop(sending);
    queue
        .poll(most, |packet, received| batch.push(set_len(packet, received.len() as usize)))
        .expect("no fault")
}

fn against_memory(batch_size: usize, mhz: f64) {
    let memory = Memory::new();
    let device = Device::new(memory.clone());
    let controller = Controller::open(device, options()).expect("the device works");
    let mut queue = open(&controller, &Device::new(memory.clone()), DEPTH - 1);
    let mut batch = Vec::with_capacity(batch_size);
    let mut costs = Vec::new();
    let (mut received, mut sent) = (0_u32, 0_u32);
    for _ in 0..ROUNDS {
        memory.deliver(received, ROUND);
        let start = Instant::now();
        let mut moved = 0;
        while moved < ROUND {
            moved += exchange(&mut queue, &mut batch, batch_size);
        }
        // The last batch is sent too.
        exchange(&mut queue, &mut batch, 0);
        costs.push(start.elapsed().as_nanos() as f64 / ROUND as f64);
        received += ROUND as u32;
        memory.report(sent, ROUND);
        sent += ROUND as u32;
    }
    costs.sort_by(f64::total_cmp);
    let (least, median) = (costs[0], costs[costs.len() / 2]);
    println!(
        "memory, batch {batch_size:>3}: {median:5.1} ns, {:5.1} cycles per packet (least {:5.1})",
        median * mhz / 1000.0,
        least * mhz / 1000.0
    );
}

fn against_model(batch_size: usize, mhz: f64) {
    let config = IxgbeConfig::parse("rate=unlimited,peer=loopback:frames=4096").expect("a device");
    let model = Arc::new(Ixgbe::new(config).expect("a valid configuration"));
    let bench = Bench::new(model, 16384);
    let controller = Controller::open(bench.device(), options()).expect("the device works");
    // Addresses are not swapped, so the device has to receive its own frames.
    controller.configure(&Config { promiscuous: true, ..Config::default() }).expect("a valid configuration");
    let mut queue = open(&controller, &bench.device(), 700);
    let mut first: Vec<DmaMemory> =
        (0..300).map(|number| fill(spare(&bench.device(), number), &frame(1, FRAME))).collect();
    queue.send(|| first.pop(), |_, _| {}).expect("no fault");
    let mut batch: Vec<DmaMemory> = Vec::with_capacity(batch_size);
    let mut costs = Vec::new();
    let (mut moved, mut busy_ns) = (0_usize, 0_u64);
    let start = Instant::now();
    while costs.len() < WINDOWS {
        let begin = Instant::now();
        let had = batch.len();
        for packet in &mut batch {
            // Forwarding changes the destination of a frame.
            let destination = packet.read::<u64>(START).rotate_left(1);
            packet.write(START, destination);
        }
        let count = exchange(&mut queue, &mut batch, batch_size);
        if count + had > 0 {
            busy_ns += begin.elapsed().as_nanos() as u64;
        }
        moved += count;
        if moved >= WINDOW_PACKETS {
            costs.push(busy_ns as f64 / moved as f64);
            (moved, busy_ns) = (0, 0);
        }
    }
    let rate = (WINDOWS * WINDOW_PACKETS) as f64 / start.elapsed().as_secs_f64() / 1e6;
    costs.sort_by(f64::total_cmp);
    // On a shared machine most windows have been interrupted, on one CPU or the other.
    let (tenth, median) = (costs[costs.len() / 10], costs[costs.len() / 2]);
    println!(
        "model,  batch {batch_size:>3}: {median:5.1} ns, {:5.1} cycles per packet busy (best tenth {:5.1}), {rate:.2} Mpps",
        median * mhz / 1000.0,
        tenth * mhz / 1000.0,
    );
}

/// Returns the frequency of the time-stamp counter in MHz, as determined by Linux.
fn mhz() -> f64 {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("cpu MHz"));
    line.and_then(|line| line.split(':').nth(1)?.trim().parse().ok()).unwrap_or(1000.0)
}

fn main() {
    let mhz = mhz();
    println!("frames of {FRAME} bytes without FCS, rings of {DEPTH}, {mhz:.0} MHz");
    for batch_size in [1, 8, 32, 256] {
        against_memory(batch_size, mhz);
    }
    for batch_size in [1, 32, 256] {
        against_model(batch_size, mhz);
    }
}
