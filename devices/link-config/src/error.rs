//! Errors of a wire's configuration: [`ConfigError`] for a text, [`OpenError`] for the host.

use std::{fmt, io};

use device_bus::{RuleError, ValueError};

use crate::PeerConfig;

/// A text that does not describe a wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// The text is not a rate.
    Rate(String),
    /// The kind of peer is unknown.
    Kind(String),
    /// The option is not of the form `KEY=VALUE`.
    NoValue(String),
    /// The kind of peer has no such option.
    Option {
        /// The kind of peer.
        kind: String,
        /// The option.
        key: String,
    },
    /// The value is not a number, is 0, or is larger than `max`.
    Number {
        /// The option.
        key: &'static str,
        /// The value.
        text: String,
        /// The largest value.
        max: usize,
    },
    /// The text is not the MAC address of a station.
    Mac(String),
    /// The text is not a socket address.
    Socket(String),
    /// The text is not a rule for a forwarded port.
    Forward(String),
    /// A required option is missing.
    Missing {
        /// The kind of peer.
        kind: String,
        /// The missing option.
        key: &'static str,
    },
    /// The value is not valid for the option.
    Value {
        /// The option.
        key: &'static str,
        /// The reason.
        error: ValueError,
    },
    /// The text is not a rule of impairment.
    Impairment(RuleError),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate(text) => {
                write!(
                    f,
                    "`{text}` is not a rate: write bits per second, such as 10G or 100M, or `unlimited`"
                )
            }
            Self::Kind(kind) => {
                write!(f, "there is no peer `{kind}`; there are {}", PeerConfig::FORMS)
            }
            Self::NoValue(item) => write!(f, "`{item}` is not of the form KEY=VALUE"),
            Self::Option { kind, key } => {
                write!(f, "`{kind}` has no option `{key}`; there are {}", PeerConfig::FORMS)
            }
            Self::Number { key, text, max } => {
                write!(f, "{key}: `{text}` is not a whole number from 1 to {max}")
            }
            Self::Socket(text) => write!(f, "`{text}` is not a socket address, such as 127.0.0.1:9000"),
            Self::Forward(text) => write!(
                f,
                "`{text}` is not a forwarding rule: write the host's port, the guest's address and its port, such as \
                 8080:10.0.2.15:80"
            ),
            Self::Missing { kind, key } => {
                write!(f, "`{kind}` lacks {key}; there are {}", PeerConfig::FORMS)
            }
            Self::Value { key, error } => write!(f, "{key}: {error}"),
            Self::Impairment(error) => error.fmt(f),
            Self::Mac(text) => {
                write!(f, "`{text}` is not the MAC address of a station, such as 02:c0:00:00:00:01")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// A peer or capture that the host cannot open.
#[derive(Debug)]
pub struct OpenError {
    /// The name of the file, socket, port or interface.
    pub what: String,
    /// The error of the host.
    pub error: io::Error,
}

impl OpenError {
    /// Adds `what` to an error of the host.
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
