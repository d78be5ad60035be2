//! [`PublicKey`], which the kernel trusts, and `SigningKey`, which a build signs with.

use core::fmt;

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublicKey(pub(crate) [u8; 32]);

/// The text of a key is not valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyError {
    /// The text has not exactly 64 digits.
    Length(usize),
    /// The character at this offset is no hexadecimal digit.
    Digit(usize),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(len) => write!(f, "a key is 64 hexadecimal digits, not {len} characters"),
            Self::Digit(offset) => write!(f, "character {offset} of the key is no hexadecimal digit"),
        }
    }
}

impl core::error::Error for KeyError {}

impl PublicKey {
    /// Parses 64 hexadecimal digits.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        parse(text).map(Self)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn parse(text: &str) -> Result<[u8; 32], KeyError> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 2 * bytes.len() {
        return Err(KeyError::Length(text.chars().count()));
    }
    for (offset, &digit) in digits.iter().enumerate() {
        let value = char::from(digit).to_digit(16).ok_or(KeyError::Digit(offset))?;
        bytes[offset / 2] = bytes[offset / 2] << 4 | value as u8;
    }
    Ok(bytes)
}

#[cfg(feature = "sign")]
mod signing {
    use alloc::string::String;
    use core::fmt::Write;

    use ed25519_compact::{KeyPair, Seed};

    use super::{KeyError, PublicKey, parse};

    /// An Ed25519 key pair, made from a secret seed of 32 bytes (RFC 8032, section 5.1.5).
    pub struct SigningKey(KeyPair);

    impl SigningKey {
        /// Makes a key from the system's random numbers. Returns it with its seed as text.
        pub fn generate() -> (Self, String) {
            let seed = Seed::generate();
            let mut text = String::new();
            for byte in *seed {
                write!(text, "{byte:02x}").expect("a string grows as needed");
            }
            (Self(KeyPair::from_seed(seed)), text)
        }

        /// Makes the key of a seed of 64 hexadecimal digits.
        ///
        /// # Errors
        /// When the text is anything else.
        pub fn parse(seed: &str) -> Result<Self, KeyError> {
            parse(seed).map(|seed| Self(KeyPair::from_seed(Seed::new(seed))))
        }

        /// The public half.
        pub fn public(&self) -> PublicKey {
            PublicKey(*self.0.pk)
        }

        pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
            *self.0.sk.sign(message, None)
        }
    }
}

#[cfg(feature = "sign")]
pub use signing::SigningKey;
