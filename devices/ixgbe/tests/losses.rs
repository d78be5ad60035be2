//! Each frame that the device does not deliver is counted once, by its cause.

mod rig;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use device_bus::{DmaError, Host, Model, TestHost};
use device_link::{Damage, Frame, Peer, Waker};
use ixgbe_model::{Ixgbe, IxgbeConfig, Losses};
use rig::{MAC, Rig, frame};

const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const ENABLE: u32 = 1 << 25;
/// Bits of a transmit descriptor's second word: data with DEXT, and end of packet with IFCS.
const DATA: u64 = 1 << 29 | 3 << 20;
const EOP: u64 = 3 << 24;
const RS: u64 = 1 << 27;

/// The frames that a test sends to the device.
#[derive(Clone, Default)]
struct Source(Arc<Mutex<(VecDeque<Given>, Option<Waker>)>>);

type Given = (Vec<u8>, Option<Damage>);

/// The peer that gives them to the device.
struct SourcePeer(Source, Vec<u8>);

impl Source {
    fn give(&self, frames: impl IntoIterator<Item = Given>) {
        let mut state = self.0.lock().expect("no test panics with it");
        state.0.extend(frames);
        if let Some(waker) = &state.1 {
            waker();
        }
    }
}

impl Peer for SourcePeer {
    fn take(&mut self, _: &[u8], _: u64) {}

    fn give(&mut self, _: u64) -> Option<Frame<'_>> {
        let (bytes, damage) = self.0.0.lock().expect("no test panics with it").0.pop_front()?;
        self.1 = bytes;
        Some(Frame { bytes: &self.1, damage })
    }

    fn due_ns(&self) -> Option<u64> {
        (!self.0.0.lock().expect("no test panics with it").0.is_empty()).then_some(0)
    }

    fn attach(&mut self, waker: Waker) {
        self.0.0.lock().expect("no test panics with it").1 = Some(waker);
    }
}

fn with_source(text: &str) -> (Rig, Source) {
    let source = Source::default();
    let rig =
        Rig::with_peer(&format!("rate=unlimited,{text}"), Box::new(SourcePeer(source.clone(), Vec::new())));
    (rig, source)
}

fn good(count: usize) -> impl Iterator<Item = Given> {
    (0..count).map(|number| (frame(MAC, 60, number as u8), None))
}

/// Waits until the device has lost these frames, and checks that it has lost no others.
fn expect(rig: &Rig, losses: Losses) {
    rig.until(|| rig.ixgbe.losses().sum() >= losses.sum(), &format!("{losses:?}"));
    assert_eq!(rig.ixgbe.losses(), losses);
}

#[test]
fn a_filtered_or_damaged_frame_is_counted_by_its_cause() {
    let (rig, source) = with_source("");
    let mut receive = rig.receive_queue(0, 64);
    let wrong = [
        (frame(MAC, 60, 1), Some(Damage::Fcs)),
        (frame(MAC, 60, 1), Some(Damage::Code)),
        // Fragments and jabber are damaged, too.
        (frame(MAC, 20, 1), Some(Damage::Fcs)),
        (frame(MAC, 2000, 1), Some(Damage::Fcs)),
        (frame(MAC, 59, 1), None),
        (frame(MAC, 1515, 1), None),
        (frame(MAC, 1516, 1), None),
        (frame(OTHER, 60, 1), None),
        (frame([1, 0, 0x5e, 0, 0, 1], 60, 1), None),
    ];
    source.give(wrong.clone().into_iter().chain(good(1)));
    assert_eq!(rig.receive(&mut receive).bytes, frame(MAC, 60, 0));
    let losses = Losses { damaged: 4, undersized: 1, oversized: 2, filtered: 2, ..Losses::default() };
    expect(&rig, losses);
    // CRCERRS, ILLERRC, RFC, RJC; RUC, ROC.
    let registers = [0x4000, 0x4004, 0x40a8, 0x40b0, 0x40a4, 0x40ac].map(|register| rig.get(register));
    assert_eq!(registers, [1, 1, 1, 1, 1, 2]);
    // A VLAN that is filtered out: VLNCTRL.VFE.
    rig.set(0x5088, 1 << 30 | 0x8100);
    let mut tagged = frame(MAC, 64, 1);
    tagged[12..16].copy_from_slice(&[0x81, 0, 0, 5]);
    source.give([(tagged, None)]);
    expect(&rig, Losses { filtered: 3, ..losses });
    // FCTRL.SBP: bad frames are stored, except those that are too long.
    rig.set(0x5080, 1 << 10 | 1 << 1);
    source.give(wrong);
    for len in [60, 60, 20, 59] {
        assert_eq!(rig.receive(&mut receive).bytes.len(), len);
    }
    expect(&rig, Losses { oversized: 5, filtered: 5, ..losses });
    let losses = rig.ixgbe.losses();
    rig.set(0, ENABLE << 1);
    rig.wait(0, ENABLE << 1, 0);
    assert_eq!(rig.ixgbe.losses(), losses, "a reset does not set them back");
}

#[test]
fn a_frame_for_a_disabled_receiver_or_queue_is_counted() {
    let (rig, source) = with_source("");
    // The receiver is on, and no queue is enabled yet: RXDCTL.ENABLE follows RXEN.
    source.give(good(2));
    expect(&rig, Losses { queue_off: 2, ..Losses::default() });
    let mut receive = rig.receive_queue(0, 64);
    source.give(good(1));
    rig.receive(&mut receive);
    rig.set(receive.registers + 0x28, 0);
    rig.wait(receive.registers + 0x28, ENABLE, 0);
    source.give(good(3));
    expect(&rig, Losses { queue_off: 5, ..Losses::default() });
    // RXCTRL.RXEN.
    rig.set(0x3000, 0);
    source.give(good(4));
    expect(&rig, Losses { queue_off: 5, receiver_off: 4, ..Losses::default() });
}

#[test]
fn frames_that_wait_for_a_queue_are_counted_when_it_is_disabled() {
    let (rig, source) = with_source("");
    let receive = rig.empty_receive_queue(0, 64);
    source.give(good(3));
    // RNBC counts frames that wait.
    let mut waiting = 0;
    rig.until(
        || {
            waiting += rig.get(0x3fc0);
            waiting == 3
        },
        "RNBC",
    );
    assert_eq!(rig.ixgbe.losses(), Losses::default(), "they are not lost");
    rig.set(receive.registers + 0x28, 0);
    expect(&rig, Losses { queue_off: 3, ..Losses::default() });
}

#[test]
fn frames_wait_without_dma_until_the_buffer_is_full_and_a_reset_loses_them() {
    for by_device in [false, true] {
        let (rig, source) = with_source("");
        // RXPBSIZE: 1 KiB, which holds sixteen frames of 60 bytes.
        rig.set(0x3c00, 1 << 10);
        let mut receive = rig.receive_queue(0, 64);
        source.give(good(1));
        rig.receive(&mut receive);
        if by_device {
            // CTRL.GIO_MASTER_DISABLE and its STATUS.
            rig.set(0, 1 << 2);
            rig.wait(8, 1 << 19, 0);
        } else {
            rig.ixgbe.set_bus_master(false);
        }
        source.give(good(20));
        expect(&rig, Losses { buffer_full: 4, ..Losses::default() });
        assert_eq!(rig.get(0x3fa0), 4, "RXMPC");
        rig.ixgbe.reset();
        expect(&rig, Losses { buffer_full: 4, reset: 16, ..Losses::default() });
    }
}

#[test]
fn a_frame_without_descriptors_is_counted_when_its_queue_drops_it() {
    let (rig, source) = with_source("");
    let receive = rig.empty_receive_queue(0, 64);
    // SRRCTL.DROP_EN.
    rig.set(receive.registers + 0x14, 1 << 28 | 1 << 25 | 2);
    source.give(good(3));
    expect(&rig, Losses { no_descriptors: 3, ..Losses::default() });
    // HLREG0.JUMBOEN, MAXFRS: a frame that is too large for a ring with buffers of 1 KiB, without DROP_EN.
    rig.set(0x4240, rig.get(0x4240) | 1 << 2);
    rig.set(0x4268, 9018 << 16);
    let small = rig.receive_queue(1, 8);
    rig.set(small.registers + 0x14, 1 << 25 | 1);
    // RETA is all 1; MRQC: RSS over IPv4.
    (0..32).for_each(|word| rig.set(0xeb00 + 4 * word, 0x0101_0101));
    rig.set(0xec80, 1 | 1 << 17);
    let mut large = frame(MAC, 8000, 0);
    large[12..14].copy_from_slice(&[8, 0]);
    large[14..34].copy_from_slice(&[0x45, 0, 0x1f, 0x32, 0, 0, 0, 0, 64, 99, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    source.give([(large, None)]);
    expect(&rig, Losses { no_descriptors: 4, ..Losses::default() });
    // QPRDC of both queues is in the first set.
    assert_eq!(rig.get(0x1430), 4);
}

#[test]
fn frames_within_the_device_are_counted_when_its_loopback_ends() {
    let rig = Rig::new("rate=unlimited,faults=hang:never");
    // HLREG0.LPBK.
    rig.set(0x4240, rig.get(0x4240) | 1 << 15);
    let mut send = rig.send_queue(0, 64);
    // The device hangs after the first report, with the frame in its loopback.
    rig.ixgbe.faults().set_rate(ixgbe_model::Fault::Hang, device_bus::Rate::Once(1));
    rig.send(&mut send, &frame(MAC, 60, 1));
    rig.until(|| rig.ixgbe.faults().is_hung(), "the hang");
    assert_eq!(rig.ixgbe.losses(), Losses::default());
    rig.ixgbe.reset();
    expect(&rig, Losses { loop_ended: 1, ..Losses::default() });
}

/// Memory where writes of receive descriptors fail while `fails` is set.
struct Failing {
    bench: Arc<TestHost>,
    fails: Arc<AtomicBool>,
}

impl Host for Failing {
    fn read_memory(&self, address: u64, into: &mut [u8]) -> Result<(), DmaError> {
        self.bench.read_memory(address, into)
    }

    fn write_memory(&self, address: u64, from: &[u8]) -> Result<(), DmaError> {
        self.bench.write_memory(address, from)
    }

    fn publish_descriptors(&self, address: u64, descriptors: &[[u64; 2]]) -> Result<(), DmaError> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(DmaError::Unreachable { address, bytes: 16 * descriptors.len() as u64 });
        }
        self.bench.publish_descriptors(address, descriptors)
    }

    fn raise(&self, vector: u16) {
        self.bench.raise(vector);
    }
}

#[test]
fn a_frame_whose_descriptor_cannot_be_written_back_is_counted() {
    // With and without the fault injector in between.
    for text in ["", "faults=hang:never"] {
        let (bench, fails) = (Arc::new(TestHost::new(16 << 20, 64)), Arc::new(AtomicBool::new(false)));
        let source = Source::default();
        let peer = Box::new(SourcePeer(source.clone(), Vec::new()));
        let config = IxgbeConfig::parse(text).expect("a test's own text");
        let wire = device_link::Wire::new(device_link::Rate::Unlimited, peer);
        let ixgbe = Arc::new(Ixgbe::with_wire(config, wire).expect("a sound device"));
        ixgbe.attach(Arc::new(Failing { bench: bench.clone(), fails: fails.clone() })).expect("a new device");
        ixgbe.set_bus_master(true);
        let mut rig = Rig { bench, ixgbe };
        rig.set_up();
        // A frame in two buffers of 1 KiB counts once.
        let receive = rig.receive_queue(0, 64);
        rig.set(receive.registers + 0x14, 1 << 25 | 1);
        fails.store(true, Ordering::SeqCst);
        source.give((0..3).map(|_| (frame(MAC, 1500, 1), None)));
        expect(&rig, Losses { write_back: 3, ..Losses::default() });
        fails.store(false, Ordering::SeqCst);
        source.give(good(1));
        let mut after = receive.clone();
        after.head = 6;
        assert_eq!(rig.receive(&mut after).bytes, frame(MAC, 60, 0));
        expect(&rig, Losses { write_back: 3, ..Losses::default() });
    }
}

#[test]
fn frames_that_an_injected_fault_hides_from_the_driver_are_counted() {
    use ixgbe_model::Fault;
    for kind in [Fault::LostDescriptor, Fault::Hang, Fault::Unplug] {
        let (rig, source) = with_source("faults=hang:never");
        let mut receive = rig.receive_queue(0, 64);
        source.give(good(1));
        rig.receive(&mut receive);
        rig.ixgbe.faults().set_rate(kind, device_bus::Rate::Once(2));
        source.give(good(10));
        let is_lost = |rig: &Rig| match kind {
            Fault::LostDescriptor => rig.ixgbe.losses().write_back == 1,
            Fault::Hang => rig.ixgbe.faults().is_hung(),
            _ => rig.ixgbe.faults().is_unplugged(),
        };
        rig.until(|| is_lost(&rig), "the fault");
        // Frames that are still on the wire arrive after a reset, and find no queue.
        rig.ixgbe.replug();
        rig.ixgbe.reset();
        rig.ixgbe.set_bus_master(true);
        rig.set(0x5080, 1 << 10);
        rig.set(0x3000, 1);
        rig.until(
            || {
                let losses = rig.ixgbe.losses();
                let done = (0..64_u64)
                    .filter(|index| rig.bench.peek_u32(receive.descriptors + 16 * index + 8) & 1 != 0)
                    .count() as u64;
                done + losses.sum() == 11
            },
            &format!("{kind:?}: eleven frames"),
        );
        assert!(rig.ixgbe.losses().write_back >= 1, "{kind:?}: {:?}", rig.ixgbe.losses());
    }
}

#[test]
fn a_frame_that_cannot_be_sent_is_counted_by_its_cause() {
    let rig = Rig::new("rate=unlimited");
    let mut send = rig.send_queue(0, 64);
    let done = |rig: &Rig, send: &rig::Ring| {
        rig.until(|| rig.is_done(send, send.tail - 1), "the report");
    };
    // An invalid buffer address in the middle of a frame.
    let buffer = rig.buffer(&send, 0);
    rig.put(&mut send, [buffer, DATA | 30]);
    rig.put(&mut send, [u64::MAX - 0xffff, DATA | 30]);
    rig.put(&mut send, [buffer, DATA | EOP | RS | 30]);
    rig.ring_tail(&send);
    done(&rig, &send);
    assert_eq!(rig.ixgbe.losses(), Losses { unreadable: 1, ..Losses::default() });
    // Nine parts of 2000 bytes are more than 15.5 KiB.
    for part in 0..9 {
        let last = if part == 8 { EOP | RS } else { 0 };
        rig.put(&mut send, [buffer, DATA | last | 2000]);
    }
    rig.ring_tail(&send);
    done(&rig, &send);
    assert_eq!(rig.ixgbe.losses(), Losses { unreadable: 1, too_long: 1, ..Losses::default() });
    rig.put(&mut send, [buffer, DATA | EOP | RS]);
    rig.ring_tail(&send);
    done(&rig, &send);
    let losses = Losses { unreadable: 1, too_long: 1, empty: 1, ..Losses::default() };
    assert_eq!(rig.ixgbe.losses(), losses);
    // A frame whose last descriptor is missing when the queue is disabled or the device reset.
    for (unfinished, by_reset) in [(1, false), (2, true)] {
        let mut send = rig.send_queue(1, 64);
        let head = send.registers + 0x10;
        rig.put(&mut send, [buffer, DATA | 30]);
        rig.ring_tail(&send);
        rig.wait(head, u32::MAX, 1);
        assert_eq!(rig.ixgbe.losses(), Losses { unfinished: unfinished - 1, ..losses });
        if by_reset {
            rig.ixgbe.reset();
        } else {
            rig.set(send.registers + 0x28, 0);
            rig.wait(send.registers + 0x28, ENABLE, 0);
        }
        expect(&rig, Losses { unfinished, ..losses });
    }
    assert_eq!(rig.ixgbe.wire_losses(), device_link::Losses::default());
}

#[test]
fn frames_lost_on_the_wire_are_counted_by_the_wire() {
    let rig = Rig::new("rate=unlimited,peer=loopback:frames=2");
    rig.set(0x3000, 0);
    let mut send = rig.send_queue(0, 64);
    // The device polls its wire between batches, so all frames go in one.
    let buffer = rig.buffer(&send, 0);
    rig.bench.poke(buffer, &frame(MAC, 60, 1));
    for _ in 0..10 {
        rig.put(&mut send, [buffer, DATA | EOP | RS | 60 | 60 << 46]);
    }
    rig.ring_tail(&send);
    rig.until(|| rig.is_done(&send, 9), "the report");
    rig.until(|| rig.ixgbe.losses().receiver_off == 2, "two that come back");
    assert_eq!(rig.ixgbe.wire_losses(), device_link::Losses { peer_full: 8, ..Default::default() });
    assert_eq!(rig.ixgbe.losses(), Losses { receiver_off: 2, ..Losses::default() });
}
