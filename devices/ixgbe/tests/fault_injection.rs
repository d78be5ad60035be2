//! Each kind of fault acts as documented, on its occasions, and no more once it is stopped.

mod rig;

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use device_bus::{Model, Rate};
use device_link::{Frame, Impairment, Loopback, Peer, Wire};
use ixgbe_model::{Fault, Ixgbe, IxgbeConfig, Rule};
use rig::{MAC, Rig, Ring, frame};

const SHORT: Duration = Duration::from_millis(20);
/// RXDCTL.ENABLE, TXDCTL.ENABLE.
const ENABLE: u32 = 1 << 25;

/// A device with a loopback and a fault injector without active faults.
fn ready() -> (Rig, Ring, Ring) {
    let rig = Rig::new("rate=unlimited,seed=5,faults=hang:never");
    let (receive, send) = (rig.receive_queue(0, 64), rig.send_queue(0, 64));
    (rig, receive, send)
}

fn once(rig: &Rig, kind: Fault) {
    rig.ixgbe.faults().set_rate(kind, Rate::Once(1));
}

/// Sends a frame through the loopback and checks it.
fn works(rig: &Rig, receive: &mut Ring, send: &mut Ring) {
    let sent = frame(MAC, 100, 7);
    rig.send(send, &sent);
    assert_eq!(rig.receive(receive).bytes, sent);
}

/// Sends a frame through the loopback, behind frames that the wire has kept since before a reset.
fn works_again(rig: &Rig, receive: &mut Ring, send: &mut Ring) {
    let sent = frame(MAC, 60, 99);
    rig.send(send, &sent);
    while rig.receive(receive).bytes != sent {}
}

/// Resets the device as a driver does, and sets it up again.
fn reset(rig: &mut Rig) -> (Ring, Ring) {
    rig.set(0, 1 << 26);
    rig.wait(0, 1 << 26, 0);
    rig.set_up();
    (rig.receive_queue(0, 64), rig.send_queue(0, 64))
}

#[test]
fn a_wrong_length_differs_from_the_written_one() {
    let (rig, mut receive, mut send) = ready();
    once(&rig, Fault::WrongLength);
    rig.send(&mut send, &frame(MAC, 100, 7));
    let received = rig.receive(&mut receive);
    assert_ne!(received.bytes.len(), 100);
    assert_eq!(received.status & 3, 3, "done, and the end of a frame");
    assert_eq!(rig.ixgbe.faults().injections(Fault::WrongLength), 1);
    works(&rig, &mut receive, &mut send);
}

#[test]
fn a_garbage_descriptor_is_done_and_random() {
    let (rig, mut receive, mut send) = ready();
    rig.ixgbe.faults().set_rate(Fault::Garbage, Rate::Every(1));
    let mut seen = Vec::new();
    for number in 0..4 {
        rig.send(&mut send, &frame(MAC, 100, number));
        let received = rig.receive(&mut receive);
        seen.push((received.first, received.status));
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 4);
    rig.ixgbe.faults().stop();
    works(&rig, &mut receive, &mut send);
}

#[test]
fn a_frame_may_lack_its_end() {
    let (rig, mut receive, mut send) = ready();
    once(&rig, Fault::NoEnd);
    rig.send(&mut send, &frame(MAC, 100, 7));
    assert_eq!(rig.receive(&mut receive).status & 3, 1);
    works(&rig, &mut receive, &mut send);
}

#[test]
fn a_descriptor_is_written_again_in_the_place_of_an_unused_one() {
    let rig = Rig::new("rate=unlimited,seed=5,faults=twice:#1");
    let (mut receive, mut send) = (rig.receive_queue(0, 128), rig.send_queue(0, 64));
    works(&rig, &mut receive, &mut send);
    // As a driver does when it gives the buffer back; its turn comes 127 descriptors later.
    rig.bench.poke(receive.descriptors, &[0; 16]);
    rig.give(&mut receive);
    for _ in 0..64 {
        works(&rig, &mut receive, &mut send);
    }
    assert_eq!(rig.bench.peek_u32(receive.descriptors + 8) & 3, 3);
    assert_eq!(rig.bench.peek_u32(receive.descriptors + 12) & 0xffff, 100);
}

#[test]
fn a_lost_descriptor_leaves_a_hole() {
    let (rig, mut receive, mut send) = ready();
    once(&rig, Fault::LostDescriptor);
    rig.send(&mut send, &frame(MAC, 100, 1));
    rig.send(&mut send, &frame(MAC, 100, 2));
    rig.wait(receive.registers + 0x10, u32::MAX, 2);
    assert!(!rig.happens(|| rig.poll(&mut receive).is_some(), SHORT));
    receive.head = 1;
    assert_eq!(rig.receive(&mut receive).bytes, frame(MAC, 100, 2));
}

#[test]
fn done_without_data_leaves_the_buffer_as_it_was() {
    let (rig, mut receive, mut send) = ready();
    rig.bench.poke(rig.buffer(&receive, 0), &[0xee; 100]);
    once(&rig, Fault::NoData);
    rig.send(&mut send, &frame(MAC, 100, 7));
    assert_eq!(rig.receive(&mut receive).bytes, [0xee; 100]);
    works(&rig, &mut receive, &mut send);
}

#[test]
fn a_lost_report_follows_a_sent_frame() {
    let (rig, mut receive, mut send) = ready();
    once(&rig, Fault::LostReport);
    works(&rig, &mut receive, &mut send);
    assert!(!rig.happens(|| rig.is_done(&send, 0), SHORT));
    works(&rig, &mut receive, &mut send);
    rig.until(|| rig.is_done(&send, 1), "the next report");
}

#[test]
fn a_wrong_head_only_affects_the_read() {
    let (rig, mut receive, mut send) = ready();
    works(&rig, &mut receive, &mut send);
    rig.wait(0x6010, u32::MAX, 1);
    once(&rig, Fault::WrongHead);
    assert_ne!(rig.get(0x6010), 1);
    assert_eq!(rig.get(0x6010), 1);
    works(&rig, &mut receive, &mut send);
}

#[test]
fn a_hang_ends_with_a_reset_of_either_kind() {
    for resets_function in [false, true] {
        let (mut rig, mut receive, mut send) = ready();
        rig.ixgbe.faults().set_rate(Fault::Hang, Rate::Once(3));
        works(&rig, &mut receive, &mut send);
        rig.until(|| rig.is_done(&send, 0), "the first report");
        for number in 0..5 {
            rig.send(&mut send, &frame(MAC, 100, number));
        }
        rig.until(|| rig.ixgbe.faults().is_hung(), "the hang");
        assert!(!rig.happens(|| rig.is_done(&send, 5), SHORT));
        assert_ne!(rig.get(8), u32::MAX, "its registers work");
        if resets_function {
            rig.ixgbe.reset();
            assert!(!rig.ixgbe.faults().is_hung());
            rig.ixgbe.set_bus_master(true);
        }
        (receive, send) = reset(&mut rig);
        works_again(&rig, &mut receive, &mut send);
    }
}

#[test]
fn stuck_enable_bits_do_not_change() {
    let rig = Rig::new("faults=stuck-enable:#1");
    let ring = rig.request_send_queue(0, 64);
    assert!(!rig.happens(|| rig.get(ring.registers + 0x28) & ENABLE != 0, SHORT), "never enabled");
    rig.set(ring.registers + 0x28, 0);
    let ring = rig.send_queue(0, 64);
    once(&rig, Fault::StuckEnable);
    rig.set(ring.registers + 0x28, 0);
    assert!(!rig.happens(|| rig.get(ring.registers + 0x28) & ENABLE == 0, SHORT), "always enabled");
    rig.set(0, 1 << 26);
    rig.wait(ring.registers + 0x28, ENABLE, 0);
}

#[test]
fn stuck_bits_after_a_reset_never_reach_their_value() {
    // The register, its bits, their value when stuck, and without a fault.
    for (kind, register, bits, stuck, free) in [
        ("stuck-reset", 0, 1 << 26, 1 << 26, 0),
        ("stuck-dma", 0x2f00, 1 << 3, 0, 1 << 3),
        ("stuck-eeprom", 0x1_0010, 1 << 9, 0, 1 << 9),
    ] {
        let rig = Rig::off(&format!("faults={kind}:#1"));
        rig.set(0, 1 << 26);
        let ends = || rig.get(register) & bits == free;
        assert!(!rig.happens(ends, SHORT), "{kind}: {:#x}", rig.get(register) & bits);
        assert_eq!(rig.get(register) & bits, stuck);
        if kind == "stuck-eeprom" {
            rig.set(0x1_0014, 1 | 3 << 2);
            assert_eq!(rig.get(0x1_0014) & 2, 0, "EERD.DONE");
        }
        if kind == "stuck-reset" {
            rig.set(0, 1 << 26);
            assert!(!rig.happens(ends, SHORT), "another reset does not help");
            rig.ixgbe.reset();
        } else {
            rig.set(0, 1 << 26);
        }
        rig.until(ends, kind);
    }
}

#[test]
fn a_stuck_master_bit_lasts_until_the_reset() {
    let rig = Rig::off("faults=stuck-master:#1");
    rig.set(0, 1 << 2);
    assert!(!rig.happens(|| rig.get(8) & 1 << 19 == 0, SHORT));
    rig.set(0, 1 << 26);
    rig.wait(0, 1 << 26, 0);
    rig.set(0, 1 << 2);
    rig.wait(8, 1 << 19, 0);
}

#[test]
fn the_eeprom_has_a_wrong_word_and_then_the_right_one() {
    let rig = Rig::off("faults=bad-eeprom:#2");
    let mut words = [0; 3];
    for word in &mut words {
        rig.set(0x1_0014, 1 | 3 << 2);
        *word = rig.get(0x1_0014) >> 16;
    }
    assert_eq!((words[0] ^ words[1]).count_ones(), 1);
    assert_eq!(words[0], words[2]);
}

#[test]
fn an_unplugged_device_is_absent_until_it_is_plugged_in() {
    let (mut rig, mut receive, mut send) = ready();
    once(&rig, Fault::Unplug);
    rig.send(&mut send, &frame(MAC, 100, 7));
    rig.wait(8, u32::MAX, u32::MAX);
    assert!(!rig.ixgbe.is_present());
    assert_eq!((rig.ixgbe.read(0, 0, 8), rig.ixgbe.read(0, 0, 1)), (u64::MAX, 0xff));
    assert!(rig.poll(&mut receive).is_none());
    rig.set(0, 1 << 26);
    rig.ixgbe.replug();
    assert!(rig.ixgbe.is_present());
    assert_eq!(rig.get(receive.registers + 0x28) & ENABLE, 0, "as after a reset");
    rig.ixgbe.set_bus_master(true);
    (receive, send) = reset(&mut rig);
    works_again(&rig, &mut receive, &mut send);

    // Unplugged by hand, it returns after the rule's duration.
    let rule = Rule { kind: Fault::Unplug, rate: Rate::Never, duration_ns: Some(30_000_000) };
    rig.ixgbe.faults().set(rule);
    rig.ixgbe.unplug();
    assert_eq!(rig.get(8), u32::MAX);
    rig.until(|| rig.get(8) != u32::MAX, "its return");
    rig.ixgbe.set_bus_master(true);
    (receive, send) = reset(&mut rig);
    works_again(&rig, &mut receive, &mut send);
}

#[test]
fn a_write_right_after_the_device_returns_is_kept() {
    let rig = Rig::off("faults=unplug:never");
    // The base of a queue, which a driver writes; a queue's control register, which is reset.
    let (base, control) = (0x1000, 0x1028);
    for round in 1..=500 {
        rig.set(control, ENABLE | round);
        rig.ixgbe.unplug();
        std::thread::scope(|scope| {
            let driver = scope.spawn(|| {
                rig.wait_for_device();
                let found = (rig.get(base), rig.get(control), rig.ixgbe.is_present());
                rig.set(base, round << 7);
                found
            });
            rig.ixgbe.replug();
            assert_eq!(driver.join().expect("a driver"), (0, 0, true), "as after power-on, round {round}");
        });
        rig.ixgbe.replug();
        assert_eq!(rig.get(base), round << 7, "round {round}");
    }
}

/// A peer that lets a host enable bus mastering whenever the state of the link is read while the device is
/// unplugged: within its reset, too.
struct EnablingPeer(Arc<OnceLock<Weak<Ixgbe>>>);

impl Peer for EnablingPeer {
    fn take(&mut self, _: &[u8], _: u64) {}

    fn give(&mut self, _: u64) -> Option<Frame<'_>> {
        None
    }

    fn due_ns(&self) -> Option<u64> {
        None
    }

    fn is_up(&self) -> bool {
        if let Some(ixgbe) = self.0.get().and_then(Weak::upgrade)
            && !ixgbe.is_present()
        {
            ixgbe.set_bus_master(true);
        }
        true
    }
}

#[test]
fn bus_mastering_is_ignored_while_the_device_is_unplugged() {
    let device = Arc::new(OnceLock::new());
    let peer = EnablingPeer(device.clone());
    let wire = Wire::new(device_link::Rate::Unlimited, Box::new(peer));
    let config = IxgbeConfig::parse("faults=unplug:never").expect("a text");
    let ixgbe = Arc::new(Ixgbe::with_wire(config, wire).expect("a sound device"));
    let mut rig = Rig::around(ixgbe.clone());
    device.set(Arc::downgrade(&ixgbe)).expect("it is set once");
    ixgbe.unplug();
    ixgbe.replug();
    rig.set_up();
    let mut send = rig.send_queue(0, 64);
    rig.send(&mut send, &frame(MAC, 100, 7));
    assert!(!rig.happens(|| rig.is_done(&send, 0), SHORT), "it masters the bus, unlike after power-on");
    ixgbe.set_bus_master(true);
    rig.until(|| rig.is_done(&send, 0), "the report");
}

#[test]
fn interrupts_are_lost_or_spurious() {
    let (rig, mut receive, mut send) = ready();
    // GPIE with MSI-X and automatic masks. Queue 0 receives with vector 3, which clears itself and is not
    // masked by it.
    rig.set(0x898, 1 << 4);
    rig.set(0x900, 0x83);
    rig.set(0x810, 1 << 3);
    rig.set(0x880, 1 << 3);
    works(&rig, &mut receive, &mut send);
    let first = rig.bench.wait_interrupt(3, 0, rig::LIMIT).expect("an interrupt");
    once(&rig, Fault::Lost);
    works(&rig, &mut receive, &mut send);
    assert_eq!(rig.bench.wait_interrupt(3, first, SHORT), None);
    rig.ixgbe.faults().set_rate(Fault::Spurious, Rate::Every(1));
    let sum = |rig: &Rig| (0..64).map(|vector| rig.bench.interrupts(vector)).sum::<u64>();
    let before = sum(&rig);
    for number in 1..=10 {
        works(&rig, &mut receive, &mut send);
        rig.until(|| sum(&rig) - before >= 2 * number, "one interrupt as there should be, and one again");
    }
    std::thread::sleep(SHORT);
    assert_eq!(sum(&rig) - before, 20, "as many as there should be, and as many again");
}

#[test]
fn the_link_follows_the_wire() {
    let impairment = Arc::new(Impairment::new(1, &[], &[]));
    let wire = Wire::new(device_link::Rate::Unlimited, Box::new(Loopback::new(64)));
    let rule = device_link::ImpairmentRule::parse("flap:#2:20ms").expect("a rule");
    impairment.inward.set(rule);
    let mut rig = Rig::with_wire("", wire.with_impairment(impairment.clone()));
    let (mut receive, mut send) = (rig.receive_queue(0, 64), rig.send_queue(0, 64));
    works(&rig, &mut receive, &mut send);
    rig.send(&mut send, &frame(MAC, 100, 7));
    rig.wait(0x42a4, 1 << 30, 0);
    rig.wait(0x42a4, 1 << 30, 1 << 30);
    works(&rig, &mut receive, &mut send);
    impairment.set_cut(true);
    rig.wait(0x42a4, 1 << 30, 0);
    impairment.set_cut(false);
    rig.wait(0x42a4, 1 << 30, 1 << 30);
    (receive, send) = reset(&mut rig);
    works_again(&rig, &mut receive, &mut send);
}

#[test]
fn a_reset_ends_faults_of_all_kinds_at_once() {
    let text = "peer=loopback,rate=unlimited,seed=3,faults=wrong-length:1/5+garbage:1/9+no-end:1/9+twice:1/5+lost-descriptor:1/9+\
                no-data:1/5+lost-report:1/5+wrong-head:1/2+hang:1/60+spurious:1/3+lost:1/3";
    let config = IxgbeConfig::parse(text).expect("a text");
    let rules = config.faults.clone();
    let mut rig = Rig::around(Ixgbe::new(config).expect("a sound device"));
    for _ in 0..20 {
        rules.iter().for_each(|rule| rig.ixgbe.faults().set(*rule));
        rig.set_up();
        let (receive, mut send) = (rig.receive_queue(0, 64), rig.send_queue(0, 64));
        for number in 0..50 {
            rig.send(&mut send, &frame(MAC, 100, number));
        }
        rig.happens(|| rig.get(receive.registers + 0x10) == 50, Duration::from_millis(2));
        rig.ixgbe.faults().stop();
        rig.ixgbe.reset();
        rig.ixgbe.set_bus_master(true);
        rig.set_up();
        let (mut receive, mut send) = (rig.receive_queue(0, 64), rig.send_queue(0, 64));
        works_again(&rig, &mut receive, &mut send);
        rig.ixgbe.reset();
        rig.ixgbe.set_bus_master(true);
    }
}
