use device_bus::Rate;

use super::*;
use crate::fault_injection::Kind;

#[test]
fn a_description_sets_all_properties() {
    let text = "file=disk.img,memory=64M,latency=10us,latency-per-kib=100ns,lba=4096,queues=8,mqes=255,mdts=5,\
                cache=0,sync=yes,ready=1ms,spin=0,seed=7,serial=A1,stride=2,spare-admin=yes,\
                faults=drop:1/1000+delay:@100:5ms+unplug:#3+fatal:never+lost:always";
    let rule = |kind, rate, duration_ns| Rule { kind, rate, duration_ns };
    let expected = NvmeConfig {
        namespaces: vec![Backing::File { path: "disk.img".into() }, Backing::Memory { bytes: 64 << 20 }],
        lba_bytes: 4096,
        queues: 8,
        mqes: 255,
        mdts: 5,
        stride: 2,
        cache_bytes: 0,
        sync: true,
        latency_ns: 10_000,
        latency_per_kib_ns: 100,
        ready_ns: 1_000_000,
        spin_ns: 0,
        faults: vec![
            rule(Kind::Drop, Rate::Probability { times: 1, of: 1000 }, None),
            rule(Kind::Delay, Rate::Every(100), Some(5_000_000)),
            rule(Kind::Unplug, Rate::Once(3), None),
            rule(Kind::Fatal, Rate::Never, None),
            rule(Kind::Lost, Rate::Every(1), None),
        ],
        spare_admin: true,
        seed: 7,
        serial: "A1".into(),
    };
    assert_eq!(NvmeConfig::parse(text), Ok(expected));
    assert_eq!(NvmeConfig::parse(""), Ok(NvmeConfig::default()));
}

#[test]
fn a_malformed_description_is_refused_with_the_reason() {
    for (text, expected) in [
        ("file", "`file` is not of the form KEY=VALUE"),
        ("disk=a.img", "`disk` is no option of an NVMe device; the options are memory, file, lba"),
        ("memory=64MB", "memory: `64MB` is no size: write a whole number of bytes, or of K, M, G or T"),
        ("latency=10", "latency: `10` is no duration: write a whole number of ns, us, ms or s"),
        ("ready=2000000s", "ready: `2000000s` is more than an hour"),
        ("queues=70000", "queues: `70000` is no whole number up to 65535"),
        ("sync=true", "sync: `true` is neither yes nor no"),
        ("faults=explode:1/2", "faults: `explode` is no kind of fault; the kinds are delay, reorder, drop,"),
        ("faults=drop", "faults: `drop` lacks a rate, such as `drop:1/1000`"),
        ("faults=drop:2/1", "faults: `2/1` is no rate: write 1/1000 (a probability), @1000"),
        ("faults=drop:@0", "faults: `@0` is no rate"),
        ("faults=drop:1/2:5ms", "faults: `drop` takes no duration"),
    ] {
        let error = NvmeConfig::parse(text).expect_err(text).to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}
