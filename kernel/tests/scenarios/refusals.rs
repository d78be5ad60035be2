//! Systems that cannot run: each ends at once in failure, with a message that gives the reason and its
//! location.

use std::path::Path;
use std::time::Duration;

use coppice_abi::note;
use coppice_seal::{SigningKey, Verdict};

use crate::archive::{self, Archive};
use crate::harness::{Harness, Parallel};
use crate::machine::{Boot, Devices, Ending, Launch, Machine};

/// A change to an archive's entries.
type ArchiveChange = fn(&mut Archive);

/// A change to an archive's bytes.
type ByteChange = fn(&mut Vec<u8>);

/// The limit for a boot that is refused.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The option for archives that a test has changed: their seals no longer match.
const UNSIGNED: &str = "accept=unsigned";

/// A change to a good archive (that of system `tour`), and the parts of the expected message.
struct Damage {
    name: &'static str,
    change: ArchiveChange,
    message: &'static [&'static str],
}

/// Changes that only the seal shows.
const BROKEN_SEALS: &[Damage] = &[
    Damage {
        name: "an_archive_without_a_seal_is_refused",
        change: |archive| {
            archive.entries.remove(coppice_seal::ENTRY);
        },
        message: &["boot archive: the archive is not signed"],
    },
    Damage {
        name: "a_sealed_archive_with_another_image_is_refused",
        change: |archive| {
            let last = archive.image("echo").len() - 1;
            archive.image("echo")[last] ^= 1;
        },
        message: &["boot archive: the content of images/echo is not the signed one"],
    },
    Damage {
        name: "a_sealed_archive_with_two_images_exchanged_is_refused",
        change: |archive| {
            let echo = archive.image("echo").clone();
            let relay = std::mem::replace(archive.image("relay"), echo);
            *archive.image("echo") = relay;
        },
        message: &["boot archive: the content of images/echo is not the signed one"],
    },
    Damage {
        name: "a_sealed_archive_with_other_quotas_is_refused",
        change: |archive| archive.domain("echo").heap_bytes *= 2,
        message: &["boot archive: the content of manifest is not the signed one"],
    },
    Damage {
        name: "a_sealed_archive_with_one_more_image_is_refused",
        change: |archive| {
            let echo = archive.image("echo").clone();
            archive.entries.insert("images/late".into(), echo);
        },
        message: &["boot archive: the seal does not list images/late"],
    },
    Damage {
        name: "a_sealed_archive_without_a_table_of_symbols_is_refused",
        change: |archive| {
            archive.entries.remove("symbols/echo");
        },
        message: &["boot archive: the archive lacks 1 of the sealed entries"],
    },
    Damage {
        name: "a_seal_with_a_changed_signature_is_refused",
        // The signature follows the key of 32 bytes.
        change: |archive| archive.entry(coppice_seal::ENTRY)[40] ^= 1,
        message: &["boot archive: the signature does not match the seal"],
    },
    Damage {
        name: "a_seal_of_another_key_is_refused",
        change: |archive| archive.seal(&SigningKey::generate().0, Some(Verdict::Passed)),
        message: &["boot archive: the archive is signed with key", "but this kernel trusts"],
    },
    Damage {
        name: "an_image_with_findings_of_the_audit_is_refused",
        change: |archive| archive.seal(&signing_key(), Some(Verdict::Failed { findings: 3 })),
        message: &["boot archive: the isolation audit has 3 findings in image"],
    },
    Damage {
        name: "an_image_that_was_not_audited_is_refused",
        change: |archive| archive.seal(&signing_key(), None),
        message: &["boot archive: image", "was not audited"],
    },
];

/// The key with which `cargo xtask` has signed the good archive.
fn signing_key() -> SigningKey {
    let path = std::env::var_os("COPPICE_SIGNING_KEY").expect("`cargo xtask test` sets it");
    let seed = std::fs::read_to_string(path).expect("`cargo xtask` has made the key");
    SigningKey::parse(seed.trim()).expect("it is a key")
}

/// Damages in which all tar entries are intact.
const DAMAGES: &[Damage] = &[
    Damage {
        name: "an_archive_without_a_manifest_is_refused",
        change: |archive| archive.manifest = None,
        message: &["boot archive: no entry `manifest`"],
    },
    Damage {
        name: "a_garbage_manifest_is_refused",
        change: |archive| {
            archive.manifest = None;
            archive
                .entries
                .insert("manifest".into(), (0..200_u8).map(|byte| byte.wrapping_mul(93)).collect());
        },
        message: &["manifest: malformed manifest"],
    },
    Damage {
        name: "a_manifest_with_trailing_bytes_is_refused",
        change: |archive| {
            let mut bytes = archive.manifest.take().expect("a good archive").encode();
            bytes.extend(b"and more");
            archive.entries.insert("manifest".into(), bytes);
        },
        message: &["malformed manifest: 8 bytes follow its end at offset"],
    },
    Damage {
        name: "a_cycle_of_wires_is_refused",
        change: |archive| {
            archive.domain("left").wires.insert("next".into(), "right".into());
        },
        message: &["domain `left`, wire `next`", "cycle", "left -> right -> left"],
    },
    Damage {
        name: "a_wire_to_an_unknown_domain_is_refused",
        change: |archive| {
            archive.domain("left").wires.insert("next".into(), "missing".into());
        },
        message: &["domain `left`, wire `next`: leads to `missing`"],
    },
    Damage {
        name: "an_impossible_quota_is_refused",
        change: |archive| archive.domain("echo").heap_bytes = 1 << 40,
        message: &["domain `echo`, heap: impossible quota: 1099511627776 bytes"],
    },
    Damage {
        name: "a_missing_image_is_refused",
        change: |archive| {
            archive.entries.remove("images/relay");
        },
        message: &["domain `left`, image: the boot archive has no image `relay`"],
    },
    Damage {
        name: "a_truncated_image_is_refused",
        change: |archive| {
            let image = archive.image("echo");
            image.truncate(image.len() / 2);
        },
        message: &["echo: the image is refused"],
    },
    Damage {
        name: "an_empty_image_is_refused",
        change: |archive| archive.image("echo").clear(),
        message: &["echo: the image is refused"],
    },
    Damage {
        name: "a_garbage_image_is_refused",
        change: |archive| archive.image("echo").iter_mut().for_each(|byte| *byte = byte.wrapping_add(0x5a)),
        message: &["echo: the image is refused"],
    },
    Damage {
        name: "an_image_for_another_architecture_is_refused",
        // e_machine of an ELF64 header; 183 is AArch64.
        change: |archive| archive.image("echo")[18..20].copy_from_slice(&183_u16.to_le_bytes()),
        message: &["echo: the image is refused", "183"],
    },
    Damage {
        name: "an_image_of_another_abi_is_refused",
        change: |archive| change_fingerprint(archive.image("echo"), note::IDENTITY, None),
        message: &["echo: the image is refused", "ABI"],
    },
    Damage {
        name: "an_image_built_with_another_version_of_an_interface_is_refused",
        change: |archive| change_fingerprint(archive.image("relay"), note::INTERFACE, Some("Echo")),
        message: &["left: the image is refused: it was built with interface Echo as", "but this kernel has"],
    },
    Damage {
        name: "an_image_that_imports_another_version_of_an_interface_is_refused",
        change: |archive| change_fingerprint(archive.image("relay"), note::IMPORT, Some("next")),
        message: &["left: ", "`next` is interface Echo"],
    },
    Damage {
        name: "an_import_without_a_wire_is_refused",
        change: |archive| archive.domain("left").wires.clear(),
        message: &["left: the manifest wires nothing to its import `next`"],
    },
    Damage {
        name: "a_wire_without_an_import_is_refused",
        change: |archive| {
            archive.domain("left").wires.insert("other".into(), "echo".into());
        },
        message: &["left: the manifest wires `other`, which the image does not import"],
    },
    Damage {
        name: "a_wire_to_a_domain_that_exports_nothing_is_refused",
        change: |archive| {
            let relay = archive.add("late", "relay");
            relay.wires.insert("next".into(), "tour".into());
        },
        message: &["late: its import `next` is wired to `tour`, which exports nothing"],
    },
    Damage {
        name: "a_domain_with_a_bad_argument_is_reported_with_its_error_and_does_not_panic",
        change: |archive| archive.domain("tour").args = vec!["target=nothing".into()],
        // An error of the loader ends with the domain's words; a panic would be reported as a crash.
        message: &["kernel: ERROR tour: there is no domain nothing"],
    },
    Damage {
        name: "a_missing_device_is_named",
        change: |archive| {
            archive.domain("echo").devices = vec!["class 010802".parse().expect("it is well-formed")];
        },
        message: &["echo: the machine has no device `class 010802` that is not another domain's"],
    },
    Damage {
        name: "a_wire_to_another_interface_is_refused",
        change: |archive| {
            archive.domain("left").wires.insert("next".into(), "kernel".into());
        },
        message: &["left: its import `next` is interface Echo", "but its wire leads to fingerprint"],
    },
];

/// Changes the fingerprint in a note of `kind` that contains `name`.
fn change_fingerprint(image: &mut [u8], kind: u32, name: Option<&str>) {
    // The layout of note::Note: sizes of name and descriptor, type, name, descriptor.
    let kind = kind.to_le_bytes();
    let is_note = |at: usize| image[at..].starts_with(&note::NAME) && image[at - 4..at] == kind;
    let is_named = |at: usize| {
        let wire = at + note::NAME.len();
        let named = |start: usize, name: &str| {
            let field = &image[start..start + note::NAME_LIMIT];
            field.starts_with(name.as_bytes()) && field[name.len()] == 0
        };
        name.is_none_or(|name| named(wire, name) || named(wire + note::NAME_LIMIT, name))
    };
    let at = (12..image.len() - 100).find(|&at| is_note(at) && is_named(at)).expect("the image has the note");
    let descriptor = at + note::NAME.len();
    // An identity begins with its fingerprint; a wire ends with it.
    let fingerprint = if name.is_none() { descriptor } else { descriptor + 2 * note::NAME_LIMIT };
    image[fingerprint] ^= 1;
}

/// Boots each damaged archive.
pub(crate) fn run(harness: &mut Harness, machine: &Machine, archives: &Path) {
    let good = Archive::read(&archives.join("tour.tar"));
    let boot = |name: &str, bytes: &[u8], options: &str| {
        let archive = archive::write(name, bytes);
        machine.boot(Launch {
            archive: &archive,
            cpus: 2,
            memory: "128M",
            options,
            devices: Devices::None,
            board: &[],
            exact: false,
            timeout: TIMEOUT,
        })
    };
    let (good, boot) = (&good, &boot);
    let mut tests = Parallel::default();
    for Damage { name, change, message } in DAMAGES {
        tests.test(&format!("{}::{name}", machine.name()), move || {
            let mut archive = good.clone();
            change(&mut archive);
            refused(&boot(name, &archive.bytes(), UNSIGNED), message)
        });
    }

    for Damage { name, change, message } in BROKEN_SEALS {
        tests.test(&format!("{}::{name}", machine.name()), move || {
            let mut archive = good.clone();
            change(&mut archive);
            refused(&boot(name, &archive.bytes(), ""), message)?;
            // `accept=unaudited` does not permit another archive than the signed one.
            let mut archive = good.clone();
            archive.image("echo").push(0);
            refused(&boot(name, &archive.bytes(), "accept=unaudited"), &["is not the signed one"])
        });
    }
    let accepted: [(&str, ArchiveChange, &str, &str); 2] = [
        (
            "an_unsigned_archive_boots_if_told_to",
            |archive| drop(archive.entries.remove(coppice_seal::ENTRY)),
            UNSIGNED,
            "signature is not checked",
        ),
        (
            "an_unaudited_image_boots_if_told_to",
            |archive| archive.seal(&signing_key(), Some(Verdict::Failed { findings: 3 })),
            "accept=unaudited",
            "the isolation audit has 3 findings in image",
        ),
    ];
    for (name, change, option, warning) in accepted {
        tests.test(&format!("{}::{name}", machine.name()), move || {
            let mut archive = good.clone();
            change(&mut archive);
            let boot = boot(name, &archive.bytes(), option);
            let passed = boot.ending == Ending::Success && logs(&boot, warning);
            if passed { Ok(()) } else { Err(boot.to_string()) }
        });
    }

    let byte_changes: [(&str, ByteChange, &[&str]); 4] = [
        (
            "an_archive_truncated_between_blocks_is_refused",
            |bytes| bytes.truncate(bytes.len() / 1024 * 512),
            &["boot archive, offset"],
        ),
        (
            "an_archive_truncated_within_a_block_is_refused",
            |bytes| bytes.truncate(1000),
            &["boot archive, offset"],
        ),
        (
            "an_archive_with_a_damaged_header_is_refused",
            |bytes| bytes[130] ^= 0xff,
            &["boot archive, offset 0x0:"],
        ),
        (
            "an_archive_of_garbage_is_refused",
            |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x55),
            &["boot archive"],
        ),
    ];
    for (name, change, message) in byte_changes {
        tests.test(&format!("{}::{name}", machine.name()), move || {
            let mut bytes = good.bytes();
            change(&mut bytes);
            refused(&boot(name, &bytes, UNSIGNED), message)
        });
    }

    tests.test(
        &format!("{}::keep_going_starts_the_other_domains_without_a_bad_image", machine.name()),
        || {
            let mut archive = good.clone();
            archive.add("broken", "echo");
            archive.image("broken").truncate(100);
            let message = "broken: the image is refused";
            let name = "keep_going";
            refused(
                &boot(name, &archive.bytes(), UNSIGNED),
                &[message, "option keep-going continues without them"],
            )?;
            let boot = boot(name, &archive.bytes(), &format!("{UNSIGNED} keep-going"));
            let passed =
                boot.ending == Ending::Success && logs(&boot, message) && logs(&boot, "tour: success");
            if passed { Ok(()) } else { Err(boot.to_string()) }
        },
    );

    tests.test(&format!("{}::an_unknown_log_level_is_reported_and_ignored", machine.name()), || {
        let boot = boot("unknown_log_level", &good.bytes(), "log=loud");
        let passed = boot.ending == Ending::Success && logs(&boot, "option log=loud: the levels are");
        if passed { Ok(()) } else { Err(boot.to_string()) }
    });

    harness.run(tests);

    // Not in parallel: one test is about little memory, and one starts 64 CPUs.
    harness.test(&format!("{}::too_little_memory_is_reported", machine.name()), || {
        let archive = archive::write("too_little_memory", &good.bytes());
        let memory = machine.choose("4M", "8M");
        let launch = Launch {
            archive: &archive,
            cpus: 1,
            memory,
            options: "",
            devices: Devices::None,
            board: &[],
            exact: false,
            timeout: TIMEOUT,
        };
        refused(&machine.boot(launch), &["memory"])
    });

    harness.test(&format!("{}::cpus_beyond_the_limit_are_refused_or_left_unused", machine.name()), || {
        let archive = archive::write("more_cpus", &good.bytes());
        let launch = Launch {
            archive: &archive,
            cpus: 70,
            memory: "256M",
            options: "",
            devices: Devices::None,
            board: &[],
            exact: false,
            timeout: 2 * TIMEOUT,
        };
        let boot = machine.boot(launch);
        let passed = match machine {
            Machine::Hosted { .. } => boot.ending == Ending::Usage && logs(&boot, "1..=64"),
            Machine::Bare { .. } => boot.ending == Ending::Success && logs(&boot, "64 CPUs"),
        };
        if passed { Ok(()) } else { Err(boot.to_string()) }
    });
}

fn logs(boot: &Boot, message: &str) -> bool {
    boot.console.iter().any(|line| line.contains(message))
}

/// Succeeds if one line of the console has all parts of the message, or each part occurs in some line, and
/// the system ended in failure.
fn refused(boot: &Boot, message: &[&str]) -> Result<(), String> {
    let is_reported = boot.console.iter().any(|line| message.iter().all(|part| line.contains(part)))
        || message.iter().all(|part| logs(boot, part));
    if is_reported && boot.ending == Ending::Failure {
        Ok(())
    } else {
        Err(format!("expected {message:?}\n{boot}"))
    }
}
