//! An image's tables for backtraces, made from the unstripped file: names from its symbol table, and the
//! position of each frame's caller from its unwind tables (`.eh_frame`). Both are computed here for every
//! address, so that the kernel needs neither a demangler nor an interpreter of DWARF (see
//! [`coppice_manifest::Symbols`]).

use anyhow::{Context, Result, ensure};
use coppice_manifest::{Base, Row, Rule, encode_symbols};
use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, LittleEndian, Register, RegisterRule, UnwindContext,
    UnwindSection, UnwindTableRow, X86_64,
};
use object::Endianness;
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

/// The return address's register in unwind tables, and its location by the System V ABI.
const RETURN_ADDRESS: Register = X86_64::RA;
const RETURN_ADDRESS_BELOW_CFA: i64 = 8;

/// The tables of the linked image `bytes`, in the form that goes into an archive.
pub(crate) fn of_image(bytes: &[u8]) -> Result<Vec<u8>> {
    let file = ElfFile64::<Endianness>::parse(bytes)?;
    let functions = functions(&file)?;
    let named: Vec<(u32, &str)> = functions.iter().map(|(start, name)| (*start, name.as_str())).collect();
    Ok(encode_symbols(&rows(&file)?, &named))
}

/// Addresses in an image are offsets from its start: it is linked at 0.
fn offset(address: u64) -> Result<u32> {
    u32::try_from(address).context("the image is larger than 4 GiB")
}

fn functions(file: &ElfFile64<'_, Endianness>) -> Result<Vec<(u32, String)>> {
    let mut functions = Vec::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition())
    {
        // The alternate form omits the hash that tells symbols of one path apart.
        let name = format!("{:#}", rustc_demangle::demangle(symbol.name()?));
        functions.push((offset(symbol.address())?, name));
    }
    functions.sort();
    // Functions with identical code are merged under several names; the first one is kept.
    functions.dedup_by_key(|(start, _)| *start);
    Ok(functions)
}

fn rows(file: &ElfFile64<'_, Endianness>) -> Result<Vec<Row>> {
    let Some(section) = file.section_by_name(".eh_frame") else { return Ok(Vec::new()) };
    let mut bases = BaseAddresses::default().set_eh_frame(section.address());
    if let Some(text) = file.section_by_name(".text") {
        bases = bases.set_text(text.address());
    }
    let eh_frame = EhFrame::new(section.data()?, LittleEndian);
    let mut context = UnwindContext::new();
    // Each range of addresses with its rule; ranges do not overlap.
    let mut ranges: Vec<(u32, u32, Option<Rule>)> = Vec::new();
    let mut entries = eh_frame.entries(&bases);
    while let Some(entry) = entries.next()? {
        let CieOrFde::Fde(partial) = entry else { continue };
        let function = partial.parse(EhFrame::cie_from_offset)?;
        let mut table = function.rows(&eh_frame, &bases, &mut context)?;
        while let Some(row) = table.next_row()? {
            // A function of the length of the address space would wrap around, and so would its row.
            ensure!(row.start_address() <= row.end_address(), "an unwind table goes backwards");
            ranges.push((offset(row.start_address())?, offset(row.end_address())?, rule(row)));
        }
    }
    ranges.sort_by_key(|&(start, ..)| start);
    let mut rows: Vec<Row> = Vec::new();
    let mut put = |start, rule| match rows.last_mut() {
        Some(last) if last.rule == rule => {}
        Some(last) if last.start == start => last.rule = rule,
        _ => rows.push(Row { start, rule }),
    };
    for (start, end, rule) in ranges {
        put(start, rule);
        put(end, None);
    }
    Ok(rows)
}

/// The rule of a row; `None` for rows that compiled code does not need and [`Rule`] cannot express.
fn rule(row: &UnwindTableRow<usize>) -> Option<Rule> {
    let &CfaRule::RegisterAndOffset { register, offset } = row.cfa() else { return None };
    let base = match register {
        X86_64::RSP => Base::Rsp,
        X86_64::RBP => Base::Rbp,
        X86_64::R11 => Base::R11,
        _ => return None,
    };
    let below_cfa = |register| match row.register(register) {
        Some(RegisterRule::Offset(offset)) => Some(-offset),
        _ => None,
    };
    if below_cfa(RETURN_ADDRESS) != Some(RETURN_ADDRESS_BELOW_CFA) {
        return None;
    }
    let saved_rbp = below_cfa(X86_64::RBP).map(u32::try_from).transpose().ok()?;
    let cfa = u32::try_from(offset).ok().filter(|&cfa| cfa < 1 << 30)?;
    Some(Rule { base, cfa, saved_rbp })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use coppice_manifest::Symbols;

    use super::*;

    /// Links as an image is linked: position-independent, without a C library.
    fn link(program: &str) -> Vec<u8> {
        let folder = tempfile::tempdir().expect("there is room for a few files");
        let (source, output) = (folder.path().join("image.c"), folder.path().join("image"));
        fs::write(&source, program).expect("there is room for a few files");
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-fPIE", "-static-pie", "-nostdlib", "-nostartfiles", "-fomit-frame-pointer"]);
        cc.args(["-fasynchronous-unwind-tables", "-o"]).arg(&output).arg(&source);
        assert!(cc.status().expect("rustc links with cc").success());
        fs::read(output).expect("cc wrote it")
    }

    #[test]
    fn functions_and_frames_are_found() {
        let bytes = link(
            "__attribute__((noinline)) void other(void *place) { __asm__(\"\" :: \"r\"(place)); }
             void _start(void) { char frame[4000]; other(frame); __asm__(\"\" :: \"r\"(frame)); }",
        );
        let encoded = of_image(&bytes).expect("the image is valid");
        let symbols = Symbols::parse(&encoded).expect("just made");
        let file = ElfFile64::<Endianness>::parse(bytes.as_slice()).expect("it is ELF");
        let start =
            file.symbols().find(|symbol| symbol.name() == Ok("_start")).expect("it is defined").address();
        let start = u32::try_from(start).expect("it is small");
        assert_eq!(symbols.function(start + 5), Some(("_start", 5)));
        // Before the first instruction only the return address is on the stack.
        assert_eq!(symbols.rule(start), Some(Rule { base: Base::Rsp, cfa: 8, saved_rbp: None }));
        let deepest = (start..start + 64).filter_map(|at| symbols.rule(at)).map(|rule| rule.cfa).max();
        assert!(deepest.is_some_and(|cfa| (4000..4100).contains(&cfa)), "{deepest:?}");
        assert_eq!(symbols.rule(0), None);
    }

    #[test]
    fn names_are_written_as_in_the_source() {
        let bytes =
            link("void _ZN4core9panicking9panic_fmt17h0123456789abcdefE(void) {} void _start(void) {}");
        let encoded = of_image(&bytes).expect("the image is valid");
        let text = String::from_utf8_lossy(&encoded).into_owned();
        assert!(text.contains("core::panicking::panic_fmt"), "{text}");
        assert!(!text.contains("0123456789abcdef"), "{text}");
    }
}
