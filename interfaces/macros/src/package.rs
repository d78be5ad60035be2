//! The package that a macro is expanded in: its identity, and its right to define types and interfaces.
//!
//! A domain that could define them could also describe them wrongly, so the macros refuse to expand outside
//! of the packages of [`DEFINING_FOLDERS`]. The audit refuses the same by its own reading of the sources
//! (`xtask/src/audit/contracts.rs`), since the refusal here rests on cargo's environment.

use std::path::{Component, Path, PathBuf};

use proc_macro2::Span;
use syn::{Error, Result};

/// Folders of the workspace whose packages may define types and interfaces that cross: contracts, and the
/// shared heap's own types. The list of `[contracts]` in `xtask/trusted.toml` agrees with it.
const DEFINING_FOLDERS: [&str; 2] = ["interfaces", "rref"];

/// The end of the folder in which trybuild builds the cases of `interfaces/core/tests`.
const TEST_CASES: &str = "tests/trybuild/coppice-interfaces";

/// Returns the identity of the package being compiled: source, name and exact version.
///
/// # Errors
/// When the package may not define types and interfaces that cross.
pub(crate) fn identity(macro_name: &str) -> Result<String> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let folder = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = own.ancestors().nth(2).unwrap_or(own);
    let (name, version) = (variable("CARGO_PKG_NAME"), variable("CARGO_PKG_VERSION"));
    match source(root, &folder) {
        Some(source) => Ok(format!("{source} {name} {version}")),
        None => Err(Error::new(
            Span::call_site(),
            format!(
                "{macro_name} may be used in contract crates only (the folder `interfaces` of the workspace), \
                 and {name} is none: domains use the interfaces and types of contracts"
            ),
        )),
    }
}

/// Returns the source of a package in `folder`, if it may define types and interfaces.
fn source(root: &Path, folder: &Path) -> Option<String> {
    if folder.ends_with(TEST_CASES) {
        return Some("test cases".to_owned());
    }
    let inside = folder.strip_prefix(root).ok()?;
    // A path with `..` could lead anywhere.
    let is_plain = inside.components().all(|part| matches!(part, Component::Normal(_)));
    let is_defining = DEFINING_FOLDERS.iter().any(|defining| inside.starts_with(defining));
    (is_plain && is_defining).then(|| format!("workspace {}", inside.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_contracts_and_the_shared_heap_define_what_crosses() {
        let place = |folder: &str| source(Path::new("/w"), Path::new(folder));
        assert_eq!(place("/w/interfaces/block"), Some("workspace interfaces/block".to_owned()));
        assert_eq!(place("/w/rref"), Some("workspace rref".to_owned()));
        for folder in ["domains/echo", "interfaces-of-mine", "interfaces/../domains/echo", "rref2", ""] {
            assert_eq!(place(&format!("/w/{folder}")), None, "{folder}");
        }
        assert_eq!(place("/elsewhere/interfaces/block"), None);
    }

    #[test]
    fn folder_of_the_test_cases_is_the_one_of_interfaces_core() {
        assert!(source(Path::new("/w"), Path::new("/target/tests/trybuild/coppice-interfaces")).is_some());
        assert!(source(Path::new("/w"), Path::new("/target/tests/trybuild/coppice-runtime")).is_none());
    }
}
