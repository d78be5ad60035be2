//! The signing key of boot archives, and the seal of one archive.
//!
//! The first build makes a key and keeps it in the target folder, so it is never committed, and another
//! checkout has another. `COPPICE_SIGNING_KEY` names the file of a key to use instead: 64 hexadecimal digits,
//! the seed of RFC 8032. The kernel is built with the public key.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use coppice_seal::{IMAGES, Seal, SigningKey};

use crate::audit::verdict::Verdicts;
use crate::workspace::Workspace;

/// The variable with which the kernel is built.
pub(crate) const TRUSTED_KEY: &str = "COPPICE_TRUSTED_KEY";

/// The variable that names the file of the key.
pub(crate) const SIGNING_KEY: &str = "COPPICE_SIGNING_KEY";

/// The file of the key that signs archives. A key is made now if there is none.
pub(crate) fn key_file(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(given) = std::env::var_os(SIGNING_KEY) {
        return Ok(given.into());
    }
    let path = workspace.target.join("keys/boot-archive.seed");
    if !path.exists() {
        make(&path).with_context(|| format!("making a signing key in {}", path.display()))?;
    }
    Ok(path)
}

/// The key that signs archives and that kernels trust.
pub(crate) fn signing_key(workspace: &Workspace) -> Result<SigningKey> {
    let path = key_file(workspace)?;
    let text = fs::read_to_string(&path).with_context(|| format!("reading the key {}", path.display()))?;
    SigningKey::parse(text.trim()).with_context(|| format!("the signing key in {}", path.display()))
}

/// Writes a new key, unless another process has written one meanwhile.
fn make(path: &Path) -> Result<()> {
    let folder = path.parent().context("a key lies in a folder")?;
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.as_file().set_permissions(Permissions::from_mode(0o600))?;
    let (_, seed) = SigningKey::generate();
    writeln!(file, "{seed}")?;
    match file.persist_noclobber(path) {
        Err(error) if !path.exists() => Err(error.error.into()),
        _ => Ok(()),
    }
}

/// The content of the seal for the archive with these entries.
pub(crate) fn seal(key: &SigningKey, entries: &[(String, Vec<u8>)], verdicts: &Verdicts) -> Vec<u8> {
    let mut seal = Seal::default();
    for (name, content) in entries {
        seal.add(name, content, name.strip_prefix(IMAGES).and_then(|image| verdicts.on(image)));
    }
    seal.sign(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_secret_and_is_not_replaced() {
        let folder = tempfile::tempdir().expect("there is room for a key");
        let path = folder.path().join("keys/seed");
        make(&path).expect("the folder is writable");
        let text = fs::read_to_string(&path).expect("it was written");
        assert!(SigningKey::parse(text.trim()).is_ok());
        assert_eq!(fs::metadata(&path).expect("it was written").permissions().mode() & 0o777, 0o600);
        make(&path).expect("another process made it first");
        assert_eq!(fs::read_to_string(&path).expect("it is still there"), text);
    }
}
