//! What texts mean.

use std::net::{SocketAddr, SocketAddrV4};

use super::*;
use crate::{Forward, ForwardRule, StreamAddress, Tester};

#[test]
fn a_text_says_what_a_wire_is_like() {
    let mut config = WireConfig::default();
    assert_eq!(config.set("queues", "3"), Ok(false));
    for (text, rate) in [
        ("unlimited", Rate::Unlimited),
        ("10G", Rate::TEN_GIGABIT),
        ("2500M", Rate::BitsPerSecond(2_500_000_000)),
    ] {
        assert_eq!((config.set("rate", text), config.rate), (Ok(true), rate));
    }
    for (text, end) in [
        ("none", EndConfig::Nobody),
        ("loopback", EndConfig::Loopback { frames: 4096 }),
        ("loopback:frames=2", EndConfig::Loopback { frames: 2 }),
        ("tester", EndConfig::Tester { mac: Tester::MAC }),
        ("tester:mac=02:c0:00:00:00:01", EndConfig::Tester { mac: [2, 0xc0, 0, 0, 0, 1] }),
    ] {
        assert_eq!(config.set("end", text), Ok(true), "{text}");
        assert_eq!(config.end, end);
        assert!(config.open().is_ok_and(|wire| wire.is_up(0) == (end != EndConfig::Nobody)));
    }
}

#[test]
fn captures_sockets_and_trouble_have_texts() {
    let port = |number| SocketAddr::from(([127, 0, 0, 1], number));
    for (text, end) in [
        (
            "pcap:in=a.pcap+fast=yes+loop=yes+out=b.pcap",
            EndConfig::Pcap {
                input: Some("a.pcap".into()),
                output: Some("b.pcap".into()),
                is_fast: true,
                repeats: true,
            },
        ),
        (
            "pcap:out=b.pcap",
            EndConfig::Pcap { input: None, output: Some("b.pcap".into()), is_fast: false, repeats: false },
        ),
        ("pair:cable", EndConfig::Pair { name: "cable".into() }),
        ("tap:tap0", EndConfig::Tap { name: "tap0".into() }),
        ("forward", EndConfig::Forward { rules: vec![] }),
        (
            "forward:tcp=8080:10.0.2.15:80+tcp=2222:10.0.2.15:22",
            EndConfig::Forward {
                rules: [(8080, 80), (2222, 22)]
                    .map(|(port, to)| ForwardRule { port, guest: SocketAddrV4::new(Forward::GUEST, to) })
                    .into(),
            },
        ),
        (
            "udp:local=127.0.0.1:9000+remote=127.0.0.1:9001",
            EndConfig::Udp { local: port(9000), remote: port(9001) },
        ),
        (
            "stream:listen=127.0.0.1:9000",
            EndConfig::Stream { address: StreamAddress::Tcp(port(9000)), listens: true },
        ),
        (
            "stream:connect=/tmp/wire",
            EndConfig::Stream { address: StreamAddress::Unix("/tmp/wire".into()), listens: false },
        ),
    ] {
        assert_eq!(EndConfig::parse(text), Ok(end), "{text}");
    }
    let mut config = WireConfig::default();
    for (key, value) in [
        ("trouble", "drop:1/1000"),
        ("trouble-in", "delay:always:5us"),
        ("trouble-out", "flap:#3"),
        ("trouble-seed", "9"),
    ] {
        assert_eq!(config.set(key, value), Ok(true));
    }
    assert_eq!((config.trouble_inward.len(), config.trouble_outward.len(), config.trouble_seed), (2, 2, 9));
    assert!(config.open().is_ok_and(|wire| wire.trouble().is_some()));
}

#[test]
fn what_the_host_does_not_have_is_told() {
    let missing = EndConfig::parse("pcap:in=/nowhere/a.pcap").expect("a text").open().err();
    assert!(
        missing
            .is_some_and(|error| error.to_string().starts_with("cannot open the capture /nowhere/a.pcap: "))
    );
    let capture = WireConfig { capture: Some("/nowhere/a.pcap".into()), ..WireConfig::default() };
    assert!(capture.open().is_err());
}

#[test]
fn a_text_that_means_nothing_is_told_why() {
    for (key, value, said) in [
        ("rate", "fast", "`fast` is no rate: write bits in a second"),
        ("rate", "0G", "`0G` is no rate"),
        ("rate", "99999999999G", "`99999999999G` is no rate"),
        ("end", "hole", "there is no end `hole` of a wire; there are none, loopback"),
        ("end", "tester:fast", "`fast` is not of the form KEY=VALUE"),
        ("end", "none:mac=1", "`mac` means nothing to `none`"),
        ("end", "loopback:frames=0", "frames: `0` is no whole number from 1 to 1048576"),
        ("end", "loopback:frames=2+frames=3", "`frames` means nothing to `loopback`"),
        ("end", "tester:mac=01:00:00:00:00:01", "`01:00:00:00:00:01` is no address of a station"),
        ("end", "tester:mac=02:00:00:00:00:1:", "`02:00:00:00:00:1:` is no address"),
        ("end", "tester:mac=2:0:0:0:0:1", "`2:0:0:0:0:1` is no address"),
        ("end", "pcap:fast=yes", "`pcap` lacks in=FILE or out=FILE; there are none, loopback"),
        ("end", "pcap:in=a+loop=maybe", "loop: `maybe` is neither yes nor no"),
        ("end", "pair", "`pair` lacks a name"),
        ("end", "udp:local=127.0.0.1:1", "`udp` lacks remote"),
        ("end", "udp:local=here", "`here` is no address of a socket"),
        ("end", "stream:listen=/a+connect=/b", "`stream` lacks either listen=ADDRESS or connect=ADDRESS"),
        ("end", "tap:", "`tap` lacks a name"),
        ("end", "forward:tcp=80", "`80` is no port to be forwarded: write the host's"),
        ("end", "forward:udp=8080:10.0.2.15:80", "`udp` means nothing to `forward`"),
        ("trouble", "drop", "`drop` lacks a rate"),
        ("trouble-in", "explode:1/2", "`explode` is no kind of fault; the kinds are drop, delay"),
        ("trouble-seed", "x", "trouble-seed: `x` is no whole number"),
    ] {
        let error = WireConfig::default().set(key, value).expect_err(value).to_string();
        assert!(error.starts_with(said), "{value}: {error}");
    }
    assert!(parse_end("hole").is_err() && parse_end("loopback").is_ok());
}
