//! What describes no wire, and what cannot be opened.

use std::{fmt, io};

use device_bus::{RuleError, ValueError};

use crate::config::EndConfig;

/// A text that describes no wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// No rate.
    Rate(String),
    /// No kind of end.
    Kind(String),
    /// An option that is not of the form `KEY=VALUE`.
    NoValue(String),
    /// An option that this kind of end does not have.
    Option {
        /// Which kind.
        kind: String,
        /// The option.
        key: String,
    },
    /// No number, 0, or too large.
    Number {
        /// Of which option.
        key: &'static str,
        /// As given.
        text: String,
        /// The most.
        most: usize,
    },
    /// No address of a station.
    Mac(String),
    /// No address of a socket.
    Socket(String),
    /// Nothing that can be forwarded.
    Forward(String),
    /// Something that this kind of end cannot do without.
    Lacks {
        /// Which kind.
        kind: String,
        /// What.
        key: &'static str,
    },
    /// A value that means nothing.
    Value {
        /// Of which option.
        key: &'static str,
        /// Why not.
        error: ValueError,
    },
    /// No rule of trouble.
    Trouble(RuleError),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate(text) => {
                write!(f, "`{text}` is no rate: write bits in a second, such as 10G or 100M, or `unlimited`")
            }
            Self::Kind(kind) => {
                write!(f, "there is no end `{kind}` of a wire; there are {}", EndConfig::FORMS)
            }
            Self::NoValue(item) => write!(f, "`{item}` is not of the form KEY=VALUE"),
            Self::Option { kind, key } => {
                write!(f, "`{key}` means nothing to `{kind}`; there are {}", EndConfig::FORMS)
            }
            Self::Number { key, text, most } => {
                write!(f, "{key}: `{text}` is no whole number from 1 to {most}")
            }
            Self::Socket(text) => write!(f, "`{text}` is no address of a socket, such as 127.0.0.1:9000"),
            Self::Forward(text) => write!(
                f,
                "`{text}` is no port to be forwarded: write the host's, the guest's address and its port, such as \
                 8080:10.0.2.15:80"
            ),
            Self::Lacks { kind, key } => {
                write!(f, "`{kind}` lacks {key}; there are {}", EndConfig::FORMS)
            }
            Self::Value { key, error } => write!(f, "{key}: {error}"),
            Self::Trouble(error) => error.fmt(f),
            Self::Mac(text) => {
                write!(f, "`{text}` is no address of a station, such as 02:c0:00:00:00:01")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// An end that the host does not have, or does not allow.
#[derive(Debug)]
pub struct OpenError {
    /// What was to be opened.
    pub what: String,
    /// What the host says.
    pub error: io::Error,
}

impl OpenError {
    /// What opening `what` came to.
    pub(crate) fn of(what: String) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { what, error }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot open {}: {}", self.what, self.error)
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
