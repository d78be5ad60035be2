//! One test for each error of a manifest.

use super::*;
use crate::{Policy, Restart};

pub(crate) fn domain(name: &str, wires: &[(&str, &str)]) -> Domain {
    Domain {
        name: name.into(),
        image: name.into(),
        parent: KERNEL.into(),
        restart: Restart::Never,
        policy: Policy::default(),
        heap_bytes: 1 << 20,
        shared_bytes: 1 << 20,
        threads: 16,
        kernel_heap_bytes: 1 << 20,
        priority: crate::NORMAL_PRIORITY,
        stack_bytes: 64 << 10,
        deadline_ns: None,
        start_deadline_ns: crate::START_DEADLINE_NS,
        cpu_percent: None,
        log_rate: None,
        args: Vec::new(),
        devices: Vec::new(),
        wires: wires.iter().map(|(import, target)| ((*import).into(), (*target).into())).collect(),
    }
}

pub(crate) fn system(domains: impl IntoIterator<Item = Domain>) -> Manifest {
    Manifest { name: "test".into(), description: "".into(), domains: domains.into_iter().collect() }
}

fn refusal(manifest: &Manifest) -> String {
    manifest.validate().expect_err("the manifest is wrong").to_string()
}

#[test]
fn a_valid_manifest_is_accepted() {
    let wires = [("echo", "echo"), ("control_port", KERNEL)];
    assert_eq!(system([domain("client", &wires), domain("echo", &[])]).validate(), Ok(()));
}

#[test]
fn a_system_without_domains_is_refused() {
    assert_eq!(refusal(&system([])), "system: there is no [[domain]]");
}

#[test]
fn all_slots_but_two_are_available_to_domains() {
    let many = |count: usize| system((0..count).map(|i| domain(&format!("d{i}"), &[])));
    assert_eq!(many(DOMAIN_LIMIT).validate(), Ok(()));
    assert_eq!(refusal(&many(DOMAIN_LIMIT + 1)), "system: 255 domains, but a system has at most 254");
}

#[test]
fn names_have_a_maximum_length_and_a_restricted_alphabet() {
    let long = "x".repeat(NAME_LIMIT + 1);
    assert_eq!(system([domain(&long[1..], &[])]).validate(), Ok(()));
    let text = refusal(&system([domain(&long, &[])]));
    assert!(text.ends_with("is 33 bytes long, but names have 1 to 32"), "{text}");
    let text = refusal(&system([domain("", &[])]));
    assert_eq!(text, "name `` of domain 1: `` is 0 bytes long, but names have 1 to 32");
    let text = refusal(&system([domain("a", &[]), domain("Echo", &[])]));
    assert!(text.starts_with("name `Echo` of domain 2: `Echo` has 'E', but"), "{text}");
    let text = refusal(&system([domain("client", &[("écho", "client")])]));
    assert!(text.starts_with("domain `client`, wire `écho`: `écho` has 'é', but"), "{text}");
}

#[test]
fn the_name_of_the_system_is_checked_too() {
    let mut manifest = system([domain("a", &[])]);
    manifest.name = "two words".into();
    assert!(refusal(&manifest).starts_with("system: `two words` has ' ', but"));
}

#[test]
fn no_image_name_leaves_the_images_folder() {
    let mut manifest = system([domain("a", &[])]);
    manifest.domains[0].image = "../manifest".into();
    assert!(refusal(&manifest).starts_with("domain `a`, image: `../manifest` has '.', but"));
}

#[test]
fn the_name_kernel_is_reserved() {
    assert_eq!(
        refusal(&system([domain(KERNEL, &[])])),
        "name `kernel` of domain 1: the name stands for the kernel itself"
    );
}

#[test]
fn two_domains_of_one_name_are_refused() {
    let manifest = system([domain("a", &[]), domain("b", &[]), domain("a", &[])]);
    assert_eq!(refusal(&manifest), "name `a` of domain 3: domain 1 has the same name");
}

#[test]
fn a_wire_to_nowhere_is_refused() {
    let manifest = system([domain("client", &[("echo", "ekko")])]);
    assert_eq!(
        refusal(&manifest),
        "domain `client`, wire `echo`: leads to `ekko`, but no domain has that name"
    );
}

#[test]
fn a_wire_to_itself_is_refused() {
    let manifest = system([domain("client", &[("echo", "client")])]);
    assert_eq!(refusal(&manifest), "domain `client`, wire `echo`: leads back to the domain itself");
}

#[test]
fn a_cycle_is_refused_and_printed() {
    let manifest = system([
        domain("outside", &[("a", "a")]),
        domain("a", &[("next", "b"), ("other", "leaf")]),
        domain("b", &[("next", "c")]),
        domain("c", &[("next", "a")]),
        domain("leaf", &[]),
    ]);
    assert_eq!(
        refusal(&manifest),
        "domain `a`, wire `next`: wires and parents form a cycle, so no order of starting works: a -> b -> c -> a"
    );
}

#[test]
fn a_quota_of_zero_is_refused() {
    type Change = fn(&mut Domain);
    let changes: [(&str, Change); 7] = [
        ("cpu", |d| d.cpu_percent = Some(0)),
        ("log-rate", |d| d.log_rate = Some(0)),
        ("heap", |d| d.heap_bytes = 0),
        ("shared", |d| d.shared_bytes = 0),
        ("kernel-heap", |d| d.kernel_heap_bytes = 0),
        ("stack", |d| d.stack_bytes = 0),
        ("threads", |d| d.threads = 0),
    ];
    for (key, change) in changes {
        let mut manifest = system([domain("a", &[])]);
        change(&mut manifest.domains[0]);
        assert_eq!(refusal(&manifest), format!("domain `a`, {key}: a quota of 0 lets the domain do nothing"));
    }
}

#[test]
fn a_deadline_is_neither_zero_nor_too_long() {
    type Change = fn(&mut Domain, u64);
    let changes: [(&str, Change); 2] = [
        ("deadline", |d, ns| d.deadline_ns = Some(ns)),
        ("start-deadline", |d, ns| d.start_deadline_ns = ns),
    ];
    for (key, change) in changes {
        let with = |ns| {
            let mut manifest = system([domain("a", &[])]);
            change(&mut manifest.domains[0], ns);
            manifest
        };
        assert_eq!(with(1).validate(), Ok(()));
        assert_eq!(with(DEADLINE_LIMIT_NS).validate(), Ok(()));
        assert_eq!(refusal(&with(0)), format!("domain `a`, {key}: a call cannot take no time at all"));
        assert_eq!(
            refusal(&with(DEADLINE_LIMIT_NS + 1_000_000_000)),
            format!("domain `a`, {key}: 301 s is longer than the 300 s that a deadline may be")
        );
    }
}

#[test]
fn a_domain_with_a_deadline_is_wired_to_none_that_may_take_longer() {
    let with = |own: Option<u64>, other: Option<u64>| {
        let mut manifest =
            system([domain("client", &[("next", "server"), ("control", KERNEL)]), domain("server", &[])]);
        manifest.domains[0].deadline_ns = own;
        manifest.domains[1].deadline_ns = other;
        manifest
    };
    const MS: u64 = 1_000_000;
    assert_eq!(with(None, None).validate(), Ok(()));
    assert_eq!(with(None, Some(5 * MS)).validate(), Ok(()));
    assert_eq!(with(Some(5 * MS), Some(5 * MS)).validate(), Ok(()));
    assert_eq!(with(Some(6 * MS), Some(5 * MS)).validate(), Ok(()));
    assert_eq!(
        refusal(&with(Some(5 * MS), Some(6 * MS))),
        "domain `client`, wire `next`: leads to `server`, which may take 6 ms: the domain could not keep its own \
         deadline of 5 ms"
    );
    assert_eq!(
        refusal(&with(Some(5 * MS), None)),
        "domain `client`, wire `next`: leads to `server`, which has no deadline: the domain could not keep its own of \
         5 ms"
    );
}

#[test]
fn a_quota_of_a_fractional_page_is_refused() {
    let mut manifest = system([domain("a", &[])]);
    manifest.domains[0].stack_bytes = 5000;
    assert_eq!(refusal(&manifest), "domain `a`, stack: 5000 bytes are not a whole number of pages");
}

#[test]
fn a_quota_beyond_the_memory_is_impossible() {
    const MEMORY: u64 = 64 << 20;
    let mut manifest = system([domain("a", &[]), domain("b", &[])]);
    assert_eq!(manifest.validate_against(MEMORY), Ok(()));

    manifest.domains[1].heap_bytes = 1 << 30;
    let error = manifest.validate_against(MEMORY).expect_err("1 GiB of 64 MiB");
    assert_eq!(
        error.to_string(),
        "domain `b`, heap: impossible quota: 1073741824 bytes, but the machine has 67108864 bytes of memory"
    );

    manifest.domains[1] = domain("b", &[]);
    manifest.domains[1].threads = u32::MAX;
    manifest.domains[1].stack_bytes = u64::MAX - u64::MAX % PAGE_BYTES;
    let error = manifest.validate_against(MEMORY).expect_err("the product does not fit in 64 bits either");
    assert!(matches!(error.part, ManifestPart::Domain { index: 1, key: Key::Stack, .. }));
}

#[test]
fn quotas_that_fit_alone_may_be_more_than_memory_together() {
    let manifest = system([domain("a", &[]), domain("b", &[])]);
    let each = manifest.domains[0].memory_bytes();
    assert_eq!(each, 4 << 20);
    assert_eq!(manifest.validate_against(each), Ok(()));
}

#[test]
fn a_missing_image_is_named() {
    let manifest = system([domain("client", &[]), domain("echo", &[])]);
    assert_eq!(manifest.check_images(&["echo", "client", "spare"]), Ok(()));
    let error = manifest.check_images(&["client"]).expect_err("no image for echo");
    assert_eq!(error.to_string(), "domain `echo`, image: the boot archive has no image `echo`");
}

#[test]
fn an_address_is_granted_once_and_a_class_any_number_of_times() {
    let granted = |name: &str, devices: &[&str]| {
        let devices = devices.iter().map(|text| text.parse().expect("it is well-formed")).collect();
        Domain { devices, ..domain(name, &[]) }
    };
    let class = ["class 010802", "class 010802"];
    assert_eq!(system([granted("a", &class), granted("b", &class)]).validate(), Ok(()));
    let twice = system([granted("a", &["at 00:04.0"]), granted("b", &["at 00:03.0", "at 00:04.0"])]);
    let expected =
        "domain `b`, devices: the device at 00:04.0 is granted to `a` already, and to one domain only";
    assert_eq!(refusal(&twice), expected);
    let many = system([granted("a", &["class 010802"; DEVICE_LIMIT + 1])]);
    assert_eq!(refusal(&many), "domain `a`, devices: 17 devices, but a domain has at most 16");
}
