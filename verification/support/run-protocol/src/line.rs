//! [`lines!`]: the kinds of line of one system, with their mark. [`LineError`]: the errors of a reader.

use alloc::string::String;
use core::error::Error;
use core::fmt;

use crate::json::{Json, JsonError};

/// The version of all lines.
pub const VERSION: u32 = 1;
/// The greatest length of a line in bytes: that of one call of the kernel's console.
pub const MAX_LINE: usize = 256;

/// A line that has a mark and is malformed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LineError {
    /// The line is of another version than [`VERSION`].
    Version {
        /// The text in the place of the version.
        found: String,
    },
    /// The line has no kind that the reader knows.
    Kind,
    /// The content of the line is malformed.
    Content(JsonError),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { found } if found.is_empty() => {
                write!(f, "a line without a version, where version {VERSION} is expected")
            }
            Self::Version { found } => {
                write!(f, "a line of version {found}, where version {VERSION} is expected")
            }
            Self::Kind => write!(f, "a line of an unknown kind"),
            Self::Content(error) => error.fmt(f),
        }
    }
}

impl Error for LineError {}

impl From<JsonError> for LineError {
    fn from(error: JsonError) -> Self {
        Self::Content(error)
    }
}

/// The object behind `mark` in a line of the console. `None` if the line does not begin with the mark: a
/// record of the log has a prefix before the text of a domain, so no domain's log can imitate a line.
pub(crate) fn content<'a>(text: &'a str, mark: &str) -> Option<Result<&'a str, LineError>> {
    let rest = text.strip_prefix(mark)?;
    let rest = match rest.chars().next() {
        Some('/' | ' ') => rest.strip_prefix('/'),
        // A word that only begins like the mark.
        _ => return None,
    };
    let (found, json) = rest.map_or(("", ""), |rest| rest.split_once(' ').unwrap_or((rest, "")));
    if found.parse() == Ok(VERSION) {
        Some(Ok(json))
    } else {
        Some(Err(LineError::Version { found: found.into() }))
    }
}

/// The kind of a line, and the fields of its record.
pub(crate) fn split(json: &str) -> Result<(String, alloc::vec::Vec<(String, Json)>), LineError> {
    let Json::Object(kinds) = Json::parse(json)? else { return Err(LineError::Kind) };
    let mut kinds = kinds.into_iter();
    match (kinds.next(), kinds.next()) {
        (Some((kind, Json::Object(fields))), None) => Ok((kind, fields)),
        _ => Err(LineError::Kind),
    }
}

/// Defines the lines of one system: an enum of its records by the names of their kinds.
macro_rules! lines {
    (
        $(#[doc = $doc:literal])*
        pub enum $name:ident: $mark:literal {
            $($(#[doc = $kind_doc:literal])* $kind:ident($record:ident) = $word:literal,)*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, PartialEq, Debug)]
        pub enum $name {
            $($(#[doc = $kind_doc])* $kind($record),)*
        }

        impl $name {
            /// The beginning of each line. The version follows.
            pub const MARK: &str = $mark;

            /// Parses a line of the console. `None` if it is not marked as one of these lines.
            ///
            /// # Errors
            /// When a marked line is of another version or malformed.
            pub fn from_console(text: &str) -> Option<Result<Self, $crate::LineError>> {
                let json = match $crate::line::content(text, Self::MARK)? {
                    Ok(json) => json,
                    Err(error) => return Some(Err(error)),
                };
                Some(Self::from_json(json))
            }

            fn from_json(json: &str) -> Result<Self, $crate::LineError> {
                let (kind, fields) = $crate::line::split(json)?;
                match kind.as_str() {
                    $($word => Ok(Self::$kind(<$record as $crate::record::Record>::from_fields(&fields)?)),)*
                    _ => Err($crate::LineError::Kind),
                }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                let version = $crate::VERSION;
                match self {
                    $(Self::$kind(record) => write!(f, "{}/{version} {{\"{}\":{record}}}", Self::MARK, $word),)*
                }
            }
        }

        $(impl From<$record> for $name {
            fn from(record: $record) -> Self {
                Self::$kind(record)
            }
        })*
    };
}
pub(crate) use lines;
