//! What texts mean.

use super::*;
use crate::Tester;

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
        assert!(config.open().is_ok_and(|wire| wire.is_up() == (end != EndConfig::Nobody)));
    }
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
    ] {
        let error = WireConfig::default().set(key, value).expect_err(value).to_string();
        assert!(error.starts_with(said), "{value}: {error}");
    }
    assert!(parse_end("hole").is_err() && parse_end("loopback").is_ok());
}
