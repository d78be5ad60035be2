//! [`SealError`]: the reason why an archive is refused.

use alloc::string::String;
use core::fmt;

use crate::PublicKey;

/// The first difference between an archive and a valid seal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SealError {
    /// The archive has no seal.
    NotSealed,
    /// The kernel was built without a key.
    NoKey,
    /// The seal is shorter than a key and a signature.
    Truncated,
    /// The seal is signed with another key than the kernel trusts.
    OtherKey {
        /// The key that the archive names.
        found: PublicKey,
        /// The kernel's key.
        trusted: PublicKey,
    },
    /// The signature does not match the seal.
    Signature,
    /// The signed bytes are no seal of this version.
    Malformed,
    /// The content of an entry is not the sealed one.
    Changed {
        /// The entry.
        entry: String,
    },
    /// The seal does not list an entry.
    Unlisted {
        /// The entry.
        entry: String,
    },
    /// The archive lacks entries of the seal.
    Missing {
        /// The number of them.
        entries: usize,
    },
    /// An image has not passed the audit.
    Unaudited {
        /// The image.
        image: String,
        /// The number of findings; `None` if it was not audited.
        findings: Option<u32>,
    },
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSealed => f.write_str("the archive is not signed"),
            Self::NoKey => f.write_str("this kernel was built without a key, so it trusts no archive"),
            Self::Truncated => f.write_str("the seal is shorter than a key and a signature"),
            Self::OtherKey { found, trusted } => {
                write!(f, "the archive is signed with key {found}, but this kernel trusts {trusted}")
            }
            Self::Signature => f.write_str("the signature does not match the seal"),
            Self::Malformed => f.write_str("the signed bytes are not a seal of this version"),
            Self::Changed { entry } => write!(f, "the content of {entry} is not the signed one"),
            Self::Unlisted { entry } => write!(f, "the seal does not list {entry}"),
            Self::Missing { entries } => write!(f, "the archive lacks {entries} of the sealed entries"),
            Self::Unaudited { image, findings: None } => write!(f, "image {image} was not audited"),
            Self::Unaudited { image, findings: Some(findings) } => {
                write!(f, "the isolation audit has {findings} findings in image {image}")
            }
        }
    }
}

impl core::error::Error for SealError {}
