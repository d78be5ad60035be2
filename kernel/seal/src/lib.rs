//! [`Seal`]: the statement of a build about its boot archive, and its signature.
//!
//! A seal lists every entry of the archive with its SHA-256 digest (FIPS 180-4), and for each image the
//! verdict of the isolation audit on the sources that it was built from. It is signed by Ed25519 (RFC 8032).
//! The kernel knows one public key, and loads only what a seal under that key lists.
//!
//! # Format
//! The archive's entry [`ENTRY`] holds the public key (32 bytes), the signature (64 bytes), and the seal in
//! postcard encoding. The signed message is that encoding behind a prefix that no other kind of message has.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod error;
mod key;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;

use ed25519_compact::Signature;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use error::SealError;
#[cfg(feature = "sign")]
pub use key::SigningKey;
pub use key::{KeyError, PublicKey};

/// The name of the archive's entry that holds the seal.
pub const ENTRY: &str = "seal";

/// The prefix of the names of image entries.
pub const IMAGES: &str = "images/";

/// The start of each signed message. The number is the version of the format.
const CONTEXT: &[u8] = b"coppice boot archive seal 1\0";
const KEY_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 64;

/// The result of the isolation audit for an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Verdict {
    /// The sources of the image passed the audit.
    Passed,
    /// The audit has this number of findings in the sources of the image.
    Failed {
        /// The number of findings.
        findings: u32,
    },
}

/// One entry of the archive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct SealedEntry {
    name: String,
    digest: [u8; 32],
    /// `None` for an entry that is no image, and for an image that was not audited.
    verdict: Option<Verdict>,
}

/// The entries of one archive, with their digests and verdicts.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Seal {
    entries: Vec<SealedEntry>,
}

impl Seal {
    /// Adds an entry with its content and, for an image, the verdict of the audit.
    pub fn add(&mut self, name: &str, content: &[u8], verdict: Option<Verdict>) {
        self.entries.push(SealedEntry { name: name.into(), digest: digest(content), verdict });
    }

    /// Signs the seal. Returns the content of the entry [`ENTRY`].
    #[cfg(feature = "sign")]
    pub fn sign(&self, key: &SigningKey) -> Vec<u8> {
        let body = postcard::to_allocvec(self).expect("a seal is plain data and the vector grows as needed");
        let mut bytes = key.public().0.to_vec();
        bytes.extend(key.sign(&message(&body)));
        bytes.extend(body);
        bytes
    }

    /// Decodes the content of the entry [`ENTRY`], which has to be signed with `trusted`.
    ///
    /// # Errors
    /// When the signature is of another key or does not match, or the content is no seal.
    pub fn open(bytes: &[u8], trusted: PublicKey) -> Result<Self, SealError> {
        let (key, rest) = bytes.split_first_chunk::<KEY_BYTES>().ok_or(SealError::Truncated)?;
        let (signature, body) = rest.split_first_chunk::<SIGNATURE_BYTES>().ok_or(SealError::Truncated)?;
        // The key in the archive only serves the error message: the signature is checked with `trusted`.
        if *key != trusted.0 {
            return Err(SealError::OtherKey { found: PublicKey(*key), trusted });
        }
        let verifier = ed25519_compact::PublicKey::new(trusted.0);
        if verifier.verify(message(body), &Signature::new(*signature)).is_err() {
            return Err(SealError::Signature);
        }
        match postcard::take_from_bytes::<Self>(body) {
            Ok((seal, [])) => Ok(seal),
            _ => Err(SealError::Malformed),
        }
    }

    /// Compares the archive's entries, the seal's own included, with the seal.
    ///
    /// # Errors
    /// When an entry differs from the sealed one, is not sealed, or is missing.
    pub fn check<'a>(&self, entries: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<(), SealError> {
        let mut seen = 0;
        for (name, content) in entries.filter(|(name, _)| *name != ENTRY) {
            let Some(sealed) = self.find(name) else {
                return Err(SealError::Unlisted { entry: name.into() });
            };
            if sealed.digest != digest(content) {
                return Err(SealError::Changed { entry: name.into() });
            }
            seen += 1;
        }
        // The archive has each name once, so all sealed entries are there if the numbers are equal.
        if seen < self.entries.len() {
            return Err(SealError::Missing { entries: self.entries.len() - seen });
        }
        Ok(())
    }

    /// Checks that all images have passed the audit.
    ///
    /// # Errors
    /// [`SealError::Unaudited`] with the first image that has not.
    pub fn check_verdicts(&self) -> Result<(), SealError> {
        let images =
            self.entries.iter().filter_map(|entry| Some((entry.name.strip_prefix(IMAGES)?, entry.verdict)));
        for (image, verdict) in images {
            let findings = match verdict {
                Some(Verdict::Passed) => continue,
                Some(Verdict::Failed { findings }) => Some(findings),
                None => None,
            };
            return Err(SealError::Unaudited { image: image.into(), findings });
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&SealedEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }
}

fn digest(content: &[u8]) -> [u8; 32] {
    Sha256::digest(content).into()
}

fn message(body: &[u8]) -> Vec<u8> {
    [CONTEXT, body].concat()
}
