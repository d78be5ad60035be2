//! Network devices, and what becomes of packets when a driver, a shadow or a client dies.
//!
//! The devices are null-nets: each spare packet that one does not hold is a received frame at once, with the bytes that were in it.
//! So what was sent comes back, and a frame that was changed on the way is seen.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use coppice_interfaces::Handle;
use coppice_net::{
    Batch, Busy, ChecksumOffload, FIRST_EPOCH, Frame, Frames, MacAddr, NetConfig, NetDevice, NetError,
    NetQueue, Packet, QueueDepth, QueueState, Refusal,
};
use coppice_net_client::{NetClient, NetClientError, PacketPool};
use coppice_rref::{Lent, RRef};
use coppice_runtime::thread::Builder;
use coppice_runtime::time;

use crate::shadows::while_it_crashes;
use crate::stage::{Failure, Outcome, SHORT_PATIENCE, SOON, Stage, ensure, ensure_eq, promise};

/// Bytes of a packet.
const PACKET: usize = 2048;
/// Bytes of a frame of these devices.
const FRAME: usize = 60;

/// Opens a port with `packets` packets, if need be when a queue that was dropped a moment ago has been closed: that takes a
/// thread of the kernel's.
fn port(net: &Handle<dyn NetDevice>, packets: usize) -> Outcome<NetClient> {
    port_of(net, packets, PACKET, QueueDepth::default())
}

fn port_of(
    net: &Handle<dyn NetDevice>,
    packets: usize,
    bytes: usize,
    depth: QueueDepth,
) -> Outcome<NetClient> {
    let deadline = time::now() + SOON;
    loop {
        match NetClient::open(net.clone(), depth, PacketPool::new(packets, bytes)?) {
            // Or somebody is just being ended.
            Err(NetClientError::Net(NetError::NoQueue { .. }) | NetClientError::Rpc(_))
                if time::now() < deadline =>
            {
                time::sleep(Duration::from_micros(100));
            }
            other => return Ok(other?),
        }
    }
}

/// Closes a port; all its packets have to come back, each as itself.
fn close(port: NetClient) -> Outcome {
    let pool = port
        .close(time::now() + SOON)
        .map_err(|missing| Failure(format!("{} packets do not come back", missing.packets)))?;
    let audit = pool.audit();
    ensure_eq!((audit.home, audit.back, audit.away, audit.renamed), (audit.made, 0, 0, 0), "packets");
    Ok(())
}

/// Whether every packet of a port is known to be somewhere.
fn accounted(port: &mut NetClient) -> Outcome {
    let accounts = port.accounts();
    ensure_eq!(accounts.missing, 0, format!("{accounts:?}"));
    Ok(())
}

/// Whether every frame of a port is in one of its counts.
fn counted(port: &mut NetClient) -> Outcome {
    let (unsent, held) = (port.unsent() as u64, port.received().len() as u64);
    let counters = port.counters();
    let to_send = counters.written + counters.turned_around;
    ensure_eq!(counters.taken + counters.lost + unsent, to_send, format!("frames to send of {counters:?}"));
    let ended = counters.turned_around + counters.overflowed + counters.recycled;
    ensure_eq!(ended + held, counters.received, format!("received frames of {counters:?}"));
    Ok(())
}

/// Waits until all that a crash took is back.
fn recovered(stage: &Stage, port: &mut NetClient) -> Outcome {
    stage.eventually("all packets are back", || Ok(port.accounts().awaited == 0))?;
    accounted(port)
}

/// A frame with a number: each byte of it depends on that.
fn write(room: &mut [u8], number: u64) -> usize {
    let frame = &mut room[..FRAME];
    frame[..8].copy_from_slice(&number.to_le_bytes());
    for (index, byte) in frame[8..].iter_mut().enumerate() {
        *byte = mixed(number, index);
    }
    FRAME
}

/// The number of a frame that [`write`] wrote; `None` for one of a packet that was never written to.
fn read(frame: &[u8]) -> Outcome<Option<u64>> {
    ensure_eq!(frame.len(), FRAME, "bytes of a frame");
    if frame.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    let number = frame.first_chunk().copied().map(u64::from_le_bytes).unwrap_or_default();
    let is_whole = frame[8..].iter().enumerate().all(|(index, &byte)| byte == mixed(number, index));
    ensure!(is_whole, "frame {number} is not as it was sent: {frame:x?}");
    Ok(Some(number))
}

fn mixed(number: u64, index: usize) -> u8 {
    ((number + index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// The numbers of what was received last.
fn numbers(port: &mut NetClient) -> Outcome<Vec<Option<u64>>> {
    let received = port.received();
    (0..received.len()).filter_map(|index| received.frame_at(index)).map(read).collect()
}

/// A packet with a frame of `len` bytes, from a port's pool.
fn frame_of(port: &mut NetClient, len: usize) -> Outcome<Lent<Packet>> {
    let mut packet = port.pool().take().ok_or_else(|| Failure("the pool is empty".into()))?;
    packet.set_frame(len);
    Ok(packet)
}

fn push(batch: &mut RRef<Batch>, packet: Lent<Packet>) -> Outcome {
    ensure!(batch.push_back(packet).is_ok(), "the batch is full");
    Ok(())
}

pub(crate) fn packets_go_round_and_all_come_back(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(2, |_| {
        for (net, most) in [(&stage.lake, 32), (&stage.plain_nic, 200), (&stage.nic, 1), (&stage.nic, 256)] {
            let mut port = port(net, 512)?;
            let before = net.statistics()??;
            let (mut sent, mut received) = (0, 0);
            for _ in 0..stage.rounds(200, 30) {
                let turn = port.send(0, most, |room| {
                    sent += 1;
                    write(room, sent)
                })?;
                ensure_eq!(turn.state, QueueState::Running, "a device without a device");
                received += turn.received as u64;
                numbers(&mut port)?;
                accounted(&mut port)?;
            }
            let after = net.statistics()??;
            ensure_eq!(after.sent - before.sent, sent, "frames sent");
            ensure_eq!(after.sent_bytes - before.sent_bytes, sent * FRAME as u64, "bytes sent");
            ensure_eq!(after.received - before.received, received, "frames received");
            ensure_eq!(after.refused, before.refused, "frames refused");
            // And what goes round keeps its bytes.
            let mut is_seen = false;
            for _ in 0..stage.rounds(200, 30) {
                port.forward(0, |_| {})?;
                let frames = numbers(&mut port)?;
                ensure!(!frames.is_empty(), "in batches of {most} nothing comes back");
                is_seen |= frames.iter().any(Option::is_some);
                accounted(&mut port)?;
            }
            ensure!(is_seen, "in batches of {most} frames lose their bytes");
            close(port)?;
        }
        Ok(())
    })
}

pub(crate) fn a_network_device_refuses_what_it_cannot_do(stage: &Arc<Stage>) -> Outcome {
    for net in [&stage.lake, &stage.nic] {
        let info = net.info()?;
        let default = QueueDepth::default();
        for depth in [0, info.max_send_depth + 1] {
            let error = Some(NetError::Depth { depth, most: info.max_send_depth });
            let send = QueueDepth { send: depth, ..default };
            ensure_eq!(net.open(send)?.err(), error, "a queue of impossible depth");
            let receive = QueueDepth { receive: depth, ..default };
            ensure_eq!(net.open(receive)?.err(), error, "a queue of impossible depth");
        }
        let good = NetConfig { mtu: 4000, promiscuous: true, ..NetConfig::default() };
        ensure_eq!(net.configure(good)?, Ok(()), "a good setting");
        let mac = MacAddr::BROADCAST;
        let bad = NetConfig { mac: Some(mac), mtu: 1000, ..good };
        ensure_eq!(net.configure(bad)?, Err(NetError::Address { mac }), "a setting for nobody");
        let most = info.longest_frame - 14;
        let long = NetConfig { mtu: most + 1, ..good };
        let error = NetError::Mtu { mtu: most + 1, least: 68, most };
        ensure_eq!(net.configure(long)?, Err(error), "frames that are too long");
        // All of it or nothing.
        ensure_eq!(net.config()?, good, "the setting after a bad one");
        ensure_eq!(net.configure(NetConfig::default())?, Ok(()), "the setting of before");
        ensure!(net.link()??.is_up, "a null device has no link");
    }
    let queues: Vec<_> = (0..2).map(|_| port(&stage.lake, 1)).collect::<Outcome<_>>()?;
    let refused = stage.lake.open(QueueDepth::default())?.err();
    ensure_eq!(refused, Some(NetError::NoQueue { queues: 2 }), "a third queue of two");
    queues.into_iter().map(close).fold(Ok(()), Result::and)
}

pub(crate) fn a_frame_that_cannot_be_sent_comes_back_with_the_reason(stage: &Arc<Stage>) -> Outcome {
    for net in [&stage.lake, &stage.nic, &stage.slow_nic] {
        let before = net.statistics()??;
        let mut port = port(net, 16)?;
        let mut batch = RRef::new(Batch::new());
        let mut continued = frame_of(&mut port, 100)?;
        continued.head_mut().set_continues(true);
        let mut filled = frame_of(&mut port, 100)?;
        filled.head_mut().set_offload(ChecksumOffload {
            ip_checksum: true,
            link_bytes: 14,
            ..ChecksumOffload::default()
        });
        let mut outside = frame_of(&mut port, 100)?;
        // Nothing but the head says so.
        outside.head_mut().set_start(PACKET as u32 - 50);
        let bad = [
            (frame_of(&mut port, 13)?, Refusal::TooShort),
            (frame_of(&mut port, 1515)?, Refusal::TooLong),
            (continued, Refusal::Incomplete),
            (filled, Refusal::Offload),
            (outside, Refusal::TooLong),
        ];
        let mut expected = Vec::new();
        for (packet, why) in bad {
            expected.push((packet.tag(), why));
            push(&mut batch, packet)?;
            // Good ones in between.
            push(&mut batch, frame_of(&mut port, 14)?)?;
        }
        push(&mut batch, frame_of(&mut port, 1514)?)?;
        *port.outgoing() = batch;
        let turn = port.exchange(0)?;
        let outgoing = port.outgoing();
        let refused: Vec<_> = (0..turn.returned)
            .filter_map(|index| outgoing.get(index))
            .filter_map(|packet| Some((packet.tag(), packet.refusal()?)))
            .collect();
        ensure_eq!(refused, expected, "what is refused");
        let after = net.statistics()??;
        ensure_eq!((after.refused - before.refused, after.sent - before.sent), (5, 6), "refused and sent");
        close(port)?;
    }
    Ok(())
}

pub(crate) fn a_full_ring_hands_the_rest_back_in_order(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(2, |_| {
        let mut port = port_of(
            &stage.slow_nic,
            64,
            PACKET,
            QueueDepth { send: 8, receive: 8, ..QueueDepth::default() },
        )?;
        let mut number = 0;
        let mut seen = Vec::new();
        port.send(0, 20, |room| {
            number += 1;
            write(room, number)
        })?;
        let mut left = 12;
        let deadline = time::now() + SOON;
        while seen.len() < 20 {
            let outgoing = port.outgoing();
            let frames: Vec<_> = (0..outgoing.len())
                .filter_map(|index| outgoing.frame_at(index))
                .take_while(|frame| !frame.is_empty())
                .map(read)
                .collect::<Outcome<_>>()?;
            ensure!(!seen.is_empty() || !frames.is_empty(), "a ring of 8 takes 20 frames");
            let expected: Vec<_> = (0..frames.len() as u64).map(|back| Some(20 - back)).rev().collect();
            ensure_eq!(frames, expected, "what was not taken");
            ensure!(frames.len() <= left, "{} frames are left after {left}", frames.len());
            left = frames.len();
            seen.extend(numbers(&mut port)?.into_iter().flatten());
            // A spare packet is received again, and as what it was.
            let received = port.received();
            for index in 0..received.len() {
                received.frame_at_mut(index).unwrap_or_default().fill(0);
            }
            ensure!(time::now() < deadline, "only {seen:?} came back in time");
            let wait = time::now() + Duration::from_millis(1);
            port.exchange(wait.as_nanos() as u64)?;
        }
        ensure_eq!(seen[..20], (1..=20).collect::<Vec<u64>>()[..], "what was received");
        accounted(&mut port)?;
        close(port)
    })
}

pub(crate) fn a_queue_of_a_network_device_belongs_to_one_thread(stage: &Arc<Stage>) -> Outcome {
    let batch = || RRef::new(Batch::new());
    for net in [&stage.lake, &stage.nic] {
        let mut opened = None;
        stage.eventually("the queues of before are closed", || {
            opened = net.open(QueueDepth::default())?.ok();
            Ok(opened.is_some())
        })?;
        let queue = opened.ok_or_else(|| Failure("it was there".into()))?;
        ensure!(queue.exchange(batch(), batch(), 0)?.is_ok(), "its thread is refused");
        let theirs = queue.clone();
        let refused = promise(Builder::new(), move || is_refused(&theirs))?;
        ensure!(refused.keep()?, "a second thread is not refused");
        ensure!(queue.exchange(batch(), batch(), 0)?.is_ok(), "its thread is refused afterwards");
    }
    Ok(())
}

/// Whether this thread gets its batches back from somebody else's queue, as they were.
fn is_refused(queue: &Handle<dyn NetQueue>) -> Outcome<bool> {
    let mut pool = PacketPool::new(3, PACKET)?;
    let (mut send, mut receive) = (RRef::new(Batch::new()), RRef::new(Batch::new()));
    pool.fill(&mut send, 1);
    send.write_frame_at(0, |room| write(room, 77));
    pool.fill(&mut receive, 2);
    let Err(Busy { send, receive }) = queue.exchange(send, receive, 0)? else { return Ok(false) };
    ensure_eq!((send.len(), receive.len()), (1, 2), "packets that come back");
    ensure_eq!(read(send.frame_at(0).unwrap_or_default())?, Some(77), "the frame");
    Ok(true)
}

/// A queue of `net`, when the queues of earlier clients are closed.
fn queue_of(stage: &Stage, net: &Handle<dyn NetDevice>) -> Outcome<Handle<dyn NetQueue>> {
    let mut opened = None;
    stage.eventually("the queues of before are closed", || {
        opened = net.open(QueueDepth::default())?.ok();
        Ok(opened.is_some())
    })?;
    opened.ok_or_else(|| Failure("it was there".into()))
}

/// The epoch of a queue, by an exchange of nothing.
fn epoch_of(queue: &Handle<dyn NetQueue>) -> Outcome<u32> {
    let batch = || RRef::new(Batch::new());
    Ok(queue.exchange(batch(), batch(), 0)?.map_err(|busy| Failure(format!("{busy:?}")))?.epoch)
}

pub(crate) fn a_queue_of_a_network_device_begins_with_the_first_epoch(stage: &Arc<Stage>) -> Outcome {
    let shadowed = queue_of(stage, &stage.nic)?;
    for round in 0..3 {
        for net in [&stage.lake, &stage.plain_nic, &stage.relayed_nic, &stage.nic, &stage.slow_nic] {
            let queue = queue_of(stage, net)?;
            for _ in 0..3 {
                ensure_eq!(epoch_of(&queue)?, FIRST_EPOCH, "the epoch of a new queue");
            }
        }
        // The epoch of a queue that stays open counts the restarts of its driver.
        ensure_eq!(epoch_of(&shadowed)?, FIRST_EPOCH + round, "the epoch of an open queue");
        stage.restart("nic")?;
    }
    Ok(())
}

pub(crate) fn a_port_keeps_its_reserve_and_says_when_a_send_is_cut_short(stage: &Arc<Stage>) -> Outcome {
    const PACKETS: usize = 96;
    const RESERVE: usize = 32;
    const FRAMES: usize = 16;
    // One received packet with each exchange, so that what the queue has comes back slowly.
    let depth = QueueDepth { batch: 1, ..QueueDepth::default() };
    let mut port = port_of(&stage.nic, PACKETS, PACKET, depth)?;
    port.reserve(RESERVE);
    for round in 0..20 {
        for _ in 0..PACKETS {
            port.exchange(0)?;
        }
        let accounts = port.accounts();
        ensure!(accounts.home >= RESERVE, "round {round}: the reserve is gone: {accounts:?}");
        ensure!(accounts.queued >= 32, "round {round}: the queue has nothing to receive into: {accounts:?}");
        let mut calls = 0;
        let turn = port.send(0, FRAMES, |room| {
            calls += 1;
            write(room, calls)
        })?;
        ensure_eq!((turn.written, calls), (FRAMES, FRAMES as u64), format!("frames written, round {round}"));
    }
    // More than there are packets.
    let mut calls = 0;
    let turn = port.send(0, PACKETS, |room| {
        calls += 1;
        write(room, calls)
    })?;
    ensure!(
        turn.written < PACKETS,
        "{} frames in {PACKETS} packets, of which the queue has some",
        turn.written
    );
    ensure_eq!(turn.written as u64, calls, "frames written");
    // The writer has no more.
    for _ in 0..PACKETS {
        port.exchange(0)?;
    }
    let mut calls = 0;
    let turn = port.send(0, FRAMES, |room| {
        calls += 1;
        if calls == 3 { 0 } else { write(room, calls) }
    })?;
    ensure_eq!((turn.written, calls), (2, 3), "frames of a writer that ends after two");
    accounted(&mut port)?;
    counted(&mut port)?;
    close(port)
}

pub(crate) fn each_frame_of_a_port_is_counted_where_it_ends(stage: &Arc<Stage>) -> Outcome {
    let net = &stage.slow_nic;
    let before = net.statistics()??;
    // Packets that are shorter than the longest frame: one that does not fit is not cut off and sent.
    let mut port = port_of(net, 600, 1024, QueueDepth { send: 8, ..QueueDepth::default() })?;
    let soon = || (time::now() + Duration::from_millis(5)).as_nanos() as u64;
    for round in 0..stage.rounds(20, 3) {
        // A ring of 8 leaves frames behind, so not all that is received finds room behind these.
        port.send(0, 200, |room| write(room, 1))?;
        counted(&mut port)?;
        while port.counters().overflowed <= u64::from(round) {
            port.forward(soon(), |_| {})?;
            counted(&mut port)?;
        }
        stage.eventually("all frames are taken", || {
            port.exchange(soon())?;
            counted(&mut port)?;
            Ok(port.unsent() == 0)
        })?;
        let refused = port.counters().refused;
        let turn = port.send(soon(), 4, |_| 13)?;
        let taken = 4 - turn.unsent as u64;
        ensure_eq!(port.counters().refused - refused, taken, "refused frames");
        // More than a packet has bytes: refused as a whole, and not sent in part.
        let turn = port.send(soon(), 1, |room| room.len() + 1)?;
        ensure_eq!(turn.written, 1, "frames written");
        accounted(&mut port)?;
        counted(&mut port)?;
    }
    stage.eventually("all frames are taken", || {
        port.exchange(soon())?;
        Ok(port.unsent() == 0)
    })?;
    counted(&mut port)?;
    let (counters, after) = (port.counters(), net.statistics()??);
    let (sent, refused) = (after.sent - before.sent, after.refused - before.refused);
    ensure_eq!(counters.taken, sent + refused, format!("frames taken of {counters:?}"));
    ensure_eq!(counters.refused, refused, format!("frames refused of {counters:?}"));
    let rounds = u64::from(stage.rounds(20, 3));
    ensure_eq!(refused, 5 * rounds, "frames that the device has refused");
    ensure_eq!(counters.received, after.received - before.received, format!("received of {counters:?}"));
    ensure_eq!((counters.lost, counters.reclaimed), (0, 0), "what no crash took");
    close(port)
}

pub(crate) fn a_driver_that_dies_in_the_first_exchange_of_a_port_keeps_no_packet(
    stage: &Arc<Stage>,
) -> Outcome {
    stage.leaks_nothing(3, |_| {
        // Of five instances the last one dies in its first exchange.
        while stage.info("frail-nic")?.id.generation() % 5 != 4 {
            stage.restart("frail-nic")?;
        }
        let crashed = stage.frail_nic.statistics()??.crashed;
        let mut port = port(&stage.frail_nic, 32)?;
        let turn = port.send((time::now() + SOON).as_nanos() as u64, 8, |room| write(room, 4))?;
        ensure!(turn.is_new, "the first exchange meets a crash and does not say so: {turn:?}");
        recovered(stage, &mut port)?;
        let accounts = port.accounts();
        ensure_eq!((accounts.home, accounts.queued), (32, 0), format!("{accounts:?}"));
        counted(&mut port)?;
        let counters = port.counters();
        // Eight of 32 packets are the reserve of such a send, and the crash took the others.
        ensure_eq!((counters.lost, counters.taken, counters.reclaimed), (8, 0, 24), format!("{counters:?}"));
        ensure_eq!(stage.frail_nic.statistics()??.crashed - crashed, 8, "packets that the crash took");
        stage.eventually("the queue works again", || {
            let wait = time::now() + Duration::from_millis(20);
            Ok(port.forward(wait.as_nanos() as u64, |_| {})?.received > 0)
        })?;
        close(port)
    })
}

pub(crate) fn packets_come_back_when_their_driver_dies(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(40, 10), |round| {
        let mut port = port(&stage.nic, 300)?;
        for _ in 0..4 {
            port.send(0, 16, |room| write(room, 1 + u64::from(round)))?;
        }
        let queued = port.accounts().queued;
        ensure!(queued >= 64, "{queued} packets are with a driver that holds 64");
        stage.restart("nic")?;
        let mut is_new = false;
        stage.eventually("the queue works again", || {
            let turn = port.forward((time::now() + SOON).as_nanos() as u64, |_| {})?;
            is_new |= turn.is_new;
            Ok(turn.received > 0)
        })?;
        ensure!(is_new, "nobody says that packets have gone back");
        recovered(stage, &mut port)?;
        numbers(&mut port)?;
        close(port)
    })
}

pub(crate) fn a_device_is_set_up_again_before_it_has_a_frame(stage: &Arc<Stage>) -> Outcome {
    let config = NetConfig { mtu: 9000, mac: Some(MacAddr([2, 9, 9, 9, 9, 9])), ..NetConfig::default() };
    stage.nic.configure(config)??;
    // The driver refuses what is longer than it was set up for, and frames of 9014 bytes are sent all the time.
    let outcome = while_it_crashes(stage, "nic", stage.rounds(150, 25), |stage, _, is_over| {
        let mut port = port_of(&stage.nic, 96, 9216, QueueDepth::default())?;
        let mut exchange = || {
            let wait = time::now() + Duration::from_millis(5);
            let turn = port.send(wait.as_nanos() as u64, 8, |_| 9014)?;
            let outgoing = port.outgoing();
            let refusal = (0..turn.returned).find_map(|index| outgoing.get(index)?.refusal());
            ensure_eq!(refusal, None, "a frame that the device was set up for");
            accounted(&mut port)?;
            Ok(turn)
        };
        while !is_over.load(Ordering::Relaxed) {
            exchange()?;
        }
        // The driver is set up when a call needs it: without one after its last restart, it still has the setting of a new one.
        let deadline = time::now() + SOON;
        while exchange()?.received == 0 {
            ensure!(time::now() < deadline, "the driver does not work after its last restart");
        }
        close(port)
    });
    outcome?;
    ensure_eq!(stage.plain_nic.config()?, config, "the setting of the driver itself");
    // A client that knows nothing of a shadow's death sets the device up again, or it is as it was new.
    stage.restart("shadow-nic")?;
    stage.nic.configure(NetConfig::default())??;
    stage.restart("nic")?;
    ensure!(stage.nic.link()??.is_up, "a null device has no link");
    ensure_eq!(stage.plain_nic.config()?, NetConfig::default(), "the setting of the driver itself");
    Ok(())
}

pub(crate) fn what_is_handed_in_without_a_driver_comes_back_as_it_was(stage: &Arc<Stage>) -> Outcome {
    let mut port = port(&stage.mortal_nic, 32)?;
    port.send(0, 4, |room| write(room, 5))?;
    port.turn_around();
    stage.kill("mortal-nic")?;
    let turn = port.exchange(0)?;
    ensure!(turn.is_new && turn.state == QueueState::Recovering, "the exchange that meets a death: {turn:?}");
    recovered(stage, &mut port)?;
    let before = time::now();
    let turn = port.send(0, 6, |room| write(room, 6))?;
    ensure!(time::now() - before < SHORT_PATIENCE, "who does not want to wait is made to");
    ensure_eq!(
        (turn.returned, turn.received, turn.is_new, turn.state),
        (6, 0, false, QueueState::Recovering),
        "packets that nobody takes"
    );
    let outgoing = port.outgoing();
    for index in 0..6 {
        ensure_eq!(read(outgoing.frame_at(index).unwrap_or_default())?, Some(6), "a frame that nobody takes");
    }
    accounted(&mut port)?;
    close(port)?;
    stage.restart("mortal-nic")?;
    stage.restart("shadow-mortal-nic")
}

pub(crate) fn a_crash_at_each_step_of_the_recovery_of_a_device_begins_it_anew(stage: &Arc<Stage>) -> Outcome {
    // It dies when it is asked what it is, when it is set up, at `open`, and at the first exchange; the fifth instance is well again.
    while !stage.info("frail-nic")?.id.generation().is_multiple_of(5) {
        stage.restart("frail-nic")?;
    }
    stage.frail_nic.configure(NetConfig { mtu: 2000, ..NetConfig::default() })??;
    for _ in 0..2 {
        let before = stage.info("frail-nic")?.id.generation();
        let mut port = port(&stage.frail_nic, 32)?;
        port.send(0, 8, |room| write(room, 9))?;
        stage.restart("frail-nic")?;
        stage.eventually("the queue works again", || {
            let wait = time::now() + Duration::from_millis(20);
            let turn = port.forward(wait.as_nanos() as u64, |_| {})?;
            Ok(turn.received > 0 && turn.state == QueueState::Running)
        })?;
        let instances = stage.info("frail-nic")?.id.generation() - before;
        ensure_eq!(instances, 5, "lives that it took");
        ensure_eq!(stage.frail_nic.config()?.mtu, 2000, "the setting");
        recovered(stage, &mut port)?;
        close(port)?;
    }
    Ok(())
}

pub(crate) fn a_network_device_that_is_gone_says_so_in_time(stage: &Arc<Stage>) -> Outcome {
    let mut port = port(&stage.mortal_nic, 32)?;
    ensure!(port.send(0, 8, |room| write(room, 1))?.received > 0, "nothing comes back");
    stage.kill("mortal-nic")?;
    let before = time::now();
    stage.eventually("the device is gone", || {
        let wait = time::now() + Duration::from_secs(5);
        Ok(port.exchange(wait.as_nanos() as u64)?.state == QueueState::Gone)
    })?;
    let took = time::now() - before;
    ensure!(took >= SHORT_PATIENCE, "given up after {took:?}");
    let refused = stage.mortal_nic.link()?;
    ensure!(matches!(refused, Err(NetError::Gone { .. })), "the link of a dead device: {refused:?}");
    ensure!(
        matches!(stage.mortal_nic.open(QueueDepth::default())?, Err(NetError::Gone { .. })),
        "a queue of a dead device"
    );
    recovered(stage, &mut port)?;
    // Its next instance says that it has another device.
    stage.restart("mortal-nic")?;
    let turn = port.exchange(0)?;
    ensure_eq!((turn.state, turn.received), (QueueState::Gone, 0), "another device");
    ensure!(
        matches!(stage.mortal_nic.open(QueueDepth::default())?, Err(NetError::Gone { .. })),
        "a queue of another device"
    );
    // A new shadow knows no better, and the port finds it.
    stage.restart("shadow-mortal-nic")?;
    stage.eventually("the next device works", || {
        let wait = time::now() + Duration::from_millis(20);
        Ok(port.exchange(wait.as_nanos() as u64)?.received > 0)
    })?;
    recovered(stage, &mut port)?;
    close(port)
}

pub(crate) fn packets_come_back_when_their_shadow_dies(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(30, 10), |round| {
        let mut port = port(&stage.nic, 200)?;
        for _ in 0..3 {
            port.send(0, 8, |room| write(room, 3))?;
        }
        match round % 3 {
            0 => stage.restart("shadow-nic")?,
            1 => {
                stage.restart("nic")?;
                stage.restart("shadow-nic")?;
            }
            _ => {
                stage.restart("shadow-nic")?;
                stage.restart("nic")?;
            }
        }
        stage.eventually("the queue works again", || {
            let wait = time::now() + Duration::from_millis(20);
            Ok(port.forward(wait.as_nanos() as u64, |_| {})?.received > 0)
        })?;
        recovered(stage, &mut port)?;
        numbers(&mut port)?;
        close(port)
    })
}

pub(crate) fn a_port_without_a_shadow_finds_the_next_instance_itself(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(20, 6), |_| {
        let mut port = port_of(&stage.plain_nic, 96, 4096, QueueDepth::default())?;
        port.configure(NetConfig { mtu: 3000, ..NetConfig::default() })?;
        port.send(0, 8, |_| 3014)?;
        stage.restart("nic")?;
        stage.eventually("the queue works again", || {
            let wait = time::now() + Duration::from_millis(20);
            Ok(port.exchange(wait.as_nanos() as u64)?.received > 0)
        })?;
        ensure_eq!(stage.plain_nic.config()?.mtu, 3000, "the setting");
        recovered(stage, &mut port)?;
        port.configure(NetConfig::default())?;
        close(port)
    })?;
    // The shadow of the same driver sets it up as it knows it.
    stage.nic.configure(NetConfig::default())??;
    Ok(())
}

pub(crate) fn what_a_device_has_counted_outlives_its_driver(stage: &Arc<Stage>) -> Outcome {
    let mut port = port(&stage.nic, 100)?;
    let before = stage.nic.statistics()??;
    for _ in 0..3 {
        let mut sent = 0;
        while sent < 40 {
            let wait = time::now() + Duration::from_millis(20);
            let mut now = 0;
            let turn = port.send(wait.as_nanos() as u64, 40 - sent, |room| {
                now += 1;
                write(room, 1)
            })?;
            if turn.state == QueueState::Running && !turn.is_new {
                sent += now;
            }
        }
        // What nobody asked for before the end is not known afterwards.
        stage.nic.statistics()??;
        stage.restart("nic")?;
        port.exchange((time::now() + SOON).as_nanos() as u64)?;
    }
    let sent = stage.nic.statistics()??.sent - before.sent;
    ensure_eq!(sent, 120, "frames sent in three lives");
    ensure!(stage.plain_nic.statistics()??.sent < 120, "the driver has counted the others'");
    close(port)
}

pub(crate) fn a_driver_that_hangs_with_packets_is_ended_and_they_come_back(stage: &Arc<Stage>) -> Outcome {
    let first = stage.info("hung-nic")?.id.generation();
    let mut port = port(&stage.hung_nic, 64)?;
    let mut received = 0;
    let deadline = time::now() + SOON;
    // Each instance hangs at the fortieth exchange.
    while stage.info("hung-nic")?.id.generation() < first + 3 {
        let wait = time::now() + Duration::from_millis(20);
        received += port.forward(wait.as_nanos() as u64, |_| {})?.received;
        accounted(&mut port)?;
        ensure!(time::now() < deadline, "three lives take longer than {SOON:?}");
    }
    ensure!(received > 0, "nothing was received");
    stage.eventually("the queue works again", || {
        let wait = time::now() + Duration::from_millis(20);
        Ok(port.forward(wait.as_nanos() as u64, |_| {})?.received > 0)
    })?;
    recovered(stage, &mut port)?;
    close(port)
}

pub(crate) fn clients_of_a_network_device_lose_no_packet_by_its_drivers_crashes(
    stage: &Arc<Stage>,
) -> Outcome {
    stage.leaks_nothing(1, |_| {
        for victim in ["nic", "shadow-nic"] {
            while_it_crashes(stage, victim, stage.rounds(80, 10), |stage, number, is_over| {
                circulate(stage, number, is_over)
            })?;
        }
        // How large their heaps are depends on how many queues they had at a time.
        stage.restart("nic")?;
        stage.restart("shadow-nic")
    })
}

/// Sends and forwards frames, in batches of any size and with any patience, and looks at each that comes back, until it `is_over`.
fn circulate(stage: &Stage, number: u32, is_over: &AtomicBool) -> Outcome {
    let mut random = stage.random(number);
    let mut port = port(&stage.nic, 160)?;
    let mut count = u64::from(number) << 32;
    let first = count;
    let mut received = 0;
    while !is_over.load(Ordering::Relaxed) {
        let wait = match random.below(3) {
            0 => 0,
            _ => (time::now() + Duration::from_micros(random.below(2000))).as_nanos() as u64,
        };
        let turn = if random.below(2) == 0 {
            port.forward(wait, |_| {})?
        } else {
            port.send(wait, random.below(64) as usize, |room| {
                count += 1;
                write(room, count)
            })?
        };
        received += turn.received;
        for number in numbers(&mut port)?.into_iter().flatten() {
            ensure!((first + 1..=count).contains(&number), "frame {number} was not sent here");
        }
        accounted(&mut port)?;
        counted(&mut port)?;
    }
    stage.eventually("frames are received", || {
        let wait = time::now() + Duration::from_millis(5);
        received += port.forward(wait.as_nanos() as u64, |_| {})?.received;
        Ok(received > 0)
    })?;
    recovered(stage, &mut port)?;
    close(port)
}

pub(crate) fn a_client_of_a_network_device_that_dies_leaks_nothing(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(30, 8), |round| {
        // It, and now and then those that have its packets too, in any order.
        let order: &[&str] = match round % 4 {
            0 => &["reflector"],
            1 => &["reflector", "pond"],
            2 => &["pond", "reflector"],
            _ => &["shadow-pond", "reflector", "pond"],
        };
        // Of a new driver's instance the count begins at 0.
        let is_new = order.contains(&"pond");
        let before = if is_new { 0 } else { stage.pond.statistics()??.received };
        order.iter().try_for_each(|name| stage.restart(name))?;
        stage.eventually("frames are reflected", || Ok(stage.pond.statistics()??.received > before))?;
        // How large their heaps are depends on what they had at a time: each round ends with new lives.
        ["shadow-pond", "pond", "reflector"].iter().try_for_each(|name| stage.restart(name))?;
        stage.eventually("frames are reflected", || Ok(stage.pond.statistics()??.received > 0))
    })
}
