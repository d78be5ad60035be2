//! Checksums, segments, tags and hashes.

mod rig;

use rig::{MAC, Rig, Ring, frame};

/// A context descriptor: Ethernet of 14 bytes, IPv4 of 20, a transport header, MSS.
fn context(rig: &Rig, send: &mut Ring, is_tcp: bool, transport_bytes: u64, mss: u64, vlan: u64) {
    let first = 20 | 14 << 9 | vlan << 16;
    let kind = if is_tcp { 1 << 11 } else { 0 };
    rig.put(send, [first, 2 << 20 | 1 << 29 | 1 << 10 | kind | transport_bytes << 40 | mss << 48]);
}

/// An IPv4 packet with `payload` behind a TCP or UDP header, whose checksum is the sum over the pseudo header
/// (without the length if it is to be segmented).
fn packet(is_tcp: bool, payload: &[u8], with_length: bool) -> Vec<u8> {
    let header = if is_tcp { 20 } else { 8 };
    let transport = header + payload.len();
    let mut packet = frame(MAC, 34 + transport, 0);
    packet[12..14].copy_from_slice(&[8, 0]);
    packet[14..34].fill(0);
    packet[14] = 0x45;
    packet[16..18].copy_from_slice(&((20 + transport) as u16).to_be_bytes());
    packet[18..20].copy_from_slice(&[0x12, 0x34]);
    packet[22] = 64;
    packet[23] = if is_tcp { 6 } else { 17 };
    packet[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    packet[34..34 + header].fill(0);
    packet[34..38].copy_from_slice(&[0x30, 0x39, 0x00, 0x50]);
    let mut seed = add(&packet[26..34]) + u32::from(packet[23]);
    if with_length {
        seed += transport as u32;
    }
    let seed = fold(seed).to_be_bytes();
    if is_tcp {
        packet[38..42].copy_from_slice(&0xffff_ff00_u32.to_be_bytes());
        packet[46] = 0x50;
        // PSH and ACK.
        packet[47] = 0x18;
        packet[50..52].copy_from_slice(&seed);
    } else {
        packet[38..40].copy_from_slice(&(transport as u16).to_be_bytes());
        packet[40..42].copy_from_slice(&seed);
    }
    packet[34 + header..].copy_from_slice(payload);
    packet
}

fn add(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low))).sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Returns true if both checksums of a packet are right.
fn is_right(packet: &[u8]) -> bool {
    let end = 14 + usize::from(u16::from_be_bytes([packet[16], packet[17]]));
    let pseudo = add(&packet[26..34]) + u32::from(packet[23]) + (end - 34) as u32;
    fold(add(&packet[14..34])) == 0xffff && fold(add(&packet[34..end]) + pseudo) == 0xffff
}

/// POPTS: IXSM and TXSM.
const SUMS: u64 = 3 << 40;

#[test]
fn checksums_are_inserted_and_verified() {
    let rig = Rig::new("rate=unlimited");
    let mut receive = rig.receive_queue(0, 64);
    let mut send = rig.send_queue(0, 64);
    for is_tcp in [false, true] {
        for len in [0, 1, 8, 33, 1400] {
            let payload: Vec<u8> = (0..len).map(|byte| byte as u8 | 1).collect();
            let sent = packet(is_tcp, &payload, true);
            context(&rig, &mut send, is_tcp, 0, 0, 0);
            rig.send_with(&mut send, &sent, SUMS);
            let received = rig.receive(&mut receive);
            assert!(is_right(&received.bytes), "{len} bytes");
            // IPCS and L4I, no error; UDPCS for UDP alone.
            assert_eq!(received.status & 0xe000_0070, if is_tcp { 0x60 } else { 0x70 }, "{len} bytes");
            // IPv4 and TCP or UDP.
            assert_eq!(received.first >> 4 & 0x7f, if is_tcp { 0x11 } else { 0x21 });
            // Without offload both checksums are wrong.
            rig.send(&mut send, &sent);
            assert_eq!(rig.receive(&mut receive).status >> 30, 3, "{len} bytes");
        }
    }
    assert_eq!(rig.get(0x4120), 10, "XEC");
}

#[test]
fn a_packet_is_segmented() {
    let rig = Rig::new("rate=unlimited");
    let mut receive = rig.receive_queue(0, 64);
    let mut send = rig.send_queue(0, 64);
    let payload: Vec<u8> = (0..1800_u32).map(|byte| (byte * 7) as u8).collect();
    let sent = packet(true, &payload, false);
    context(&rig, &mut send, true, 20, 500, 0);
    rig.send_with(&mut send, &sent, SUMS | 1 << 31);
    let mut found = Vec::new();
    for (index, len) in [500, 500, 500, 300].into_iter().enumerate() {
        let part = rig.receive(&mut receive).bytes;
        assert_eq!(part.len(), 54 + len);
        assert!(is_right(&part), "segment {index}");
        assert_eq!(part[18..20], (0x1234 + index as u16).to_be_bytes());
        let sequence = 0xffff_ff00_u32.wrapping_add(500 * index as u32);
        assert_eq!(part[38..42], sequence.to_be_bytes());
        assert_eq!(part[47], if index == 3 { 0x18 } else { 0x10 });
        found.extend_from_slice(&part[54..]);
    }
    assert_eq!(found, payload);
}

#[test]
fn vlan_tags_are_inserted_and_stripped() {
    let rig = Rig::new("rate=unlimited");
    let mut receive = rig.receive_queue(0, 64);
    let mut send = rig.send_queue(0, 64);
    let sent = frame(MAC, 100, 3);
    context(&rig, &mut send, false, 0, 0, 0x2005);
    rig.send_with(&mut send, &sent, 1 << 30);
    let tagged = rig.receive(&mut receive);
    assert_eq!(tagged.bytes.len(), 104);
    assert_eq!(tagged.bytes[12..18], [0x81, 0, 0x20, 5, 0x88, 0xb5]);
    assert_eq!(tagged.status >> 3 & 1, 0);
    // RXDCTL.VME.
    rig.set(0x1028, 1 << 25 | 1 << 30);
    rig.send_with(&mut send, &sent, 1 << 30);
    let stripped = rig.receive(&mut receive);
    assert_eq!((stripped.bytes, stripped.vlan, stripped.status >> 3 & 1), (sent.clone(), 0x2005, 1));
    // VLNCTRL.VFE: only VLANs in the table.
    rig.set(0x5088, 1 << 30 | 0x8100);
    // TPR, which a read clears, shows when the frame has passed the filter.
    rig.get(0x40d0);
    rig.send_with(&mut send, &sent, 1 << 30);
    rig.wait(0x40d0, u32::MAX, 1);
    rig.set(0xa000, 1 << 5);
    rig.send(&mut send, &frame(MAC, 60, 9));
    assert_eq!(rig.receive(&mut receive).bytes[20], 9);
    rig.send_with(&mut send, &sent, 1 << 30);
    assert_eq!(rig.receive(&mut receive).vlan, 0x2005);
}

#[test]
fn flows_are_distributed_to_queues_by_their_hashes() {
    let rig = Rig::new("rate=unlimited");
    // The key; the table, with entry n for queue n % 4; RXCSUM.PCSD; MRQC: RSS by IPv4 and UDP.
    for word in 0..10 {
        rig.set(0xeb80 + 4 * word, 0x1234_5679_u32.wrapping_mul(word as u32 + 1));
    }
    for entry in 0..32 {
        rig.set(0xeb00 + 4 * entry, 0x0302_0100);
    }
    rig.set(0x5000, 1 << 13);
    rig.set(0xec80, 1 | 1 << 22);
    let mut queues: Vec<Ring> = (0..4).map(|index| rig.receive_queue(index, 64)).collect();
    let mut send = rig.send_queue(0, 64);
    let mut seen = [0; 4];
    for flow in 0..32 {
        let mut sent = packet(false, &[0; 20], true);
        sent[34] = flow;
        rig.send(&mut send, &sent);
        let mut found = None;
        rig.until(
            || {
                found =
                    queues.iter_mut().enumerate().find_map(|(index, queue)| Some((index, rig.poll(queue)?)));
                found.is_some()
            },
            "a frame",
        );
        let (index, received) = found.expect("it came");
        assert_eq!(received.first & 0xf, 7, "the type of the hash");
        assert_eq!((received.first >> 32) as usize % 4, index);
        seen[index] += 1;
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}
