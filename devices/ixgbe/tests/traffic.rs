//! Frames through a loopback.

mod rig;

use std::time::Duration;

use rig::{MAC, Rig, frame};

#[test]
fn frames_sent_to_a_loopback_are_received() {
    let rig = Rig::new("rate=unlimited");
    let mut receive = rig.receive_queue(0, 64);
    let mut send = rig.send_queue(0, 64);
    for (number, len) in [60, 64, 65, 1514, 61].into_iter().enumerate() {
        let sent = frame(MAC, len, number as u8);
        rig.send(&mut send, &sent);
        let received = rig.receive(&mut receive);
        assert_eq!(received.bytes, sent, "{len} bytes");
        assert_eq!(received.status & 0xf000_0003, 3, "{len} bytes");
        rig.until(|| rig.is_done(&send, number as u32), "the report");
    }
    rig.until(|| rig.get(0x1010) == 5 && rig.get(0x6010) == 5, "the heads");
    assert_eq!((rig.get(0x4074), rig.get(0x4080)), (5, 5), "GPRC, GPTC");
    assert_eq!((rig.get(0x4074), rig.get(0x4080)), (0, 0), "a read clears");
    // Sizes with FCS: one frame of 64, three up to 127, one larger than 1023.
    assert_eq!((rig.get(0x405c), rig.get(0x4060), rig.get(0x4070)), (1, 3, 1));
}

#[test]
fn frames_keep_their_order_when_rings_wrap() {
    let rig = Rig::new("rate=unlimited");
    let mut receive = rig.receive_queue(0, 128);
    let mut send = rig.send_queue(0, 64);
    let mut next = 0_u32;
    for _ in 0..200 {
        let first = next;
        for _ in 0..50 {
            let mut sent = frame(MAC, 60, 0);
            sent[20..24].copy_from_slice(&next.to_be_bytes());
            let buffer = rig.buffer(&send, send.tail);
            rig.bench.poke(buffer, &sent);
            rig.put(&mut send, [buffer, 1 << 29 | 3 << 20 | 3 << 24 | 1 << 27 | 60 | 60 << 46]);
            next += 1;
        }
        rig.ring_tail(&send);
        for number in first..next {
            let received = rig.receive(&mut receive);
            assert_eq!(received.bytes[20..24], number.to_be_bytes());
            rig.give(&mut receive);
        }
        rig.ring_tail(&receive);
    }
    assert_eq!(rig.get(0x1030), 10_000, "QPRC");
}

#[test]
fn frames_without_buffers_wait_until_the_packet_buffer_is_full() {
    let rig = Rig::new("rate=unlimited");
    // RXPBSIZE: 1 KiB, which holds sixteen frames of 60 bytes.
    rig.set(0x3c00, 1 << 10);
    let mut receive = rig.empty_receive_queue(0, 64);
    let mut send = rig.send_queue(0, 64);
    for number in 0..20 {
        rig.send(&mut send, &frame(MAC, 60, number));
    }
    rig.until(|| rig.is_done(&send, 19), "the last report");
    let mut missed = 0;
    rig.until(
        || {
            missed += rig.get(0x3fa0);
            missed == 4
        },
        "MPC",
    );
    for _ in 0..40 {
        rig.give(&mut receive);
    }
    rig.ring_tail(&receive);
    for number in 0..16 {
        assert_eq!(rig.receive(&mut receive).bytes, frame(MAC, 60, number));
    }
    assert!(!rig.happens(|| rig.poll(&mut receive).is_some(), Duration::from_millis(20)));
}

#[test]
fn a_queue_with_drop_enabled_drops_frames_without_descriptors() {
    let rig = Rig::new("rate=unlimited");
    let receive = rig.empty_receive_queue(0, 64);
    // SRRCTL.DROP_EN.
    rig.set(receive.registers + 0x14, 1 << 28 | 1 << 25 | 2);
    let mut send = rig.send_queue(0, 64);
    rig.send(&mut send, &frame(MAC, 60, 1));
    let mut dropped = 0;
    rig.until(
        || {
            dropped += rig.get(0x1430);
            dropped == 1
        },
        "QPRDC",
    );
}

#[test]
fn a_large_frame_spans_several_buffers() {
    let rig = Rig::new("rate=unlimited");
    // HLREG0.JUMBOEN, MAXFRS.
    rig.set(0x4240, rig.get(0x4240) | 1 << 2);
    rig.set(0x4268, 9018 << 16);
    let mut receive = rig.receive_queue(0, 64);
    let mut send = rig.send_queue(0, 64);
    let sent: Vec<u8> = frame(MAC, 14, 0).into_iter().chain((0..5000_u32).map(|byte| byte as u8)).collect();
    // Three descriptors; PAYLEN is the length of the whole frame.
    for (index, part) in sent.chunks(2000).enumerate() {
        let buffer = rig.buffer(&send, send.tail);
        rig.bench.poke(buffer, part);
        let last = if index == 2 { 1 << 24 | 1 << 27 } else { 0 };
        let length = part.len() as u64 | (sent.len() as u64) << 46;
        rig.put(&mut send, [buffer, 1 << 29 | 3 << 20 | 1 << 25 | last | length]);
    }
    rig.ring_tail(&send);
    let mut found = Vec::new();
    for expected in [1, 1, 3] {
        let received = rig.receive(&mut receive);
        assert_eq!(received.status & 3, expected);
        found.extend(received.bytes);
    }
    assert_eq!(found, sent);
}

#[test]
fn frames_for_other_stations_or_too_long_are_discarded() {
    let rig = Rig::new("rate=unlimited");
    let mut receive = rig.receive_queue(0, 64);
    let mut send = rig.send_queue(0, 64);
    let other = [2, 0, 0, 0, 0, 2];
    let group = [1, 0, 0x5e, 0, 0, 1];
    rig.send(&mut send, &frame(other, 60, 1));
    rig.send(&mut send, &frame(group, 60, 2));
    rig.send(&mut send, &frame(MAC, 1515, 3));
    rig.send(&mut send, &frame([0xff; 6], 60, 4));
    assert_eq!(rig.receive(&mut receive).bytes[20], 4);
    assert_eq!(rig.get(0x40ac), 1, "ROC");
    // FCTRL: all multicast.
    rig.set(0x5080, 1 << 10 | 1 << 8);
    rig.send(&mut send, &frame(other, 60, 5));
    rig.send(&mut send, &frame(group, 60, 6));
    assert_eq!(rig.receive(&mut receive).bytes[20], 6);
    // All unicast.
    rig.set(0x5080, 1 << 10 | 1 << 9);
    rig.send(&mut send, &frame(group, 60, 7));
    rig.send(&mut send, &frame(other, 60, 8));
    assert_eq!(rig.receive(&mut receive).bytes[20], 8);
    // The multicast table: bits 47:36 of the address, of which byte 4 is the low half and byte 5 the high.
    rig.set(0x5080, 0);
    rig.set(0x5200, 1 << 0x10);
    rig.set(0x5090, 1 << 2);
    rig.send(&mut send, &frame([1, 0, 0x5e, 0, 0, 2], 60, 9));
    rig.send(&mut send, &frame(group, 60, 10));
    assert_eq!(rig.receive(&mut receive).bytes[20], 10);
    assert_eq!((rig.get(0x407c), rig.get(0x4078)), (2, 1), "MPRC, BPRC");
}

#[test]
fn legacy_descriptors_work_in_both_directions() {
    let rig = Rig::new("rate=unlimited");
    let mut receive = rig.empty_receive_queue(0, 64);
    // SRRCTL.DESCTYPE: legacy.
    rig.set(receive.registers + 0x14, 2);
    rig.give(&mut receive);
    rig.ring_tail(&receive);
    let mut send = rig.send_queue(0, 64);
    let sent = frame(MAC, 77, 5);
    let buffer = rig.buffer(&send, 0);
    rig.bench.poke(buffer, &sent);
    // EOP, IFCS, RS; no DEXT.
    rig.put(&mut send, [buffer, 77 | 1 << 24 | 1 << 25 | 1 << 27]);
    rig.ring_tail(&send);
    let at = receive.descriptors;
    // Status is the fifth byte of the second word: DD and EOP.
    rig.until(|| rig.bench.peek_u32(at + 12) & 3 == 3, "the descriptor");
    assert_eq!(rig.bench.peek_u32(at + 8), 77);
    assert_eq!(u64::from(rig.bench.peek_u32(at)), rig.buffer(&receive, 0), "the address stays");
    assert_eq!(rig.bench.peek(rig.buffer(&receive, 0), 77), sent);
    rig.until(|| rig.is_done(&send, 0), "the report");
}

#[test]
fn the_head_is_written_back_to_memory() {
    let rig = Rig::new("rate=unlimited");
    let mut send = rig.send_queue(0, 64);
    let place = rig.bench.allocate(4096);
    // TDWBAL with its enable bit, TDWBAH.
    rig.set(0x603c, (place >> 32) as u32);
    rig.set(0x6038, place as u32 | 1);
    for number in 0..3 {
        rig.send(&mut send, &frame(MAC, 60, number));
    }
    rig.until(|| rig.bench.peek_u32(place) == 3, "the head");
    assert!(!rig.is_done(&send, 0), "descriptors stay as they are");
}

#[test]
fn the_fcs_is_stored_if_it_is_not_stripped() {
    let rig = Rig::new("rate=unlimited");
    // HLREG0.RXCRCSTRP off.
    rig.set(0x4240, rig.get(0x4240) & !(1 << 1));
    let mut receive = rig.receive_queue(0, 64);
    let mut send = rig.send_queue(0, 64);
    let sent = frame(MAC, 60, 1);
    rig.send(&mut send, &sent);
    let received = rig.receive(&mut receive);
    assert_eq!((received.bytes.len(), &received.bytes[..60]), (64, &sent[..]));
    // The sum over a frame with its FCS is a constant (IEEE 802.3, section 3.2.9).
    let sum = received.bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| sum >> 1 ^ if sum & 1 == 0 { 0 } else { 0xedb8_8320 })
    });
    assert_eq!(!sum, 0x2144_df1c);
}
