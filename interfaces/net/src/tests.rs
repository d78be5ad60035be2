//! Heads decode to the values that were encoded, and bad configurations are refused.

use super::*;

fn info() -> NetInfo {
    NetInfo {
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        model: Text::new("none"),
        queues: 1,
        max_send_depth: 64,
        max_receive_depth: 64,
        longest_frame: 9018,
        min_packet_bytes: 1024,
        offloads: Offloads::default(),
    }
}

#[test]
fn a_head_decodes_as_it_was_encoded() {
    let mut head = PacketHead::new(7).with_start(2);
    assert!(head.is_spare() && head.hash().is_none() && head.refusal().is_none());
    let checks = ChecksumReport { ip: Some(true), transport: Some(false) };
    head.receive(1514, 99, checks, Some(5), true);
    assert_eq!((head.tag(), head.start(), head.len(), head.received_ns()), (7, 2, 1514, 99));
    assert_eq!((head.checks(), head.hash(), head.continues()), (checks, Some(5), true));
    let offload = ChecksumOffload {
        ip_checksum: true,
        udp_checksum: true,
        link_bytes: 14,
        network_bytes: 20,
        ..ChecksumOffload::default()
    };
    head.set_frame(60);
    assert!(!head.has_offload() && !head.continues() && head.checks() == ChecksumReport::default());
    head.set_offload(offload);
    assert_eq!(head.offload(), offload);
    head.refuse(Refusal::Offload);
    assert_eq!((head.is_spare(), head.refusal()), (true, Some(Refusal::Offload)));
    head.refuse(Refusal::Unknown);
    assert_eq!(head.refusal(), Some(Refusal::Unknown));
}

#[test]
fn an_inconsistent_config_is_refused() {
    let good = NetConfig::default();
    assert_eq!(good.check(&info()), Ok(()));
    let group = MacAddr([1, 0, 0x5e, 0, 0, 1]);
    assert_eq!(NetConfig { mac: Some(group), ..good }.check(&info()), Err(NetError::Address { mac: group }));
    let zero = MacAddr::default();
    assert_eq!(NetConfig { mac: Some(zero), ..good }.check(&info()), Err(NetError::Address { mac: zero }));
    let error = NetError::Mtu { mtu: 9005, least: 68, most: 9004 };
    assert_eq!(NetConfig { mtu: 9005, ..good }.check(&info()), Err(error));
    assert_eq!(NetConfig { mtu: 9004, ..good }.check(&info()), Ok(()));
    assert_eq!(
        NetConfig { groups: 33, ..good }.check(&info()),
        Err(NetError::Groups { groups: 33, most: 32 })
    );
    let station = NetConfig { groups: 1, ..good };
    assert_eq!(station.check(&info()), Err(NetError::Group { mac: zero }));
    let mut member = station;
    member.multicast[0] = group;
    assert_eq!(member.check(&info()), Ok(()));
}
