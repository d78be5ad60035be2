//! The check of the boot archive's seal: the kernel loads what its own build has audited and signed.

use coppice_seal::{PublicKey, Seal, SealError};

use crate::platform::archive::Archive;
use crate::platform::options;

/// The public key of the build, in hexadecimal digits. `cargo xtask` sets it.
const TRUSTED_KEY: Option<&str> = option_env!("COPPICE_TRUSTED_KEY");

/// Checks the archive's seal, unless option `accept` permits less: `accept=unaudited` images that have not
/// passed the audit, and `accept=unsigned` any archive.
///
/// # Errors
/// When the archive is not signed with the key of this kernel, differs from its seal, or holds an image that
/// has not passed the isolation audit.
pub(super) fn check(archive: &Archive<'_>) -> Result<(), SealError> {
    let accepted = options::option("accept");
    if accepted == Some("unsigned") {
        log::warn!("the boot archive's signature is not checked (option accept=unsigned)");
        return Ok(());
    }
    let trusted = TRUSTED_KEY.and_then(|key| PublicKey::parse(key).ok()).ok_or(SealError::NoKey)?;
    let seal = archive.find(coppice_seal::ENTRY).ok_or(SealError::NotSealed)?;
    let seal = Seal::open(seal, trusted)?;
    seal.check(archive.entries())?;
    match seal.check_verdicts() {
        Err(error) if accepted == Some("unaudited") => {
            log::warn!("{error} (option accept=unaudited)");
            Ok(())
        }
        checked => checked,
    }
}
