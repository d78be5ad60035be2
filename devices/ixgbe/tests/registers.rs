//! Registers without traffic: resets, handshakes, the EEPROM, the link.

mod rig;

use std::collections::BTreeMap;
use std::time::Duration;

use device_bus::Model;
use rig::{MAC, Rig, frame};

#[test]
fn a_reset_ends_and_restores_all_defaults() {
    let rig = Rig::new("rate=unlimited");
    let mut send = rig.send_queue(3, 64);
    rig.send(&mut send, &frame(MAC, 60, 1));
    rig.until(|| rig.is_done(&send, 0), "the report");
    rig.set(0x5200, 7);
    rig.set(0x880, 1);
    // CTRL.RST.
    rig.set(0x0, 1 << 26);
    rig.wait(0x0, 1 << 26 | 1 << 3, 0);
    for (name, offset, value) in [
        ("MTA", 0x5200, 0),
        ("EIMS", 0x880, 0),
        ("TXDCTL", 0x6028 + 0xc0, 0),
        ("TDH", 0x6010 + 0xc0, 0),
        ("GPTC", 0x4080, 0),
        ("RAL", 0xa200, 0x2),
        ("RAH", 0xa204, 0x8000_0100),
        ("RAL by its old name", 0x5400, 0x2),
    ] {
        assert_eq!(rig.get(offset), value, "{name}");
    }
    // DMA initialized, EEPROM read.
    rig.wait(0x2f00, 1 << 3, 1 << 3);
    rig.wait(0x10010, 1 << 9, 1 << 9);
    // LRST alone ends as well.
    rig.set(0x0, 1 << 3);
    rig.wait(0x0, 1 << 3, 0);
}

#[test]
fn a_function_level_reset_is_complete_on_return() {
    let rig = Rig::new("rate=unlimited");
    rig.receive_queue(0, 64);
    rig.ixgbe.reset();
    assert_eq!((rig.get(0x1028), rig.get(0x3000), rig.get(0x1018)), (0, 0, 0));
    // Bus mastering is off: nothing is sent.
    rig.set(0x4a80, rig.get(0x4a80) | 1);
    let mut send = rig.send_queue(0, 64);
    rig.send(&mut send, &frame(MAC, 60, 1));
    assert!(!rig.happens(|| rig.is_done(&send, 0), Duration::from_millis(20)));
    rig.ixgbe.set_bus_master(true);
    rig.until(|| rig.is_done(&send, 0), "the report");
}

#[test]
fn a_driver_can_stop_all_accesses_to_memory() {
    let rig = Rig::new("rate=unlimited");
    let mut send = rig.send_queue(0, 64);
    // STATUS reports that DMA is enabled; CTRL.GIO_MASTER_DISABLE.
    assert_eq!(rig.get(0x8) >> 19 & 1, 1);
    rig.set(0x0, 1 << 2);
    rig.wait(0x8, 1 << 19, 0);
    rig.send(&mut send, &frame(MAC, 60, 1));
    assert!(!rig.happens(|| rig.is_done(&send, 0), Duration::from_millis(20)));
}

#[test]
fn a_queue_is_enabled_only_with_a_ring() {
    let rig = Rig::new("rate=unlimited");
    rig.set(0x1028, 1 << 25);
    assert!(!rig.happens(|| rig.get(0x1028) >> 25 & 1 == 1, Duration::from_millis(20)));
    let ring = rig.receive_queue(127, 64);
    assert_eq!(ring.registers, 0xdfc0);
    rig.set(ring.registers + 0x28, 0);
    rig.wait(ring.registers + 0x28, 1 << 25, 0);
}

#[test]
fn the_checksum_of_the_eeprom_is_valid() {
    let rig = Rig::new("");
    let word = |address: u32| {
        rig.set(0x10014, address << 2 | 1);
        let read = rig.get(0x10014);
        assert_eq!(read & 3, 2, "done, and not to be started");
        read >> 16
    };
    let sum = (0..0x40).map(word).fold(0, |sum, word| (sum + word) & 0xffff);
    assert_eq!(sum, 0xbaba);
    assert_eq!(word(0x3fff), 0xffff, "beyond the end");
}

#[test]
fn the_first_reader_of_a_semaphore_owns_it() {
    let rig = Rig::new("");
    assert_eq!((rig.get(0x10140) & 1, rig.get(0x10140) & 1), (0, 1));
    rig.set(0x10140, 0);
    assert_eq!(rig.get(0x10140) & 1, 0);
    // SWESMBI reads back: the firmware does not own it.
    rig.set(0x10140, 3);
    assert_eq!(rig.get(0x10140) & 2, 2);
}

#[test]
fn a_link_comes_up_after_its_delay_and_reports_its_speed() {
    let rig = Rig::new("rate=1G,link=200ms");
    rig.ixgbe.reset();
    assert_eq!(rig.get(0x42a4) >> 30 & 1, 0);
    rig.wait(0x42a4, 1 << 30, 1 << 30);
    assert_eq!(rig.get(0x42a4) >> 28 & 3, 2);
    let rig = Rig::new("rate=10G");
    rig.wait(0x42a4, 1 << 30, 1 << 30);
    assert_eq!((rig.get(0x42a4) >> 28 & 3, rig.get(0x8) >> 7 & 1), (3, 1));
    let rig = Rig::new("peer=none");
    assert!(!rig.happens(|| rig.get(0x42a4) >> 30 & 1 == 1, Duration::from_millis(20)));
}

#[test]
fn an_idle_device_sleeps() {
    let rig = Rig::new("rate=10G,spin=0");
    rig.receive_queue(0, 64);
    let mut send = rig.send_queue(0, 64);
    rig.send(&mut send, &frame(MAC, 60, 1));
    rig.until(|| rig.is_done(&send, 0), "the report");
    std::thread::sleep(Duration::from_millis(5));
    // Threads of other tests have the same name and work or end during the measurement, but at least one
    // thread is idle.
    let before = device_ns();
    std::thread::sleep(Duration::from_millis(100));
    let after = device_ns();
    let idle =
        before.iter().any(|(thread, used)| after.get(thread).is_some_and(|now| now - used < 2_000_000));
    assert!(idle, "{before:?} and 100 ms later {after:?}");
}

/// The CPU time of the devices' threads.
fn device_ns() -> BTreeMap<String, u64> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let times = tasks.filter_map(|task| {
        let path = task.ok()?.path();
        let name = std::fs::read_to_string(path.join("comm")).ok()?;
        let stat = std::fs::read_to_string(path.join("schedstat")).ok()?;
        let used = stat.split(' ').next()?.parse().ok()?;
        (name.trim() == "ixgbe-model").then(|| (path.display().to_string(), used))
    });
    times.collect()
}

#[test]
fn an_x540_has_a_phy_and_an_82599_has_none() {
    for (id, device, phy) in [("82599", 0x10fb, 0xffff), ("x540", 0x1528, 0x0154)] {
        let rig = Rig::new(&format!("id={id}"));
        assert_eq!(rig.ixgbe.identity().device, device);
        // MSCA: read register 2 of PMA/PMD, by clause 45.
        rig.set(0x425c, 1 << 30 | 3 << 26 | 1 << 16 | 2);
        assert_eq!((rig.get(0x425c) >> 30 & 1, rig.get(0x4260) >> 16), (0, phy), "{id}");
    }
}
