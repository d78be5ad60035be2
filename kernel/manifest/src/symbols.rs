//! [`Symbols`]: an image's tables for backtraces, as the boot archive contains them (`symbols/<image>`).
//!
//! Two sorted tables. *Functions* name code. *Rows* give the way from a code address to the caller's frame,
//! as the compiler's unwind tables do, but already evaluated for each address: a base register, a distance to
//! the frame's top (DWARF's canonical frame address, CFA), and the location of the caller's saved `rbp`. So
//! the kernel walks a stack without frame pointers, which would slow down each call, and without an
//! interpreter for DWARF.
//!
//! Addresses are offsets from the image's start. Everything is little-endian: `magic` (8 bytes), numbers of
//! rows and functions and bytes of names (4 bytes each), rows, functions, names. A row or a function is three
//! words of 4 bytes. The kernel checks everything when it boots ([`Symbols::parse`]); a table of another
//! build gives wrong results, but causes no access outside of it.

use alloc::vec::Vec;
use core::fmt;

const MAGIC: [u8; 8] = *b"CopSym 1";
const HEADER: usize = MAGIC.len() + 3 * 4;

/// Three words: of a row `start`, `base | cfa << 2`, `saved rbp`; of a function `start`, `name`, `length of
/// the name`.
type Record = [u8; 12];

/// The checked tables of an image.
#[derive(Clone, Copy, Debug)]
pub struct Symbols<'a> {
    rows: &'a [Record],
    functions: &'a [Record],
    names: &'a str,
}

/// The register that a frame's top is measured from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Base {
    /// The stack pointer.
    Rsp,
    /// The frame pointer.
    Rbp,
    /// The scratch register that holds the stack pointer's target while a stack probe descends page by page.
    R11,
}

/// The way to the caller's frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// The register to which `cfa` is added to get the caller's stack pointer; the return address lies right
    /// below it.
    pub base: Base,
    /// The distance, in bytes.
    pub cfa: u32,
    /// The distance from there down to the caller's saved `rbp`; without it, `rbp` still is the caller's.
    pub saved_rbp: Option<u32>,
}

/// A rule that holds from `start` up to the next row. Without a rule the frame is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// Offset in the image.
    pub start: u32,
    /// The rule.
    pub rule: Option<Rule>,
}

/// The reason why bytes are no symbol tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SymbolsError {
    /// They do not start with the magic.
    Magic,
    /// Their length is not the one in their header.
    Length,
    /// A table is not in order of addresses.
    Order,
    /// A name lies outside the names, or they are not UTF-8.
    Name,
    /// A row uses an unknown base register.
    Base,
}

impl fmt::Display for SymbolsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Magic => "they are no symbols of this kernel's format",
            Self::Length => "their length differs from their header's",
            Self::Order => "they are not in the order of addresses",
            Self::Name => "a name is outside of them or not UTF-8",
            Self::Base => "a row measures from an unknown register",
        })
    }
}

impl core::error::Error for SymbolsError {}

fn word(record: &Record, index: usize) -> u32 {
    u32::from_le_bytes([0, 1, 2, 3].map(|byte| record[index * 4 + byte]))
}

fn start(record: &Record) -> u32 {
    word(record, 0)
}

/// Returns the last record that starts at `offset` or before.
fn find(table: &[Record], offset: u32) -> Option<&Record> {
    table.get(table.partition_point(|record| start(record) <= offset).checked_sub(1)?)
}

/// Returns the first `count` records of `bytes`, and the bytes behind them.
fn records(bytes: &[u8], count: usize) -> Result<(&[Record], &[u8]), SymbolsError> {
    let len = count.checked_mul(size_of::<Record>()).ok_or(SymbolsError::Length)?;
    let (table, rest) = bytes.split_at_checked(len).ok_or(SymbolsError::Length)?;
    Ok((table.as_chunks().0, rest))
}

impl<'a> Symbols<'a> {
    /// Checks the tables.
    ///
    /// # Errors
    /// The first defect that it finds.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SymbolsError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(SymbolsError::Magic)?;
        let (counts, rest) = rest.split_first_chunk::<12>().ok_or(SymbolsError::Length)?;
        let [rows, functions, names] = [0, 1, 2].map(|index| word(counts, index) as usize);
        let (rows, rest) = records(rest, rows)?;
        let (functions, names_bytes) = records(rest, functions)?;
        if names_bytes.len() != names {
            return Err(SymbolsError::Length);
        }
        let names = core::str::from_utf8(names_bytes).map_err(|_| SymbolsError::Name)?;
        if !rows.is_sorted_by_key(start) || !functions.is_sorted_by_key(start) {
            return Err(SymbolsError::Order);
        }
        if rows.iter().any(|row| word(row, 1) & 3 == 0 && word(row, 1) != 0) {
            return Err(SymbolsError::Base);
        }
        let symbols = Self { rows, functions, names };
        match functions.iter().all(|function| symbols.name(function).is_some()) {
            true => Ok(symbols),
            false => Err(SymbolsError::Name),
        }
    }

    fn name(&self, function: &Record) -> Option<&'a str> {
        let (from, len) = (word(function, 1) as usize, word(function, 2) as usize);
        self.names.get(from..from.checked_add(len)?)
    }

    /// Returns the function that holds the code at `offset`, and the offset in the function.
    pub fn function(&self, offset: u32) -> Option<(&'a str, u32)> {
        let function = find(self.functions, offset)?;
        Some((self.name(function)?, offset - start(function)))
    }

    /// Returns the way to the caller from the code at `offset`.
    pub fn rule(&self, offset: u32) -> Option<Rule> {
        let row = find(self.rows, offset)?;
        let base = match word(row, 1) & 3 {
            1 => Base::Rsp,
            2 => Base::Rbp,
            3 => Base::R11,
            _ => return None,
        };
        let saved_rbp = word(row, 2);
        Some(Rule { base, cfa: word(row, 1) >> 2, saved_rbp: (saved_rbp != 0).then_some(saved_rbp) })
    }
}

/// Encodes tables for [`Symbols::parse`]. Both are in the order of addresses, and each `cfa` is below 2^30.
pub fn encode_symbols(rows: &[Row], functions: &[(u32, &str)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend_from_slice(&MAGIC);
    let names: usize = functions.iter().map(|(_, name)| name.len()).sum();
    let mut put =
        |words: [u32; 3]| words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    put([rows.len() as u32, functions.len() as u32, names as u32]);
    for row in rows {
        let [base, saved_rbp] = row.rule.map_or([0, 0], |rule| {
            let base = match rule.base {
                Base::Rsp => 1,
                Base::Rbp => 2,
                Base::R11 => 3,
            };
            [base | rule.cfa << 2, rule.saved_rbp.unwrap_or(0)]
        });
        put([row.start, base, saved_rbp]);
    }
    let mut at = 0;
    for (start, name) in functions {
        put([*start, at, name.len() as u32]);
        at += name.len() as u32;
    }
    functions.iter().for_each(|(_, name)| bytes.extend_from_slice(name.as_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLED: Rule = Rule { base: Base::Rsp, cfa: 8, saved_rbp: None };
    const BIG: Rule = Rule { base: Base::R11, cfa: 1 << 21, saved_rbp: Some(16) };
    const FRAMED: Rule = Rule { base: Base::Rbp, cfa: 16, saved_rbp: Some(16) };

    fn example() -> Vec<u8> {
        let row = |start, rule| Row { start, rule };
        let rows = [row(0x10, Some(CALLED)), row(0x11, Some(BIG)), row(0x20, Some(FRAMED)), row(0x30, None)];
        encode_symbols(&rows, &[(0x10, "first"), (0x20, "zweite — ü")])
    }

    #[test]
    fn encoded_rows_and_functions_are_found() {
        let bytes = example();
        let symbols = Symbols::parse(&bytes).expect("just made");
        assert_eq!(symbols.rule(0xf), None);
        assert_eq!(symbols.rule(0x10), Some(CALLED));
        assert_eq!(symbols.rule(0x1f), Some(BIG));
        assert_eq!(symbols.rule(0x20), Some(FRAMED));
        assert_eq!(symbols.rule(u32::MAX), None);
        assert_eq!(symbols.function(0), None);
        assert_eq!(symbols.function(0x1f), Some(("first", 0xf)));
        assert_eq!(symbols.function(0x25), Some(("zweite — ü", 5)));
    }

    #[test]
    fn an_image_without_symbols_has_empty_tables() {
        let bytes = encode_symbols(&[], &[]);
        let symbols = Symbols::parse(&bytes).expect("just made");
        assert_eq!((symbols.rule(5), symbols.function(5)), (None, None));
    }

    #[test]
    fn every_truncation_of_symbols_is_refused() {
        let bytes = example();
        for end in 0..bytes.len() {
            assert!(Symbols::parse(&bytes[..end]).is_err(), "the first {end} bytes are taken for all");
        }
        let mut longer = bytes.clone();
        longer.push(b'!');
        assert_eq!(Symbols::parse(&longer).err(), Some(SymbolsError::Length));
    }

    #[test]
    fn damaged_symbols_never_cause_an_access_outside_the_tables() {
        let bytes = example();
        let mut refused = 0;
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                match Symbols::parse(&damaged) {
                    // A wrong result is possible, a panic is not.
                    Ok(symbols) => (0..0x40).for_each(|offset| {
                        let _ = (symbols.rule(offset), symbols.function(offset));
                    }),
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(refused > 8 * HEADER, "only {refused} kinds of damage are detected");
    }

    #[test]
    fn tables_out_of_order_are_refused() {
        let swapped = encode_symbols(&[], &[(5, "late"), (4, "early")]);
        assert_eq!(Symbols::parse(&swapped).err(), Some(SymbolsError::Order));
    }
}
