//! Refused images, with the error for each.

use coppice_abi::note::{ABI, COMPILER, EXPORT, IDENTITY, IMPORT};
use elf::abi::{
    DT_FLAGS, DT_INIT_ARRAY, DT_NEEDED, DT_REL, EM_AARCH64, ET_EXEC, PF_R, PF_W, PF_X, PT_INTERP, PT_TLS,
    R_X86_64_64,
};

use super::builder::{
    Builder, CODE, DATA, DYNAMIC, HEADERS, NOTES, NOTES_AT, Program, RELRO, STACK, identity, numbered,
    own_identity, record, relative, separate_relro, shared_relro, wire,
};
use crate::domain::image::{
    HeaderError, IMPORT_LIMIT, Image, ImageError, NoteError, Part, RelocationError, SEGMENT_LIMIT,
    SPAN_LIMIT, SegmentError,
};

/// Returns the error of a valid image after `change`.
fn refusal(change: impl FnOnce(&mut Builder)) -> ImageError {
    let mut builder = separate_relro();
    change(&mut builder);
    Image::parse(&builder.build()).expect_err("the change makes the image invalid")
}

fn segment_refusal(index: usize, change: impl FnOnce(&mut Program)) -> SegmentError {
    match refusal(|builder| change(&mut builder.programs[index])) {
        ImageError::Segment { index: reported, error } if reported == index => error,
        other => panic!("expected program header {index} to be wrong, but: {other}"),
    }
}

/// Returns the error of an image with these notes. The first record is at [`NOTES_AT`].
fn note_refusal(records: &[Vec<u8>]) -> NoteError {
    let change = |builder: &mut Builder| {
        builder.notes = records.concat();
        builder.programs[NOTES].file_len = builder.notes.len() as u64;
        builder.programs[NOTES].memory_len = builder.notes.len() as u64;
    };
    match refusal(change) {
        ImageError::Note(error) => error,
        other => panic!("expected a note to be wrong, but: {other}"),
    }
}

#[test]
fn every_truncation_is_refused() {
    for builder in [separate_relro(), shared_relro()] {
        let file = builder.build();
        for len in 0..file.len() {
            let error = Image::parse(&file[..len]).expect_err("a part of the file is missing");
            let is_expected = matches!(error, ImageError::Outside { file_len, .. } if file_len == len);
            assert!(is_expected, "{len} of {} bytes: {error}", file.len());
        }
        assert!(Image::parse(&file).is_ok());
    }
}

#[test]
fn a_truncated_image_names_the_part_that_is_missing() {
    let file = separate_relro().build();
    let text =
        |len: usize| Image::parse(&file[..len]).expect_err("a part of the file is missing").to_string();
    assert_eq!(text(3), "the file header (0x4 bytes at 0x0) is outside the file of 0x3 bytes");
    assert_eq!(text(63), "the file header (0x40 bytes at 0x0) is outside the file of 0x3f bytes");
    assert_eq!(text(100), "the program header table (0x1c0 bytes at 0x40) is outside the file of 0x64 bytes");
    assert_eq!(
        text(0x1f00),
        "the segment of program header 1 (0xf01 bytes at 0x1000) is outside the file of 0x1f00 bytes"
    );
}

#[test]
fn a_file_that_is_not_elf_is_refused() {
    let error = refusal(|builder| builder.ident[0] = b'#');
    assert_eq!(error, HeaderError::Magic(*b"#ELF").into());
}

#[test]
fn another_class_byte_order_or_version_is_refused() {
    assert_eq!(refusal(|builder| builder.ident[4] = 1), HeaderError::Class(1).into());
    assert_eq!(refusal(|builder| builder.ident[5] = 2), HeaderError::ByteOrder(2).into());
    assert_eq!(refusal(|builder| builder.ident[6] = 0), HeaderError::Version(0).into());
}

#[test]
fn another_architecture_is_refused() {
    let error = refusal(|builder| builder.machine = EM_AARCH64);
    assert_eq!(error.to_string(), "built for ELF machine 183, but this is x86-64 (62)");
}

#[test]
fn an_image_for_a_fixed_address_is_refused() {
    assert_eq!(refusal(|builder| builder.kind = ET_EXEC), HeaderError::Kind(ET_EXEC).into());
}

#[test]
fn program_headers_of_another_size_are_refused() {
    assert_eq!(refusal(|builder| builder.program_size = 32), HeaderError::ProgramHeaderSize(32).into());
}

#[test]
fn a_program_header_table_outside_the_file_is_refused() {
    for offset in [0x3080, u64::MAX - 8, u64::MAX] {
        let error = refusal(|builder| builder.programs_at = offset);
        let expected =
            ImageError::Outside { part: Part::ProgramHeaders, offset, len: 8 * 56, file_len: 0x3080 };
        assert_eq!(error, expected);
    }
}

#[test]
fn too_many_program_headers_are_refused() {
    let count = SEGMENT_LIMIT + 1;
    let error = refusal(|builder| {
        let last = builder.programs[STACK].clone();
        builder.programs.resize(count, last);
    });
    assert_eq!(error, ImageError::Segment { index: SEGMENT_LIMIT, error: SegmentError::TooMany { count } });
}

#[test]
fn an_image_that_needs_a_dynamic_loader_is_refused() {
    assert_eq!(segment_refusal(RELRO, |program| program.kind = PT_INTERP), SegmentError::Interpreter);
    let error = refusal(|builder| builder.dynamic.push((DT_NEEDED, 1)));
    assert_eq!(error, RelocationError::Library.into());
}

#[test]
fn thread_local_variables_are_refused() {
    assert_eq!(segment_refusal(RELRO, |program| program.kind = PT_TLS), SegmentError::ThreadLocal);
}

#[test]
fn an_executable_stack_is_refused() {
    assert_eq!(segment_refusal(STACK, |program| program.flags |= PF_X), SegmentError::ExecutableStack);
}

#[test]
fn a_segment_outside_the_file_is_refused() {
    let error = refusal(|builder| builder.programs[DATA].offset = u64::MAX - 0xfdf);
    let expected = ImageError::Outside {
        part: Part::Segment(DATA),
        offset: u64::MAX - 0xfdf,
        len: 0x60,
        file_len: 0x3080,
    };
    assert_eq!(error, expected);
}

#[test]
fn a_segment_longer_in_the_file_than_in_memory_is_refused() {
    let error = segment_refusal(CODE, |program| program.memory_len = 0xf00);
    assert_eq!(error, SegmentError::Size { file_len: 0xf01, memory_len: 0xf00 });
}

#[test]
fn an_alignment_beyond_a_page_or_not_a_power_of_two_is_refused() {
    for align in [0x2000, 0x300, u64::MAX] {
        assert_eq!(segment_refusal(CODE, |program| program.align = align), SegmentError::Alignment(align));
    }
    assert_eq!(segment_refusal(NOTES, |program| program.align = 16), SegmentError::Alignment(16));
}

#[test]
fn a_segment_whose_offset_and_address_differ_within_a_page_is_refused() {
    let error = segment_refusal(DATA, |program| program.offset -= 0x20);
    assert_eq!(error, SegmentError::Congruence { offset: 0x3000, address: 0x3020 });
}

#[test]
fn a_writable_and_executable_segment_is_refused() {
    for flags in [PF_R | PF_W | PF_X, PF_W | PF_X] {
        assert_eq!(
            segment_refusal(CODE, |program| program.flags = flags),
            SegmentError::WritableAndExecutable
        );
    }
}

#[test]
fn unsupported_segment_flags_are_refused() {
    for flags in [0, PF_W, PF_X, PF_R | 8] {
        assert_eq!(segment_refusal(CODE, |program| program.flags = flags), SegmentError::Flags(flags));
    }
}

#[test]
fn an_oversized_image_is_refused() {
    let end = SPAN_LIMIT as u64;
    for memory_len in [end, end - 0x3020 + 1, u64::MAX, u64::MAX - 0x3020] {
        let error = segment_refusal(DATA, |program| program.memory_len = memory_len);
        assert_eq!(error, SegmentError::Span { address: 0x3020, memory_len });
    }
    let mut builder = separate_relro();
    builder.programs[DATA].memory_len = end - 0x3020;
    assert!(Image::parse(&builder.build()).is_ok(), "the limit itself is allowed");
}

#[test]
fn overlapping_segments_are_refused() {
    let error = segment_refusal(DATA, |program| program.address = 0x2020);
    assert_eq!(error, SegmentError::Overlap { address: 0x2020, earlier_end: 0x3000 });
}

#[test]
fn segments_that_share_a_page_are_refused() {
    // The segments do not overlap, but one page cannot be both read-only and executable.
    let error = segment_refusal(CODE, |program| (program.offset, program.address) = (0xf80, 0xf80));
    assert_eq!(error, SegmentError::Overlap { address: 0xf80, earlier_end: 0x1000 });
}

#[test]
fn an_image_without_code_is_refused() {
    assert_eq!(refusal(|builder| builder.programs[CODE].flags = PF_R), ImageError::NoCode);
}

#[test]
fn an_entry_outside_the_code_is_refused() {
    for offset in [0, 0xfff, 0x1f01, 0x3020, 0x1_0000_0000_1010, u64::MAX] {
        assert_eq!(refusal(|builder| builder.entry = offset), ImageError::Entry { offset });
    }
    // Zeros after the content of a segment are not code either.
    let offset = 0x1f40;
    let error = refusal(|builder| {
        builder.entry = offset;
        builder.programs[CODE].memory_len = 0xf80;
    });
    assert_eq!(error, ImageError::Entry { offset });
}

#[test]
fn relro_that_splits_a_page_is_refused() {
    let change = |address: u64, memory_len: u64| {
        let error = segment_refusal(RELRO, |program| {
            (program.address, program.memory_len) = (address, memory_len);
        });
        assert_eq!(error, SegmentError::Relro { address, memory_len });
    };
    change(0x2008, 0x188);
    change(0x2010, 0xff0);
    // Not in a writable segment, in two of them, in none.
    change(0x1000, 0x1000);
    change(0x2008, 0x1ff8);
    change(0x10_0000, 0x1000);
    change(u64::MAX - 7, 8);
}

#[test]
fn a_second_dynamic_section_or_relro_is_refused() {
    for index in [RELRO, DYNAMIC] {
        let error = refusal(|builder| builder.programs[STACK] = builder.programs[index].clone());
        assert_eq!(error, ImageError::Segment { index: STACK, error: SegmentError::Repeated });
    }
}

#[test]
fn another_relocation_type_is_refused() {
    let info = u64::from(R_X86_64_64) | 5 << 32;
    let error = refusal(|builder| builder.relocations[1].1 = info);
    assert_eq!(error, RelocationError::Kind { index: 1, info }.into());
    assert_eq!(
        error.to_string(),
        "relocation 1: type 1 with symbol 5, but only R_X86_64_RELATIVE is supported"
    );
    // The right type, but relative to a symbol.
    let error = refusal(|builder| builder.relocations[1].1 |= 1 << 32);
    assert_eq!(error, RelocationError::Kind { index: 1, info: 1 << 32 | 8 }.into());
}

#[test]
fn a_relocation_outside_the_writable_segments_is_refused() {
    // The targets: headers, code, between segments, across the end of RELRO's load, across the end of the
    // image, far outside.
    for offset in [0x40, 0x1010, 0x2000, 0x2ff9, 0x5079, 0x6000, u64::MAX - 3, u64::MAX] {
        let error = refusal(|builder| builder.relocations[2].0 = offset);
        assert_eq!(error, RelocationError::Target { index: 2, offset }.into());
    }
}

#[test]
fn a_relocated_address_outside_the_image_is_refused() {
    for addend in [-1, 0x6001, i64::MAX, i64::MIN] {
        let error = refusal(|builder| builder.relocations[0].2 = addend);
        assert_eq!(error, RelocationError::Value { index: 0, addend }.into());
    }
    let mut builder = separate_relro();
    builder.relocations[0] = relative(0x2100, 0x6000);
    assert!(Image::parse(&builder.build()).is_ok(), "the address one past the end is valid");
}

#[test]
fn a_relocation_table_outside_the_segments_is_refused() {
    // The table lies beyond the content of its load, so that `count` entries do not fit.
    let error = refusal(|builder| {
        builder.programs[HEADERS].file_len = 0xe20;
    });
    assert_eq!(error, RelocationError::Table { address: 0xe00, len: 72 }.into());
}

#[test]
fn a_table_with_a_partial_relocation_is_refused() {
    let mut file = separate_relro().build();
    let size_at = super::builder::DYNAMIC_AT + 16 + 8;
    file[size_at] -= 1;
    let error = Image::parse(&file).expect_err("71 bytes are not 3 relocations");
    assert_eq!(error, RelocationError::Table { address: 0xe00, len: 71 }.into());
}

#[test]
fn unsupported_entries_of_the_dynamic_section_are_refused() {
    for (tag, value) in [(DT_REL, 0x100), (DT_INIT_ARRAY, 0x2100), (DT_FLAGS, 4), (0x24, 0x100)] {
        let error = refusal(|builder| builder.dynamic.push((tag, value)));
        assert_eq!(error, RelocationError::Dynamic { tag, value }.into());
    }
}

#[test]
fn an_image_of_another_compiler_is_refused_and_both_are_named() {
    let error = note_refusal(&[identity(numbered(7), "1.80.0 0123456789")]);
    let text = error.to_string();
    assert!(
        text.starts_with("built by rustc 1.80.0 0123456789 (ABI 0700000000000000), but this kernel by"),
        "{text}"
    );
    assert!(text.contains(&COMPILER[..30]), "{text}");
    // An equal ABI does not make up for it.
    assert!(matches!(note_refusal(&[identity(ABI, "1.80.0")]), NoteError::Foreign { .. }));
}

#[test]
fn an_image_of_another_abi_is_refused() {
    let text = note_refusal(&[identity(numbered(1), COMPILER)]).to_string();
    assert!(text.starts_with("built by the same compiler against ABI"), "{text}");
    assert!(text.ends_with(&ABI.to_string()), "{text}");
}

#[test]
fn a_compiler_with_control_codes_is_printed_harmlessly() {
    let text = note_refusal(&[identity(numbered(7), "\x1b[2J\n")]).to_string();
    assert!(text.starts_with("built by rustc \\x1b[2J\\n (ABI"), "{text}");
}

#[test]
fn an_image_without_identity_is_refused() {
    assert_eq!(note_refusal(&[]), NoteError::NoIdentity);
    assert_eq!(note_refusal(&[wire(EXPORT, b"", b"Echo", 1)]), NoteError::NoIdentity);
}

#[test]
fn a_second_identity_is_refused() {
    let offset = NOTES_AT + own_identity().len();
    assert_eq!(note_refusal(&[own_identity(), own_identity()]), NoteError::IdentityRepeated { offset });
}

#[test]
fn a_note_of_the_wrong_size_is_refused() {
    let error = note_refusal(&[record(IDENTITY, &[0; 68])]);
    assert_eq!(error, NoteError::Size { offset: NOTES_AT, kind: IDENTITY, len: 68, expected: 72 });
    let offset = NOTES_AT + own_identity().len();
    let error = note_refusal(&[own_identity(), record(IMPORT, b"echo")]);
    assert_eq!(error, NoteError::Size { offset, kind: IMPORT, len: 4, expected: 96 });
}

#[test]
fn a_note_of_unknown_type_is_refused() {
    let offset = NOTES_AT + own_identity().len();
    assert_eq!(note_refusal(&[own_identity(), record(9, &[])]), NoteError::Kind { offset, kind: 9 });
}

#[test]
fn a_note_that_continues_past_its_segment_is_refused() {
    let identity = own_identity();
    for len in 1..identity.len() {
        let error = note_refusal(&[identity[..len].to_vec()]);
        assert_eq!(error, NoteError::Truncated { offset: NOTES_AT });
    }
    // Sizes that overflow when they are added up.
    for field in [0, 4] {
        let mut record = own_identity();
        record[field..field + 4].fill(0xff);
        assert_eq!(note_refusal(&[record]), NoteError::Truncated { offset: NOTES_AT });
    }
}

#[test]
fn a_wire_without_a_valid_name_is_refused() {
    let offset = NOTES_AT + own_identity().len();
    for wrong in [
        wire(IMPORT, b"", b"Echo", 1),
        wire(IMPORT, b"\xff", b"Echo", 1),
        wire(IMPORT, b"echo", b"\xc3", 1),
        wire(EXPORT, b"", b"\x80", 1),
    ] {
        assert_eq!(note_refusal(&[own_identity(), wrong]), NoteError::Name { offset });
    }
}

#[test]
fn two_imports_of_one_name_are_refused() {
    let (one, other) = (wire(IMPORT, b"echo", b"Echo", 1), wire(IMPORT, b"echo", b"Log", 2));
    let offset = NOTES_AT + own_identity().len() + one.len();
    let error = note_refusal(&[own_identity(), one, other]);
    assert_eq!(error, NoteError::ImportRepeated { offset, name: "echo".into() });
}

#[test]
fn imports_are_accepted_up_to_the_limit() {
    let import = |i: usize| wire(IMPORT, format!("i{i}").as_bytes(), b"Echo", 1);
    let records = |count: usize| -> Vec<Vec<u8>> {
        [own_identity()].into_iter().chain((0..count).map(import)).collect()
    };
    // The notes need more room than the builder leaves before the relocations.
    let image = |count: usize| {
        let mut builder = separate_relro();
        let notes = records(count).concat();
        builder.programs[NOTES].offset = builder.len as u64;
        builder.programs[NOTES].file_len = notes.len() as u64;
        let mut file = builder.build();
        file.extend(notes);
        file
    };
    assert_eq!(Image::parse(&image(IMPORT_LIMIT)).map(|image| image.imports().len()), Ok(IMPORT_LIMIT));
    let file = image(IMPORT_LIMIT + 1);
    let offset = file.len() - import(0).len();
    assert_eq!(Image::parse(&file).err(), Some(NoteError::TooManyImports { offset }.into()));
}

#[test]
fn a_second_export_is_refused() {
    let export = wire(EXPORT, b"", b"Echo", 1);
    let offset = NOTES_AT + own_identity().len() + export.len();
    let error = note_refusal(&[own_identity(), export.clone(), export]);
    assert_eq!(error, NoteError::ExportRepeated { offset });
}
