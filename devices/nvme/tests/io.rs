//! Commands of the NVM command set.

mod rig;

use std::sync::Arc;
use std::time::{Duration, Instant};

use nvme_model::{MemoryDisk, PowerLoss};
use rig::{PAGE, Rig, Sqe};

const FUA: u32 = 1 << 30;

fn pattern(bytes: usize, seed: u8) -> Vec<u8> {
    (0..bytes).map(|at| (at / 256) as u8 ^ at as u8 ^ seed).collect()
}

#[test]
fn blocks_are_read_back_as_written() {
    let mut rig = Rig::new("");
    let mut pair = rig.pair(1, 8);
    for round in 0..20 {
        let done = rig.write_block(&mut pair, round, round as u8 + 1, 0);
        assert_eq!(done.code, 0);
        assert_eq!(u32::from(done.head), pair.tail, "the controller has taken all commands");
    }
    for round in 0..20 {
        assert_eq!(rig.read_block(&mut pair, round), vec![round as u8 + 1; 512]);
    }
}

#[test]
fn data_is_transferred_to_the_prps_and_nowhere_else() {
    // A list page with room for two entries holds one page and a pointer to the next list.
    let mut rig = Rig::new("mdts=8");
    let mut pair = rig.pair(1, 8);
    let bytes = 9 * PAGE as usize;
    let memory = rig.host.allocate(32 * PAGE);
    let lists = rig.host.allocate(4 * PAGE);
    let data = pattern(bytes, 3);
    for (start, in_first_list) in [(0, 8), (0x800, 2), (0xffc, 2), (4, 511)] {
        let pages: Vec<u64> = (0..10).map(|index| memory + (2 * index + 1) * PAGE).collect();
        let mut entries = pages[1..].iter().copied();
        // The first list ends with its page after `in_first_list` entries, the last of which may be a
        // pointer.
        let list = lists + PAGE - 8 * in_first_list.min(512);
        let needed = if start == 0 { 8 } else { 9 };
        for slot in 0..in_first_list.min(needed) {
            let last = slot + 1 == in_first_list && needed > in_first_list;
            let entry = if last { lists + 2 * PAGE } else { entries.next().expect("there are enough pages") };
            rig.host.poke(list + 8 * slot, &entry.to_le_bytes());
        }
        for (slot, entry) in entries.enumerate() {
            rig.host.poke(lists + 2 * PAGE + 8 * slot as u64, &entry.to_le_bytes());
        }
        let spread = |rig: &Rig| -> Vec<u8> {
            let first = rig.host.peek(pages[0] + start, (PAGE - start) as usize);
            let rest = pages[1..].iter().flat_map(|page| rig.host.peek(*page, PAGE as usize));
            first.into_iter().chain(rest).take(bytes).collect()
        };
        // Writes from scattered pages.
        let mut at = 0;
        for (index, page) in pages.iter().enumerate() {
            let from = if index == 0 { start } else { 0 };
            let length = ((PAGE - from) as usize).min(bytes - at);
            rig.host.poke(page + from, &data[at..at + length]);
            at += length;
        }
        let done = rig.call(&mut pair, Sqe::write(1, 16, 72).prp(pages[0] + start, list));
        assert_eq!(done.code, 0);
        // Reads into them, between guard pages.
        rig.host.poke(memory, &vec![0xee; 32 * PAGE as usize]);
        let done = rig.call(&mut pair, Sqe::read(1, 16, 72).prp(pages[0] + start, list));
        assert_eq!(done.code, 0);
        assert!(spread(&rig) == data, "start {start:#x}");
        for index in 0..11 {
            assert!(rig.host.peek(memory + 2 * index * PAGE, PAGE as usize).iter().all(|byte| *byte == 0xee));
        }
    }
}

#[test]
fn two_pages_need_no_list() {
    let mut rig = Rig::new("lba=4096");
    let mut pair = rig.pair(1, 8);
    let memory = rig.host.allocate(4 * PAGE);
    let data = pattern(2 * PAGE as usize, 9);
    rig.host.poke(memory, &data);
    assert_eq!(rig.call(&mut pair, Sqe::write(1, 5, 2).prp(memory, memory + PAGE)).code, 0);
    assert_eq!(rig.call(&mut pair, Sqe::read(1, 5, 2).prp(memory + 3 * PAGE, memory + 2 * PAGE)).code, 0);
    assert_eq!(rig.host.peek(memory + 3 * PAGE, PAGE as usize), data[..PAGE as usize]);
    assert_eq!(rig.host.peek(memory + 2 * PAGE, PAGE as usize), data[PAGE as usize..]);
}

#[test]
fn prps_that_break_the_rules_are_refused() {
    let mut rig = Rig::new("");
    let mut pair = rig.pair(1, 8);
    let memory = rig.host.allocate(16 * PAGE);
    const PRP_OFFSET_INVALID: u16 = 0x13;
    const DATA_TRANSFER_ERROR: u16 = 0x04;
    let mut code = |blocks, prp1, prp2| rig.call(&mut pair, Sqe::read(1, 0, blocks).prp(prp1, prp2)).code;
    assert_eq!(code(1, memory + 2, 0), PRP_OFFSET_INVALID, "PRP1 is a multiple of 4");
    assert_eq!(code(16, memory, memory + PAGE + 4), PRP_OFFSET_INVALID, "a second page has no offset");
    assert_eq!(code(24, memory, memory + PAGE + 4), PRP_OFFSET_INVALID, "a list is a multiple of 8");
    // The other entries of the list are zero, and address 0 is not memory.
    assert_eq!(code(24, memory, memory + PAGE), DATA_TRANSFER_ERROR);
    assert_eq!(code(24, memory, 1 << 40), DATA_TRANSFER_ERROR, "a list out of reach");
    assert_eq!(code(1, u64::MAX - 511, 0), DATA_TRANSFER_ERROR, "the end of all addresses");
}

#[test]
fn requests_beyond_limits_are_refused_with_the_right_status() {
    let mut rig = Rig::new("mdts=1");
    let mut pair = rig.pair(1, 8);
    let memory = rig.host.allocate(16 * PAGE);
    let read = |lba, blocks| Sqe::read(1, lba, blocks).prp(memory, memory + PAGE);
    for (command, expected, why) in [
        (read(2047, 1), 0, "the last block"),
        (read(2048, 1), 0x80, "beyond the last block"),
        (read(2047, 2), 0x80, "across the end"),
        (read(u64::MAX, 2), 0x80, "the end overflows"),
        (read(0, 16), 0, "the limit of MDTS"),
        (read(0, 17), 0x02, "more than MDTS allows"),
        (read(0, 1).nsid(0), 0x0b, "no namespace 0"),
        (read(0, 1).nsid(2), 0x0b, "no namespace 2"),
        (read(0, 1).nsid(u32::MAX), 0x0b, "not all namespaces"),
        (Sqe::new(0x0c).nsid(1), 0x01, "Verify is not supported"),
        (Sqe::new(0x7f).nsid(1), 0x01, "no such command"),
    ] {
        let done = rig.call(&mut pair, command);
        assert_eq!(done.code, expected, "{why}");
        assert_eq!((done.more, done.do_not_retry), (expected != 0, expected != 0), "{why}");
    }
    for flags in [1 << 8, 2 << 8, 1 << 14, 2 << 14] {
        let mut fused_or_sgl = read(0, 1);
        fused_or_sgl.0[0] |= flags;
        assert_eq!(rig.call(&mut pair, fused_or_sgl).code, 0x02);
    }
}

#[test]
fn write_zeroes_and_deallocate_leave_zeros() {
    let mut rig = Rig::new("");
    let mut pair = rig.pair(1, 16);
    for lba in 0..32 {
        rig.write_block(&mut pair, lba, 0x55, if lba % 2 == 0 { FUA } else { 0 });
    }
    assert_eq!(rig.call(&mut pair, Sqe::new(8).nsid(1).d10(3).d12(4)).code, 0);
    let ranges = rig.host.allocate(PAGE);
    for (index, (lba, blocks)) in [(10_u64, 1_u32), (12, 3)].iter().enumerate() {
        rig.host.poke(ranges + 16 * index as u64 + 4, &blocks.to_le_bytes());
        rig.host.poke(ranges + 16 * index as u64 + 8, &lba.to_le_bytes());
    }
    let hint = Sqe::new(9).nsid(1).prp(ranges, 0).d10(1).d11(1);
    assert_eq!(rig.call(&mut pair, hint).code, 0);
    assert_eq!(rig.read_block(&mut pair, 12), [0x55; 512], "other attributes change nothing");
    assert_eq!(rig.call(&mut pair, hint.d11(4)).code, 0);
    for lba in 0..32 {
        let zero = (3..8).contains(&lba) || lba == 10 || (12..15).contains(&lba);
        let expected = if zero { 0 } else { 0x55 };
        assert_eq!(rig.read_block(&mut pair, lba), vec![expected; 512], "block {lba}");
    }
    rig.host.poke(ranges + 16 + 8, &2047_u64.to_le_bytes());
    assert_eq!(rig.call(&mut pair, hint.d11(4)).code, 0x80, "a range across the end");
    assert_eq!(rig.call(&mut pair, Sqe::new(8).nsid(1).d10(2047).d12(1)).code, 0x80);
}

#[test]
fn compare_fails_on_different_data() {
    let mut rig = Rig::new("");
    let mut pair = rig.pair(1, 8);
    rig.write_block(&mut pair, 7, 0x11, 0);
    let memory = rig.host.allocate(PAGE);
    rig.host.poke(memory, &[0x11; 512]);
    let compare = Sqe::new(5).nsid(1).d10(7).prp(memory, 0);
    assert_eq!(rig.call(&mut pair, compare).code, 0);
    rig.host.poke(memory + 511, &[0]);
    assert_eq!(rig.call(&mut pair, compare).code, 0x285);
}

#[test]
fn a_loss_of_power_drops_only_unflushed_data() {
    let disk = Arc::new(MemoryDisk::new(1 << 20));
    let mut rig = Rig::with_disk("", disk.clone());
    let mut pair = rig.pair(1, 8);
    rig.write_block(&mut pair, 0, 1, 0);
    rig.write_block(&mut pair, 1, 1, 0);
    assert_eq!(rig.call(&mut pair, Sqe::new(0).nsid(1)).code, 0);
    rig.write_block(&mut pair, 1, 2, 0);
    rig.write_block(&mut pair, 2, 2, FUA);
    rig.write_block(&mut pair, 3, 2, 0);
    assert_eq!(rig.read_block(&mut pair, 1), [2; 512], "the cache is read");
    assert_eq!(disk.contents()[512], 1, "the disk is not written yet");

    // A controller reset keeps the cache.
    rig.disable();
    rig.restart();
    let mut pair = rig.pair(1, 8);
    assert_eq!(rig.read_block(&mut pair, 3), [2; 512]);

    rig.nvme.lose_power(PowerLoss::DropAll);
    device_bus::Model::set_bus_master(&rig.nvme, true);
    rig.restart();
    let mut pair = rig.pair(1, 8);
    for (lba, expected) in [(0, 1), (1, 1), (2, 2), (3, 0)] {
        assert_eq!(rig.read_block(&mut pair, lba), vec![expected; 512], "block {lba}");
    }
    let health = rig.log(2, 512).expect("SMART");
    assert_eq!((health[112], health[144]), (2, 1), "power cycles, unsafe shutdowns");
}

#[test]
fn a_loss_of_power_may_leave_any_blocks_but_tears_none() {
    let disk = Arc::new(MemoryDisk::new(1 << 20));
    let mut rig = Rig::with_disk("lba=4096", disk.clone());
    let mut pair = rig.pair(1, 8);
    let memory = rig.host.allocate(PAGE);
    rig.host.poke(memory, &[7; PAGE as usize]);
    for lba in 0..64 {
        assert_eq!(rig.call(&mut pair, Sqe::write(1, lba, 1).prp(memory, 0)).code, 0);
    }
    rig.nvme.lose_power(PowerLoss::DropSome(5));
    let contents = disk.contents();
    let kept = contents.chunks(4096).take(64).filter(|block| **block == [7; 4096]).count();
    let lost = contents.chunks(4096).take(64).filter(|block| **block == [0; 4096]).count();
    assert_eq!(kept + lost, 64, "no block is half of each");
    assert!(kept > 10 && lost > 10, "{kept} kept, {lost} lost");
}

#[test]
fn a_cache_that_is_off_or_absent_loses_nothing() {
    let disk = Arc::new(MemoryDisk::new(1 << 20));
    let mut rig = Rig::with_disk("", disk.clone());
    let mut pair = rig.pair(1, 8);
    rig.write_block(&mut pair, 0, 1, 0);
    assert_eq!(disk.contents()[0], 0);
    assert_eq!(rig.admin(Sqe::new(9).d10(6).d11(0)).code, 0);
    assert_eq!(disk.contents()[0], 1, "turning the cache off writes it back");
    rig.write_block(&mut pair, 1, 2, 0);
    assert_eq!(disk.contents()[512], 2);
    drop(rig);

    let mut rig = Rig::with_disk("cache=0", disk.clone());
    assert_eq!(rig.identify(1, 0).expect("controller")[525] & 1, 0, "VWC");
    assert_eq!(rig.admin(Sqe::new(10).d10(6)).code, 0x02, "no such feature");
    let mut pair = rig.pair(1, 8);
    rig.write_block(&mut pair, 2, 3, 0);
    assert_eq!(disk.contents()[1024], 3);
}

#[test]
fn data_beyond_the_size_of_the_cache_goes_to_the_disk() {
    let disk = Arc::new(MemoryDisk::new(1 << 20));
    let mut rig = Rig::with_disk("cache=16K", disk.clone());
    let mut pair = rig.pair(1, 8);
    for lba in 0..200 {
        rig.write_block(&mut pair, lba * 3, lba as u8, 0);
    }
    for lba in 0..200 {
        assert_eq!(rig.read_block(&mut pair, lba * 3), vec![lba as u8; 512]);
    }
    let on_disk = (0..200).filter(|lba| disk.contents()[lba * 3 * 512] == *lba as u8).count();
    assert!((150..200).contains(&on_disk), "{on_disk}");
}

#[test]
fn latency_delays_each_command_and_blocks_none() {
    let mut rig = Rig::new("latency=30ms,latency-per-kib=10ms");
    let mut pair = rig.pair(1, 512);
    let memory = rig.host.allocate(4 * PAGE);
    let begun = Instant::now();
    // 30 + 40 ms, then 500 of 30 + 10 ms: all at once, the short ones first. One after the other they would
    // take 20 s.
    rig.put(&mut pair, Sqe::read(1, 0, 8).prp(memory, 0));
    for _ in 0..500 {
        rig.put(&mut pair, Sqe::read(1, 0, 1).prp(memory + PAGE, 0));
    }
    rig.ring(&pair);
    let order: Vec<u16> = (0..501).map(|_| rig.wait(&mut pair).id).collect();
    let took = begun.elapsed();
    assert_eq!(order, (2..=501).chain([1]).collect::<Vec<u16>>());
    assert!(took >= Duration::from_millis(70) && took < Duration::from_secs(10), "{took:?}");
}
