//! [`Json`]: the subset of JSON that the lines use: objects, arrays, strings, numbers, booleans.

use alloc::string::String;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt::{self, Write};

/// The greatest length of a string in a line, in bytes of JSON without the quotation marks. The rest of a
/// longer string is not printed.
pub const MAX_TEXT: usize = 144;
/// The greatest nesting of a line's values. The parser calls itself for each level.
const MAX_DEPTH: u32 = 8;

/// A value, parsed.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Json {
    Bool(bool),
    /// The digits as written; the field's type determines the range.
    Number(String),
    Text(String),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

/// A syntax error, or a value that does not fit its field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JsonError {
    /// The text is no JSON at this byte.
    Syntax {
        /// The offset in the text.
        at: usize,
    },
    /// A field is missing.
    Missing {
        /// The field's name.
        field: &'static str,
    },
    /// A field has a value of another type, or a number out of its range.
    Mismatch {
        /// The field's name.
        field: &'static str,
    },
    /// A name without a field.
    Unknown {
        /// The name.
        name: String,
    },
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { at } => write!(f, "a syntax error at byte {at}"),
            Self::Missing { field } => write!(f, "`{field}` is missing"),
            Self::Mismatch { field } => write!(f, "`{field}` has a value of another type"),
            Self::Unknown { name } => write!(f, "`{name}` is unknown"),
        }
    }
}

impl Error for JsonError {}

impl Json {
    /// Parses a whole text.
    pub(crate) fn parse(text: &str) -> Result<Self, JsonError> {
        let mut parser = Parser { text, at: 0 };
        let value = parser.value(MAX_DEPTH)?;
        parser.skip_spaces();
        if parser.at < text.len() { Err(parser.error()) } else { Ok(value) }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn error(&self) -> JsonError {
        JsonError::Syntax { at: self.at }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Result<char, JsonError> {
        let next = self.peek().ok_or_else(|| self.error())?;
        self.at += next.len_utf8();
        Ok(next)
    }

    fn skip_spaces(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    /// Consumes `token` after spaces, if it is next.
    fn take(&mut self, token: &str) -> bool {
        self.skip_spaces();
        let is_next = self.text[self.at..].starts_with(token);
        self.at += if is_next { token.len() } else { 0 };
        is_next
    }

    fn expect(&mut self, token: &str) -> Result<(), JsonError> {
        if self.take(token) { Ok(()) } else { Err(self.error()) }
    }

    fn value(&mut self, depth: u32) -> Result<Json, JsonError> {
        let depth = depth.checked_sub(1).ok_or_else(|| self.error())?;
        self.skip_spaces();
        match self.peek() {
            Some('{') => self.object(depth),
            Some('[') => self.array(depth),
            Some('"') => Ok(Json::Text(self.string()?)),
            Some('-' | '0'..='9') => self.number(),
            _ if self.take("true") => Ok(Json::Bool(true)),
            _ if self.take("false") => Ok(Json::Bool(false)),
            _ => Err(self.error()),
        }
    }

    fn object(&mut self, depth: u32) -> Result<Json, JsonError> {
        self.expect("{")?;
        let mut fields = Vec::new();
        if self.take("}") {
            return Ok(Json::Object(fields));
        }
        loop {
            self.skip_spaces();
            let name = self.string()?;
            self.expect(":")?;
            fields.push((name, self.value(depth)?));
            if !self.take(",") {
                self.expect("}")?;
                return Ok(Json::Object(fields));
            }
        }
    }

    fn array(&mut self, depth: u32) -> Result<Json, JsonError> {
        self.expect("[")?;
        let mut items = Vec::new();
        if self.take("]") {
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value(depth)?);
            if !self.take(",") {
                self.expect("]")?;
                return Ok(Json::Array(items));
            }
        }
    }

    fn number(&mut self) -> Result<Json, JsonError> {
        let rest = &self.text[self.at..];
        let len =
            rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(rest.len());
        let digits = &rest[..len];
        if digits.parse::<f64>().is_err() {
            return Err(self.error());
        }
        self.at += len;
        Ok(Json::Number(digits.into()))
    }

    fn string(&mut self) -> Result<String, JsonError> {
        if self.next()? != '"' {
            return Err(self.error());
        }
        let mut text = String::new();
        loop {
            match self.next()? {
                '"' => return Ok(text),
                '\\' => text.push(self.escaped()?),
                c if c.is_control() => return Err(self.error()),
                c => text.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, JsonError> {
        Ok(match self.next()? {
            c @ ('"' | '\\' | '/') => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let digits = self.text.get(self.at..self.at + 4).ok_or_else(|| self.error())?;
                // Surrogates, which only characters beyond U+FFFF need, are never written.
                let code = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                let code = code.ok_or_else(|| self.error())?;
                self.at += 4;
                code
            }
            _ => return Err(self.error()),
        })
    }
}

/// Writes a string up to [`MAX_TEXT`].
pub(crate) fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    let mut len = 0;
    for c in text.chars() {
        len += match c {
            '"' | '\\' => 2,
            c if c.is_control() => 6,
            c => c.len_utf8(),
        };
        if len > MAX_TEXT {
            break;
        }
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            c if c.is_control() => write!(f, "\\u{:04x}", c as u32)?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// Writes a number with at most three decimals, so that a line of many figures stays short. A value that is
/// no number is 0: JSON has no notation for it.
pub(crate) fn write_decimal(f: &mut fmt::Formatter<'_>, value: f64) -> fmt::Result {
    let value = if value.is_finite() { value } else { 0.0 };
    let text = alloc::format!("{value:.3}");
    f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    /// The JSON of a string.
    struct Quoted<'a>(&'a str);

    impl fmt::Display for Quoted<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write_text(f, self.0)
        }
    }

    #[test]
    fn each_kind_of_value_is_parsed() {
        let number = |digits: &str| Json::Number(digits.into());
        let expected = Json::Object(vec![
            ("a".into(), Json::Array(vec![number("1"), number("-2.5e3"), Json::Bool(true)])),
            ("b".into(), Json::Object(vec![])),
            ("c".into(), Json::Text("x\"\\\n\u{e9}\u{1f600}".into())),
            ("d".into(), Json::Array(vec![])),
        ]);
        let text = "{ \"a\" : [1, -2.5e3,true], \"b\":{},\"c\":\"x\\\"\\\\\\n\\u00e9\u{1f600}\",\"d\":[ ]} ";
        assert_eq!(Json::parse(text), Ok(expected));
    }

    #[test]
    fn damaged_text_is_an_error_at_its_place() {
        for text in [
            "",
            "{",
            "{\"a\"}",
            "{\"a\":1",
            "{\"a\":1,}",
            "[1 2]",
            "\"x",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\\u00\"",
            "1-",
            "tru",
            "{} {}",
            "\"\u{1}\"",
            "\"\\u00\u{e9}\"",
        ] {
            assert!(matches!(Json::parse(text), Err(JsonError::Syntax { .. })), "{text}");
        }
        assert_eq!(Json::parse("[1,]"), Err(JsonError::Syntax { at: 3 }));
        assert!(Json::parse(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn any_string_survives_and_a_long_one_is_cut_at_a_character() {
        for text in ["", "a \"quoted\\\" line\n", "\u{0}\u{7f}\u{9f}", "é µ 😀"] {
            assert_eq!(Json::parse(&Quoted(text).to_string()), Ok(Json::Text(text.into())));
        }
        for long in ["x", "é", "\"", "\n", "😀"].map(|text| text.repeat(500)) {
            let json = Quoted(&long).to_string();
            assert!(json.len() <= MAX_TEXT + 2 && json.len() > MAX_TEXT - 6, "{json}");
            let Ok(Json::Text(text)) = Json::parse(&json) else { panic!("it is a string: {json}") };
            assert!(long.starts_with(&text));
        }
    }
}
