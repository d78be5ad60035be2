//! The driver against the model of `devices/ixgbe`, which was written independently.

mod packets;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use coppice_hardware::{Device, DmaMemory};
use device_bus::Model;
use device_harness::Bench;
use ixgbe_driver::{
    Config, Controller, Fault, Groups, HashFields, Offload, Options, Queue, QueueOptions, Received, Transport,
};
use ixgbe_model::{Ixgbe, IxgbeConfig};
use packets::{Packets, bytes, clear, fill, frame, set_continues, set_offload, spare, tag};

const SECOND: u64 = 1_000_000_000;

struct Rig {
    model: Arc<Ixgbe>,
    bench: Bench,
    controller: Controller,
    memory: Device,
}

fn rig(text: &str) -> Rig {
    let config = IxgbeConfig::parse(text).expect("a device");
    let model = Arc::new(Ixgbe::new(config).expect("a valid configuration"));
    let bench = Bench::new(model.clone(), 4096);
    let options = Options { settle_ns: 0, ..Options::default() };
    let controller = Controller::open(bench.device(), options).expect("the device works");
    let memory = bench.device();
    let rig = Rig { model, bench, controller, memory };
    rig.until(|| rig.controller.link().is_ok_and(|link| link.is_up), "the link");
    rig
}

/// Creates a device that receives its own frames.
fn loopback() -> Rig {
    rig("rate=unlimited,peer=loopback")
}

impl Rig {
    fn until(&self, mut done: impl FnMut() -> bool, what: &str) {
        let end = self.bench.now_ns() + 10 * SECOND;
        while !done() {
            assert!(self.bench.now_ns() < end, "timeout: no {what}");
            thread::sleep(Duration::from_micros(50));
        }
    }

    fn queue(&self, depth: u32) -> Queue<Packets> {
        let options = QueueOptions { send_depth: depth, receive_depth: depth, packet_bytes: 2048 };
        self.controller.open_queue(options).expect("a queue")
    }

    /// Opens a queue with `count` packets to receive into.
    fn receiver(&self, depth: u32, count: u32) -> Queue<Packets> {
        let mut queue = self.queue(depth);
        for number in 0..count {
            assert!(queue.give(spare(&self.memory, 10_000 + number)).is_ok());
        }
        assert_eq!(queue.poll(0, |_, _| {}), Ok(0));
        queue
    }

    fn configure(&self, change: impl FnOnce(&mut Config)) {
        let mut config = self.controller.config();
        change(&mut config);
        assert_eq!(self.controller.configure(&config), Ok(()));
    }

    fn mac(&self) -> [u8; 6] {
        self.controller.info().mac
    }

    /// Returns a frame addressed to the device itself.
    fn to_self(&self, seed: u64, len: usize) -> Vec<u8> {
        let mut frame = frame(seed, len);
        frame[..6].copy_from_slice(&self.mac());
        frame
    }

    fn send(&self, queue: &mut Queue<Packets>, frames: impl IntoIterator<Item = DmaMemory>) {
        let mut frames = frames.into_iter().peekable();
        self.until(
            || {
                let sent = queue.send(|| frames.next(), |_, why| assert_eq!(why, None));
                assert!(sent.is_ok(), "{sent:?}");
                frames.peek().is_none()
            },
            "room",
        );
    }

    fn receive(&self, queue: &mut Queue<Packets>, count: usize) -> Vec<(DmaMemory, Received)> {
        let mut all = Vec::new();
        let end = self.bench.now_ns() + 10 * SECOND;
        while all.len() < count {
            queue.poll(count - all.len(), |packet, received| all.push((packet, received))).expect("no fault");
            if all.len() < count {
                assert!(queue.wait(end, false).expect("no fault"), "{} of {count} buffers", all.len());
            }
        }
        all
    }
}

fn contents(packet: &DmaMemory, received: &Received) -> Vec<u8> {
    bytes(packet, received.len() as usize)
}

#[test]
fn both_chips_come_up_with_their_address_and_a_link() {
    for (text, model) in [("id=82599", "Intel 82599"), ("id=x540", "Intel X540")] {
        let rig = rig(&format!("{text},peer=loopback,mac=02:aa:bb:cc:dd:ee"));
        assert_eq!(rig.controller.info().model, model);
        assert_eq!(rig.mac(), [2, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE]);
        let link = rig.controller.link().expect("the device is present");
        assert_eq!((link.is_up, link.megabits), (true, 10_000));
    }
}

#[test]
fn frames_of_each_length_are_received_as_sent() {
    let rig = loopback();
    let mut queue = rig.receiver(256, 250);
    let lens = [14, 16, 17, 59, 60, 61, 64, 127, 128, 1000, 1513, 1514];
    let frames: Vec<Vec<u8>> = lens.iter().map(|&len| rig.to_self(len as u64, len)).collect();
    rig.send(&mut queue, frames.iter().map(|bytes| fill(spare(&rig.memory, 0), bytes)));
    for ((packet, received), sent) in rig.receive(&mut queue, lens.len()).iter().zip(&frames) {
        // The MAC pads short frames.
        let len = sent.len().max(60);
        assert_eq!((received.len() as usize, received.continues()), (len, false));
        assert_eq!(contents(packet, received)[..sent.len()], sent[..]);
        assert!(contents(packet, received)[sent.len()..].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn a_hundred_thousand_frames_arrive_in_order_and_no_packet_is_lost() {
    let rig = loopback();
    let mut queue = rig.receiver(256, 200);
    let mut spares: Vec<DmaMemory> = (0..200).map(|number| spare(&rig.memory, number)).collect();
    let (mut next, mut seen) = (0_u32, 0_u32);
    let pattern = rig.to_self(1, 60);
    const ALL: u32 = 100_000;
    while seen < ALL {
        let mut batch = Vec::new();
        // At most as many as the device has packets to receive into.
        while batch.len() < 32 && next < ALL && next - seen < 150 {
            let Some(packet) = spares.pop() else { break };
            let mut bytes = pattern.clone();
            bytes[20..24].copy_from_slice(&next.to_be_bytes());
            batch.push(fill(packet, &bytes));
            next += 1;
        }
        let mut batch = batch.into_iter();
        let taken = queue.send(
            || batch.next(),
            |packet, why| {
                assert_eq!(why, None);
                spares.push(clear(packet));
            },
        );
        taken.expect("no fault");
        assert_eq!(batch.len(), 0, "fewer frames in flight than descriptors");
        let mut back = Vec::new();
        queue
            .poll(64, |packet, received| {
                assert_eq!(received.len(), 60);
                let number = bytes(&packet, 24)[20..].try_into().map(u32::from_be_bytes).ok();
                assert_eq!(number, Some(seen));
                seen += 1;
                back.push(clear(packet));
            })
            .expect("no fault");
        for packet in back {
            if let Err(packet) = queue.give(packet) {
                spares.push(packet);
            }
        }
        if next - seen >= 150 {
            queue.wait(rig.bench.now_ns() + SECOND, false).expect("no fault");
        }
    }
    let mut tags: Vec<u32> = spares.iter().map(tag).collect();
    queue.close(|packet| tags.push(tag(&packet)));
    tags.sort_unstable();
    let all: Vec<u32> = (0..200).chain(10_000..10_200).collect();
    assert_eq!(tags, all);
    let statistics = rig.controller.statistics().expect("the device is present");
    assert_eq!((statistics.sent, statistics.received, statistics.missed), (ALL.into(), ALL.into(), 0));
    assert_eq!(statistics.sent_bytes, 60 * u64::from(ALL));
    assert_eq!(statistics.received_bytes, 60 * u64::from(ALL));
}

/// Returns a frame with IPv4 and TCP or UDP, without checksums, with `payload` bytes; and the offload that
/// completes it.
fn datagram(mac: [u8; 6], transport: Transport, ports: (u16, u16), payload: usize) -> (Vec<u8>, Offload) {
    let header = if transport == Transport::Tcp { 20 } else { 8 };
    let total = 20 + header + payload;
    let mut bytes = frame(7, 14 + total);
    bytes[..6].copy_from_slice(&mac);
    bytes[12..14].copy_from_slice(&[8, 0]);
    let protocol = if transport == Transport::Tcp { 6 } else { 17 };
    let ip = &mut bytes[14..34];
    ip.copy_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    ip[2..4].copy_from_slice(&(total as u16).to_be_bytes());
    let segment = &mut bytes[34..];
    segment[..2].copy_from_slice(&ports.0.to_be_bytes());
    segment[2..4].copy_from_slice(&ports.1.to_be_bytes());
    let field = if transport == Transport::Tcp {
        segment[12] = 5 << 4;
        16
    } else {
        segment[4..6].copy_from_slice(&((8 + payload) as u16).to_be_bytes());
        6
    };
    let pseudo = [10, 0, 0, 1, 10, 0, 0, 2, 0, protocol];
    let sum = fold(sum(&pseudo) + (header + payload) as u32);
    bytes[34 + field..][..2].copy_from_slice(&sum.to_be_bytes());
    (bytes, Offload { ip: true, transport: Some(transport), link_bytes: 14, network_bytes: 20 })
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|two| u32::from(two[0]) << 8 | two.get(1).map_or(0, |&low| u32::from(low))).sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}

#[test]
fn checksums_are_inserted_and_checked() {
    let rig = loopback();
    let mut queue = rig.receiver(256, 200);
    for transport in [Transport::Udp, Transport::Tcp, Transport::Udp] {
        for payload in [0, 1, 18, 333, 1400] {
            let (bytes, offload) = datagram(rig.mac(), transport, (7, 9), payload);
            rig.send(&mut queue, [set_offload(fill(spare(&rig.memory, 0), &bytes), offload)]);
            let (packet, received) = &rig.receive(&mut queue, 1)[0];
            let found = contents(packet, received);
            let what = format!("{transport:?}, {payload} bytes");
            assert_eq!(fold(sum(&found[14..34])), 0xFFFF, "{what}: IPv4");
            let segment = &found[34..bytes.len()];
            let protocol = found[23];
            let pseudo = [10, 0, 0, 1, 10, 0, 0, 2, 0, protocol];
            assert_eq!(fold(sum(&pseudo) + segment.len() as u32 + sum(segment)), 0xFFFF, "{what}");
            assert_eq!(received.ip_checksum(), Some(true), "{what}");
            assert_eq!(received.transport_checksum(), Some(true), "{what}");
        }
    }
    // A wrong checksum that is sent unchanged is reported as wrong.
    let (bytes, offload) = datagram(rig.mac(), Transport::Tcp, (7, 9), 100);
    let only_ip = Offload { transport: None, ..offload };
    rig.send(&mut queue, [set_offload(fill(spare(&rig.memory, 0), &bytes), only_ip)]);
    let (_, received) = rig.receive(&mut queue, 1)[0];
    assert_eq!((received.ip_checksum(), received.transport_checksum()), (Some(true), Some(false)));
    rig.send(&mut queue, [fill(spare(&rig.memory, 0), &bytes)]);
    let (_, received) = rig.receive(&mut queue, 1)[0];
    assert_eq!(received.ip_checksum(), Some(false));
    let statistics = rig.controller.statistics().expect("the device is present");
    assert_eq!(statistics.bad_checksums, 2);
}

#[test]
fn flows_are_distributed_over_queues_and_each_stays_in_one() {
    let rig = loopback();
    rig.configure(|config| {
        config.hash_key = std::array::from_fn(|at| if at % 2 == 0 { 0x6D } else { 0x5A });
        config.hash_fields = HashFields { ipv4: true, udp4: true, ..HashFields::default() };
    });
    let mut queues: Vec<_> = (0..4).map(|_| rig.receiver(256, 200)).collect();
    let mut homes: BTreeMap<u16, usize> = BTreeMap::new();
    for round in 0..2 {
        for port in 0..64_u16 {
            // The opposite direction has the same hash under this key.
            let ports = if round == 0 { (port, 80) } else { (80, port) };
            let (bytes, _) = datagram(rig.mac(), Transport::Udp, ports, 30);
            rig.send(&mut queues[0], [fill(spare(&rig.memory, 0), &bytes)]);
            let mut home = None;
            rig.until(
                || {
                    for (index, queue) in queues.iter_mut().enumerate() {
                        let taken = queue.poll(8, |_, received| assert!(received.hash().is_some()));
                        if taken.expect("no fault") > 0 {
                            home = Some(index);
                        }
                    }
                    home.is_some()
                },
                "the frame",
            );
            let home = home.expect("the frame arrived");
            assert_eq!(*homes.entry(port).or_insert(home), home, "port {port}, round {round}");
        }
    }
    for queue in 0..4 {
        let flows = homes.values().filter(|&&home| home == queue).count();
        assert!(flows >= 4, "queue {queue} has {flows} of 64 flows: {homes:?}");
    }
}

#[test]
fn jumbo_frames_are_sent_and_received_in_several_packets() {
    let rig = loopback();
    let mut queue = rig.receiver(256, 200);
    rig.configure(|config| config.frame_bytes = 9014);
    for len in [1515, 2047, 2048, 2049, 4096, 4097, 9013, 9014] {
        let bytes = rig.to_self(len as u64, len);
        let parts: Vec<DmaMemory> = bytes
            .chunks(1500)
            .enumerate()
            .map(|(index, part)| {
                let last = (index + 1) * 1500 >= len;
                set_continues(fill(spare(&rig.memory, 0), part), !last)
            })
            .collect();
        rig.send(&mut queue, parts);
        let count = len.div_ceil(2048);
        let got = rig.receive(&mut queue, count);
        let whole: Vec<u8> = got.iter().flat_map(|(packet, received)| contents(packet, received)).collect();
        assert_eq!(whole, bytes, "{len} bytes");
        for (index, (_, received)) in got.iter().enumerate() {
            assert_eq!(received.continues(), index + 1 < count, "{len} bytes, part {index}");
        }
    }
}

#[test]
fn address_filters_pass_the_configured_frames_only() {
    let rig = loopback();
    let mut queue = rig.receiver(256, 200);
    let to = |mac: [u8; 6]| {
        let mut bytes = frame(3, 60);
        bytes[..6].copy_from_slice(&mac);
        bytes
    };
    let (other, group, group2) = ([2, 9, 9, 9, 9, 9], [1, 0, 0x5E, 1, 2, 3], [1, 0, 0x5E, 7, 7, 7]);
    // A frame to the device itself follows each frame. When it arrives, the other has arrived or was
    // filtered.
    let mut heard = |mac: [u8; 6]| {
        let own = rig.controller.config().mac.unwrap_or(rig.mac());
        let frames = [to(mac), to(own)];
        rig.send(&mut queue, frames.iter().map(|bytes| fill(spare(&rig.memory, 0), bytes)));
        let mut seen = Vec::new();
        while seen.last() != Some(&own.to_vec()) {
            let (packet, _) = &rig.receive(&mut queue, 1)[0];
            seen.push(bytes(packet, 6));
        }
        seen.len() == 2
    };
    let broadcast = [0xFF; 6];
    assert_eq!([heard(broadcast), heard(other), heard(group)], [true, false, false]);
    rig.configure(|config| config.groups = Groups::new([group]).expect("a group"));
    assert_eq!([heard(group), heard(group2), heard(other)], [true, false, false]);
    rig.configure(|config| config.all_multicast = true);
    assert_eq!([heard(group2), heard(other)], [true, false]);
    rig.configure(|config| config.promiscuous = true);
    assert!(heard(other));
    rig.configure(|config| {
        config.promiscuous = false;
        config.mac = Some([2, 7, 7, 7, 7, 7]);
    });
    assert!(!heard(rig.mac()), "the device has another address now");
}

#[test]
fn frames_without_a_receive_packet_are_counted_as_missed() {
    let rig = loopback();
    let mut queue = rig.receiver(64, 10);
    // With a second queue open, this one may not block frames.
    let other = rig.queue(64);
    let frames = (0..40).map(|number| fill(spare(&rig.memory, number), &rig.to_self(1, 60)));
    rig.send(&mut queue, frames);
    let statistics = || rig.controller.statistics().expect("the device is present");
    rig.until(|| statistics().missed == 30, "30 missed frames");
    assert_eq!(rig.receive(&mut queue, 10).len(), 10);
    drop(other);
    // With one queue, frames wait: the transmit ring's forty packets are enough for the waiting ones.
    let frames = (0..90).map(|number| fill(spare(&rig.memory, number), &rig.to_self(1, 60)));
    let mut received = Vec::new();
    let mut frames = frames.collect::<Vec<_>>().into_iter();
    rig.until(
        || {
            queue.send(|| frames.next(), |_, why| assert_eq!(why, None)).expect("no fault");
            queue.poll(64, |packet, _| received.push(packet)).expect("no fault");
            received.len() == 90
        },
        "all frames from the packet buffer",
    );
    assert_eq!(statistics().missed, 30);
}

#[test]
fn frames_without_a_receive_packet_wait_for_a_single_queue() {
    let rig = loopback();
    let mut queue = rig.receiver(64, 10);
    let frames = (0..40).map(|number| fill(spare(&rig.memory, number), &rig.to_self(1, 60)));
    rig.send(&mut queue, frames);
    let statistics = || rig.controller.statistics().expect("the device is present");
    rig.until(|| statistics().sent == 40, "all frames sent");
    // The late driver moves its sent packets to the receive ring.
    assert_eq!(rig.receive(&mut queue, 40).len(), 40);
    assert_eq!((statistics().received, statistics().missed), (40, 0));
}

#[test]
fn an_idle_queue_sleeps_and_a_polled_one_gets_no_interrupts() {
    let rig = loopback();
    let mut queue = rig.receiver(256, 200);
    let vector = 1;
    for _ in 0..200 {
        rig.send(&mut queue, [fill(spare(&rig.memory, 0), &rig.to_self(1, 60))]);
        let mut taken = 0;
        rig.until(
            || {
                taken += queue.poll(8, |_, _| {}).expect("no fault");
                taken > 0
            },
            "the frame",
        );
    }
    assert_eq!(rig.bench.messages(vector), 0);
    // Without traffic it sleeps for nearly all of the time, in slices.
    let start = rig.bench.now_ns();
    assert_eq!(queue.wait(start + 50_000_000, false), Ok(false));
    let asleep = rig.bench.messages(vector);
    assert!(asleep <= 1, "{asleep} messages for nothing");
    let rested = queue.wait(rig.bench.now_ns() + 1_000_000, false);
    assert_eq!(rested, Ok(false));
    // A frame that arrives during the sleep wakes the queue, sooner than the end of a slice.
    let mut sender = rig.queue(64);
    let packet = fill(spare(&rig.memory, 0), &rig.to_self(1, 60));
    let woken = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(3));
            rig.send(&mut sender, [packet]);
        });
        queue.wait(rig.bench.now_ns() + 5 * SECOND, false)
    });
    assert_eq!(woken, Ok(true));
    assert!(rig.bench.messages(vector) > asleep, "an interrupt has woken it");
}

/// EICR, EICS, EIMS and EIMC of the 82599.
const EICR: usize = 0x800;
const EICS: usize = 0x808;
const EIMS: usize = 0x880;
const EIMC: usize = 0x888;

#[test]
fn a_queue_checks_for_work_after_its_posted_writes_have_arrived() {
    let rig = loopback();
    let mut queue = rig.receiver(64, 20);
    let accesses = Arc::new(Mutex::new(Vec::new()));
    let record = accesses.clone();
    rig.bench.intercept(move |access| {
        record.lock().expect("no test thread panics").push((access.offset, access.is_write));
        Some(access.value)
    });
    assert_eq!(queue.wait(rig.bench.now_ns() + 1_000_000, false), Ok(false));
    rig.bench.stop_intercepting();
    let accesses = accesses.lock().expect("no test thread panics");
    let unmasks: Vec<_> = accesses.windows(2).filter(|pair| pair[0] == (EIMS, true)).collect();
    assert!(!unmasks.is_empty(), "{accesses:x?}");
    assert!(unmasks.iter().all(|pair| !pair[1].1), "a read pushes the writes: {accesses:x?}");
}

#[test]
fn reading_the_link_state_leaves_the_causes_of_queues() {
    let rig = loopback();
    let vector = 1;
    rig.model.write(0, EIMC as u64, 4, 1 << vector);
    rig.model.write(0, EICS as u64, 4, 1 << vector);
    rig.controller.link().expect("the device is present");
    assert_ne!(rig.model.read(0, EICR as u64, 4) & 1 << vector, 0, "the cause");
    rig.model.write(0, EIMS as u64, 4, 1 << vector);
    rig.until(|| rig.bench.messages(vector) > 0, "the message");
}

#[test]
fn a_reset_with_frames_in_flight_loses_frames_but_no_packet() {
    let rig = loopback();
    let mut queue = rig.receiver(256, 200);
    let mut spares: Vec<DmaMemory> = (0..200).map(|number| spare(&rig.memory, number)).collect();
    for round in 0..50 {
        let count = spares.len().min(40);
        let batch: Vec<DmaMemory> =
            spares.drain(..count).map(|packet| fill(clear(packet), &rig.to_self(round, 60))).collect();
        let mut batch = batch.into_iter();
        queue.send(|| batch.next(), |packet, _| spares.push(packet)).expect("no fault");
        spares.extend(batch);
        if round % 3 == 0 {
            queue.poll(64, |packet, _| spares.push(packet)).expect("no fault");
        }
        assert_eq!(queue.reset(|packet| spares.push(packet)), Ok(()), "round {round}");
        assert_eq!(rig.controller.resets(), round as u32 + 1);
    }
    rig.until(|| rig.controller.link().is_ok_and(|link| link.is_up), "the link");
    rig.send(&mut queue, [fill(clear(spares.pop().expect("some packets are left")), &rig.to_self(99, 60))]);
    let (packet, received) = rig.receive(&mut queue, 1).remove(0);
    assert_eq!(contents(&packet, &received), rig.to_self(99, 60));
    let mut tags: Vec<u32> = spares.iter().chain([&packet]).map(tag).collect();
    queue.close(|packet| tags.push(tag(&packet)));
    tags.sort_unstable();
    let all: Vec<u32> = (0..200).chain(10_000..10_200).collect();
    assert_eq!(tags, all);
}

#[test]
fn several_queues_continue_through_repeated_resets() {
    let rig = loopback();
    let is_over = &AtomicBool::new(false);
    let working = thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let mut queue = rig.receiver(128, 100);
                let rig = &rig;
                scope.spawn(move || {
                    let (mut resets, mut rounds) = (0, 0);
                    let end = rig.bench.now_ns() + 60 * SECOND;
                    let mut spares: Vec<DmaMemory> = (0..32).map(|tag| spare(&rig.memory, tag)).collect();
                    let is_enough =
                        |resets, rounds| is_over.load(Ordering::Relaxed) && resets > 0 && rounds > resets;
                    while !is_enough(resets, rounds) && rig.bench.now_ns() < end {
                        let next = || spares.pop().map(|packet| fill(clear(packet), &rig.to_self(1, 60)));
                        let mut back = Vec::new();
                        let mut outcome = queue.send(next, |packet, _| back.push(packet)).map(|_| ());
                        if outcome.is_ok() {
                            outcome = queue.poll(64, |packet, _| back.push(packet)).map(|_| ());
                        }
                        if let Err(fault) = outcome {
                            assert_eq!(fault, Fault::WasReset);
                            resets += 1;
                            assert_eq!(queue.reset(|packet| back.push(packet)), Ok(()));
                        }
                        for packet in back {
                            if let Err(packet) = queue.give(clear(packet)) {
                                spares.push(packet);
                            }
                        }
                        rounds += 1;
                    }
                    let mut packets = spares.len();
                    queue.close(|_| packets += 1);
                    assert_eq!(packets, 132);
                    (resets, rounds)
                })
            })
            .collect();
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(15));
            assert_eq!(rig.controller.reset(rig.controller.resets()), Ok(()));
        }
        is_over.store(true, Ordering::Relaxed);
        workers
            .into_iter()
            .map(|worker| worker.join().expect("the worker does not panic"))
            .collect::<Vec<_>>()
    });
    for (resets, rounds) in working {
        assert!(resets > 0 && rounds > resets, "{resets} resets in {rounds} rounds");
    }
}

#[test]
fn the_stop_order_stops_a_busy_device() {
    let rig = loopback();
    let mut queue = rig.receiver(256, 200);
    let frames = (0..100).map(|number| fill(spare(&rig.memory, number), &rig.to_self(1, 1514)));
    rig.send(&mut queue, frames);
    assert!(rig.bench.quiesce());
    // From here on a kernel would reuse the memory.
    let memory = rig.memory.dma(4096).expect("memory");
    let range = coppice_hardware::DmaBuffer::dma_range(&memory, memory.dma_space());
    drop(memory);
    rig.bench.forbid(range);
    thread::sleep(Duration::from_millis(5));
    assert!(rig.bench.forbidden_accesses().is_empty());
    // The next driver instance finds a usable device.
    drop(queue);
    let options = Options { settle_ns: 0, ..Options::default() };
    let next = Controller::open(rig.bench.device(), options).map(|controller| *controller.info());
    assert_eq!(next.map(|info| info.mac), Ok(rig.mac()));
}
