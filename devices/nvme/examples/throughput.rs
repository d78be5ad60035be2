//! How fast the model is by itself: 4 KiB reads and writes from one submitting thread, without interrupts.
//!
//!     cargo run --release -p nvme-model --example throughput
//!
//! Prints thousands of I/Os per second and the CPU time of the device's thread for each, by depth. The bench's memory copies in
//! words of eight bytes; a host with real memory is faster.

#[path = "../tests/rig/mod.rs"]
mod rig;

use std::time::{Duration, Instant};

use rig::{Rig, Sqe};

fn main() {
    for (name, text) in [("no cache", "cache=0,lba=4096"), ("cache of 1 MiB", "lba=4096")] {
        for (kind, write) in [("read", false), ("write", true)] {
            for depth in [1, 8, 32, 128] {
                let (thousands, own_ns) = measure(text, write, depth);
                println!(
                    "{name}, {kind}, depth {depth}: {thousands:.0} K IOPS, {own_ns:.0} ns of the device each"
                );
            }
        }
    }
}

fn measure(text: &str, write: bool, depth: u32) -> (f64, f64) {
    let mut rig = Rig::new(text);
    let mut pair = rig.pair(1, 256);
    let memory = rig.bench.allocate(u64::from(depth) * rig::PAGE);
    let command = |number: u64| {
        let lba = number.wrapping_mul(97) % 256;
        let page = memory + number % u64::from(depth) * rig::PAGE;
        let command = if write { Sqe::write(1, lba, 1) } else { Sqe::read(1, lba, 1) };
        command.prp(page, 0)
    };
    let begun = Instant::now();
    let own_before = device_ns();
    let mut submitted = 0;
    let mut finished = 0;
    while begun.elapsed() < Duration::from_secs(1) {
        let before = submitted;
        while submitted - finished < u64::from(depth) {
            rig.put(&mut pair, command(submitted));
            submitted += 1;
        }
        if submitted != before {
            rig.ring(&pair);
        }
        let seen = finished;
        while let Some(done) = rig.poll(&mut pair) {
            assert_eq!(done.code, 0);
            finished += 1;
        }
        if finished != seen {
            rig.release(&pair);
        }
    }
    let own_ns = (device_ns() - own_before) as f64 / finished as f64;
    (finished as f64 / begun.elapsed().as_secs_f64() / 1000.0, own_ns)
}

/// CPU time of the device's thread, polling included.
fn device_ns() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let own = tasks.filter_map(|task| {
        let path = task.ok()?.path();
        let name = std::fs::read_to_string(path.join("comm")).ok()?;
        let stat = std::fs::read_to_string(path.join("schedstat")).ok()?;
        (name.trim() == "nvme-model").then(|| stat.split(' ').next()?.parse::<u64>().ok())?
    });
    own.sum()
}
