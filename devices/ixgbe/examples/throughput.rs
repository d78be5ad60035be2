//! Measures the cost of a frame for the model's thread: frames of 64 bytes (without FCS), received and sent
//! in bursts.
//!
//!     cargo run --release -p ixgbe-model --example throughput
//!
//! Prints nanoseconds of CPU time per frame, the least of many bursts, which is the cost on an idle machine;
//! its reciprocal is the limit of one device. At 10 Gb/s such a frame takes 70.4 ns in each direction.

#[path = "../tests/rig/mod.rs"]
mod rig;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use coppice_traffic::{Control, Shape, Start, Template};
use device_link::{Frame, Peer, Tester, Waker};
use rig::{MAC, Rig, frame};

/// The bytes of a frame: whole words, since the bench stores a part of a word by a locked instruction, which
/// a real host does not.
const BYTES: usize = 64;
/// The length fields of a transmit descriptor.
const LENGTH: u64 = BYTES as u64 | (BYTES as u64) << 46;
const BURST: u32 = 1000;
const BURSTS: u32 = 200;
const RING: u32 = 1024;

fn main() {
    println!("ns of CPU per frame of {BYTES} bytes, the least of {BURSTS} bursts of {BURST}");
    for (name, is_tester) in [("a peer that does nothing", false), ("a tester", true)] {
        println!("with {name}: receive {:.1}, send {:.1}", receive(is_tester), send(is_tester));
    }
}

/// The number of frames that a peer may still give, and the device's waker.
#[derive(Default)]
struct Budget {
    frames: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

impl Budget {
    fn add(&self, frames: u64) {
        self.frames.fetch_add(frames, Ordering::SeqCst);
        if let Some(wake) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            wake();
        }
    }
}

/// Gives the frames of its budget: a tester's, or always the same one.
struct Rationed {
    budget: Arc<Budget>,
    left: u64,
    tester: Option<Tester>,
    frame: Vec<u8>,
}

impl Rationed {
    fn new(budget: &Arc<Budget>, is_tester: bool) -> Box<Self> {
        let mut tester = is_tester.then(|| Tester::new(Tester::MAC));
        if let Some(tester) = &mut tester {
            let start = Start {
                stream: 1,
                request: 1,
                frame_bytes: BYTES as u16,
                frames_per_second: 0,
                count: 0,
                burst: 1,
                destination: MAC,
                flows: 0,
                checks_filler: false,
            };
            let mut request = [0; Control::FRAME_BYTES];
            let bytes = Control::Start(start).encode(Tester::MAC, MAC, &mut request).expect("there is room");
            tester.take(&request[..bytes], 0);
            assert!(tester.give(0).is_some(), "a report");
        }
        Box::new(Self { budget: budget.clone(), left: 0, tester, frame: frame(MAC, BYTES, 1) })
    }
}

impl Peer for Rationed {
    fn take(&mut self, frame: &[u8], now_ns: u64) {
        if let Some(tester) = &mut self.tester {
            tester.take(frame, now_ns);
        }
    }

    fn give(&mut self, now_ns: u64) -> Option<Frame<'_>> {
        if self.left == 0 {
            self.left = self.budget.frames.swap(0, Ordering::SeqCst);
        }
        self.left = self.left.checked_sub(1)?;
        match &mut self.tester {
            Some(tester) => tester.give(now_ns),
            None => Some(Frame { bytes: &self.frame, damage: None }),
        }
    }

    fn due_ns(&self) -> Option<u64> {
        (self.left > 0 || self.budget.frames.load(Ordering::SeqCst) > 0).then_some(0)
    }

    fn attach(&mut self, waker: Waker) {
        *self.budget.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }
}

/// Measures the device's thread while it stores frames from the wire in free buffers.
fn receive(is_tester: bool) -> f64 {
    let budget = Arc::new(Budget::default());
    let rig = Rig::with_peer("rate=unlimited,spin=0", Rationed::new(&budget, is_tester));
    let mut ring = rig.receive_queue(0, RING);
    least(|| {
        budget.add(BURST.into());
        for _ in 0..BURST {
            // Sleeps instead of polling, so that the other CPU is the device's. Frames are not read: the cost
            // of moving their cache lines is not the model's.
            let status = ring.descriptors + 16 * u64::from(ring.head) + 8;
            while rig.bench.peek_u32(status) & 1 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
            ring.head = (ring.head + 1) % ring.count;
            rig.give(&mut ring);
        }
        // The buffers are handed over while the device sleeps.
        std::thread::sleep(Duration::from_millis(1));
        rig.ring_tail(&ring);
        std::thread::sleep(Duration::from_millis(1));
    })
}

/// Measures the device's thread while it sends frames from buffers to the wire.
fn send(is_tester: bool) -> f64 {
    let rig = Rig::with_peer("rate=unlimited,spin=0", Rationed::new(&Arc::new(Budget::default()), is_tester));
    let mut ring = rig.send_queue(0, RING);
    let mut number = 0;
    let mut template =
        Template::new(7, Shape { destination: Tester::MAC, source: MAC, bytes: BYTES, flows: 0 })
            .expect("a sound shape");
    let mut bytes = [0; BYTES];
    template.write(&mut bytes).expect("there is room");
    least(|| {
        for _ in 0..BURST {
            template.stamp(&mut bytes, number, 0);
            number += 1;
            let buffer = rig.buffer(&ring, ring.tail);
            rig.bench.poke(buffer, &bytes);
            let report = if number.is_multiple_of(32) { 1 << 27 } else { 0 };
            rig.put(&mut ring, [buffer, 1 << 29 | 3 << 20 | 3 << 24 | report | LENGTH]);
        }
        rig.ring_tail(&ring);
        while rig.get(ring.registers + 0x10) != ring.tail {
            std::thread::sleep(Duration::from_millis(2));
        }
    })
}

fn least(mut burst: impl FnMut()) -> f64 {
    (0..BURSTS)
        .map(|_| {
            let before = device_ns();
            burst();
            (device_ns() - before) as f64 / f64::from(BURST)
        })
        .fold(f64::MAX, f64::min)
}

/// The CPU time of the device's thread.
fn device_ns() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let own = tasks.filter_map(|task| {
        let path = task.ok()?.path();
        let name = std::fs::read_to_string(path.join("comm")).ok()?;
        let stat = std::fs::read_to_string(path.join("schedstat")).ok()?;
        (name.trim() == "ixgbe-model").then(|| stat.split(' ').next()?.parse::<u64>().ok())?
    });
    own.sum()
}
