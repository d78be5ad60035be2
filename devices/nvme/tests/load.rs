//! Several queues at once, and resets in the middle of transfers.

mod rig;

use std::sync::atomic::{AtomicBool, Ordering};

use device_bus::Model;
use rig::{PAGE, Pair, Rig, Sqe};

/// Writes and reads back the blocks of one queue, many at once, until `stop`; returns the number of rounds.
fn exchange(rig: &Rig, mut pair: Pair, memory: u64, stop: &AtomicBool) -> u32 {
    let first = u64::from(pair.id) * 32;
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let byte = |lba: u64| (lba as u8).wrapping_mul(31) ^ round as u8;
        for lba in 0..16 {
            rig.host.poke(memory + lba * PAGE, &[byte(lba); PAGE as usize]);
            rig.put(&mut pair, Sqe::write(1, first + lba, 1).prp(memory + lba * PAGE, 0));
        }
        rig.ring(&pair);
        for _ in 0..16 {
            assert_eq!(rig.wait(&mut pair).code, 0);
        }
        for lba in 0..16 {
            rig.put(&mut pair, Sqe::read(1, first + lba, 1).prp(memory + (31 - lba) * PAGE, 0));
        }
        rig.ring(&pair);
        for _ in 0..16 {
            assert_eq!(rig.wait(&mut pair).code, 0);
        }
        for lba in 0..16 {
            let found = rig.host.peek(memory + (31 - lba) * PAGE, PAGE as usize);
            assert!(found.iter().all(|found| *found == byte(lba)), "queue {}, block {lba}", pair.id);
        }
    }
    round
}

#[test]
fn queues_do_not_disturb_each_other() {
    let mut rig = Rig::new("lba=4096,cache=64K");
    let pairs: Vec<(Pair, u64)> =
        (1..=4).map(|id| (rig.pair(id, 20), rig.host.allocate(32 * PAGE))).collect();
    let stop = AtomicBool::new(false);
    let (rig, stop) = (&rig, &stop);
    std::thread::scope(|scope| {
        let threads: Vec<_> = pairs
            .into_iter()
            .map(|(pair, memory)| scope.spawn(move || exchange(rig, pair, memory, stop)))
            .collect();
        std::thread::sleep(std::time::Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            assert!(thread.join().expect("no block is wrong") > 0);
        }
    });
}

#[test]
fn no_memory_changes_after_bus_mastering_is_off() {
    for method in ["bus mastering", "function level reset", "loss of power"] {
        let mut rig = Rig::new("lba=4096,latency-per-kib=1us");
        for round in 0..20 {
            let mut pair = rig.pair(1, 64);
            let memory = rig.host.allocate(16 * PAGE);
            for index in 0..60 {
                rig.put(&mut pair, Sqe::read(1, index, 1).prp(memory + index % 16 * PAGE, 0));
            }
            rig.ring(&pair);
            std::thread::sleep(std::time::Duration::from_micros(20 * round));
            match method {
                "bus mastering" => rig.nvme.set_bus_master(false),
                "function level reset" => rig.nvme.reset(),
                _ => rig.nvme.lose_power(nvme_model::PowerLoss::DropAll),
            }
            // The next owner of the memory writes it.
            rig.host.poke(memory, &[0xee; 16 * PAGE as usize]);
            let entries = rig.host.peek(pair.completion, 1024);
            let interrupts = rig.host.interrupts(1);
            std::thread::sleep(std::time::Duration::from_millis(1));
            assert!(rig.host.peek(memory, 16 * PAGE as usize).iter().all(|byte| *byte == 0xee), "{method}");
            assert_eq!(rig.host.peek(pair.completion, 1024), entries, "{method}");
            assert_eq!(rig.host.interrupts(1), interrupts, "{method}");
            rig.nvme.reset();
            rig.nvme.set_bus_master(true);
            rig.restart();
        }
    }
}
