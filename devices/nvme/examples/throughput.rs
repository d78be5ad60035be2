//! The CPU time of the model's thread per command, for bursts of 4 KiB reads and writes.
//!
//!     cargo run --release -p nvme-model --example throughput
//!
//! Prints nanoseconds per command, the minimum of many bursts, which is the time without disturbance; its
//! reciprocal is the limit of one device. About half is due to the memory of the test host, which is copied
//! in words of eight bytes; a host with real memory is faster.

#[path = "../tests/rig/mod.rs"]
mod rig;

use std::time::Duration;

use rig::{PAGE, Rig, Sqe};

const BURST: u64 = 4000;
const BURSTS: u32 = 40;
const PAGES: u64 = 64;

fn main() {
    println!("ns of CPU per command of 4 KiB, the minimum of {BURSTS} bursts of {BURST}");
    for (name, text) in
        [("no cache", "cache=0"), ("cache of 1 MiB", "cache=1M"), ("cache of 64 KiB", "cache=64K")]
    {
        for lba_bytes in [512, 4096] {
            let text = format!("{text},lba={lba_bytes},mqes=8191,spin=0");
            let blocks = 4096 / lba_bytes;
            let mut rig = Rig::new(&text);
            let read = measure(&mut rig, |lba| Sqe::read(1, lba * u64::from(blocks), blocks));
            let mut rig = Rig::new(&text);
            let write = measure(&mut rig, |lba| Sqe::write(1, lba * u64::from(blocks), blocks));
            println!("{name}, blocks of {lba_bytes}: read {read}, write {write}");
        }
    }
}

fn measure(rig: &mut Rig, command: impl Fn(u64) -> Sqe) -> u64 {
    let mut pair = rig.pair(1, 8192);
    let memory = rig.host.allocate(PAGES * PAGE);
    let mut minimum = u64::MAX;
    for _ in 0..BURSTS {
        for number in 0..BURST {
            let page = memory + number % PAGES * PAGE;
            rig.put(&mut pair, command(number * 97 % 256).prp(page, 0));
        }
        let before = device_ns();
        rig.ring(&pair);
        // Sleeps between polls, so that the device's thread has the other CPU.
        for _ in 0..BURST {
            let done = loop {
                match rig.poll(&mut pair) {
                    Some(done) => break done,
                    None => std::thread::sleep(Duration::from_millis(2)),
                }
            };
            assert_eq!(done.code, 0);
        }
        rig.release(&pair);
        minimum = minimum.min((device_ns() - before) / BURST);
    }
    minimum
}

/// CPU time of the device's thread, in nanoseconds.
fn device_ns() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let times = tasks.filter_map(|task| {
        let path = task.ok()?.path();
        let name = std::fs::read_to_string(path.join("comm")).ok()?;
        let stat = std::fs::read_to_string(path.join("schedstat")).ok()?;
        (name.trim() == "nvme-model").then(|| stat.split(' ').next()?.parse::<u64>().ok())?
    });
    times.sum()
}
