//! `restart = "transparent"`: a domain behind a shadow, written as one entry and expanded into two.
//!
//! The text is expanded when it is read, before any check. The archive holds plain domains and wires only, so
//! the kernel runs exactly the manifest that it validates and needs no notion of a shadow. Neither does the
//! packing, which finds the shadow's image among the others.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::check::check_name;
use crate::{Domain, Key, Manifest, ManifestError, ManifestPart, Problem, Restart};

/// The prefix of a shadow's name, and by default of its image's.
const PREFIX: &str = "shadow-";

/// The import by which a shadow reaches its domain.
const TARGET: &str = "target";

/// A shadow's part of a manifest entry.
pub(crate) struct Shadow {
    /// Index of the domain behind the shadow.
    pub(crate) of: usize,
    pub(crate) image: Option<String>,
    pub(crate) args: Vec<String>,
}

/// Appends a domain for each shadow, and redirects to it all wires that led to the domain behind it.
pub(crate) fn insert(manifest: &mut Manifest, shadows: Vec<Shadow>) -> Result<(), ManifestError> {
    for shadow in shadows {
        let target = &manifest.domains[shadow.of];
        let (index, target_name) = (shadow.of, target.name.clone());
        let error = |problem| {
            let part = ManifestPart::Domain { index, name: target_name.clone(), key: Key::Restart };
            ManifestError { part, problem }
        };
        let name = format!("{PREFIX}{}", target.name);
        check_name(&name, false).map_err(error)?;
        if manifest.index_of(&name).is_some() {
            return Err(error(Problem::ShadowNameTaken { name }));
        }
        let domain = Domain {
            image: shadow.image.unwrap_or_else(|| format!("{PREFIX}{}", target.image)),
            name: name.clone(),
            restart: Restart::Always,
            args: shadow.args,
            devices: Vec::new(),
            wires: BTreeMap::from([(TARGET.into(), target.name.clone())]),
            // Both have the same parent, and both have to hold the same requests.
            ..target.clone()
        };
        let mut is_wired = false;
        let others = manifest.domains.iter_mut().enumerate().filter(|(other, _)| *other != index);
        for wire in others.flat_map(|(_, other)| other.wires.values_mut()).filter(|to| **to == target_name) {
            wire.clone_from(&name);
            is_wired = true;
        }
        if !is_wired {
            return Err(error(Problem::NoClients));
        }
        manifest.domains[index].restart = Restart::Always;
        manifest.domains.push(domain);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::{Manifest, Restart, TomlManifest};

    fn read(domains: &str) -> Result<Manifest, String> {
        let text = format!("[system]\nname = \"test\"\ndescription = \"\"\n{domains}");
        TomlManifest::parse(&text).map(TomlManifest::into_manifest).map_err(|error| error.to_string())
    }

    const ECHO: &str = r#"
[[domain]]
name = "first"
image = "echo"
restart = "transparent"
shadow-args = ["recovery-timeout=500ms"]
heap = "1 MiB"
threads = 3

[[domain]]
name = "client"
wires = { echo = "first", spare = "first", control = "kernel" }
"#;

    #[test]
    fn a_transparent_domain_becomes_two_and_its_clients_are_wired_to_the_shadow() {
        let manifest = read(ECHO).expect("the sample is valid");
        let [first, client, shadow] = &manifest.domains[..] else { panic!("{:?}", manifest.domains) };
        assert_eq!((first.restart, &*first.image), (Restart::Always, "echo"));
        assert_eq!(client.wires["echo"], "shadow-first");
        assert_eq!(client.wires["spare"], "shadow-first");
        assert_eq!(client.wires["control"], "kernel");
        assert_eq!((&*shadow.name, &*shadow.image), ("shadow-first", "shadow-echo"));
        assert_eq!(shadow.restart, Restart::Always);
        assert_eq!(shadow.args, ["recovery-timeout=500ms"]);
        assert_eq!(shadow.wires.len(), 1);
        assert_eq!(shadow.wires["target"], "first");
        assert_eq!((shadow.heap_bytes, shadow.threads), (1 << 20, 3));
        assert_eq!(manifest.start_order(), [0, 2, 1]);
        assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
    }

    #[test]
    fn the_image_of_the_shadow_can_be_chosen_and_its_parent_is_the_same() {
        let domains = "[[domain]]\nname = \"p\"\nheap = \"64 MiB\"\nshared = \"64 MiB\"\nthreads = 64\n[[domain]]\n\
            name = \"a\"\nparent = \"p\"\nrestart = \"transparent\"\nshadow = \"patient\"\n\
            [[domain]]\nname = \"b\"\nwires = { x = \"a\" }\n";
        let manifest = read(domains).expect("valid");
        let shadow = &manifest.domains[3];
        assert_eq!((&*shadow.image, &*shadow.parent), ("patient", "p"));
    }

    #[test]
    fn shadows_of_connected_domains_form_a_chain() {
        let manifest = read(
            "[[domain]]\nname = \"a\"\nrestart = \"transparent\"\nwires = { next = \"b\" }\n[[domain]]\n\
             name = \"b\"\nrestart = \"transparent\"\n[[domain]]\nname = \"c\"\nwires = { next = \"a\" }\n",
        )
        .expect("valid");
        let wire = |from: usize, import: &str| manifest.domains[from].wires[import].clone();
        assert_eq!(wire(2, "next"), "shadow-a");
        assert_eq!(wire(3, "target"), "a");
        assert_eq!(wire(0, "next"), "shadow-b");
        assert_eq!(wire(4, "target"), "b");
    }

    #[test]
    fn an_impossible_shadow_is_refused_with_reason_and_location() {
        let refusal = |text: &str| read(text).expect_err("the manifest is wrong");
        let taken = format!("{ECHO}[[domain]]\nname = \"shadow-first\"\n");
        assert_eq!(
            refusal(&taken),
            "line 8, column 11: domain `first`, restart: its shadow would be called `shadow-first`, but a domain \
             has that name"
        );
        assert_eq!(
            refusal("[[domain]]\nname = \"a\"\nrestart = \"transparent\"\n"),
            "line 6, column 11: domain `a`, restart: no domain is wired to it, so there is no client to hide a restart from"
        );
        assert_eq!(
            refusal("[[domain]]\nname = \"a\"\nshadow = \"b\"\n"),
            "line 6, column 10: domain `a`, shadow: only a domain with restart = \"transparent\" has a shadow"
        );
        assert_eq!(
            refusal("[[domain]]\nname = \"a\"\nrestart = \"always\"\nshadow-args = [\"b\"]\n"),
            "line 7, column 15: domain `a`, shadow-args: only a domain with restart = \"transparent\" has a shadow"
        );
        let long = "x".repeat(30);
        let text = refusal(&format!(
            "[[domain]]\nname = \"{long}\"\nrestart = \"transparent\"\n[[domain]]\nname = \"b\"\nwires = {{ x = \"{long}\" }}"
        ));
        assert!(text.starts_with("line 6, column 11: domain `xxx"), "{text}");
        assert!(text.ends_with("is 37 bytes long, but names have 1 to 32"), "{text}");
    }

    #[test]
    fn an_error_of_a_shadow_is_located_at_the_entry_that_requests_it() {
        let text = format!("[system]\nname = \"test\"\ndescription = \"\"\n{ECHO}");
        let parsed = TomlManifest::parse(&text).expect("the sample is valid");
        let error = parsed.manifest().check_images(&["echo", "client"]).expect_err("shadow-echo is missing");
        let error = parsed.locate(error);
        assert_eq!((error.line, error.column), (8, 11));
    }
}
