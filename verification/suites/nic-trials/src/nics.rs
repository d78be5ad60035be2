//! The trials. Each frame has a number, and every byte of it depends on that number and on its offset.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use coppice_experiment::Random;
use coppice_net::{
    Batch, ETHERNET_HEADER, FIRST_EPOCH, Frame, MacAddr, NetConfig, NetError, QueueDepth, QueueState, Refusal,
};
use coppice_net_client::{ExchangeReport, NetClient};
use coppice_rref::RRef;
use coppice_runtime::thread::Builder;
use coppice_runtime::time;

use crate::context::{Context, DRIVER, Outcome, SOON, ensure};

/// The number of frames of one length in flight at a time.
const BURST: usize = 16;

fn open_to_all(mtu: u32) -> NetConfig {
    NetConfig { mtu, promiscuous: true, ..NetConfig::default() }
}

fn soon() -> u64 {
    (time::now() + Duration::from_millis(20)).as_nanos() as u64
}

/// Writes frame `number` with `len` bytes.
fn write(room: &mut [u8], len: usize, number: u32) -> usize {
    let frame = &mut room[..len];
    // Between unused station addresses, with an EtherType for experiments (IEEE 802, 9.2.3).
    frame[..ETHERNET_HEADER].copy_from_slice(&[2, 0, 0, 0, 0, 8, 2, 0, 0, 0, 0, 9, 0x88, 0xb5]);
    frame[14..18].copy_from_slice(&number.to_le_bytes());
    frame[18..].iter_mut().enumerate().for_each(|(place, byte)| *byte = mixed(number, place));
    len
}

fn mixed(number: u32, place: usize) -> u8 {
    ((u64::from(number) + place as u64 * 7 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// Returns the number of a frame that [`write`] has written.
fn read(frame: &[u8]) -> Outcome<u32> {
    let number = frame.get(14..18).and_then(|bytes| bytes.first_chunk()).copied().map(u32::from_le_bytes);
    let number = number.unwrap_or(u32::MAX);
    let is_whole =
        frame[18.min(frame.len())..].iter().enumerate().all(|(place, &byte)| byte == mixed(number, place));
    ensure!(is_whole, "frame {number} of {} bytes differs from the frame sent", frame.len());
    Ok(number)
}

/// Returns the bytes of all frames of the last exchange, joined if they came in several packets.
fn frames(client: &mut NetClient) -> Vec<Vec<u8>> {
    let received = client.received();
    let mut frames: Vec<Vec<u8>> = Vec::new();
    let mut goes_on = false;
    for packet in received.iter() {
        if !goes_on {
            frames.push(Vec::new());
        }
        if let Some(frame) = frames.last_mut() {
            frame.extend_from_slice(packet.frame());
        }
        goes_on = packet.continues();
    }
    frames
}

/// Like [`NetClient::send`], for exactly `count` frames.
fn send_all(
    client: &mut NetClient,
    wait_until_ns: u64,
    count: usize,
    write: impl FnMut(&mut [u8]) -> usize,
) -> Outcome<ExchangeReport> {
    let turn = client.send(wait_until_ns, count, write)?;
    ensure!(turn.written == count, "{} of {count} frames were sent: {:?}", turn.written, client.accounts());
    Ok(turn)
}

/// Sends the client's outgoing frames and then exchanges until `count` frames are back.
fn collect(client: &mut NetClient, first: ExchangeReport, count: usize) -> Outcome<Vec<Vec<u8>>> {
    let deadline = time::now() + SOON;
    let mut back = Vec::new();
    let mut turn = first;
    loop {
        if turn.received > 0 {
            back.append(&mut frames(client));
        }
        if back.len() >= count {
            return Ok(back);
        }
        if time::now() >= deadline {
            let statistics = client.net().statistics()??;
            let (accounts, counters) = (client.accounts(), client.counters());
            ensure!(
                false,
                "{} of {count} frames are back after {SOON:?}: {accounts:?}, {counters:?}, {statistics:?}",
                back.len()
            );
        }
        turn = client.exchange(soon())?;
    }
}

/// Gives the queue packets to receive into: frames that arrive before that are missed.
fn warm(client: &mut NetClient) -> Outcome {
    for _ in 0..4 {
        client.exchange(0)?;
    }
    Ok(())
}

pub(crate) fn frames_of_every_length_come_back_unchanged(context: &Arc<Context>) -> Outcome {
    let mut client = context.open_client(open_to_all(1500), 512)?;
    warm(&mut client)?;
    let before = context.net.statistics()??;
    let (mut number, mut bytes) = (0, 0);
    for len in (60..=1514).step_by(context.rounds(1, 61) as usize) {
        let first = number;
        let turn = send_all(&mut client, 0, BURST, |room| {
            number += 1;
            write(room, len, number)
        })?;
        let back = collect(&mut client, turn, BURST)?;
        for (frame, expected) in back.iter().zip(first + 1..) {
            ensure!(frame.len() == len, "{} of {len} bytes came back", frame.len());
            let number = read(frame)?;
            ensure!(number == expected, "frame {number} came back instead of {expected}");
        }
        bytes += (len * BURST) as u64;
    }
    let after = context.net.statistics()??;
    let count = u64::from(number);
    let sent = (after.sent - before.sent, after.sent_bytes - before.sent_bytes);
    ensure!(sent == (count, bytes), "{count} frames, {bytes} bytes, count as {sent:?}");
    ensure!(after.received - before.received == count, "received: {after:?}, before: {before:?}");
    ensure!(
        (after.missed, after.damaged, after.refused) == (before.missed, before.damaged, before.refused),
        "{after:?}"
    );
    let accounts = client.accounts();
    ensure!(accounts.missing == 0 && accounts.awaited == 0, "{accounts:?}");
    context.close(client)
}

pub(crate) fn frames_in_several_packets_come_back_whole(context: &Arc<Context>) -> Outcome {
    let mut client = context.open_client(open_to_all(9000), 512)?;
    warm(&mut client)?;
    for (number, len) in [(1, 1514), (2, 2049), (3, 4096), (4, 9014)] {
        let mut whole = alloc::vec![0; len];
        write(&mut whole, len, number);
        let mut batch = RRef::new(Batch::new());
        let parts = len.div_ceil(2048);
        for (index, part) in whole.chunks(2048).enumerate() {
            let Some(mut packet) = client.pool().take() else { break };
            packet.set_frame(part.len()).copy_from_slice(part);
            packet.head_mut().set_continues(index + 1 < parts);
            ensure!(batch.push_back(packet).is_ok(), "the batch is full");
        }
        ensure!(batch.len() == parts, "the pool is empty");
        *client.outgoing() = batch;
        let turn = client.exchange(soon())?;
        let back = collect(&mut client, turn, 1)?;
        ensure!(back[0].len() == len, "{} of {len} bytes came back", back[0].len());
        ensure!(read(&back[0])? == number, "the frame has another number");
    }
    context.close(client)
}

pub(crate) fn each_queue_starts_with_the_first_epoch(context: &Arc<Context>) -> Outcome {
    // The driver's own queues, and those of the shadow.
    for net in [&context.plain, &context.net] {
        for _ in 0..3 {
            let client = context.open_client_of(net, open_to_all(1500), 8)?;
            let (send, receive) = (RRef::new(Batch::new()), RRef::new(Batch::new()));
            let queue = loop {
                // The client has one of the device's queues; a second one is enough.
                match net.open(QueueDepth::default())? {
                    Ok(queue) => break queue,
                    Err(NetError::NoQueue { .. }) => time::sleep(Duration::from_millis(1)),
                    Err(error) => return Err(error.into()),
                }
            };
            let exchanged = queue.exchange(send, receive, 0)?;
            let epoch = exchanged.map(|exchanged| exchanged.epoch).ok();
            ensure!(epoch == Some(FIRST_EPOCH), "a new queue has epoch {epoch:?}");
            context.close(client)?;
            context.restart(DRIVER)?;
        }
    }
    Ok(())
}

/// Circulates frames for some time: each was received again, or is in a named count.
pub(crate) fn every_circulating_frame_is_accounted_for(context: &Arc<Context>) -> Outcome {
    let before = context.net.statistics()??;
    let mut client = context.open_client(open_to_all(1500), 700)?;
    client.reserve(0);
    warm(&mut client)?;
    let mut number = 0;
    send_all(&mut client, 0, 150, |room| {
        number += 1;
        write(room, 60 + number as usize % 1400, number)
    })?;
    let until = time::now() + Duration::from_secs(context.rounds(5, 2).into());
    while time::now() < until {
        client.forward(soon(), |_| {})?;
    }
    // Waits until no frame is in flight.
    let deadline = time::now() + SOON;
    loop {
        client.exchange(soon())?;
        let (now, counters) = (context.net.statistics()??, client.counters());
        let (sent, received) = (now.sent - before.sent, now.received - before.received);
        let undelivered = now.missed - before.missed + now.damaged - before.damaged;
        let is_sent = client.unsent() == 0 && sent == counters.taken - counters.refused;
        let has_arrived = received + undelivered == sent;
        let is_taken_in = counters.received == received - (now.dropped - before.dropped);
        if is_sent && has_arrived && is_taken_in {
            let ended = counters.turned_around + counters.overflowed + counters.recycled;
            let held = client.received().len() as u64;
            ensure!(ended + held == counters.received, "{counters:?}");
            ensure!(counters.written + counters.turned_around == counters.taken, "{counters:?}");
            ensure!(counters.lost == 0 && counters.reclaimed == 0, "{counters:?}");
            log::info!("{sent} frames sent, {received} received, {undelivered} missed or damaged");
            break;
        }
        ensure!(
            time::now() < deadline,
            "sent: {is_sent}, arrived: {has_arrived}, received: {is_taken_in}; {counters:?}, before {before:?}, now {now:?}"
        );
    }
    context.close(client)
}

pub(crate) fn a_device_refuses_invalid_frames_and_configurations(context: &Arc<Context>) -> Outcome {
    let mut client = context.open_client(open_to_all(1500), 64)?;
    warm(&mut client)?;
    let info = context.net.info()?;
    let mac = MacAddr::BROADCAST;
    let group = context.net.configure(NetConfig { mac: Some(mac), ..NetConfig::default() })?;
    ensure!(group == Err(NetError::Address { mac }), "a group address as the station's own: {group:?}");
    let long = context.net.configure(open_to_all(info.longest_frame))?;
    ensure!(matches!(long, Err(NetError::Mtu { .. })), "frames that are too long: {long:?}");
    ensure!(context.net.config()? == open_to_all(1500), "a refused configuration has changed something");
    for (len, why) in [(13, Refusal::TooShort), (1515, Refusal::TooLong)] {
        let turn = send_all(&mut client, 0, 1, |_| len)?;
        let outgoing = client.outgoing();
        let refusals: Vec<_> =
            (0..turn.returned).filter_map(|index| outgoing.get(index)?.refusal()).collect();
        ensure!(refusals == [why], "a frame of {len} bytes: {refusals:?}");
    }
    // A frame that is only too short is padded.
    let turn = send_all(&mut client, 0, 1, |room| write(room, 20, 5))?;
    let back = collect(&mut client, turn, 1)?;
    ensure!(back[0].len() == 60 && back[0][20..].iter().all(|&byte| byte == 0), "{:x?}", back[0]);
    context.close(client)
}

pub(crate) fn frames_for_other_stations_are_received_only_if_configured(context: &Arc<Context>) -> Outcome {
    let own = MacAddr([2, 0, 0, 0, 0, 8]);
    let group = [1, 0, 0x5e, 0, 0, 1];
    let mut groups = NetConfig { groups: 1, ..NetConfig::default() };
    groups.multicast[0] = MacAddr(group);
    let settings = [
        (NetConfig::default(), [false, false, true]),
        (NetConfig { mac: Some(own), ..NetConfig::default() }, [true, false, true]),
        (groups, [false, true, true]),
        (NetConfig { all_multicast: true, ..NetConfig::default() }, [false, true, true]),
        (open_to_all(1500), [true, true, true]),
    ];
    for (config, expected) in settings {
        let mut client = context.open_client(config, 64)?;
        warm(&mut client)?;
        let mut to = [own.0, group, MacAddr::BROADCAST.0].into_iter().zip(0..);
        let mut turn = send_all(&mut client, soon(), 3, |room| {
            let Some((to, number)) = to.next() else { return 0 };
            let len = write(room, 60, number);
            room[..6].copy_from_slice(&to);
            len
        })?;
        let mut seen = [false; 3];
        // The last frame is received in every configuration, so all others have arrived by then.
        let deadline = time::now() + SOON;
        while !seen[2] {
            if turn.received > 0 {
                for frame in frames(&mut client) {
                    seen[read(&frame)? as usize % 3] = true;
                }
            }
            ensure!(time::now() < deadline, "the broadcast frame did not come");
            turn = client.exchange(soon())?;
        }
        ensure!(seen == expected, "{config:?}: unicast, multicast, broadcast: {seen:?}");
        context.close(client)?;
    }
    Ok(())
}

pub(crate) fn two_queues_share_the_frames_by_their_addresses(context: &Arc<Context>) -> Outcome {
    let mut ports =
        [context.open_client(open_to_all(1500), 256)?, context.open_client(open_to_all(1500), 256)?];
    ports.iter_mut().try_for_each(warm)?;
    let [one, other] = &mut ports;
    let mut counts = [0_usize; 2];
    let mut queue_of = [[0_usize; 2]; 32];
    for _ in 0..4 {
        let mut flow = 0;
        send_all(one, 0, 32, |room| {
            flow += 1;
            datagram(room, flow)
        })?;
        let deadline = time::now() + SOON;
        let target = counts[0] + counts[1] + 32;
        while counts[0] + counts[1] < target {
            for (queue, client) in [&mut *one, &mut *other].into_iter().enumerate() {
                if queue == 1 || counts[0] + counts[1] + 32 > target {
                    client.exchange((time::now() + Duration::from_micros(200)).as_nanos() as u64)?;
                }
                for frame in frames(client) {
                    let flow = usize::from(frame[29]) % 32;
                    queue_of[flow][queue] += 1;
                    counts[queue] += 1;
                }
                // The received frames are verified at once.
                let mut packets = RRef::new(Batch::new());
                core::mem::swap(client.received(), &mut packets);
                client.pool().drain(&mut packets, 0);
            }
            ensure!(time::now() < deadline, "of {target} frames {counts:?} came back");
        }
    }
    ensure!(counts[0] > 0 && counts[1] > 0, "one queue has all frames: {counts:?}");
    let torn = queue_of.iter().position(|queues| queues[0] > 0 && queues[1] > 0);
    ensure!(torn.is_none(), "the frames of flow {torn:?} are in both queues: {queue_of:?}");
    let [one, other] = ports;
    context.close(one)?;
    context.close(other)
}

/// Writes an IPv4 packet with a UDP datagram (RFC 791, RFC 768) from a source address of its flow's own.
fn datagram(room: &mut [u8], flow: u8) -> usize {
    let len = write(room, 60, u32::from(flow));
    room[12..14].copy_from_slice(&[8, 0]);
    let header = [0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, flow, 10, 0, 1, 1];
    room[14..34].copy_from_slice(&header);
    let sum = header.as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum::<u32>();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    room[24..26].copy_from_slice(&sum.to_be_bytes());
    // The same UDP port in all of them: under a symmetric hash key, address and port would cancel each other
    // out.
    room[34..42].copy_from_slice(&[0x10, 1, 0x20, 0, 0, 26, 0, 0]);
    len
}

pub(crate) fn an_idle_client_waits_and_is_woken_by_a_frame(context: &Arc<Context>) -> Outcome {
    let mut client = context.open_client(open_to_all(1500), 64)?;
    warm(&mut client)?;
    let began = time::now();
    let until = began + Duration::from_millis(100);
    let mut exchanges = 0;
    while time::now() < until {
        let turn = client.exchange(until.as_nanos() as u64)?;
        ensure!(turn.received == 0, "frames that were not sent");
        exchanges += 1;
    }
    ensure!(exchanges < 60, "{exchanges} exchanges in 100 ms without frames");
    for number in 0..context.rounds(200, 20) {
        let turn = send_all(&mut client, soon(), 1, |room| write(room, 60, number))?;
        let back = collect(&mut client, turn, 1)?;
        ensure!(read(&back[0])? == number, "the frame has another number");
    }
    context.close(client)
}

pub(crate) fn a_device_is_configured_again_after_its_drivers_crash(context: &Arc<Context>) -> Outcome {
    let config = NetConfig { mac: Some(MacAddr([2, 0, 0, 0, 0, 8])), mtu: 4000, ..NetConfig::default() };
    let mut client = context.open_client(config, 128)?;
    for number in 0..context.rounds(20, 4) {
        context.restart(DRIVER)?;
        // The frames are for that address, and longer than the default MTU.
        let deadline = time::now() + SOON;
        loop {
            let turn = client.send(soon(), 1, |room| write(room, 2000, number))?;
            if turn.state == QueueState::Running && turn.received > 0 {
                break;
            }
            let outgoing = client.outgoing();
            let refusal = (0..turn.returned).find_map(|index| outgoing.get(index)?.refusal());
            ensure!(refusal.is_none(), "a frame within the device's MTU: {refusal:?}");
            ensure!(time::now() < deadline, "no frame is received after crash {number}");
        }
        for frame in frames(&mut client) {
            ensure!(frame.len() == 2000, "a frame of {} bytes", frame.len());
            read(&frame)?;
        }
        ensure!(context.net.config()? == config, "the configuration has changed");
    }
    context.close(client)
}

pub(crate) fn a_storm_of_kills_under_traffic_loses_no_packet(context: &Arc<Context>) -> Outcome {
    let mut client = context.open_client(open_to_all(1500), 600)?;
    let is_over = Arc::new(AtomicBool::new(false));
    let killer = {
        let (context, is_over) = (context.clone(), is_over.clone());
        let kills = context.rounds(300, 15);
        Builder::new().priority(1).spawn(move || {
            let mut random = Random::new(7, 7);
            for _ in 0..kills {
                time::sleep(Duration::from_micros(random.below(4000)));
                if context.restart(DRIVER).is_err() {
                    break;
                }
            }
            is_over.store(true, Ordering::Relaxed);
        })?
    };
    let (mut number, mut received, mut instances) = (0_u32, 0, 0);
    let outcome = (|| -> Outcome {
        let mut deadline = None;
        // Afterwards traffic flows again, as soon as the link of the last instance is up.
        while !is_over.load(Ordering::Relaxed) || received == 0 {
            if is_over.load(Ordering::Relaxed) {
                let deadline = *deadline.get_or_insert(time::now() + SOON);
                ensure!(time::now() < deadline, "no frame comes after the last of {instances} instances");
            } else {
                received = 0;
            }
            let turn = client.send(soon(), 32, |room| {
                number += 1;
                write(room, 60 + number as usize % 1400, number)
            })?;
            instances += u32::from(turn.is_new);
            received += turn.received;
            for frame in frames(&mut client) {
                let seen = read(&frame)?;
                ensure!((1..=number).contains(&seen), "frame {seen} of {number}");
            }
            let accounts = client.accounts();
            ensure!(accounts.missing == 0, "{accounts:?}");
        }
        Ok(())
    })();
    killer.join();
    outcome?;
    ensure!(instances > 0, "no instance ended under traffic");
    let deadline = time::now() + SOON;
    while client.accounts().awaited > 0 {
        ensure!(time::now() < deadline, "{:?}", client.accounts());
        client.exchange(soon())?;
    }
    context.close(client)
}

pub(crate) fn a_faulty_device_costs_frames_but_no_packets(context: &Arc<Context>) -> Outcome {
    let mut client = context.open_client_of(&context.faulty, open_to_all(1500), 600)?;
    let until = time::now() + Duration::from_secs(context.rounds(4, 2).into());
    let (mut number, mut whole, mut torn, mut pauses) = (0, 0, 0, 0);
    let (mut interrupted, deadline) = (0, until + SOON);
    // At least until the device was reset while it had frames to send.
    while time::now() < until || (interrupted == 0 && time::now() < deadline) {
        let turn = client.send(soon(), 16, |room| {
            number += 1;
            write(room, 60 + number as usize % 1400, number)
        })?;
        pauses += u32::from(turn.is_new);
        // Counters that were not read are lost with their instance.
        if interrupted == 0
            && let Ok(statistics) = context.faulty.statistics()?
        {
            interrupted = statistics.interrupted;
        }
        // The device may report frames that were never sent, and a read of the frame number accepts any bytes
        // of a frame. But no frame may exceed its packet.
        for frame in frames(&mut client) {
            if read(&frame).is_ok() { whole += 1 } else { torn += 1 }
        }
        let accounts = client.accounts();
        ensure!(accounts.missing == 0, "{accounts:?}");
    }
    ensure!(
        whole > 0,
        "of {number} frames none came back whole, {torn} came back damaged, in {pauses} pauses"
    );
    ensure!(interrupted > 0, "no frame was in flight in any reset, in {number} frames and {pauses} pauses");
    let deadline = time::now() + SOON;
    while client.accounts().awaited > 0 {
        ensure!(time::now() < deadline, "{:?}", client.accounts());
        client.exchange(soon())?;
    }
    log::info!(
        "{number} frames to a faulty device: {whole} whole, {torn} torn, {pauses} instances of its driver"
    );
    context.close(client)
}
