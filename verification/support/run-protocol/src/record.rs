//! [`record!`]: a struct whose fields are written and parsed by their names. [`Value`]: the type of a field.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::json::{self, Json, JsonError};

/// A type that a line can contain.
pub(crate) trait Value: Sized {
    /// Writes the value as JSON.
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// Converts from JSON; `None` if the value is of another type.
    fn read(json: &Json) -> Option<Self>;

    /// Returns true if the field is left out of its record.
    fn is_absent(&self) -> bool {
        false
    }

    /// The value of a field that is left out; `None` if it must not be.
    fn absent() -> Option<Self> {
        None
    }
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Value for $type {
            fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }

            fn read(json: &Json) -> Option<Self> {
                let Json::Number(digits) = json else { return None };
                digits.parse().ok()
            }
        }
    )*};
}
integers!(u32 u64 i64);

impl Value for f64 {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        json::write_decimal(f, *self)
    }

    fn read(json: &Json) -> Option<Self> {
        let Json::Number(digits) = json else { return None };
        digits.parse().ok()
    }
}

impl Value for bool {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }

    fn read(json: &Json) -> Option<Self> {
        let Json::Bool(value) = json else { return None };
        Some(*value)
    }
}

impl Value for String {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        json::write_text(f, self)
    }

    fn read(json: &Json) -> Option<Self> {
        let Json::Text(text) = json else { return None };
        Some(text.clone())
    }
}

impl<T: Value> Value for Vec<T> {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, item) in self.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "," })?;
            item.write(f)?;
        }
        f.write_str("]")
    }

    fn read(json: &Json) -> Option<Self> {
        let Json::Array(items) = json else { return None };
        items.iter().map(T::read).collect()
    }
}

impl<T: Value> Value for Option<T> {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().map_or(Ok(()), |value| value.write(f))
    }

    fn read(json: &Json) -> Option<Self> {
        T::read(json).map(Some)
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// A pair of a value and its count.
impl Value for (u64, u64) {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{},{}]", self.0, self.1)
    }

    fn read(json: &Json) -> Option<Self> {
        let Json::Array(items) = json else { return None };
        let [first, second] = &items[..] else { return None };
        Some((u64::read(first)?, u64::read(second)?))
    }
}

/// A record, which knows the names of its fields.
pub(crate) trait Record: Sized + fmt::Display {
    /// Converts from the fields of an object.
    fn from_fields(fields: &[(String, Json)]) -> Result<Self, JsonError>;
}

/// Writes one field after the first `written` ones, unless it is absent.
pub(crate) fn write_field<T: Value>(
    f: &mut fmt::Formatter<'_>,
    written: &mut u32,
    name: &str,
    value: &T,
) -> fmt::Result {
    if value.is_absent() {
        return Ok(());
    }
    write!(f, "{}\"{name}\":", if *written == 0 { "" } else { "," })?;
    *written += 1;
    value.write(f)
}

/// The field `name` of an object.
pub(crate) fn read_field<T: Value>(fields: &[(String, Json)], name: &'static str) -> Result<T, JsonError> {
    match fields.iter().find(|(known, _)| known == name) {
        Some((_, json)) => T::read(json).ok_or(JsonError::Mismatch { field: name }),
        None => T::absent().ok_or(JsonError::Missing { field: name }),
    }
}

/// Defines a struct. [`Display`](core::fmt::Display) writes it as an object of JSON, and [`Record`] parses
/// that.
macro_rules! record {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident {
            $($(#[doc = $field_doc:literal])* pub $field:ident: $type:ty,)*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, PartialEq, Debug)]
        pub struct $name {
            $($(#[doc = $field_doc])* pub $field: $type,)*
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("{")?;
                let mut written = 0;
                $($crate::record::write_field(f, &mut written, stringify!($field), &self.$field)?;)*
                f.write_str("}")
            }
        }

        impl $crate::record::Record for $name {
            fn from_fields(
                fields: &[(alloc::string::String, $crate::json::Json)],
            ) -> Result<Self, $crate::JsonError> {
                const NAMES: &[&str] = &[$(stringify!($field)),*];
                if let Some((name, _)) = fields.iter().find(|(name, _)| !NAMES.contains(&name.as_str())) {
                    return Err($crate::JsonError::Unknown { name: name.clone() });
                }
                Ok(Self { $($field: $crate::record::read_field(fields, stringify!($field))?,)* })
            }
        }
    };
}
pub(crate) use record;

/// Defines an enum without fields that is written as the given word.
macro_rules! words {
    (
        $(#[doc = $doc:literal])*
        pub enum $name:ident {
            $($(#[doc = $variant_doc:literal])* $variant:ident = $word:literal,)*
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name {
            $($(#[doc = $variant_doc])* $variant,)*
        }

        impl $crate::record::Value for $name {
            fn write(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                $crate::json::write_text(f, match self { $(Self::$variant => $word,)* })
            }

            fn read(json: &$crate::json::Json) -> Option<Self> {
                let $crate::json::Json::Text(text) = json else { return None };
                match text.as_str() {
                    $($word => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use words;
