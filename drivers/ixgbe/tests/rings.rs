//! The rings against a scripted device, with each descriptor under the test's control.

mod packets;
mod scripted;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use coppice_hardware::{Device, DmaMemory};
use device_harness::Bench;
use ixgbe_driver::{Controller, Fault, Losses, Offload, Queue, QueueOptions, Received, Refusal, Transport};
use packets::{
    Packets, bytes, clear, fill, frame, set_continues, set_len, set_offload, set_shift, spare, tag,
};
use scripted::{I82576, I82599, Map, Scripted};

const TDT: u64 = 0x18;
const RDT: u64 = 0x18;
/// Status of a whole received frame: DD, EOP.
const WHOLE: u32 = 0b11;

struct Rig {
    device: Arc<Scripted>,
    bench: Bench,
    controller: Controller,
    memory: Device,
}

fn rig(map: Map) -> Rig {
    let device = Scripted::new(map);
    let (bench, controller) = device.start().expect("the device works");
    let memory = bench.device();
    Rig { device, bench, controller, memory }
}

impl Rig {
    fn queue(&self, depth: u32) -> Queue<Packets> {
        let options = QueueOptions { send_depth: depth, receive_depth: depth, packet_bytes: 2048 };
        self.controller.open_queue(options).expect("a queue")
    }

    /// Sends all of `packets` and returns those that came back.
    fn send(&self, queue: &mut Queue<Packets>, packets: Vec<DmaMemory>) -> Vec<(DmaMemory, Option<Refusal>)> {
        let (mut packets, mut back) = (packets.into_iter(), Vec::new());
        queue.send(|| packets.next(), |packet, why| back.push((packet, why))).expect("no fault");
        assert_eq!(packets.len(), 0, "all packets were taken");
        back
    }

    fn frames(&self, count: u32) -> Vec<DmaMemory> {
        (0..count).map(|number| fill(spare(&self.memory, number), &frame(number.into(), 60))).collect()
    }

    fn give(&self, queue: &mut Queue<Packets>, count: u32) {
        for number in 0..count {
            assert!(queue.give(spare(&self.memory, 1000 + number)).is_ok());
        }
        assert_eq!(queue.poll(0, |_, _| {}), Ok(0));
    }
}

fn poll(queue: &mut Queue<Packets>, most: usize) -> Result<Vec<(DmaMemory, Received)>, Fault> {
    let mut taken = Vec::new();
    queue.poll(most, |packet, received| taken.push((packet, received)))?;
    Ok(taken)
}

#[test]
fn a_batch_costs_one_tail_write_and_reports_every_32_descriptors_and_at_its_end() {
    for map in [I82599, I82576] {
        let rig = rig(map);
        let mut queue = rig.queue(256);
        let tail = rig.device.transmit(0) + TDT;
        let before = rig.device.writes(tail);
        assert!(rig.send(&mut queue, rig.frames(100)).is_empty());
        assert_eq!(rig.device.writes(tail), before + 1);
        let fetched = rig.device.fetch(0);
        assert_eq!(fetched.len(), 100);
        let reports: Vec<u32> =
            fetched.iter().filter(|(_, words)| words[1] >> 27 & 1 != 0).map(|(index, _)| *index).collect();
        assert_eq!(reports, [31, 63, 95, 99]);
        for (number, (_, words)) in fetched.iter().enumerate() {
            assert_eq!(rig.device.bytes(*words), frame(number as u64, 60));
            // DTYP 3, EOP, IFCS, DEXT; PAYLEN 60.
            assert_eq!((words[1] & !(1 << 27)) >> 16, 0x3 << 4 | 1 << 8 | 1 << 9 | 1 << 13 | 60 << 30);
        }
        assert_eq!(rig.send(&mut queue, vec![]).len(), 0);
        assert_eq!(rig.device.writes(tail), before + 1, "nothing to announce");
    }
}

#[test]
fn sent_packets_refill_the_receive_ring_first_and_the_rest_is_returned() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    rig.give(&mut queue, 60);
    assert!(rig.send(&mut queue, rig.frames(10)).is_empty());
    let fetched = rig.device.fetch(0);
    assert!(rig.send(&mut queue, vec![]).is_empty(), "nothing has been reported");
    assert_eq!(rig.device.report(0, &fetched), 1);
    let back = rig.send(&mut queue, vec![]);
    // A ring of 64 has room for 63.
    assert_eq!(queue.receive_held(), 63);
    assert_eq!(back.iter().map(|(packet, _)| tag(packet)).collect::<Vec<_>>(), (3..10).collect::<Vec<_>>());
    assert!(back.iter().all(|(_, why)| why.is_none()));
}

#[test]
fn a_full_ring_takes_no_more_packets_from_the_caller() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    let mut packets = rig.frames(100).into_iter();
    let taken = queue.send(|| packets.next(), |_, _| panic!("no packet is refused"));
    // One descriptor stays empty, and each frame may need a second one for a context.
    assert_eq!(taken, Ok(62));
    assert_eq!(packets.len(), 38);
    let fetched = rig.device.fetch(0);
    rig.device.report(0, &fetched);
    assert_eq!(queue.send(|| packets.next(), |_, _| {}), Ok(38));
    assert_eq!(queue.receive_held(), 62);
    // The positions wrap many times.
    for _ in 0..50 {
        let fetched = rig.device.fetch(0);
        rig.device.report(0, &fetched);
        let back = rig.send(&mut queue, rig.frames(37));
        assert!(back.iter().all(|(_, why)| why.is_none()));
    }
}

#[test]
fn a_context_is_written_only_when_the_offload_changes() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    let udp = Offload { ip: true, transport: Some(Transport::Udp), link_bytes: 14, network_bytes: 20 };
    let tcp = Offload { ip: false, transport: Some(Transport::Tcp), link_bytes: 18, network_bytes: 24 };
    let with = |offload| set_offload(fill(spare(&rig.memory, 0), &frame(1, 100)), offload);
    let plain = fill(spare(&rig.memory, 0), &frame(1, 100));
    let packets = vec![with(udp), with(udp), plain, with(udp), with(tcp), with(udp)];
    assert!(rig.send(&mut queue, packets).is_empty());
    let kinds: Vec<u64> = rig.device.fetch(0).iter().map(|(_, words)| words[1] >> 20 & 0xF).collect();
    assert_eq!(kinds, [2, 3, 3, 3, 3, 2, 3, 2, 3]);
    rig.send(&mut queue, vec![with(tcp)]);
    let fetched = rig.device.fetch(0);
    // IPLEN and MACLEN; L4T TCP and no IPV4; then CC and TXSM.
    assert_eq!(fetched[0].1[0], 24 | 18 << 9);
    assert_eq!(fetched[0].1[1] >> 9 & 0x7, 0b100);
    assert_eq!(fetched[1].1[1] >> 39 & 0x7, 0b101);
}

#[test]
fn a_frame_that_cannot_be_sent_comes_back_with_the_reason() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    let packet = || fill(spare(&rig.memory, 0), &frame(1, 100));
    let offload = |ip, transport, link_bytes, network_bytes| {
        let offload = Offload { ip, transport, link_bytes, network_bytes };
        (set_offload(packet(), offload), Refusal::Offload(offload))
    };
    let udp = Some(Transport::Udp);
    let cases = [
        (set_len(packet(), 13), Refusal::TooShort { bytes: 13 }),
        (set_len(packet(), 1515), Refusal::TooLong { bytes: 1515, most: 1514 }),
        (set_len(packet(), usize::MAX >> 33), Refusal::TooLong { bytes: usize::MAX >> 33, most: 1514 }),
        (set_shift(packet(), 4000), Refusal::TooLong { bytes: 100, most: 32 }),
        (set_shift(packet(), 5000), Refusal::TooLong { bytes: 100, most: 0 }),
        (set_shift(packet(), 1 << 31), Refusal::TooLong { bytes: 100, most: 0 }),
        (set_shift(set_len(packet(), 14), 4020), Refusal::TooLong { bytes: 14, most: 12 }),
        (set_shift(set_len(packet(), 14), 4018), Refusal::TooShort { bytes: 14 }),
        offload(false, None, 14, 20),
        offload(true, udp, 13, 20),
        offload(true, udp, 128, 20),
        offload(true, udp, 14, 19),
        offload(true, udp, 14, 512),
        offload(true, udp, 14, 79),
        offload(true, Some(Transport::Tcp), 14, 69),
    ];
    for (packet, why) in cases {
        let back = rig.send(&mut queue, vec![packet]);
        assert_eq!(back.iter().map(|(_, why)| *why).collect::<Vec<_>>(), [Some(why)]);
    }
    let (last, _) = offload(true, udp, 14, 78);
    assert!(rig.send(&mut queue, vec![last]).is_empty());
    assert_eq!(rig.device.fetch(0).len(), 2);
    let back = rig.send(&mut queue, vec![set_len(packet(), 0)]);
    assert!(back.is_empty(), "a spare packet goes to the receive ring");
    assert_eq!(queue.receive_held(), 1);
}

#[test]
fn frames_shorter_than_the_device_accepts_are_padded_with_zeros() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    let packet = set_len(fill(spare(&rig.memory, 0), &[0xAA; 60]), 14);
    assert!(rig.send(&mut queue, vec![packet]).is_empty());
    let sent = rig.device.bytes(rig.device.fetch(0)[0].1);
    assert_eq!(sent, [[0xAA; 14].as_slice(), &[0; 3]].concat());
}

#[test]
fn a_frame_in_several_packets_is_sent_whole_or_refused_whole() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    let part = |number, len| fill(spare(&rig.memory, number), &frame(number.into(), len));
    let more = |number, len| set_continues(part(number, len), true);
    assert!(rig.send(&mut queue, vec![more(1, 14), more(2, 700), part(3, 800), part(4, 60)]).is_empty());
    let fetched = rig.device.fetch(0);
    let ends: Vec<u64> = fetched.iter().map(|(_, words)| words[1] >> 24 & 1).collect();
    assert_eq!(ends, [0, 0, 1, 1]);
    assert_eq!(fetched.iter().map(|(_, words)| words[1] >> 46).collect::<Vec<_>>(), [1514, 1514, 1514, 60]);
    assert_eq!(rig.device.bytes(fetched[1].1), frame(2, 700));

    for (packets, why) in [
        (vec![more(1, 60), more(2, 60)], Refusal::Incomplete),
        (vec![more(1, 60), set_len(part(2, 60), 0)], Refusal::Incomplete),
        (vec![more(1, 1000), part(2, 515)], Refusal::TooLong { bytes: 1515, most: 1514 }),
        (vec![more(1, 8), part(2, 5)], Refusal::TooShort { bytes: 13 }),
        (vec![more(1, 60), set_len(part(2, 60), 9999)], Refusal::TooLong { bytes: 9999, most: 4032 }),
    ] {
        let count = packets.len();
        let back = rig.send(&mut queue, packets);
        assert_eq!(back.iter().map(|(_, why)| *why).collect::<Vec<_>>(), vec![Some(why); count]);
    }
    let mut many: Vec<DmaMemory> = (0..33).map(|number| more(number, 20)).collect();
    many.push(part(33, 20));
    let back = rig.send(&mut queue, many);
    assert_eq!(back.len(), 34);
    assert!(back.iter().all(|(_, why)| *why == Some(Refusal::TooManyParts { most: 32 })));
    assert!(rig.device.fetch(0).is_empty());
}

#[test]
fn a_frame_in_several_packets_waits_for_room_and_is_not_overtaken() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    let mut packets = rig.frames(61);
    packets
        .extend((0..3).map(|number| set_continues(fill(spare(&rig.memory, number), &frame(7, 100)), true)));
    packets.push(fill(spare(&rig.memory, 9), &frame(7, 100)));
    packets.push(fill(spare(&rig.memory, 10), &frame(8, 100)));
    let mut packets = packets.into_iter();
    assert_eq!(queue.send(|| packets.next(), |_, _| {}), Ok(61));
    assert_eq!(packets.len(), 1);
    let fetched = rig.device.fetch(0);
    rig.device.report(0, &fetched);
    assert_eq!(queue.send(|| packets.next(), |_, _| {}), Ok(2));
    let lens: Vec<u64> = rig.device.fetch(0).iter().map(|(_, words)| words[1] >> 46).collect();
    assert_eq!(lens, [400, 400, 400, 400, 100]);
}

#[test]
fn frames_are_received_with_their_checksum_and_hash_results() {
    for map in [I82599, I82576] {
        let rig = rig(map);
        let mut queue = rig.queue(64);
        rig.give(&mut queue, 40);
        let (ipcs, l4i, ipe, l4e) = (1 << 6, 1 << 5, 1 << 31, 1 << 30);
        let (tcp, udp) = (1 << 8, 1 << 9);
        let hash = 0xDEAD_BEEF_u64 << 32 | 2;
        for (first, status, ip, transport) in [
            (0, WHOLE, None, None),
            (tcp, WHOLE | ipcs | l4i, Some(true), Some(true)),
            (tcp, WHOLE | ipcs | l4i | ipe, Some(false), Some(true)),
            (tcp, WHOLE | ipcs | l4i | l4e, Some(true), Some(false)),
            // A datagram without a checksum may be reported as wrong.
            (udp, WHOLE | ipcs | l4i | l4e, Some(true), None),
            (hash | udp, WHOLE | ipcs | l4i, Some(true), Some(true)),
        ] {
            rig.device.deliver(0, &frame(5, 333), first, status);
            let taken = poll(&mut queue, 8).expect("no fault");
            assert_eq!(taken.len(), 1);
            let (packet, received) = &taken[0];
            assert_eq!(bytes(packet, 333), frame(5, 333));
            assert_eq!((received.len(), received.continues()), (333, false));
            assert_eq!((received.ip_checksum(), received.transport_checksum()), (ip, transport));
            assert_eq!(received.hash(), (first & 0xF != 0).then_some(0xDEAD_BEEF));
        }
        assert_eq!(queue.receive_held(), 34);
    }
}

#[test]
fn receive_packets_are_announced_in_batches_and_before_the_device_runs_out() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    let tail = rig.device.receive(0) + RDT;
    let start = rig.device.writes(tail);
    rig.give(&mut queue, 8);
    assert_eq!(rig.device.writes(tail), start + 1, "the device had no packets");
    rig.give(&mut queue, 4);
    assert_eq!(rig.device.buffers(0), 8, "the device has more than these");
    rig.give(&mut queue, 28);
    assert_eq!(rig.device.buffers(0), 40);
    assert_eq!(rig.device.writes(tail), start + 2);
    // Small pools circulate as well.
    for _ in 0..200 {
        rig.device.deliver(0, &frame(5, 60), 0, WHOLE);
        for (packet, _) in poll(&mut queue, 8).expect("no fault") {
            assert!(queue.give(clear(packet)).is_ok());
        }
    }
}

#[test]
fn receive_packets_are_announced_before_the_frames_that_may_return() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    let (rdt, tdt) = (rig.device.receive(0) + RDT, rig.device.transmit(0) + TDT);
    let tails = |from: usize| -> Vec<(u64, u32)> {
        let log = &rig.device.script().log;
        log[from..].iter().copied().filter(|(at, _)| [rdt, tdt].contains(at)).collect()
    };
    let log = || rig.device.script().log.len();
    rig.give(&mut queue, 8);
    assert!(rig.send(&mut queue, rig.frames(20)).is_empty());
    let fetched = rig.device.fetch(0);
    rig.device.report(0, &fetched);
    // Twenty sent packets are in the transmit ring, and the device has eight to receive into.
    let start = log();
    assert!(rig.send(&mut queue, rig.frames(20)).is_empty());
    assert_eq!(tails(start), [(rdt, 28), (tdt, 40)]);
    // The posted packets are few compared with the device's, but not if that many frames may come back.
    for (given, frames, expected) in [(2, 4, vec![(tdt, 44)]), (0, 16, vec![(rdt, 30), (tdt, 60)])] {
        for number in 0..given {
            assert!(queue.give(spare(&rig.memory, number)).is_ok());
        }
        let start = log();
        assert!(rig.send(&mut queue, rig.frames(frames)).is_empty());
        assert_eq!(tails(start), expected);
    }
    // A send without frames collects sent packets, and announces them.
    let fetched = rig.device.fetch(0);
    rig.device.report(0, &fetched);
    let start = log();
    assert_eq!(rig.send(&mut queue, vec![]).len(), 7, "the ring has room for 63");
    assert_eq!(tails(start), [(rdt, 63)]);
}

#[test]
fn receive_packets_are_announced_before_frames_are_returned_and_by_periodic_checks() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    rig.give(&mut queue, 20);
    for number in 0..20 {
        assert!(queue.give(spare(&rig.memory, number)).is_ok());
    }
    rig.device.deliver(0, &frame(5, 60), 0, WHOLE);
    let mut taken = 0;
    let took = |_, _| {
        assert_eq!(rig.device.buffers(0), 39, "announced before the caller processes frames");
        taken += 1;
    };
    assert_eq!(queue.poll(8, took), Ok(1));
    assert_eq!(taken, 1);
    assert!(queue.give(spare(&rig.memory, 20)).is_ok());
    assert!(poll(&mut queue, 8).expect("no fault").is_empty());
    assert_eq!(rig.device.buffers(0), 39, "one packet is not announced alone");
    for _ in 0..1024 {
        assert!(poll(&mut queue, 8).expect("no fault").is_empty());
    }
    assert_eq!(rig.device.buffers(0), 40, "a periodic check announces it");
}

#[test]
fn a_reattached_queue_announces_its_receive_packets_first() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    rig.give(&mut queue, 40);
    let start = rig.device.script().log.len();
    assert_eq!(queue.reset(|_| {}), Ok(()));
    let log = rig.device.script().log[start..].to_vec();
    let at = |register, bits| {
        log.iter()
            .position(|&(at, value)| at == register && value & bits == bits)
            .expect("the register is written")
    };
    let (enable, tail) = (at(rig.device.receive(0) + 0x28, 1 << 25), at(rig.device.receive(0) + RDT, 40));
    assert_eq!(tail, enable + 1);
    assert!(tail < at(rig.device.transmit(0) + 0x28, 1 << 25));
}

#[test]
fn a_frame_in_several_packets_is_received_whole() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    rig.give(&mut queue, 63);
    let (part, end) = (0b01, 0b11 | 1 << 6);
    rig.device.deliver(0, &frame(1, 2048), 0, part);
    rig.device.deliver(0, &frame(2, 2048), 0, part);
    assert!(poll(&mut queue, 8).expect("no fault").is_empty(), "the frame is incomplete");
    rig.device.deliver(0, &frame(3, 100), 0, end);
    rig.device.deliver(0, &frame(4, 60), 0, WHOLE);
    let taken = poll(&mut queue, 8).expect("no fault");
    let seen: Vec<(u32, bool)> = taken.iter().map(|(_, got)| (got.len(), got.continues())).collect();
    assert_eq!(seen, [(2048, true), (2048, true), (100, false), (60, false)]);
    assert_eq!(taken[2].1.ip_checksum(), Some(true));

    // A batch with room for a part of the frame leaves it in the ring; one that can never hold it drops it.
    rig.device.deliver(0, &frame(4, 60), 0, WHOLE);
    rig.device.deliver(0, &frame(1, 2048), 0, part);
    rig.device.deliver(0, &frame(2, 2048), 0, end);
    assert_eq!(poll(&mut queue, 2).expect("no fault").len(), 1);
    assert_eq!(poll(&mut queue, 2).expect("no fault").len(), 2);
    rig.device.deliver(0, &frame(1, 2048), 0, part);
    rig.device.deliver(0, &frame(2, 2048), 0, end);
    rig.device.deliver(0, &frame(4, 60), 0, WHOLE);
    let held = queue.receive_held();
    assert_eq!(poll(&mut queue, 1).expect("no fault").len(), 1);
    assert_eq!((queue.dropped(), queue.receive_held()), (1, held - 1));

    // With the FCS stripped, the last part may be empty.
    rig.device.deliver(0, &frame(1, 2048), 0, part);
    rig.device.deliver(0, &[], 0, end);
    let taken = poll(&mut queue, 8).expect("no fault");
    assert_eq!(
        taken.iter().map(|(_, got)| (got.len(), got.continues())).collect::<Vec<_>>(),
        [(2048, false)]
    );

    // A damaged frame (RXE) is dropped.
    rig.device.deliver(0, &frame(1, 60), 0, WHOLE | 1 << 29);
    assert!(poll(&mut queue, 8).expect("no fault").is_empty());
    assert_eq!(queue.dropped(), 2);
}

#[test]
fn dropped_and_refused_frames_are_counted_by_cause() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    rig.give(&mut queue, 63);
    let (part, end, damage) = (0b01, 0b11, 1 << 29);
    for (parts, status) in [(1, end | damage), (2, end | damage), (2, end), (3, end)] {
        (1..parts).for_each(|_| rig.device.deliver(0, &frame(1, 2048), 0, part));
        rig.device.deliver(0, &frame(1, 60), 0, status);
    }
    assert!(poll(&mut queue, 1).expect("no fault").is_empty());
    let losses = Losses { damaged: 2, too_many_parts: 2, ..Losses::default() };
    assert_eq!((rig.controller.losses(), queue.dropped()), (losses, 4));
    // A frame that fills the whole ring. A wait announces the packets of dropped frames.
    assert_eq!((queue.receive_held(), queue.wait(0, false)), (63, Ok(false)));
    (0..63).for_each(|_| rig.device.deliver(0, &frame(1, 2048), 0, part));
    assert!(poll(&mut queue, 64).expect("no fault").is_empty());
    let losses = Losses { too_many_parts: 3, ..losses };
    assert_eq!((rig.controller.losses(), queue.dropped()), (losses, 5));

    let packet = || fill(spare(&rig.memory, 0), &frame(1, 100));
    let offload = Offload { ip: false, transport: None, link_bytes: 14, network_bytes: 20 };
    let refused = [
        vec![set_len(packet(), 1515)],
        vec![set_len(packet(), 13)],
        vec![set_shift(set_len(packet(), 14), 4018)],
        vec![set_offload(packet(), offload)],
        // A frame in several packets counts once.
        vec![set_continues(packet(), true), set_continues(packet(), true), set_len(packet(), 0)],
    ];
    for (number, packets) in (1..).zip(refused) {
        let count = packets.len();
        assert_eq!(rig.send(&mut queue, packets).len(), count);
        assert_eq!(rig.controller.losses(), Losses { refused: number, ..losses });
    }
    assert!(rig.send(&mut queue, vec![packet(), set_len(packet(), 0)]).iter().all(|(_, why)| why.is_none()));
    assert_eq!(rig.controller.losses(), Losses { refused: 5, ..losses });
    assert_eq!(rig.controller.losses().sum(), 10);
}

#[test]
fn frames_lost_in_a_reset_or_at_the_end_of_a_queue_are_counted() {
    type End = fn(Queue<Packets>);
    let ends: [End; 3] =
        [|mut queue| assert_eq!(queue.reset(|_| {}), Ok(())), |queue| queue.close(|_| {}), drop];
    for (index, end) in ends.into_iter().enumerate() {
        let rig = rig(I82599);
        let mut queue = rig.queue(64);
        rig.give(&mut queue, 60);
        // Three of 40 frames are reported; a context and a spare packet do not count.
        let udp = Offload { ip: true, transport: Some(Transport::Udp), link_bytes: 14, network_bytes: 20 };
        let mut first = rig.frames(3);
        first.push(set_len(spare(&rig.memory, 9), 0));
        assert!(rig.send(&mut queue, first).is_empty());
        let fetched = rig.device.fetch(0);
        rig.device.report(0, &fetched);
        assert!(
            rig.send(&mut queue, vec![set_offload(fill(spare(&rig.memory, 0), &frame(1, 100)), udp)])
                .is_empty()
        );
        let more = |number| set_continues(fill(spare(&rig.memory, number), &frame(1, 100)), true);
        let last = fill(spare(&rig.memory, 3), &frame(1, 100));
        assert!(rig.send(&mut queue, vec![more(1), more(2), last]).is_empty());
        assert!(rig.send(&mut queue, rig.frames(35)).is_empty());
        // Four frames were received: one is polled, one is in two packets, one is incomplete.
        for status in [WHOLE, WHOLE, 0b01, WHOLE, 0b01] {
            let len = if status == WHOLE { 60 } else { 2048 };
            rig.device.deliver(0, &frame(5, len), 0, status);
        }
        assert_eq!(poll(&mut queue, 1).expect("no fault").len(), 1);
        assert_eq!(rig.controller.losses(), Losses::default());
        end(queue);
        let losses = Losses { unpolled: 3, unreported: 37, ..Losses::default() };
        assert_eq!(rig.controller.losses(), losses, "end {index}");
    }
}

#[test]
fn a_frame_in_several_packets_that_waits_for_room_is_counted_when_the_queue_is_reset() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    let mut packets = rig.frames(61);
    packets.push(set_continues(fill(spare(&rig.memory, 0), &frame(7, 100)), true));
    packets.push(fill(spare(&rig.memory, 1), &frame(7, 100)));
    let mut packets = packets.into_iter();
    assert_eq!(queue.send(|| packets.next(), |_, _| {}), Ok(61));
    assert_eq!(packets.len(), 0);
    assert_eq!(queue.reset(|_| {}), Ok(()));
    assert_eq!(rig.controller.losses(), Losses { unreported: 62, ..Losses::default() });
    // Nothing is counted twice.
    queue.close(|_| {});
    assert_eq!(rig.controller.losses(), Losses { unreported: 62, ..Losses::default() });
}

#[test]
fn frames_of_a_missing_device_are_counted_when_its_queue_is_closed() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    rig.give(&mut queue, 40);
    assert!(rig.send(&mut queue, rig.frames(5)).is_empty());
    rig.device.deliver(0, &frame(5, 60), 0, WHOLE);
    rig.device.script().gone = true;
    queue.close(|_| panic!("the device may write to all of them"));
    assert_eq!(rig.controller.losses(), Losses { unpolled: 1, unreported: 5, ..Losses::default() });
}

#[test]
fn a_corrupt_descriptor_is_a_fault_and_a_reset_keeps_all_packets() {
    let lengths: [u64; 4] = [0, 2049, 0xFFFF, 4096];
    for len in lengths {
        let rig = rig(I82599);
        let mut queue = rig.queue(64);
        rig.give(&mut queue, 40);
        rig.device.deliver(0, &frame(1, 60), 0, WHOLE);
        let base = rig.device.receive_base(0);
        rig.device.put_descriptor(base, 1, [7, u64::from(WHOLE) | len << 32]);
        let mut taken = 0;
        let fault = queue.poll(8, |_, _| taken += 1).expect_err("an impossible descriptor");
        assert_eq!(taken, 1);
        let expected = Fault::WrongLength {
            queue: 0,
            index: 1,
            bytes: len as u32,
            most: 2048,
            word: u64::from(WHOLE) | len << 32,
        };
        assert_eq!(fault, expected);
        assert_eq!(queue.poll(8, |_, _| panic!("no descriptor of a faulty device counts")), Err(fault));
        assert_eq!(queue.send(|| panic!("a faulty queue takes nothing"), |_, _| {}), Err(fault));
        assert_eq!(queue.reset(|_| panic!("the receive ring has room for all")), Ok(()));
        assert_eq!((queue.receive_held(), rig.device.buffers(0)), (39, 39));
        rig.device.deliver(0, &frame(2, 99), 0, WHOLE);
        let again = poll(&mut queue, 8).expect("the device works again");
        assert_eq!(bytes(&again[0].0, 99), frame(2, 99));
    }
}

#[test]
fn a_write_to_a_descriptor_that_the_device_was_not_given_is_a_fault() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    rig.give(&mut queue, 40);
    for number in 0..4 {
        assert!(queue.give(spare(&rig.memory, number)).is_ok());
    }
    for _ in 0..40 {
        rig.device.deliver(0, &frame(1, 60), 0, WHOLE);
    }
    let base = rig.device.receive_base(0);
    rig.device.put_descriptor(base, 40, [0, u64::from(WHOLE) | 60 << 32]);
    let mut taken = 0;
    let fault = queue.poll(64, |_, _| taken += 1).expect_err("an impossible descriptor");
    assert_eq!(taken, 40);
    assert_eq!(fault, Fault::UnexpectedDescriptor { queue: 0, index: 40, word: u64::from(WHOLE) | 60 << 32 });
    // A descriptor behind all packets is never read.
    assert_eq!(queue.reset(|_| {}), Ok(()));
    assert_eq!(queue.receive_held(), 4);
    rig.device.put_descriptor(rig.device.receive_base(0), 4, [0, u64::from(WHOLE) | 60 << 32]);
    assert!(poll(&mut queue, 64).expect("no fault").is_empty());
}

#[test]
fn a_reset_returns_the_packets_to_be_sent_and_other_queues_detect_it() {
    let rig = rig(I82599);
    let (mut one, mut other) = (rig.queue(64), rig.queue(64));
    rig.give(&mut one, 60);
    rig.give(&mut other, 20);
    assert!(rig.send(&mut one, rig.frames(30)).is_empty());
    assert!(rig.send(&mut other, rig.frames(30)).is_empty());
    let mut back = 0;
    assert_eq!(one.reset(|_| back += 1), Ok(()));
    assert_eq!((one.receive_held(), back), (63, 27));
    let resets = rig.device.script().resets;
    assert_eq!(other.poll(8, |_, _| {}), Err(Fault::WasReset));
    assert_eq!(other.wait(0, false), Err(Fault::WasReset));
    assert_eq!(other.reset(|_| panic!("the receive ring has room for all")), Ok(()));
    assert_eq!(other.receive_held(), 50);
    assert_eq!(rig.device.script().resets, resets, "one reset serves all queues");
    rig.device.deliver(1, &frame(3, 60), 0, WHOLE);
    assert_eq!(poll(&mut other, 8).expect("the device works").len(), 1);
}

#[test]
fn a_queue_that_sends_nothing_is_hung_unless_the_link_is_down() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    rig.give(&mut queue, 40);
    rig.device.set(0x42A4, 0);
    assert!(rig.send(&mut queue, rig.frames(5)).is_empty());
    let until = rig.bench.now_ns() + 100_000_000;
    assert_eq!(queue.wait(until, false), Ok(false), "the link is down");
    rig.device.set(0x42A4, 1 << 30 | 0b11 << 28);
    let fault = queue.wait(rig.bench.now_ns() + 1_000_000_000, false).expect_err("the queue hangs");
    assert!(
        matches!(fault, Fault::TransmitHang { queue: 0, head: 0, tail: 5, for_ns } if for_ns >= 40_000_000),
        "{fault:?}"
    );
    assert_eq!(queue.reset(|_| {}), Ok(()));
    // A head beyond the ring is the more specific fault.
    assert!(rig.send(&mut queue, rig.frames(5)).is_empty());
    rig.device.set(rig.device.transmit(0) + 0x10, 64);
    let fault = queue.wait(rig.bench.now_ns() + 1_000_000_000, false).expect_err("the queue hangs");
    assert_eq!(fault, Fault::WrongHead { queue: 0, register: 0x6010, value: 64 });
}

#[test]
fn packets_of_a_missing_device_are_never_freed() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    rig.give(&mut queue, 40);
    assert!(rig.send(&mut queue, rig.frames(5)).is_empty());
    rig.device.script().gone = true;
    let start = rig.bench.now_ns();
    assert_eq!(queue.wait(start + 1_000_000_000, false), Err(Fault::Gone));
    assert!(rig.bench.now_ns() - start < 500_000_000);
    assert_eq!(queue.reset(|_| panic!("the device may write to all of them")), Err(Fault::Gone.into()));
    assert_eq!(queue.receive_held(), 40);
    assert_eq!(rig.controller.statistics(), Err(Fault::Gone.into()));
    assert_eq!(rig.controller.link(), Err(Fault::Gone.into()));
    queue.close(|_| panic!("the device may write to all of them"));
}

#[test]
fn a_wait_sleeps_until_the_interrupt_and_polling_enables_none() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    rig.give(&mut queue, 40);
    let device = rig.device.clone();
    // A polled queue does not enable its messages.
    device.raise(1);
    assert_eq!(rig.bench.messages(1), 0);
    let waker = thread::spawn(move || {
        thread::sleep(Duration::from_millis(3));
        device.deliver(0, &frame(1, 60), 0, WHOLE);
        device.raise(1);
    });
    assert_eq!(queue.wait(rig.bench.now_ns() + 60_000_000_000, false), Ok(true));
    waker.join().expect("the device thread delivers");
    assert_eq!(poll(&mut queue, 8).expect("no fault").len(), 1);
    rig.device.raise(1);
    assert!(rig.bench.messages(1) <= 1, "polling enables no interrupt");
    assert_eq!(queue.wait(rig.bench.now_ns() + 1_000_000, false), Ok(false));
}

#[test]
fn a_frame_whose_interrupt_is_lost_is_found() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    rig.give(&mut queue, 40);
    let device = rig.device.clone();
    let silent = thread::spawn(move || {
        thread::sleep(Duration::from_millis(3));
        device.deliver(0, &frame(1, 60), 0, WHOLE);
    });
    let start = rig.bench.now_ns();
    assert_eq!(queue.wait(start + 60_000_000_000, false), Ok(true));
    assert!(rig.bench.now_ns() - start < 30_000_000_000, "the wait has slept until its deadline");
    silent.join().expect("the device thread delivers");
}

#[test]
fn a_wait_turns_sent_packets_into_room_or_receive_packets() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    assert!(rig.send(&mut queue, rig.frames(20)).is_empty());
    let fetched = rig.device.fetch(0);
    rig.device.report(0, &fetched);
    assert_eq!(queue.wait(rig.bench.now_ns() + 1_000_000_000, true), Ok(true));
    assert_eq!(queue.wait(rig.bench.now_ns() + 1_000_000, false), Ok(false));
    assert_eq!(rig.device.buffers(0), 20, "sent packets are received into");
}

#[test]
fn a_wait_collects_the_sent_packets_that_fit_and_loses_none() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    rig.give(&mut queue, 50);
    assert!(rig.send(&mut queue, rig.frames(20)).is_empty());
    let fetched = rig.device.fetch(0);
    rig.device.report(0, &fetched);
    assert_eq!(queue.wait(rig.bench.now_ns() + 1_000_000, false), Ok(false));
    assert_eq!((queue.receive_held(), rig.device.buffers(0)), (63, 63));
    let mut tags: Vec<u32> = rig.send(&mut queue, vec![]).iter().map(|(packet, _)| tag(packet)).collect();
    assert_eq!(tags, (13..20).collect::<Vec<_>>());
    queue.close(|packet| tags.push(tag(&packet)));
    assert_eq!(tags.len(), 70);

    // A packet with too little room behind its frame's start cannot be received into.
    let mut queue = rig.queue(64);
    let late = set_shift(fill(spare(&rig.memory, 7), &frame(1, 60)), 3000);
    let packets =
        vec![fill(spare(&rig.memory, 6), &frame(1, 60)), late, fill(spare(&rig.memory, 8), &frame(1, 60))];
    assert!(rig.send(&mut queue, packets).is_empty());
    let fetched = rig.device.fetch(0);
    rig.device.report(0, &fetched);
    assert_eq!(queue.wait(rig.bench.now_ns() + 1_000_000, false), Ok(false));
    assert_eq!(queue.receive_held(), 1);
    let back: Vec<u32> = rig.send(&mut queue, vec![]).iter().map(|(packet, _)| tag(packet)).collect();
    assert_eq!((back, queue.receive_held()), (vec![7], 2));
}

#[test]
fn a_closed_queue_returns_all_packets_and_can_be_opened_again() {
    let rig = rig(I82599);
    for round in 0..3 {
        let mut queue = rig.queue(64);
        assert_eq!(queue.id(), 0, "round {round}");
        rig.give(&mut queue, 40);
        assert!(rig.send(&mut queue, rig.frames(5)).is_empty());
        let mut tags = Vec::new();
        queue.close(|packet| tags.push(tag(&packet)));
        tags.sort_unstable();
        let all: Vec<u32> = (0..5).chain(1000..1040).collect();
        assert_eq!(tags, all);
        // RXDCTL and TXDCTL.
        assert_eq!(rig.device.register(0x1028) >> 25 & 1, 0);
        assert_eq!(rig.device.register(0x6028) >> 25 & 1, 0);
    }
}

#[test]
fn the_number_of_a_closed_queue_is_free_before_its_packets_return() {
    let rig = rig(I82599);
    let mut queue = rig.queue(64);
    rig.give(&mut queue, 40);
    let mut numbers = Vec::new();
    queue.close(|_| numbers.push(rig.queue(64).id()));
    assert_eq!(numbers, [0; 40]);
}
