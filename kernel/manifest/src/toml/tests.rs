//! Tests of the TOML form and its error messages.

use super::*;

pub(crate) const CHAIN: &str = r#"
[system]
name = "chain"
description = "A client that talks to an echo through a relay."

[[domain]]
name = "client"
restart = "always"
restart-limit = 3
restart-window = "2 s"
restart-pause = "3 ms"
restart-pause-limit = "4 s"
upcall-deadline = "20 ms"
heap = "8 MiB"
threads = 4
priority = 1
start-deadline = "2 s"
cpu = 250
log-rate = 50
args = ["scenario=all", "verbose"]
devices = ["class 010802", "at 00:04.0"]
wires = { next = "relay", control = "kernel" }

[[domain]]
name = "relay"
image = "relay-slow"
shared = 5000
stack = "64 KiB"
kernel-heap = "100 KiB"
deadline = "5 ms"

[domain.wires]
next = "echo"

[[domain]]
name = "echo"
deadline = "500us"
"#;

const SYSTEM: &str = "[system]\nname = \"test\"\ndescription = \"\"\n";

/// The refusal of a manifest whose line 4 is `[[domain]]` and whose further lines are `lines`.
fn refusal(lines: &str) -> String {
    match TomlManifest::parse(&format!("{SYSTEM}[[domain]]\n{lines}\n")) {
        Ok(_) => panic!("accepted: {lines}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_entry_is_read() {
    let manifest = TomlManifest::parse(CHAIN).expect("the sample is valid").into_manifest();
    assert_eq!(manifest.name, "chain");
    let client = &manifest.domains[0];
    assert_eq!((client.image.as_str(), client.restart), ("client", Restart::Always));
    assert_eq!((client.heap_bytes, client.threads), (8 << 20, 4));
    assert_eq!((client.deadline_ns, client.start_deadline_ns), (Some(120_000_000_000), 2_000_000_000));
    assert_eq!(client.cpu_percent, Some(250));
    assert_eq!((client.priority, client.log_rate), (1, Some(50)));
    let policy = Policy {
        restart_limit: 3,
        restart_window_ns: 2_000_000_000,
        restart_pause_ns: 3_000_000,
        restart_pause_limit_ns: 4_000_000_000,
        upcall_deadline_ns: 20_000_000,
    };
    assert_eq!((client.policy, &*client.parent), (policy, "kernel"));
    assert_eq!(client.args, ["scenario=all", "verbose"]);
    let devices: Vec<_> = client.devices.iter().map(ToString::to_string).collect();
    assert_eq!(devices, ["class 010802", "at 00:04.0"]);
    assert_eq!(client.wires["next"], "relay");
    assert_eq!(client.wires["control"], "kernel");
    let relay = &manifest.domains[1];
    assert_eq!(relay.image, "relay-slow");
    assert_eq!((relay.stack_bytes, relay.kernel_heap_bytes), (64 << 10, 100 << 10));
    assert_eq!(relay.deadline_ns, Some(5_000_000));
    assert_eq!(manifest.start_order(), [2, 1, 0]);
}

#[test]
fn omitted_entries_have_defaults() {
    let manifest = TomlManifest::parse(CHAIN).expect("the sample is valid").into_manifest();
    let expected = Domain {
        name: "echo".into(),
        image: "echo".into(),
        parent: "kernel".into(),
        restart: Restart::Never,
        policy: Policy::default(),
        heap_bytes: 4 << 20,
        shared_bytes: 16 << 20,
        threads: 16,
        kernel_heap_bytes: 1 << 20,
        priority: 2,
        stack_bytes: 128 << 10,
        deadline_ns: Some(500_000),
        start_deadline_ns: 10_000_000_000,
        cpu_percent: Some(400),
        log_rate: Some(1000),
        args: Vec::new(),
        devices: Vec::new(),
        wires: BTreeMap::new(),
    };
    assert_eq!(manifest.domains[2], expected);
}

#[test]
fn sizes_are_rounded_up_to_pages() {
    let manifest = TomlManifest::parse(CHAIN).expect("the sample is valid").into_manifest();
    assert_eq!(manifest.domains[1].shared_bytes, 8192);
}

#[test]
fn broken_toml_names_line_and_column() {
    let error =
        TomlManifest::parse("[system]\nname = \"a\ndescription = \"\"\n").err().expect("no closing quote");
    assert_eq!((error.line, error.column), (2, 10), "{error}");
    assert!(matches!(error.problem, TomlProblem::Shape(_)));
}

/// The deadlines of the domains, in seconds; the entries after each name are in `domains`.
fn deadlines(domains: &[(&str, &str)]) -> Vec<Option<u64>> {
    let tables = domains.iter().map(|(name, entries)| format!("[[domain]]\nname = \"{name}\"\n{entries}\n"));
    let text = format!("{SYSTEM}{}", tables.collect::<String>());
    let manifest = TomlManifest::parse(&text).expect("it is well-formed").into_manifest();
    manifest.domains.iter().map(|domain| domain.deadline_ns.map(|ns| ns / 1_000_000_000)).collect()
}

#[test]
fn a_domain_without_a_deadline_gets_the_default() {
    assert_eq!(deadlines(&[("a", ""), ("b", "wires = { a = \"a\", k = \"kernel\" }")]), [Some(120); 2]);
    assert_eq!(deadlines(&[("a", "deadline = \"none\"")]), [None]);
}

#[test]
fn a_default_deadline_is_not_shorter_than_those_of_its_wires() {
    let (slow, fast) = ("deadline = \"200 s\"", "deadline = \"1 s\"");
    let (to_b, to_c) = ("wires = { b = \"b\" }", "wires = { c = \"c\" }");
    assert_eq!(deadlines(&[("a", to_b), ("b", to_c), ("c", slow)]), [Some(200); 3]);
    assert_eq!(deadlines(&[("a", to_b), ("b", to_c), ("c", fast)]), [Some(120), Some(120), Some(1)]);
    let none = "deadline = \"none\"";
    assert_eq!(deadlines(&[("a", to_b), ("b", to_c), ("c", none), ("d", "")]), [None, None, None, Some(120)]);
    // An explicit deadline is checked, not changed.
    let text = refusal(&format!("name = \"a\"\n{slow}\n{to_b}\n[[domain]]\nname = \"b\"\n{none}"));
    assert!(text.contains("wire `b`: leads to `b`, which has no deadline"), "{text}");
}

#[test]
fn limits_can_be_lifted_and_are_numbers_otherwise() {
    let text = format!("{SYSTEM}[[domain]]\nname = \"a\"\ncpu = \"none\"\nlog-rate = \"none\"\n");
    let manifest = TomlManifest::parse(&text).expect("it is well-formed").into_manifest();
    assert_eq!((manifest.domains[0].cpu_percent, manifest.domains[0].log_rate), (None, None));
    let text = refusal("name = \"a\"\nlog-rate = \"some\"");
    assert!(text.contains("expected a number, or \"none\""), "{text}");
    let text = refusal("name = \"a\"\ncpu = -1");
    assert!(text.starts_with("line 6, column 7: ") && text.contains("-1"), "{text}");
    let text = refusal("name = \"a\"\npriority = 4");
    assert_eq!(
        text,
        "line 6, column 12: domain `a`, priority: there is no priority 4: 0 is the most urgent, 3 the least"
    );
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let text = refusal("name = \"a\"\nheep = 1");
    assert!(text.starts_with("line 6, column 1: unknown field `heep`, expected one of"), "{text}");
    let error = TomlManifest::parse(&format!("{SYSTEM}[domains]\n")).err().expect("it is [[domain]]");
    assert!(error.to_string().starts_with("line 4, column 2: unknown field `domains`"), "{error}");
}

#[test]
fn a_missing_name_is_named() {
    let text = refusal("heap = 4096");
    assert_eq!(text, "line 4, column 1: missing field `name`");
}

#[test]
fn a_value_of_the_wrong_kind_says_what_was_expected() {
    let text = refusal("name = \"a\"\nrestart = \"sometimes\"");
    assert!(text.starts_with("line 6, column 11: unknown variant `sometimes`, expected"), "{text}");
    let text = refusal("name = \"a\"\nheap = true");
    assert!(text.contains("expected a size such as \"4 MiB\", or a number of bytes"), "{text}");
    let text = refusal("name = \"a\"\nthreads = -1");
    assert!(text.starts_with("line 6, column 11: "), "{text}");
}

#[test]
fn a_malformed_size_is_refused_with_reason_and_location() {
    let text = refusal("name = \"a\"\nheap = \"4 MB\"");
    assert_eq!(text, "line 6, column 8: `MB` is no unit of size: use KiB, MiB or GiB, or none for bytes");
    let text = refusal("name = \"a\"\nheap = -4096");
    assert_eq!(text, "line 6, column 8: a size cannot be negative, but this is -4096");
    let text = refusal("name = \"a\"\nheap = \"17179869183 GiB\"\nshared = \"18446744073709551615\"");
    assert_eq!(text, "line 7, column 10: the size does not fit in 64 bits");
}

#[test]
fn a_malformed_duration_is_refused_with_reason_and_location() {
    let text = refusal("name = \"a\"\ndeadline = \"4 min\"");
    assert_eq!(text, "line 6, column 12: `min` is no unit of time: use ns, us, ms or s");
    let text = refusal("name = \"a\"\nstart-deadline = \"4\"");
    assert_eq!(text, "line 6, column 18: a duration needs a unit: ns, us, ms or s");
    let text = refusal("name = \"a\"\ndeadline = 5");
    assert!(text.contains("expected a duration such as \"5 ms\""), "{text}");
}

#[test]
fn a_malformed_time_is_refused_with_reason_and_location() {
    let text = refusal("name = \"a\"\nrestart-window = \"1 min\"");
    assert_eq!(text, "line 6, column 18: `min` is no unit of time: use ns, us, ms or s");
    let text = refusal("name = \"a\"\nupcall-deadline = \"0 s\"");
    assert_eq!(text, "line 6, column 19: domain `a`, upcall-deadline: a time of 0 is not allowed");
    let text = refusal("name = \"a\"\nrestart-pause = \"0 s\"");
    assert_eq!(text, "line 6, column 17: domain `a`, restart-pause: a time of 0 is not allowed");
    let text = refusal("name = \"a\"\nrestart-pause-limit = \"0 s\"");
    assert_eq!(text, "line 6, column 23: domain `a`, restart-pause-limit: a time of 0 is not allowed");
    let text = refusal("name = \"a\"\nupcall-deadline = 5");
    assert!(text.contains("expected a duration such as \"5 ms\""), "{text}");
}

#[test]
fn errors_of_parents_are_located() {
    let text = refusal("name = \"a\"\nparent = \"b\"");
    assert_eq!(text, "line 6, column 10: domain `a`, parent: leads to `b`, but no domain has that name");
    let text = refusal(
        "name = \"a\"\nthreads = 16\nheap = \"8 MiB\"\nshared = \"32 MiB\"\n[[domain]]\nname = \"b\"\nparent = \"a\"",
    );
    assert!(text.starts_with("line 6, column 11: domain `a`, threads: the quota is 16, but"), "{text}");
}

#[test]
fn a_key_given_twice_is_refused() {
    let text = refusal("name = \"a\"\nname = \"b\"");
    assert!(text.starts_with("line 6, column 1: duplicate key"), "{text}");
}

#[test]
fn validation_errors_are_located() {
    let text = refusal("name = \"a\"\nstack = 0");
    assert!(text.starts_with("line 6, column 9: domain `a`, stack: a quota of 0"), "{text}");
    let text = refusal("name = \"a\"\nwires = { x = \"kernel\", y = \"b\" }");
    assert!(text.starts_with("line 6, column 25: domain `a`, wire `y`: leads to `b`"), "{text}");
    let text = refusal("name = \"a\"\nstart-deadline = \"301 s\"");
    assert!(text.starts_with("line 6, column 18: domain `a`, start-deadline: 301 s is longer"), "{text}");
    let text = refusal("name = \"a\"\ndeadline = \"1 ms\"\nwires = { x = \"b\" }\n[[domain]]\nname = \"b\"");
    assert!(
        text.starts_with("line 7, column 11: domain `a`, wire `x`: leads to `b`, which may take 120 s"),
        "{text}"
    );
    let text = refusal("name = \"a\"\n[[domain]]\nname = \"a\"");
    assert!(text.starts_with("line 7, column 8: name `a` of domain 2"), "{text}");
}

#[test]
fn errors_of_later_checks_are_located() {
    let parsed = TomlManifest::parse(CHAIN).expect("the sample is valid");
    let error =
        parsed.manifest().check_images(&["client", "relay", "echo"]).expect_err("relay-slow is missing");
    let error = parsed.locate(error);
    assert_eq!((error.line, error.column), (26, 9));
    // The echo's own image is omitted, so its name is the location.
    let error = parsed.manifest().check_images(&["client", "relay-slow"]).expect_err("echo is missing");
    assert_eq!(parsed.locate(error).line, 36);
}

#[test]
fn a_malformed_device_selector_is_located() {
    let text = refusal("name = \"a\"\ndevices = [\"class 010802\", \"nvme\"]");
    assert!(text.starts_with("line 6, column "), "{text}");
    assert!(text.contains("a device is `class 010802`, `id 8086:10fb` or `at 00:04.0`"), "{text}");
    let text = refusal("name = \"a\"\ndevices = [\"at 00:04.0\", \"at 00:04.0\"]");
    let expected = "line 6, column 11: domain `a`, devices: the device at 00:04.0 is granted to `a` already, and to \
                    one domain only";
    assert_eq!(text, expected);
}

#[test]
fn devices_of_the_machine_are_kept_for_the_launcher() {
    let text = format!("{SYSTEM}[[device]]\nmodel = \"nvme\"\nmemory = \"64M\"\n[[domain]]\nname = \"a\"\n");
    let parsed = TomlManifest::parse(&text).expect("it is well-formed");
    let [device] = parsed.devices() else { panic!("{:?}", parsed.devices()) };
    assert_eq!((device.model.as_str(), device.options["memory"].as_str()), ("nvme", "64M"));
    let text = format!("{SYSTEM}[[device]]\nmemory = \"64M\"\n[[domain]]\nname = \"a\"\n");
    let error = TomlManifest::parse(&text).err().expect("no model").to_string();
    assert_eq!(error, "line 4, column 1: missing field `model`");
}
