//! Measures the cost of a frame for a device's thread with a tester as its peer: frames go out and return at
//! once.
//!
//! `cargo run --release -p device-link --example tester`

use std::time::Instant;

use coppice_traffic::{Control, Start};
use device_link::{Rate, Tester, Wire};

const FRAMES: u64 = 20_000_000;
/// Frames per reading of the clock, as in a device's thread.
const BATCH: u64 = 32;

fn main() {
    for (frame_bytes, flows) in [(60, 0), (60, 8), (1514, 0)] {
        let best = (0..5).map(|_| run(frame_bytes, flows)).fold(f64::INFINITY, f64::min);
        println!("{frame_bytes} bytes, {flows} flows: {best:.1} ns for each frame, there and back");
    }
}

fn run(frame_bytes: u16, flows: u16) -> f64 {
    let mut wire = Wire::new(Rate::Unlimited, Box::new(Tester::new(Tester::MAC)));
    let request = Control::Start(Start {
        stream: 0,
        request: 1,
        frame_bytes,
        frames_per_second: 0,
        count: 0,
        burst: 1,
        destination: [2, 0, 0, 0, 0, 1],
        flows,
        checks_filler: false,
    });
    let mut frame = [0; Control::FRAME_BYTES];
    request.encode(Tester::MAC, [2, 0, 0, 0, 0, 1], &mut frame).expect("a request fits");
    wire.send(&frame, 0);
    let clock = Instant::now();
    wire.receive(0).expect("a report");
    let mut memory = vec![[0; 2048]; BATCH as usize];
    for _ in 0..FRAMES / BATCH {
        let now = clock.elapsed().as_nanos() as u64;
        for buffer in &mut memory {
            let frame = wire.receive(now).expect("a frame");
            buffer[..frame.bytes.len()].copy_from_slice(frame.bytes);
        }
        for buffer in &memory {
            wire.send(&buffer[..usize::from(frame_bytes)], now);
        }
    }
    clock.elapsed().as_nanos() as f64 / FRAMES as f64
}
