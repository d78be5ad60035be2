//! Builds images byte by byte, so that the tests need no linker and can break any field.

use coppice_abi::{Fingerprint, note};
use elf::abi::{
    DT_NULL, DT_RELA, DT_RELAENT, DT_RELASZ, EM_X86_64, ET_DYN, PF_R, PF_W, PF_X, PT_DYNAMIC, PT_GNU_RELRO,
    PT_GNU_STACK, PT_LOAD, PT_NOTE, R_X86_64_RELATIVE,
};

pub(super) const PROGRAMS_AT: usize = 0x40;
pub(super) const NOTES_AT: usize = 0x400;
pub(super) const RELOCATIONS_AT: usize = 0x1000 - 0x200;
pub(super) const DYNAMIC_AT: usize = 0x2008;

/// Indices into [`Builder::programs`] of [`separate_relro`].
pub(super) const HEADERS: usize = 0;
pub(super) const CODE: usize = 1;
pub(super) const RELRO_DATA: usize = 2;
pub(super) const DATA: usize = 3;
pub(super) const RELRO: usize = 4;
pub(super) const DYNAMIC: usize = 5;
pub(super) const NOTES: usize = 6;
pub(super) const STACK: usize = 7;

/// A program header; [`Program::new`] sets the offset to the address.
#[derive(Clone)]
pub(super) struct Program {
    pub(super) kind: u32,
    pub(super) flags: u32,
    pub(super) offset: u64,
    pub(super) address: u64,
    pub(super) file_len: u64,
    pub(super) memory_len: u64,
    pub(super) align: u64,
}

impl Program {
    pub(super) fn new(kind: u32, flags: u32, address: u64, file_len: u64, memory_len: u64) -> Self {
        Self { kind, flags, offset: address, address, file_len, memory_len, align: 8 }
    }

    fn load(flags: u32, address: u64, file_len: u64, memory_len: u64) -> Self {
        Self { align: 0x1000, ..Self::new(PT_LOAD, flags, address, file_len, memory_len) }
    }
}

/// The parts of an image. [`Self::build`] assembles them without checking that they fit.
#[derive(Clone)]
pub(super) struct Builder {
    pub(super) ident: [u8; 7],
    pub(super) kind: u16,
    pub(super) machine: u16,
    pub(super) entry: u64,
    pub(super) programs_at: u64,
    pub(super) program_size: u16,
    pub(super) programs: Vec<Program>,
    /// Further entries of the dynamic section, before those that name the relocations.
    pub(super) dynamic: Vec<(i64, u64)>,
    /// Target, type and symbol, addend.
    pub(super) relocations: Vec<(u64, u64, i64)>,
    pub(super) notes: Vec<u8>,
    /// The length of the file.
    pub(super) len: usize,
}

/// A relocation of the only supported type.
pub(super) fn relative(target: u64, addend: i64) -> (u64, u64, i64) {
    (target, u64::from(R_X86_64_RELATIVE), addend)
}

/// A Coppice note.
pub(super) fn record(kind: u32, descriptor: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [note::NAME.len() as u32, descriptor.len() as u32, kind] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(note::NAME);
    bytes.extend(descriptor);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

pub(super) fn identity(abi: Fingerprint, compiler: &str) -> Vec<u8> {
    let mut descriptor = abi.to_bytes().to_vec();
    descriptor.extend(compiler.bytes().take(40));
    descriptor.resize(72, 0);
    record(note::IDENTITY, &descriptor)
}

pub(super) fn own_identity() -> Vec<u8> {
    identity(note::ABI, note::COMPILER)
}

pub(super) fn wire(kind: u32, name: &[u8], interface: &[u8], fingerprint: u64) -> Vec<u8> {
    let mut descriptor = name.to_vec();
    descriptor.resize(32, 0);
    descriptor.extend(interface);
    descriptor.resize(64, 0);
    descriptor.extend(numbered(fingerprint).to_bytes());
    record(kind, &descriptor)
}

/// A fingerprint that belongs to no interface.
pub(super) fn numbered(number: u64) -> Fingerprint {
    let mut bytes = [0; Fingerprint::SIZE];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Fingerprint::from_bytes(bytes)
}

/// An image as rustc's LLD lays it out: the RELRO data has a separate load, which ends on a page boundary.
pub(super) fn separate_relro() -> Builder {
    let notes = [
        // A note that linkers add.
        b"\x04\0\0\0\x05\0\0\0\x03\0\0\0GNU\0build\0\0\0".to_vec(),
        own_identity(),
        wire(note::IMPORT, b"echo", b"Echo", 0x1111),
        wire(note::IMPORT, b"control", b"Control", 0x2222),
        wire(note::EXPORT, b"", b"Echo", 0x1111),
    ];
    let notes = notes.concat();
    let notes_len = notes.len() as u64;
    Builder {
        ident: *b"\x7fELF\x02\x01\x01",
        kind: ET_DYN,
        machine: EM_X86_64,
        entry: 0x1010,
        programs_at: PROGRAMS_AT as u64,
        program_size: 56,
        programs: vec![
            Program::load(PF_R, 0, 0x1000, 0x1000),
            Program::load(PF_R | PF_X, 0x1000, 0xf01, 0xf01),
            Program::load(PF_R | PF_W, 0x2008, 0x188, 0xff8),
            Program::load(PF_R | PF_W, 0x3020, 0x60, 0x2060),
            Program::new(PT_GNU_RELRO, PF_R, 0x2008, 0x188, 0xff8),
            Program::new(PT_DYNAMIC, PF_R | PF_W, DYNAMIC_AT as u64, 0xc0, 0xc0),
            Program { align: 4, ..Program::new(PT_NOTE, PF_R, NOTES_AT as u64, notes_len, notes_len) },
            Program::new(PT_GNU_STACK, PF_R | PF_W, 0, 0, 0),
        ],
        dynamic: Vec::new(),
        relocations: vec![relative(0x2100, 0x1010), relative(0x2108, 0x500), relative(0x3030, 0x3040)],
        notes,
        len: 0x3080,
    }
}

/// An image as GNU ld lays it out: one writable load, whose first pages are RELRO, with a gap before it.
pub(super) fn shared_relro() -> Builder {
    let mut builder = separate_relro();
    let mut data = Program::load(PF_R | PF_W, 0x4de8, 0x298, 0x1000);
    data.offset = 0x2de8;
    builder.programs[RELRO_DATA] = data;
    builder.programs[DATA] = Program::new(elf::abi::PT_GNU_EH_FRAME, PF_R, 0x600, 0x40, 0x40);
    builder.programs[RELRO] = Program::new(PT_GNU_RELRO, PF_R, 0x4de8, 0x218, 0x218);
    builder.relocations = vec![relative(0x4ff8, 0x1000), relative(0x5010, 0x5de8)];
    builder
}

impl Builder {
    pub(super) fn build(&self) -> Vec<u8> {
        // Neither zero nor constant, so that a misplaced byte is detected.
        let mut file: Vec<u8> = (0..self.len).map(|i| (i * 7 + 1) as u8 | 1).collect();
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);

        put(0, &[0; 0x40]);
        put(0, &self.ident);
        put(0x10, &self.kind.to_le_bytes());
        put(0x12, &self.machine.to_le_bytes());
        put(0x14, &1u32.to_le_bytes());
        put(0x18, &self.entry.to_le_bytes());
        put(0x20, &self.programs_at.to_le_bytes());
        put(0x34, &64u16.to_le_bytes());
        put(0x36, &self.program_size.to_le_bytes());
        put(0x38, &(self.programs.len() as u16).to_le_bytes());

        for (index, program) in self.programs.iter().take(16).enumerate() {
            let Program { kind, flags, offset, address, file_len, memory_len, align } = *program;
            let words =
                [u64::from(flags) << 32 | u64::from(kind), offset, address, address, file_len, memory_len];
            put(PROGRAMS_AT + index * 56, &words.map(u64::to_le_bytes).concat());
            put(PROGRAMS_AT + index * 56 + 48, &align.to_le_bytes());
        }
        put(NOTES_AT, &self.notes);
        for (index, (target, info, addend)) in self.relocations.iter().enumerate() {
            let words = [*target, *info, *addend as u64];
            put(RELOCATIONS_AT + index * 24, &words.map(u64::to_le_bytes).concat());
        }
        let tables = [
            (DT_RELA, RELOCATIONS_AT as u64),
            (DT_RELASZ, 24 * self.relocations.len() as u64),
            (DT_RELAENT, 24),
            (DT_NULL, 0),
        ];
        for (index, (tag, value)) in self.dynamic.iter().chain(&tables).enumerate() {
            put(DYNAMIC_AT + index * 16, &[*tag as u64, *value].map(u64::to_le_bytes).concat());
        }
        file
    }
}
