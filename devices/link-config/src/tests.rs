//! Parsing of options, and the messages for wrong ones.

use std::net::{SocketAddr, SocketAddrV4};

use device_host_net::{ForwardRule, StreamAddress, UserNet};
use device_link::Tester;

use super::*;

#[test]
fn options_configure_a_wire() {
    let mut config = WireConfig::default();
    assert_eq!(config.set("queues", "3"), Ok(false));
    for (text, rate) in [
        ("unlimited", Rate::Unlimited),
        ("10G", Rate::TEN_GIGABIT),
        ("2500M", Rate::BitsPerSecond(2_500_000_000)),
    ] {
        assert_eq!((config.set("rate", text), config.rate), (Ok(true), rate));
    }
    for (text, peer) in [
        ("none", PeerConfig::None),
        ("loopback", PeerConfig::Loopback { frames: 4096 }),
        ("loopback:frames=2", PeerConfig::Loopback { frames: 2 }),
        ("tester", PeerConfig::Tester { mac: Tester::MAC }),
        ("tester:mac=02:c0:00:00:00:01", PeerConfig::Tester { mac: [2, 0xc0, 0, 0, 0, 1] }),
    ] {
        assert_eq!(config.set("peer", text), Ok(true), "{text}");
        assert_eq!(config.peer, peer);
        assert!(config.open().is_ok_and(|wire| wire.is_up(0) == (peer != PeerConfig::None)));
    }
}

#[test]
fn captures_sockets_and_impairment_are_parsed() {
    let port = |number| SocketAddr::from(([127, 0, 0, 1], number));
    for (text, peer) in [
        (
            "pcap:in=a.pcap+fast=yes+loop=yes+out=b.pcap",
            PeerConfig::Pcap {
                input: Some("a.pcap".into()),
                output: Some("b.pcap".into()),
                is_fast: true,
                repeats: true,
            },
        ),
        (
            "pcap:out=b.pcap",
            PeerConfig::Pcap { input: None, output: Some("b.pcap".into()), is_fast: false, repeats: false },
        ),
        ("pair:cable", PeerConfig::Pair { name: "cable".into() }),
        ("tap:tap0", PeerConfig::Tap { name: "tap0".into() }),
        ("forward", PeerConfig::UserNet { rules: vec![] }),
        (
            "forward:tcp=8080:10.0.2.15:80+tcp=2222:10.0.2.15:22",
            PeerConfig::UserNet {
                rules: [(8080, 80), (2222, 22)]
                    .map(|(port, to)| ForwardRule { port, guest: SocketAddrV4::new(UserNet::GUEST, to) })
                    .into(),
            },
        ),
        (
            "udp:local=127.0.0.1:9000+remote=127.0.0.1:9001",
            PeerConfig::Udp { local: port(9000), remote: port(9001) },
        ),
        (
            "stream:listen=127.0.0.1:9000",
            PeerConfig::Stream { address: StreamAddress::Tcp(port(9000)), listens: true },
        ),
        (
            "stream:connect=/tmp/wire",
            PeerConfig::Stream { address: StreamAddress::Unix("/tmp/wire".into()), listens: false },
        ),
    ] {
        assert_eq!(PeerConfig::parse(text), Ok(peer), "{text}");
    }
    let mut config = WireConfig::default();
    for (key, value) in [
        ("impair", "drop:1/1000"),
        ("impair-in", "delay:always:5us"),
        ("impair-out", "flap:#3"),
        ("impair-seed", "9"),
    ] {
        assert_eq!(config.set(key, value), Ok(true));
    }
    assert_eq!((config.impair_inward.len(), config.impair_outward.len(), config.impair_seed), (2, 2, 9));
    assert!(config.open().is_ok_and(|wire| wire.impairment().is_some()));
}

#[test]
fn a_missing_file_is_reported() {
    let missing = PeerConfig::parse("pcap:in=/nowhere/a.pcap").expect("a text").open().err();
    assert!(
        missing
            .is_some_and(|error| error.to_string().starts_with("cannot open the capture /nowhere/a.pcap: "))
    );
    let capture = WireConfig { capture: Some("/nowhere/a.pcap".into()), ..WireConfig::default() };
    assert!(capture.open().is_err());
}

#[test]
fn an_invalid_option_is_reported_with_its_reason() {
    for (key, value, said) in [
        ("rate", "fast", "`fast` is not a rate: write bits per second"),
        ("rate", "0G", "`0G` is not a rate"),
        ("rate", "99999999999G", "`99999999999G` is not a rate"),
        ("peer", "hole", "there is no peer `hole`; there are none, loopback"),
        ("peer", "tester:fast", "`fast` is not of the form KEY=VALUE"),
        ("peer", "none:mac=1", "`none` has no option `mac`"),
        ("peer", "loopback:frames=0", "frames: `0` is not a whole number from 1 to 1048576"),
        ("peer", "loopback:frames=2+frames=3", "`loopback` has no option `frames`"),
        ("peer", "tester:mac=01:00:00:00:00:01", "`01:00:00:00:00:01` is not the MAC address of a station"),
        ("peer", "tester:mac=02:00:00:00:00:1:", "`02:00:00:00:00:1:` is not the MAC address"),
        ("peer", "tester:mac=2:0:0:0:0:1", "`2:0:0:0:0:1` is not the MAC address"),
        ("peer", "pcap:fast=yes", "`pcap` lacks in=FILE or out=FILE; there are none, loopback"),
        ("peer", "pcap:in=a+loop=maybe", "loop: `maybe` is neither yes nor no"),
        ("peer", "pair", "`pair` lacks a name"),
        ("peer", "udp:local=127.0.0.1:1", "`udp` lacks remote"),
        ("peer", "udp:local=here", "`here` is not a socket address"),
        ("peer", "stream:listen=/a+connect=/b", "`stream` lacks either listen=ADDRESS or connect=ADDRESS"),
        ("peer", "tap:", "`tap` lacks a name"),
        ("peer", "forward:tcp=80", "`80` is not a forwarding rule: write the host's"),
        ("peer", "forward:udp=8080:10.0.2.15:80", "`forward` has no option `udp`"),
        ("impair", "drop", "`drop` lacks a rate"),
        ("impair-in", "explode:1/2", "`explode` is no kind of fault"),
        ("impair-seed", "x", "impair-seed: `x` is no whole number"),
    ] {
        let error = WireConfig::default().set(key, value).expect_err(value).to_string();
        assert!(error.starts_with(said), "{value}: {error}");
    }
    assert!(parse_peer("hole").is_err() && parse_peer("loopback").is_ok());
}
