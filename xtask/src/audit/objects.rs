//! Checks of object code: the symbols and sections of an audited crate.
//!
//! Object code shows what no reading of source can miss: a function under a name of the C library or of the
//! kernel, a reference to a foreign function, data in a section that runs before the entry. Rust's own items
//! have mangled names, so an audited crate defines and refers to no other symbol than those, and the helpers
//! that the compiler itself calls. In a linked image the entry macro and the runtime add a fixed set.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use object::read::archive::ArchiveFile;
use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

use super::Finding;

/// Symbols of the C library and of compiler support that rustc and LLVM call by themselves.
#[rustfmt::skip]
const HELPERS: &[&str] = &[
    "_GLOBAL_OFFSET_TABLE_", "_Unwind_Resume", "__divti3", "__fixdfti", "__fixsfti", "__fixunsdfti",
    "__fixunssfti", "__floattidf", "__floattisf", "__floatuntidf", "__floatuntisf", "__modti3", "__muloti4",
    "__multi3", "__tls_get_addr", "__udivmodti4", "__udivti3", "__umodti3", "bcmp", "ceil", "ceilf", "floor",
    "floorf", "fma", "fmaf", "fmod", "fmodf", "memcmp", "memcpy", "memmove", "memset", "rint", "rintf", "round",
    "roundf", "rust_eh_personality", "strlen", "trunc", "truncf",
];

/// Symbols that a linked image defines besides: the entry macro's, the memory functions that stand in for the
/// C library's, and the linker's own.
#[rustfmt::skip]
const IMAGE: &[&str] = &[
    "_DYNAMIC", "__bss_start", "_edata", "_end", "coppice_entry", "__rust_no_alloc_shim_is_unstable",
];

/// Sections that compilers write, by the beginning of their names.
#[rustfmt::skip]
const SECTIONS: &[&str] = &[
    ".bss", ".comment", ".data", ".debug_", ".eh_frame", ".gcc_except_table", ".group", ".note.GNU-stack",
    ".note.coppice", ".note.gnu", ".rela", ".rodata", ".rustc", ".shstrtab", ".strtab", ".symtab", ".symtab_shndx",
    ".tbss", ".tdata", ".text",
];

/// Functions of the C library that device models refer to: code of `std` and rustix that was inlined. Models
/// run in a process, beside the hosted kernel or in one of their own.
const MODELS: &[&str] = &["__errno_location", "bind", "close", "connect", "listen"];

/// The kind of an object file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A library of domains.
    Library,
    /// A library of device models.
    Model,
    /// A confined library. Its references are made by lines of unsafe code, which are counted.
    Confined,
    /// A linked image.
    Image,
}

/// Audits the object files of a library.
pub(crate) fn audit(library: &Path, kind: Kind, package: &str, findings: &mut Vec<Finding>) -> Result<()> {
    let bytes = fs::read(library).with_context(|| format!("reading {}", library.display()))?;
    let shown = || format!("reading {}", library.display());
    let archive = ArchiveFile::parse(bytes.as_slice()).with_context(shown)?;
    let mut found = BTreeSet::new();
    for member in archive.members() {
        let member = member.with_context(shown)?;
        // The crate's metadata is in an object file of its own, without code.
        if member.name() == b"lib.rmeta" {
            continue;
        }
        let data = member.data(bytes.as_slice()).with_context(shown)?;
        let Ok(file) = object::File::parse(data) else {
            found.insert(format!("its library holds {}", String::from_utf8_lossy(member.name())));
            continue;
        };
        found.extend(object_findings(&file, kind));
    }
    findings.extend(found.into_iter().map(|what| Finding::new(package, what)));
    Ok(())
}

/// Audits the symbols of a linked image.
pub(crate) fn audit_image(image: &Path, package: &str, findings: &mut Vec<Finding>) -> Result<()> {
    let bytes = fs::read(image).with_context(|| format!("reading {}", image.display()))?;
    let file =
        object::File::parse(bytes.as_slice()).with_context(|| format!("reading {}", image.display()))?;
    findings.extend(object_findings(&file, Kind::Image).into_iter().map(|what| Finding::new(package, what)));
    Ok(())
}

fn object_findings(file: &object::File<'_>, kind: Kind) -> BTreeSet<String> {
    let is_image = kind == Kind::Image;
    let mut found = BTreeSet::new();
    for section in file.sections() {
        let name = section.name().unwrap_or_default();
        if !is_image && !name.is_empty() && !SECTIONS.iter().any(|known| is_section(name, known)) {
            found.insert(format!("its object code has a section {name}"));
        }
    }
    for symbol in file.symbols() {
        let Ok(name) = symbol.name() else { continue };
        if name.is_empty() || matches!(symbol.kind(), SymbolKind::File | SymbolKind::Section) {
            continue;
        }
        // A pointer to the function that unwinding calls.
        let is_reference = name.starts_with("DW.ref.");
        let name = name.strip_prefix("DW.ref.").unwrap_or(name);
        let is_known = is_mangled(name)
            || is_generated(name, false)
            || HELPERS.contains(&name)
            || is_image && IMAGE.contains(&name);
        if symbol.is_undefined() {
            let is_models = kind == Kind::Model && MODELS.contains(&name);
            if !is_known && !is_models && kind != Kind::Confined {
                found.insert(format!("its object code refers to the symbol {name}"));
            }
            continue;
        }
        // The compiler's own labels are local: constants without names, tables of switches.
        let is_local = is_generated(name, symbol.is_local());
        let is_helper = !is_image && HELPERS.contains(&name) && !is_reference;
        if !is_known && !is_local || is_helper {
            found.insert(format!("its object code defines the symbol {name}"));
        }
        // The linker joins sections by name, so one of that name is code, flagged as executable or not.
        let section = symbol.section_index().and_then(|index| file.section_by_index(index).ok());
        let is_code = section.is_some_and(|section| {
            section.kind() == SectionKind::Text || section.name().is_ok_and(|name| is_section(name, ".text"))
        });
        if is_code && symbol.kind() != SymbolKind::Text && !is_image {
            found.insert(format!("its object code has data among code: {name}"));
        }
    }
    found
}

/// Returns true if a section's name is `known` or begins with it and a dot, or if `known` is a prefix that
/// ends with an underscore.
fn is_section(name: &str, known: &str) -> bool {
    name.strip_prefix(known)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || known.ends_with('_'))
}

/// Returns true for names that rustc gives to items of Rust, in both of its schemes, and to what LLVM derives
/// from them.
fn is_mangled(name: &str) -> bool {
    rustc_demangle::try_demangle(name).is_ok()
}

/// Returns true for names that rustc and LLVM give to unnamed items. Only constants that two units of code
/// generation share are global: `anon`, a hash, and two numbers.
fn is_generated(name: &str, is_local: bool) -> bool {
    let shared = name.strip_prefix("anon.").and_then(|rest| rest.split_once(".llvm."));
    let is_shared = shared.is_some_and(|(_, unit)| unit.bytes().all(|byte| byte.is_ascii_digit()));
    let own = [".L", "GCC_except_table", "__unnamed_", "alloc_", "anon.", "switch.table.", "vtable."];
    is_shared || is_local && own.iter().any(|known| name.starts_with(known))
}
