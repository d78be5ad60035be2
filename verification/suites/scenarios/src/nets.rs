//! Network devices, and the packets in flight when a driver, a shadow or a client dies.
//!
//! The devices are null-nets: each spare packet that the device does not hold is a received frame at once,
//! with the bytes that were in it. So sent frames come back, and a frame that was changed on its way is
//! detected.

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

use crate::context::{
    Context, Failure, Outcome, SHORT_RECOVERY_TIMEOUT, SOON, ensure, ensure_eq, spawn_with_result,
};
use crate::shadows::while_it_crashes;

/// The size of a packet, in bytes.
const PACKET: usize = 2048;
/// The size of a frame of these devices, in bytes.
const FRAME: usize = 60;

/// Opens a client with `packets` packets. If the device's queues are taken, waits until a thread of the
/// kernel has closed a queue that was dropped a moment ago.
fn open_client(net: &Handle<dyn NetDevice>, packets: usize) -> Outcome<NetClient> {
    open_client_of(net, packets, PACKET, QueueDepth::default())
}

fn open_client_of(
    net: &Handle<dyn NetDevice>,
    packets: usize,
    bytes: usize,
    depth: QueueDepth,
) -> Outcome<NetClient> {
    let deadline = time::now() + SOON;
    loop {
        match NetClient::open(net.clone(), depth, PacketPool::new(packets, bytes)?) {
            // The device may also be in the middle of a crash.
            Err(NetClientError::Net(NetError::NoQueue { .. }) | NetClientError::Rpc(_))
                if time::now() < deadline =>
            {
                time::sleep(Duration::from_micros(100));
            }
            other => return Ok(other?),
        }
    }
}

/// Closes a client. Fails unless all its packets come back.
fn close(client: NetClient) -> Outcome {
    let pool = client
        .close(time::now() + SOON)
        .map_err(|missing| Failure(format!("{} packets did not come back", missing.packets)))?;
    let audit = pool.audit();
    ensure_eq!((audit.home, audit.back, audit.away, audit.renamed), (audit.made, 0, 0, 0), "packets");
    Ok(())
}

/// Fails unless every packet of a client is accounted for.
fn accounted(client: &mut NetClient) -> Outcome {
    let accounts = client.accounts();
    ensure_eq!(accounts.missing, 0, format!("{accounts:?}"));
    Ok(())
}

/// Fails unless every frame of a client is in one of its counters.
fn counted(client: &mut NetClient) -> Outcome {
    let (unsent, held) = (client.unsent() as u64, client.received().len() as u64);
    let counters = client.counters();
    let to_send = counters.written + counters.turned_around;
    ensure_eq!(counters.taken + counters.lost + unsent, to_send, format!("frames to send of {counters:?}"));
    let ended = counters.turned_around + counters.overflowed + counters.recycled;
    ensure_eq!(ended + held, counters.received, format!("received frames of {counters:?}"));
    Ok(())
}

/// Waits until all packets that a crash took are back.
fn recovered(context: &Context, client: &mut NetClient) -> Outcome {
    context.eventually("all packets are back", || Ok(client.accounts().awaited == 0))?;
    accounted(client)
}

/// Writes a frame with a number, which determines each byte of it.
fn write(room: &mut [u8], number: u64) -> usize {
    let frame = &mut room[..FRAME];
    frame[..8].copy_from_slice(&number.to_le_bytes());
    for (index, byte) in frame[8..].iter_mut().enumerate() {
        *byte = mixed(number, index);
    }
    FRAME
}

/// Returns the number of a frame that [`write`] wrote, or `None` for a frame in a packet that was never
/// written.
fn read(frame: &[u8]) -> Outcome<Option<u64>> {
    ensure_eq!(frame.len(), FRAME, "bytes of a frame");
    if frame.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    let number = frame.first_chunk().copied().map(u64::from_le_bytes).unwrap_or_default();
    let is_whole = frame[8..].iter().enumerate().all(|(index, &byte)| byte == mixed(number, index));
    ensure!(is_whole, "frame {number} differs from the frame sent: {frame:x?}");
    Ok(Some(number))
}

fn mixed(number: u64, index: usize) -> u8 {
    ((number + index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// Returns the numbers of the frames received last.
fn numbers(client: &mut NetClient) -> Outcome<Vec<Option<u64>>> {
    let received = client.received();
    (0..received.len()).filter_map(|index| received.frame_at(index)).map(read).collect()
}

/// Returns a packet with a frame of `len` bytes, from the client's pool.
fn frame_of(client: &mut NetClient, len: usize) -> Outcome<Lent<Packet>> {
    let mut packet = client.pool().take().ok_or_else(|| Failure("the pool is empty".into()))?;
    packet.set_frame(len);
    Ok(packet)
}

fn push(batch: &mut RRef<Batch>, packet: Lent<Packet>) -> Outcome {
    ensure!(batch.push_back(packet).is_ok(), "the batch is full");
    Ok(())
}

pub(crate) fn all_packets_circulate_and_come_back(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(2, |_| {
        for (net, most) in [
            (&context.loopback_nic, 32),
            (&context.unshadowed_nic, 200),
            (&context.nic, 1),
            (&context.nic, 256),
        ] {
            let mut client = open_client(net, 512)?;
            let before = net.statistics()??;
            let (mut sent, mut received) = (0, 0);
            for _ in 0..context.rounds(200, 30) {
                let turn = client.send(0, most, |room| {
                    sent += 1;
                    write(room, sent)
                })?;
                ensure_eq!(turn.state, QueueState::Running, "the state of a null device");
                received += turn.received as u64;
                numbers(&mut client)?;
                accounted(&mut client)?;
            }
            let after = net.statistics()??;
            ensure_eq!(after.sent - before.sent, sent, "frames sent");
            ensure_eq!(after.sent_bytes - before.sent_bytes, sent * FRAME as u64, "bytes sent");
            ensure_eq!(after.received - before.received, received, "frames received");
            ensure_eq!(after.refused, before.refused, "frames refused");
            // The circulating frames keep their bytes.
            let mut is_seen = false;
            for _ in 0..context.rounds(200, 30) {
                client.forward(0, |_| {})?;
                let frames = numbers(&mut client)?;
                ensure!(!frames.is_empty(), "no frame comes back in batches of {most}");
                is_seen |= frames.iter().any(Option::is_some);
                accounted(&mut client)?;
            }
            ensure!(is_seen, "frames lose their bytes in batches of {most}");
            close(client)?;
        }
        Ok(())
    })
}

pub(crate) fn a_network_device_refuses_unsupported_requests(context: &Arc<Context>) -> Outcome {
    for net in [&context.loopback_nic, &context.nic] {
        let info = net.info()?;
        let default = QueueDepth::default();
        for depth in [0, info.max_send_depth + 1] {
            let error = Some(NetError::Depth { depth, most: info.max_send_depth });
            let send = QueueDepth { send: depth, ..default };
            ensure_eq!(net.open(send)?.err(), error, "a queue of unsupported depth");
            let receive = QueueDepth { receive: depth, ..default };
            ensure_eq!(net.open(receive)?.err(), error, "a queue of unsupported depth");
        }
        let good = NetConfig { mtu: 4000, promiscuous: true, ..NetConfig::default() };
        ensure_eq!(net.configure(good)?, Ok(()), "a valid configuration");
        let mac = MacAddr::BROADCAST;
        let bad = NetConfig { mac: Some(mac), mtu: 1000, ..good };
        ensure_eq!(
            net.configure(bad)?,
            Err(NetError::Address { mac }),
            "a configuration with an invalid address"
        );
        let most = info.longest_frame - 14;
        let long = NetConfig { mtu: most + 1, ..good };
        let error = NetError::Mtu { mtu: most + 1, least: 68, most };
        ensure_eq!(net.configure(long)?, Err(error), "frames that are too long");
        // A refused configuration changes nothing.
        ensure_eq!(net.config()?, good, "the configuration after a refused one");
        ensure_eq!(net.configure(NetConfig::default())?, Ok(()), "the previous configuration");
        ensure!(net.link()??.is_up, "a null device has no link");
    }
    let queues: Vec<_> = (0..2).map(|_| open_client(&context.loopback_nic, 1)).collect::<Outcome<_>>()?;
    let refused = context.loopback_nic.open(QueueDepth::default())?.err();
    ensure_eq!(refused, Some(NetError::NoQueue { queues: 2 }), "a third queue of two");
    queues.into_iter().map(close).fold(Ok(()), Result::and)
}

pub(crate) fn a_frame_that_cannot_be_sent_comes_back_with_the_reason(context: &Arc<Context>) -> Outcome {
    for net in [&context.loopback_nic, &context.nic, &context.slow_nic] {
        let before = net.statistics()??;
        let mut client = open_client(net, 16)?;
        let mut batch = RRef::new(Batch::new());
        let mut continued = frame_of(&mut client, 100)?;
        continued.head_mut().set_continues(true);
        let mut filled = frame_of(&mut client, 100)?;
        filled.head_mut().set_offload(ChecksumOffload {
            ip_checksum: true,
            link_bytes: 14,
            ..ChecksumOffload::default()
        });
        let mut outside = frame_of(&mut client, 100)?;
        // Only the head is invalid.
        outside.head_mut().set_start(PACKET as u32 - 50);
        let bad = [
            (frame_of(&mut client, 13)?, Refusal::TooShort),
            (frame_of(&mut client, 1515)?, Refusal::TooLong),
            (continued, Refusal::Incomplete),
            (filled, Refusal::Offload),
            (outside, Refusal::TooLong),
        ];
        let mut expected = Vec::new();
        for (packet, why) in bad {
            expected.push((packet.tag(), why));
            push(&mut batch, packet)?;
            // Valid frames stand in between.
            push(&mut batch, frame_of(&mut client, 14)?)?;
        }
        push(&mut batch, frame_of(&mut client, 1514)?)?;
        *client.outgoing() = batch;
        let turn = client.exchange(0)?;
        let outgoing = client.outgoing();
        let refused: Vec<_> = (0..turn.returned)
            .filter_map(|index| outgoing.get(index))
            .filter_map(|packet| Some((packet.tag(), packet.refusal()?)))
            .collect();
        ensure_eq!(refused, expected, "the refused frames");
        let after = net.statistics()??;
        ensure_eq!((after.refused - before.refused, after.sent - before.sent), (5, 6), "refused and sent");
        close(client)?;
    }
    Ok(())
}

pub(crate) fn a_full_ring_returns_the_rest_in_order(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(2, |_| {
        let mut client = open_client_of(
            &context.slow_nic,
            64,
            PACKET,
            QueueDepth { send: 8, receive: 8, ..QueueDepth::default() },
        )?;
        let mut number = 0;
        let mut seen = Vec::new();
        client.send(0, 20, |room| {
            number += 1;
            write(room, number)
        })?;
        let mut left = 12;
        let deadline = time::now() + SOON;
        while seen.len() < 20 {
            let outgoing = client.outgoing();
            let frames: Vec<_> = (0..outgoing.len())
                .filter_map(|index| outgoing.frame_at(index))
                .take_while(|frame| !frame.is_empty())
                .map(read)
                .collect::<Outcome<_>>()?;
            ensure!(!seen.is_empty() || !frames.is_empty(), "a ring of 8 takes 20 frames");
            let expected: Vec<_> = (0..frames.len() as u64).map(|back| Some(20 - back)).rev().collect();
            ensure_eq!(frames, expected, "the frames left");
            ensure!(frames.len() <= left, "{} frames are left after {left}", frames.len());
            left = frames.len();
            seen.extend(numbers(&mut client)?.into_iter().flatten());
            // A spare packet is received again, as the same frame.
            let received = client.received();
            for index in 0..received.len() {
                received.frame_at_mut(index).unwrap_or_default().fill(0);
            }
            ensure!(time::now() < deadline, "only {seen:?} came back in time");
            let wait = time::now() + Duration::from_millis(1);
            client.exchange(wait.as_nanos() as u64)?;
        }
        ensure_eq!(seen[..20], (1..=20).collect::<Vec<u64>>()[..], "the frames received");
        accounted(&mut client)?;
        close(client)
    })
}

pub(crate) fn a_queue_of_a_network_device_belongs_to_one_thread(context: &Arc<Context>) -> Outcome {
    let batch = || RRef::new(Batch::new());
    for net in [&context.loopback_nic, &context.nic] {
        let mut opened = None;
        context.eventually("the earlier queues are closed", || {
            opened = net.open(QueueDepth::default())?.ok();
            Ok(opened.is_some())
        })?;
        let queue = opened.ok_or_else(|| Failure("the queue or request was there a moment ago".into()))?;
        ensure!(queue.exchange(batch(), batch(), 0)?.is_ok(), "the queue's own thread is refused");
        let theirs = queue.clone();
        let refused = spawn_with_result(Builder::new(), move || is_refused(&theirs))?;
        ensure!(refused.join()?, "a second thread is not refused");
        ensure!(queue.exchange(batch(), batch(), 0)?.is_ok(), "the queue's own thread is refused afterwards");
    }
    Ok(())
}

/// Returns true if an exchange with another thread's queue is refused and returns the batches unchanged.
fn is_refused(queue: &Handle<dyn NetQueue>) -> Outcome<bool> {
    let mut pool = PacketPool::new(3, PACKET)?;
    let (mut send, mut receive) = (RRef::new(Batch::new()), RRef::new(Batch::new()));
    pool.fill(&mut send, 1);
    send.write_frame_at(0, |room| write(room, 77));
    pool.fill(&mut receive, 2);
    let Err(Busy { send, receive }) = queue.exchange(send, receive, 0)? else { return Ok(false) };
    ensure_eq!((send.len(), receive.len()), (1, 2), "packets returned");
    ensure_eq!(read(send.frame_at(0).unwrap_or_default())?, Some(77), "the frame");
    Ok(true)
}

/// Opens a queue of `net` after the queues of earlier clients are closed.
fn queue_of(context: &Context, net: &Handle<dyn NetDevice>) -> Outcome<Handle<dyn NetQueue>> {
    let mut opened = None;
    context.eventually("the earlier queues are closed", || {
        opened = net.open(QueueDepth::default())?.ok();
        Ok(opened.is_some())
    })?;
    opened.ok_or_else(|| Failure("the queue or request was there a moment ago".into()))
}

/// Returns the epoch of a queue, from an empty exchange.
fn epoch_of(queue: &Handle<dyn NetQueue>) -> Outcome<u32> {
    let batch = || RRef::new(Batch::new());
    Ok(queue.exchange(batch(), batch(), 0)?.map_err(|busy| Failure(format!("{busy:?}")))?.epoch)
}

pub(crate) fn a_queue_of_a_network_device_starts_with_the_first_epoch(context: &Arc<Context>) -> Outcome {
    let shadowed = queue_of(context, &context.nic)?;
    for round in 0..3 {
        for net in [
            &context.loopback_nic,
            &context.unshadowed_nic,
            &context.relayed_nic,
            &context.nic,
            &context.slow_nic,
        ] {
            let queue = queue_of(context, net)?;
            for _ in 0..3 {
                ensure_eq!(epoch_of(&queue)?, FIRST_EPOCH, "the epoch of a new queue");
            }
        }
        // The epoch of a queue that stays open counts the restarts of its driver.
        ensure_eq!(epoch_of(&shadowed)?, FIRST_EPOCH + round, "the epoch of an open queue");
        context.restart("nic")?;
    }
    Ok(())
}

pub(crate) fn a_net_client_keeps_its_reserve_and_reports_a_short_send(context: &Arc<Context>) -> Outcome {
    const PACKETS: usize = 96;
    const RESERVE: usize = 32;
    const FRAMES: usize = 16;
    // Each exchange receives one packet, so the queue's packets come back slowly.
    let depth = QueueDepth { batch: 1, ..QueueDepth::default() };
    let mut client = open_client_of(&context.nic, PACKETS, PACKET, depth)?;
    client.reserve(RESERVE);
    for round in 0..20 {
        for _ in 0..PACKETS {
            client.exchange(0)?;
        }
        let accounts = client.accounts();
        ensure!(accounts.home >= RESERVE, "round {round}: the reserve is gone: {accounts:?}");
        ensure!(
            accounts.queued >= 32,
            "round {round}: the queue has no packets to receive into: {accounts:?}"
        );
        let mut calls = 0;
        let turn = client.send(0, FRAMES, |room| {
            calls += 1;
            write(room, calls)
        })?;
        ensure_eq!((turn.written, calls), (FRAMES, FRAMES as u64), format!("frames written, round {round}"));
    }
    // More frames than packets.
    let mut calls = 0;
    let turn = client.send(0, PACKETS, |room| {
        calls += 1;
        write(room, calls)
    })?;
    ensure!(
        turn.written < PACKETS,
        "{} frames in {PACKETS} packets, of which the queue holds some",
        turn.written
    );
    ensure_eq!(turn.written as u64, calls, "frames written");
    // The writer returns no more frames.
    for _ in 0..PACKETS {
        client.exchange(0)?;
    }
    let mut calls = 0;
    let turn = client.send(0, FRAMES, |room| {
        calls += 1;
        if calls == 3 { 0 } else { write(room, calls) }
    })?;
    ensure_eq!((turn.written, calls), (2, 3), "frames of a writer that ends after two");
    accounted(&mut client)?;
    counted(&mut client)?;
    close(client)
}

pub(crate) fn each_frame_of_a_net_client_is_counted_by_its_outcome(context: &Arc<Context>) -> Outcome {
    let net = &context.slow_nic;
    let before = net.statistics()??;
    // The packets are shorter than the longest frame: a frame that does not fit is not truncated and sent.
    let mut client = open_client_of(net, 600, 1024, QueueDepth { send: 8, ..QueueDepth::default() })?;
    let soon = || (time::now() + Duration::from_millis(5)).as_nanos() as u64;
    for round in 0..context.rounds(20, 3) {
        // A ring of 8 leaves frames behind, so not all received frames find room behind these.
        client.send(0, 200, |room| write(room, 1))?;
        counted(&mut client)?;
        while client.counters().overflowed <= u64::from(round) {
            client.forward(soon(), |_| {})?;
            counted(&mut client)?;
        }
        context.eventually("all frames are taken", || {
            client.exchange(soon())?;
            counted(&mut client)?;
            Ok(client.unsent() == 0)
        })?;
        let refused = client.counters().refused;
        let turn = client.send(soon(), 4, |_| 13)?;
        let taken = 4 - turn.unsent as u64;
        ensure_eq!(client.counters().refused - refused, taken, "refused frames");
        // The length exceeds the packet: the frame is refused as a whole, not sent in part.
        let turn = client.send(soon(), 1, |room| room.len() + 1)?;
        ensure_eq!(turn.written, 1, "frames written");
        accounted(&mut client)?;
        counted(&mut client)?;
    }
    context.eventually("all frames are taken", || {
        client.exchange(soon())?;
        Ok(client.unsent() == 0)
    })?;
    counted(&mut client)?;
    let (counters, after) = (client.counters(), net.statistics()??);
    let (sent, refused) = (after.sent - before.sent, after.refused - before.refused);
    ensure_eq!(counters.taken, sent + refused, format!("frames taken of {counters:?}"));
    ensure_eq!(counters.refused, refused, format!("frames refused of {counters:?}"));
    let rounds = u64::from(context.rounds(20, 3));
    ensure_eq!(refused, 5 * rounds, "frames that the device has refused");
    ensure_eq!(counters.received, after.received - before.received, format!("received of {counters:?}"));
    ensure_eq!((counters.lost, counters.reclaimed), (0, 0), "packets lost to a crash");
    close(client)
}

pub(crate) fn a_driver_that_dies_in_a_clients_first_exchange_keeps_no_packet(
    context: &Arc<Context>,
) -> Outcome {
    context.leaks_nothing(3, |_| {
        // Of five instances the last one dies in its first exchange.
        while context.info("nic-crash-in-recovery")?.id.generation() % 5 != 4 {
            context.restart("nic-crash-in-recovery")?;
        }
        let crashed = context.nic_crash_in_recovery.statistics()??.crashed;
        let mut client = open_client(&context.nic_crash_in_recovery, 32)?;
        let turn = client.send((time::now() + SOON).as_nanos() as u64, 8, |room| write(room, 4))?;
        ensure!(turn.is_new, "the first exchange meets a crash and does not report it: {turn:?}");
        recovered(context, &mut client)?;
        let accounts = client.accounts();
        ensure_eq!((accounts.home, accounts.queued), (32, 0), format!("{accounts:?}"));
        counted(&mut client)?;
        let counters = client.counters();
        // Eight of 32 packets are the reserve of such a send, and the crash took the others.
        ensure_eq!((counters.lost, counters.taken, counters.reclaimed), (8, 0, 24), format!("{counters:?}"));
        ensure_eq!(
            context.nic_crash_in_recovery.statistics()??.crashed - crashed,
            8,
            "packets that the crash took"
        );
        context.eventually("the queue works again", || {
            let wait = time::now() + Duration::from_millis(20);
            Ok(client.forward(wait.as_nanos() as u64, |_| {})?.received > 0)
        })?;
        close(client)
    })
}

pub(crate) fn packets_come_back_when_their_driver_dies(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(40, 10), |round| {
        let mut client = open_client(&context.nic, 300)?;
        for _ in 0..4 {
            client.send(0, 16, |room| write(room, 1 + u64::from(round)))?;
        }
        let queued = client.accounts().queued;
        ensure!(queued >= 64, "a driver that holds 64 packets has {queued}");
        context.restart("nic")?;
        let mut is_new = false;
        context.eventually("the queue works again", || {
            let turn = client.forward((time::now() + SOON).as_nanos() as u64, |_| {})?;
            is_new |= turn.is_new;
            Ok(turn.received > 0)
        })?;
        ensure!(is_new, "no exchange reported returned packets");
        recovered(context, &mut client)?;
        numbers(&mut client)?;
        close(client)
    })
}

pub(crate) fn a_device_is_configured_again_before_it_gets_a_frame(context: &Arc<Context>) -> Outcome {
    let config = NetConfig { mtu: 9000, mac: Some(MacAddr([2, 9, 9, 9, 9, 9])), ..NetConfig::default() };
    context.nic.configure(config)??;
    // The driver refuses frames beyond its configured MTU, and frames of 9014 bytes are sent all the time.
    let outcome = while_it_crashes(context, "nic", context.rounds(150, 25), |context, _, is_over| {
        let mut client = open_client_of(&context.nic, 96, 9216, QueueDepth::default())?;
        let mut exchange = || {
            let wait = time::now() + Duration::from_millis(5);
            let turn = client.send(wait.as_nanos() as u64, 8, |_| 9014)?;
            let outgoing = client.outgoing();
            let refusal = (0..turn.returned).find_map(|index| outgoing.get(index)?.refusal());
            ensure_eq!(refusal, None, "a frame within the device's MTU");
            accounted(&mut client)?;
            Ok(turn)
        };
        while !is_over.load(Ordering::Relaxed) {
            exchange()?;
        }
        // The shadow configures the driver when a call needs it. Without a call after its last restart, the
        // driver still has the default configuration.
        let deadline = time::now() + SOON;
        while exchange()?.received == 0 {
            ensure!(time::now() < deadline, "the driver does not work after its last restart");
        }
        close(client)
    });
    outcome?;
    ensure_eq!(context.unshadowed_nic.config()?, config, "the configuration of the driver itself");
    // A client that does not notice the shadow's death configures the device again, or the device keeps the
    // defaults.
    context.restart("shadow-nic")?;
    context.nic.configure(NetConfig::default())??;
    context.restart("nic")?;
    ensure!(context.nic.link()??.is_up, "a null device has no link");
    ensure_eq!(
        context.unshadowed_nic.config()?,
        NetConfig::default(),
        "the configuration of the driver itself"
    );
    Ok(())
}

pub(crate) fn packets_submitted_without_a_driver_come_back_unchanged(context: &Arc<Context>) -> Outcome {
    let mut client = open_client(&context.nic_never_restarts, 32)?;
    client.send(0, 4, |room| write(room, 5))?;
    client.turn_around();
    context.kill("nic-never-restarts")?;
    let turn = client.exchange(0)?;
    ensure!(turn.is_new && turn.state == QueueState::Recovering, "the exchange that meets a death: {turn:?}");
    recovered(context, &mut client)?;
    let before = time::now();
    let turn = client.send(0, 6, |room| write(room, 6))?;
    ensure!(time::now() - before < SHORT_RECOVERY_TIMEOUT, "a call that must not wait has waited");
    ensure_eq!(
        (turn.returned, turn.received, turn.is_new, turn.state),
        (6, 0, false, QueueState::Recovering),
        "packets that no driver takes"
    );
    let outgoing = client.outgoing();
    for index in 0..6 {
        ensure_eq!(
            read(outgoing.frame_at(index).unwrap_or_default())?,
            Some(6),
            "a frame that no driver takes"
        );
    }
    accounted(&mut client)?;
    close(client)?;
    context.restart("nic-never-restarts")?;
    context.restart("shadow-nic-never-restarts")
}

pub(crate) fn a_crash_at_any_step_of_a_network_recovery_restarts_the_recovery(
    context: &Arc<Context>,
) -> Outcome {
    // The driver crashes in its identity call, in `configure`, in `open` and in the first exchange. The fifth
    // instance works.
    while !context.info("nic-crash-in-recovery")?.id.generation().is_multiple_of(5) {
        context.restart("nic-crash-in-recovery")?;
    }
    context.nic_crash_in_recovery.configure(NetConfig { mtu: 2000, ..NetConfig::default() })??;
    for _ in 0..2 {
        let before = context.info("nic-crash-in-recovery")?.id.generation();
        let mut client = open_client(&context.nic_crash_in_recovery, 32)?;
        client.send(0, 8, |room| write(room, 9))?;
        context.restart("nic-crash-in-recovery")?;
        context.eventually("the queue works again", || {
            let wait = time::now() + Duration::from_millis(20);
            let turn = client.forward(wait.as_nanos() as u64, |_| {})?;
            Ok(turn.received > 0 && turn.state == QueueState::Running)
        })?;
        let instances = context.info("nic-crash-in-recovery")?.id.generation() - before;
        ensure_eq!(instances, 5, "instances used");
        ensure_eq!(context.nic_crash_in_recovery.config()?.mtu, 2000, "the configuration");
        recovered(context, &mut client)?;
        close(client)?;
    }
    Ok(())
}

pub(crate) fn a_missing_network_device_is_reported_after_the_timeout(context: &Arc<Context>) -> Outcome {
    let mut client = open_client(&context.nic_never_restarts, 32)?;
    ensure!(client.send(0, 8, |room| write(room, 1))?.received > 0, "no frame comes back");
    context.kill("nic-never-restarts")?;
    let before = time::now();
    context.eventually("the device is gone", || {
        let wait = time::now() + Duration::from_secs(5);
        Ok(client.exchange(wait.as_nanos() as u64)?.state == QueueState::Gone)
    })?;
    let took = time::now() - before;
    ensure!(took >= SHORT_RECOVERY_TIMEOUT, "given up after {took:?}");
    let refused = context.nic_never_restarts.link()?;
    ensure!(matches!(refused, Err(NetError::Gone { .. })), "the link of a dead device: {refused:?}");
    ensure!(
        matches!(context.nic_never_restarts.open(QueueDepth::default())?, Err(NetError::Gone { .. })),
        "a queue of a dead device"
    );
    recovered(context, &mut client)?;
    // The next instance reports another device.
    context.restart("nic-never-restarts")?;
    let turn = client.exchange(0)?;
    ensure_eq!((turn.state, turn.received), (QueueState::Gone, 0), "another device");
    ensure!(
        matches!(context.nic_never_restarts.open(QueueDepth::default())?, Err(NetError::Gone { .. })),
        "a queue of another device"
    );
    // A new shadow does not know the first device, and the client finds it.
    context.restart("shadow-nic-never-restarts")?;
    context.eventually("the next device works", || {
        let wait = time::now() + Duration::from_millis(20);
        Ok(client.exchange(wait.as_nanos() as u64)?.received > 0)
    })?;
    recovered(context, &mut client)?;
    close(client)
}

pub(crate) fn packets_come_back_when_their_shadow_dies(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(30, 10), |round| {
        let mut client = open_client(&context.nic, 200)?;
        for _ in 0..3 {
            client.send(0, 8, |room| write(room, 3))?;
        }
        match round % 3 {
            0 => context.restart("shadow-nic")?,
            1 => {
                context.restart("nic")?;
                context.restart("shadow-nic")?;
            }
            _ => {
                context.restart("shadow-nic")?;
                context.restart("nic")?;
            }
        }
        context.eventually("the queue works again", || {
            let wait = time::now() + Duration::from_millis(20);
            Ok(client.forward(wait.as_nanos() as u64, |_| {})?.received > 0)
        })?;
        recovered(context, &mut client)?;
        numbers(&mut client)?;
        close(client)
    })
}

pub(crate) fn a_net_client_without_a_shadow_finds_the_next_instance(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(20, 6), |_| {
        let mut client = open_client_of(&context.unshadowed_nic, 96, 4096, QueueDepth::default())?;
        client.configure(NetConfig { mtu: 3000, ..NetConfig::default() })?;
        client.send(0, 8, |_| 3014)?;
        context.restart("nic")?;
        context.eventually("the queue works again", || {
            let wait = time::now() + Duration::from_millis(20);
            Ok(client.exchange(wait.as_nanos() as u64)?.received > 0)
        })?;
        ensure_eq!(context.unshadowed_nic.config()?.mtu, 3000, "the configuration");
        recovered(context, &mut client)?;
        client.configure(NetConfig::default())?;
        close(client)
    })?;
    // The shadow of the same driver configures it as the shadow knows it.
    context.nic.configure(NetConfig::default())??;
    Ok(())
}

pub(crate) fn counters_of_a_device_outlive_its_driver(context: &Arc<Context>) -> Outcome {
    let mut client = open_client(&context.nic, 100)?;
    let before = context.nic.statistics()??;
    for _ in 0..3 {
        let mut sent = 0;
        while sent < 40 {
            let wait = time::now() + Duration::from_millis(20);
            let mut now = 0;
            let turn = client.send(wait.as_nanos() as u64, 40 - sent, |room| {
                now += 1;
                write(room, 1)
            })?;
            if turn.state == QueueState::Running && !turn.is_new {
                sent += now;
            }
        }
        // Counters that were not read before the crash are lost.
        context.nic.statistics()??;
        context.restart("nic")?;
        client.exchange((time::now() + SOON).as_nanos() as u64)?;
    }
    let sent = context.nic.statistics()??.sent - before.sent;
    ensure_eq!(sent, 120, "frames sent by three instances");
    ensure!(
        context.unshadowed_nic.statistics()??.sent < 120,
        "the driver has counted the frames of other instances"
    );
    close(client)
}

pub(crate) fn a_hung_driver_is_ended_and_its_packets_come_back(context: &Arc<Context>) -> Outcome {
    let first = context.info("nic-hangs")?.id.generation();
    let mut client = open_client(&context.nic_hangs, 64)?;
    let mut received = 0;
    let deadline = time::now() + SOON;
    // Each instance hangs at the fortieth exchange.
    while context.info("nic-hangs")?.id.generation() < first + 3 {
        let wait = time::now() + Duration::from_millis(20);
        received += client.forward(wait.as_nanos() as u64, |_| {})?.received;
        accounted(&mut client)?;
        ensure!(time::now() < deadline, "three instances take longer than {SOON:?}");
    }
    ensure!(received > 0, "no frame was received");
    context.eventually("the queue works again", || {
        let wait = time::now() + Duration::from_millis(20);
        Ok(client.forward(wait.as_nanos() as u64, |_| {})?.received > 0)
    })?;
    recovered(context, &mut client)?;
    close(client)
}

pub(crate) fn crashes_of_a_network_driver_lose_no_packet_of_its_clients(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(1, |_| {
        for victim in ["nic", "shadow-nic"] {
            while_it_crashes(context, victim, context.rounds(80, 10), |context, number, is_over| {
                circulate(context, number, is_over)
            })?;
        }
        // The heap sizes depend on the number of queues open at a time.
        context.restart("nic")?;
        context.restart("shadow-nic")
    })
}

/// Sends and forwards frames, in batches of random size and with random waits, and verifies each frame that
/// comes back, until `is_over`.
fn circulate(context: &Context, number: u32, is_over: &AtomicBool) -> Outcome {
    let mut random = context.random(number);
    let mut client = open_client(&context.nic, 160)?;
    let mut count = u64::from(number) << 32;
    let first = count;
    let mut received = 0;
    while !is_over.load(Ordering::Relaxed) {
        let wait = match random.below(3) {
            0 => 0,
            _ => (time::now() + Duration::from_micros(random.below(2000))).as_nanos() as u64,
        };
        let turn = if random.below(2) == 0 {
            client.forward(wait, |_| {})?
        } else {
            client.send(wait, random.below(64) as usize, |room| {
                count += 1;
                write(room, count)
            })?
        };
        received += turn.received;
        for number in numbers(&mut client)?.into_iter().flatten() {
            ensure!((first + 1..=count).contains(&number), "frame {number} was not sent here");
        }
        accounted(&mut client)?;
        counted(&mut client)?;
    }
    context.eventually("frames are received", || {
        let wait = time::now() + Duration::from_millis(5);
        received += client.forward(wait.as_nanos() as u64, |_| {})?.received;
        Ok(received > 0)
    })?;
    recovered(context, &mut client)?;
    close(client)
}

pub(crate) fn a_network_client_that_dies_leaks_nothing(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(30, 8), |round| {
        // Ends the client, and sometimes also the domains that hold its packets, in any order.
        let order: &[&str] = match round % 4 {
            0 => &["reflector"],
            1 => &["reflector", "reflector-nic"],
            2 => &["reflector-nic", "reflector"],
            _ => &["shadow-reflector-nic", "reflector", "reflector-nic"],
        };
        // The count of a new instance of the driver begins at 0.
        let is_new = order.contains(&"reflector-nic");
        let before = if is_new { 0 } else { context.reflector_nic.statistics()??.received };
        order.iter().try_for_each(|name| context.restart(name))?;
        context.eventually("frames are reflected", || {
            Ok(context.reflector_nic.statistics()??.received > before)
        })?;
        // The heap sizes depend on the resources held at a time, so each round ends with new instances.
        ["shadow-reflector-nic", "reflector-nic", "reflector"]
            .iter()
            .try_for_each(|name| context.restart(name))?;
        context.eventually("frames are reflected", || Ok(context.reflector_nic.statistics()??.received > 0))
    })
}
