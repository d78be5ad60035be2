//! The text of lines: prefix, and characters that would leave the line or change the terminal escaped.

use core::fmt::{self, Write};

use coppice_abi::LogLevel;
use coppice_abi::note::NAME_LIMIT;

use super::ring::{Form, Record, TEXT_LIMIT};

/// The longest line of a record, in bytes: each byte of the text is escaped as `\u{7f}` at most.
pub(super) const LINE_LIMIT: usize = TEXT_LIMIT * r"\u{7f}".len() + PREFIX_LIMIT;

/// The longest prefix: a time, a name, a level, and the punctuation.
const PREFIX_LIMIT: usize = u64::MAX.ilog10() as usize + 1 + NAME_LIMIT + "[.000000] : warning: \n".len();

/// Writes a record's line.
pub(super) fn write_record(out: &mut dyn Write, record: &Record, text: &[u8]) -> fmt::Result {
    match record.form {
        Form::Echo => return text.utf8_chunks().try_for_each(|chunk| out.write_str(chunk.valid())),
        Form::Line => {}
        Form::Record(level) => write_prefix(out, record.time_ns, level, record.source)?,
    }
    for chunk in text.utf8_chunks() {
        write_escaped(out, chunk.valid())?;
        if !chunk.invalid().is_empty() {
            out.write_char(char::REPLACEMENT_CHARACTER)?;
        }
    }
    out.write_char('\n')
}

pub(super) fn write_prefix(out: &mut dyn Write, time_ns: u64, level: LogLevel, source: &str) -> fmt::Result {
    let prefix = match level {
        LogLevel::Error => "ERROR ",
        LogLevel::Warn => "warning: ",
        LogLevel::Info | LogLevel::Debug | LogLevel::Trace => "",
    };
    let (seconds, micros) = (time_ns / 1_000_000_000, time_ns / 1_000 % 1_000_000);
    write!(out, "[{seconds:4}.{micros:06}] {source}: {prefix}")
}

/// Writes `text` with its control characters escaped: it stays in its line, and a terminal shows all of it.
pub(super) fn write_escaped(out: &mut dyn Write, text: &str) -> fmt::Result {
    let mut rest = text;
    while let Some((at, special)) = rest.char_indices().find(|(_, char)| leaves_the_line(*char)) {
        out.write_str(&rest[..at])?;
        write!(out, "{}", special.escape_default())?;
        rest = &rest[at + special.len_utf8()..];
    }
    out.write_str(rest)
}

/// Returns true for control characters (Unicode's category Cc), separators of lines and paragraphs, and
/// characters that change the direction of the text around them (Unicode Standard Annex 9, section 2).
fn leaves_the_line(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Escapes what is written through it, for text that is not in a ring.
pub(super) struct Escaped<'a>(pub(super) &'a mut dyn Write);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write_escaped(self.0, text)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    fn line(form: Form, text: &[u8]) -> String {
        let record = Record { time_ns: 12_000_345_678, order_ns: 0, payer: 2, source: "flood", form };
        let mut line = String::new();
        write_record(&mut line, &record, text).expect("a string grows");
        line
    }

    #[test]
    fn a_record_has_time_source_and_level() {
        let warning = line(Form::Record(LogLevel::Warn), b"it is late");
        assert_eq!(warning, "[  12.000345] flood: warning: it is late\n");
        assert_eq!(line(Form::Record(LogLevel::Info), b""), "[  12.000345] flood: \n");
        assert_eq!(line(Form::Line, b"a line"), "a line\n");
        assert_eq!(line(Form::Echo, b"\x08 \x08"), "\x08 \x08");
    }

    #[test]
    fn no_text_leaves_its_line_or_changes_the_terminal() {
        let hostile =
            "a\nb\r[   0.1] kernel: c\u{1b}[2J\u{7f}\u{9b}\u{85}\u{2028}\u{2029}\u{202e}\u{2066}\0\tend";
        for form in [Form::Record(LogLevel::Info), Form::Line] {
            let line = line(form, hostile.as_bytes());
            let inside = line.strip_suffix('\n').expect("it ends");
            assert!(!inside.chars().any(leaves_the_line), "{inside:?}");
            assert!(inside.ends_with(
                r"a\nb\r[   0.1] kernel: c\u{1b}[2J\u{7f}\u{9b}\u{85}\u{2028}\u{2029}\u{202e}\u{2066}\u{0}\tend"
            ));
        }
    }

    #[test]
    fn the_longest_line_is_within_the_limit() {
        let name = "n".repeat(NAME_LIMIT).leak();
        let record = Record {
            time_ns: u64::MAX,
            order_ns: 0,
            payer: 2,
            source: name,
            form: Form::Record(LogLevel::Warn),
        };
        let longest = |special: char| {
            let text = String::from(special).repeat(TEXT_LIMIT / special.len_utf8());
            let mut line = String::new();
            write_record(&mut line, &record, text.as_bytes()).expect("a string grows");
            line.len()
        };
        let specials = (char::MIN..=char::MAX).filter(|char| leaves_the_line(*char));
        let longest_special = specials.map(longest).max().expect("there are some");
        // Fewer digits of the seconds.
        assert!((LINE_LIMIT - 10..=LINE_LIMIT).contains(&longest_special), "{longest_special}");
        let mut line = String::new();
        write_record(&mut line, &record, &[0xff; TEXT_LIMIT]).expect("a string grows");
        assert!(line.len() <= LINE_LIMIT);
    }

    #[test]
    fn other_text_stays_as_it_is() {
        assert_eq!(
            line(Form::Line, "ä \u{1f600} \\n {\"id\": 1}".as_bytes()),
            "ä \u{1f600} \\n {\"id\": 1}\n"
        );
        assert_eq!(line(Form::Line, b"not \xff UTF-8"), "not \u{fffd} UTF-8\n");
    }
}
