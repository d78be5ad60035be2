//! Domain images: static position-independent executables without a runtime, as DESIGN.md section 3
//! describes.
//!
//! The images of a system come from one cargo invocation, so a system's first boot compiles only the images
//! it needs. The link arguments travel with `--target`, which keeps them from host programs such as proc
//! macros. The linker's output is checked here, where a developer can act on an error; the kernel's loader
//! does not rely on this and checks again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use object::Endianness;
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader, Rela, SectionHeader};

use crate::symbols;
use crate::ui::Step;
use crate::workspace::{Images, TARGET, Workspace};
use crate::wrapper;

/// The symbol of the entry macro's function, which the kernel calls first.
const ENTRY: &str = "coppice_entry";

/// The flags that rustc links an image with.
fn link_flags() -> String {
    let flags = [
        // Together these make a static-pie: relative relocations alone fix its addresses.
        "-Ctarget-feature=+crt-static".to_owned(),
        "-Crelocation-model=pie".to_owned(),
        "-Clink-arg=-static-pie".to_owned(),
        // No C library, no start files: the kernel calls the entry.
        "-Clink-arg=-nostartfiles".to_owned(),
        "-Clink-arg=-nostdlib".to_owned(),
        format!("-Clink-arg=-Wl,-e,{ENTRY}"),
        "-Clink-arg=-Wl,--no-dynamic-linker".to_owned(),
        // Relocations in code would require it to be writable.
        "-Clink-arg=-Wl,-z,text".to_owned(),
        // Pages that only relocation writes are separate, and the loader makes them read-only.
        "-Clink-arg=-Wl,-z,relro".to_owned(),
        "-Clink-arg=-Wl,-z,now".to_owned(),
        "-Clink-arg=-Wl,-z,max-page-size=4096".to_owned(),
        // The linker's build-id note would stand beside ours and change with every link.
        "-Clink-arg=-Wl,--build-id=none".to_owned(),
    ];
    // Cargo documents this separator for CARGO_ENCODED_RUSTFLAGS.
    flags.join("\x1f")
}

/// Images that this process has built. Cargo builds each once: sources that change during a run would give it
/// two versions of an image.
#[derive(Default)]
pub(crate) struct Built(Mutex<BTreeMap<String, PathBuf>>);

/// Builds the images `wanted` and returns the path of each stripped one. An unstripped copy lies beside it as
/// `.debug`, and its tables for backtraces as `.symbols`.
pub(crate) fn build(workspace: &Workspace, wanted: &BTreeSet<&str>) -> Result<BTreeMap<String, PathBuf>> {
    let mut built = workspace.built.0.lock().expect("no thread panics with it");
    let mut images = workspace.images()?;
    images.retain(|name, _| wanted.contains(&**name) && !built.contains_key(name));
    if !images.is_empty() {
        built.extend(build_all(workspace, &images)?);
    }
    Ok(built.iter().map(|(name, path)| (name.clone(), path.clone())).collect())
}

fn build_all(workspace: &Workspace, images: &Images) -> Result<BTreeMap<String, PathBuf>> {
    let step = Step::start("building domain images");
    let mut built = BTreeMap::new();
    step.run(wrapper::guard(workspace, &mut cargo(workspace, "build", images))?)?;
    let linked_folder = workspace.target.join(TARGET).join("release");

    let folder = workspace.target.join("images");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let (mut image_bytes, mut symbol_bytes) = (0, 0);
    for name in images.keys() {
        let linked = linked_folder.join(name);
        let bytes = fs::read(&linked).with_context(|| format!("reading {}", linked.display()))?;
        let stripped = finish(&bytes).with_context(|| format!("the image {}", linked.display()))?;
        let path = folder.join(name);
        write_if_changed(&path, &stripped)?;
        write_if_changed(&folder.join(format!("{name}.debug")), &bytes)?;
        let symbols =
            symbols::of_image(&bytes).with_context(|| format!("symbols of {}", linked.display()))?;
        write_if_changed(&symbols_of(&path), &symbols)?;
        image_bytes += stripped.len();
        symbol_bytes += symbols.len();
        built.insert(name.clone(), path);
    }
    let (images, symbols) = (image_bytes / 1024, symbol_bytes / 1024);
    step.done(&format!("{} images, {images} KiB, and {symbols} KiB of symbols", built.len()));
    Ok(built)
}

/// The path of the backtrace tables of the stripped image at `path`.
pub(crate) fn symbols_of(path: &Path) -> PathBuf {
    path.with_extension("symbols")
}

/// The cargo command that builds or checks images, and no other binary of their packages.
pub(crate) fn cargo(workspace: &Workspace, subcommand: &str, images: &Images) -> Command {
    let mut cargo = workspace.cargo(subcommand);
    // With `--target`, proc macros are built for the host, as in the kernels' builds: both share one build of
    // them.
    cargo.args(["--release", "--target", TARGET]);
    for package in images.values().collect::<BTreeSet<_>>() {
        cargo.args(["-p", package]);
    }
    for name in images.keys() {
        cargo.args(["--bin", name]);
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", link_flags());
    cargo
}

/// Writes `bytes` unless the file already holds them, so that no build step sees an unchanged file as new.
pub(crate) fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

/// Checks the linked image and returns it without symbols and sections.
///
/// The kernel loads by program headers, and linkers place everything that those refer to in front of symbols
/// and debug information. So stripping cuts the file there, without binutils.
fn finish(bytes: &[u8]) -> Result<Vec<u8>> {
    let header = elf::FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    ensure!(
        header.e_type(endian) == elf::ET_DYN,
        "is not position-independent (e_type {})",
        header.e_type(endian)
    );
    ensure!(header.e_machine(endian) == elf::EM_X86_64, "is not for x86_64");

    let segments = header.program_headers(endian, bytes)?;
    let table_size = segments.len() as u64 * u64::from(header.e_phentsize(endian));
    let mut end = header.e_phoff(endian) + table_size;
    let mut entry_is_code = false;
    let mut has_notes = false;
    for segment in segments {
        let (offset, size) = segment.file_range(endian);
        match segment.p_type(endian) {
            elf::PT_LOAD => {
                let flags = segment.p_flags(endian);
                ensure!(
                    flags & (elf::PF_W | elf::PF_X) != elf::PF_W | elf::PF_X,
                    "has a segment that is both writable and executable at {:#x}",
                    segment.p_vaddr(endian)
                );
                let range = segment.p_vaddr(endian)..segment.p_vaddr(endian) + segment.p_memsz(endian);
                entry_is_code |= flags & elf::PF_X != 0 && range.contains(&header.e_entry(endian));
                end = end.max(offset + size);
            }
            elf::PT_INTERP => anyhow::bail!("needs a dynamic linker"),
            elf::PT_TLS => anyhow::bail!("has thread-local storage, which domains do not have"),
            elf::PT_NOTE => has_notes = true,
            _ => {}
        }
    }
    ensure!(entry_is_code, "has no `{ENTRY}`: does its main.rs consist of the entry macro?");
    ensure!(has_notes, "has no notes: does its main.rs consist of the entry macro?");
    check_relocations(header, endian, bytes)?;

    let end = usize::try_from(end).context("is larger than memory")?;
    let mut stripped = bytes.get(..end).context("is truncated")?.to_vec();
    // The section header table is gone: clear e_shoff, e_shnum and e_shstrndx (ELF-64 Object File Format,
    // section 3).
    stripped[0x28..0x30].fill(0);
    stripped[0x3c..0x40].fill(0);
    Ok(stripped)
}

fn check_relocations(header: &elf::FileHeader64<Endianness>, endian: Endianness, bytes: &[u8]) -> Result<()> {
    let sections = header.sections(endian, bytes)?;
    for section in sections.iter() {
        let Some((relocations, _)) = section.rela(endian, bytes)? else { continue };
        // Relocations that the linker has already applied to unloaded sections do not matter.
        if section.sh_flags(endian) & u64::from(elf::SHF_ALLOC) == 0 {
            continue;
        }
        for relocation in relocations {
            let kind = relocation.r_type(endian, false);
            ensure!(
                kind == elf::R_X86_64_RELATIVE,
                "has a relocation of type {kind} at {:#x}, but only R_X86_64_RELATIVE is loaded",
                relocation.r_offset(endian)
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: &str = r#"
        __asm__(".section .note.coppice,\"a\",@note\n.align 4\n.long 8,4,1\n.asciz \"Coppice\"\n.long 7\n.text");
        int value = 5;
        int *address = &value;
        int coppice_entry(void) { return *address; }
    "#;

    /// Links `program` as an image, with the `extra` link arguments.
    fn link(program: &str, extra: &[&str]) -> Vec<u8> {
        let folder = tempfile::tempdir().expect("there is room for a few files");
        let (source, output) = (folder.path().join("image.c"), folder.path().join("image"));
        fs::write(&source, program).expect("there is room for a few files");
        let mut cc = Command::new("cc");
        cc.args(["-g", "-fPIE", "-static-pie", "-nostdlib", "-nostartfiles", "-Wl,--no-dynamic-linker"]);
        cc.args(["-Wl,-e,coppice_entry", "-Wl,--build-id=none"])
            .args(extra)
            .arg("-o")
            .arg(&output)
            .arg(&source);
        assert!(cc.status().expect("rustc links with cc").success());
        fs::read(output).expect("cc wrote it")
    }

    fn refusal(program: &str, extra: &[&str]) -> String {
        format!("{:#}", finish(&link(program, extra)).expect_err("the image is invalid"))
    }

    #[test]
    fn stripping_keeps_all_that_is_loaded() {
        let linked = link(PROGRAM, &[]);
        let stripped = finish(&linked).expect("the image is valid");
        assert!(stripped.len() < linked.len());
        let header = elf::FileHeader64::<Endianness>::parse(stripped.as_slice()).expect("it still is ELF");
        let segments =
            header.program_headers(Endianness::Little, stripped.as_slice()).expect("it has segments");
        for segment in segments {
            let (offset, size) = segment.file_range(Endianness::Little);
            let range = offset as usize..(offset + size) as usize;
            assert_eq!(stripped.get(range.clone()).is_some(), linked.get(range).is_some());
        }
        assert_eq!(finish(&stripped).expect("stripping twice changes nothing"), stripped);
    }

    #[test]
    fn a_fixed_address_is_refused() {
        let refusal = refusal(PROGRAM, &["-no-pie", "-static"]);
        assert!(refusal.contains("not position-independent"), "{refusal}");
    }

    #[test]
    fn writable_code_is_refused() {
        let mut bytes = link(PROGRAM, &[]);
        let is_code = |flags: u8| flags & elf::PF_X as u8 != 0;
        // Program headers follow the 64 bytes of the file's header, 56 bytes each, with p_flags at offset 4.
        let code = (64..).step_by(56).find(|&at| bytes[at] == elf::PT_LOAD as u8 && is_code(bytes[at + 4]));
        bytes[code.expect("there is code") + 4] |= elf::PF_W as u8;
        let refusal = format!("{:#}", finish(&bytes).expect_err("the image is invalid"));
        assert!(refusal.contains("both writable and executable"), "{refusal}");
    }

    #[test]
    fn an_image_without_notes_is_refused() {
        let refusal = refusal("int coppice_entry(void) { return 0; }", &[]);
        assert!(refusal.contains("no notes"), "{refusal}");
    }

    #[test]
    fn thread_local_storage_is_refused() {
        let refusal = refusal(&format!("{PROGRAM} __thread int x = 3; int *f(void) {{ return &x; }}"), &[]);
        assert!(refusal.contains("thread-local"), "{refusal}");
    }

    #[test]
    fn a_file_that_is_not_elf_is_refused() {
        assert!(finish(b"#!/bin/sh\n").is_err());
        assert!(finish(&[]).is_err());
    }
}
