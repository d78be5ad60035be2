//! `new-domain`: a domain that builds, loads and can be called, from the templates beside this file.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::error::Usage;

/// Longest name of a domain, as in its image's notes (`coppice_abi::note::NAME_LIMIT`).
const NAME_LIMIT: usize = 32;

/// The files and their templates; `{{name}}` stands for the domain's name, in paths as well.
const TEMPLATES: [(&str, &str); 4] = [
    ("domains/{{name}}/Cargo.toml", include_str!("templates/Cargo.toml.template")),
    ("domains/{{name}}/src/lib.rs", include_str!("templates/lib.rs.template")),
    ("domains/{{name}}/src/main.rs", include_str!("templates/main.rs.template")),
    ("systems/{{name}}.toml", include_str!("templates/system.toml.template")),
];

/// Writes the files of a new domain below `root`.
pub(crate) fn new_domain(root: &Path, name: &str) -> Result<()> {
    if let Some(problem) = problem_with_name(name) {
        return Err(Usage(format!("\"{name}\" cannot name a domain: {problem}")).into());
    }
    let folder = root.join("domains").join(name);
    let system = root.join("systems").join(format!("{name}.toml"));
    if let Some(taken) = [&folder, &system].into_iter().find(|path| path.exists()) {
        let taken = taken.strip_prefix(root).unwrap_or(taken);
        return Err(Usage(format!("{} exists already", taken.display())).into());
    }

    for (path, template) in TEMPLATES {
        let path = root.join(fill_in(path, name));
        let folder = path.parent().expect("each template lies in a folder");
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        fs::write(&path, fill_in(template, name)).with_context(|| format!("writing {}", path.display()))?;
        println!("wrote {}", path.strip_prefix(root).unwrap_or(&path).display());
    }
    println!("boot it: cargo xtask run {name}");
    println!("make it your own: docs/adding-a-domain.md");
    Ok(())
}

fn fill_in(template: &str, name: &str) -> String {
    // Names in code have no hyphens.
    let type_name: String = name.split('-').map(capitalized).collect();
    template
        .replace("{{name}}", name)
        .replace("{{crate_name}}", &name.replace('-', "_"))
        .replace("{{TypeName}}", &type_name)
}

fn capitalized(word: &str) -> String {
    word.chars().enumerate().map(|(place, c)| if place == 0 { c.to_ascii_uppercase() } else { c }).collect()
}

fn problem_with_name(name: &str) -> Option<String> {
    let mut characters = name.chars();
    if !characters.next().is_some_and(|first| first.is_ascii_lowercase()) {
        return Some("it does not start with a lower-case letter".into());
    }
    if let Some(odd) = characters.find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-')) {
        return Some(format!("{odd:?} is neither a lower-case letter nor a digit nor a hyphen"));
    }
    if name.len() > NAME_LIMIT {
        return Some(format!("it is {} bytes long, the limit is {NAME_LIMIT}", name.len()));
    }
    if name.ends_with('-') || name.contains("--") {
        return Some("a hyphen must stand between two other characters".into());
    }
    match name {
        "kernel" => Some("in manifests this name means the kernel".into()),
        "tour" => Some("the tour, which calls the new domain, has this name".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_domain_has_all_its_files_and_no_placeholder_left() {
        let root = tempfile::tempdir().expect("there is room for a few files");
        new_domain(root.path(), "my-domain").expect("the name is good");
        for (path, _) in TEMPLATES {
            let text =
                fs::read_to_string(root.path().join(fill_in(path, "my-domain"))).expect("it was written");
            assert!(!text.contains("{{"), "{path}");
        }
        let main =
            fs::read_to_string(root.path().join("domains/my-domain/src/main.rs")).expect("it was written");
        assert!(main.contains("entry!(coppice_domain_my_domain::MyDomainDomain);"), "{main}");
    }

    #[test]
    fn the_new_manifest_is_valid() {
        let text = fill_in(include_str!("templates/system.toml.template"), "my-domain");
        if let Err(error) = coppice_manifest::TomlManifest::parse(&text) {
            panic!("{error}");
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let root = tempfile::tempdir().expect("there is room for a few files");
        new_domain(root.path(), "one").expect("the name is good");
        let error = new_domain(root.path(), "one").unwrap_err();
        assert!(error.is::<Usage>() && error.to_string().contains("domains/one exists"), "{error}");
    }

    #[test]
    fn bad_names_are_refused_with_a_reason() {
        for bad in ["", "Echo", "1st", "a_b", "a b", "../x", "a--b", "a-", "kernel", "tour", &"x".repeat(33)]
        {
            assert!(problem_with_name(bad).is_some(), "{bad}");
        }
        for good in ["echo", "shadow-nvme", "x2"] {
            assert_eq!(problem_with_name(good), None);
        }
    }
}
