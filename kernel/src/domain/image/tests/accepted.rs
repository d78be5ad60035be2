//! Valid images, and their layout in memory.

use core::iter::once;

use super::builder::{numbered, separate_relro, shared_relro};
use crate::domain::image::{Image, ImageError, Region, WireInfo};
use crate::platform::machine::{PAGE_SIZE, Protection};

const BASE: usize = 0x7000_0000_0000;

fn regions(list: &[(core::ops::Range<usize>, Protection)]) -> Vec<Region> {
    list.iter().map(|(pages, protection)| Region { pages: pages.clone(), protection: *protection }).collect()
}

fn load(file: &[u8], base: usize) -> Vec<u8> {
    let image = Image::parse(file).expect("the image is valid");
    let mut memory = vec![0xaa; image.span_pages() * PAGE_SIZE];
    image.load_into(&mut memory, base).expect("memory has the image's span");
    memory
}

fn word(memory: &[u8], at: usize) -> usize {
    usize::from_le_bytes(memory[at..at + 8].try_into().expect("a word is 8 bytes long"))
}

#[test]
fn imports_and_export_are_read_from_the_notes() {
    let file = separate_relro().build();
    let image = Image::parse(&file).expect("the image is valid");
    let echo = WireInfo { name: "echo", interface: "Echo", fingerprint: numbered(0x1111) };
    let control = WireInfo { name: "control", interface: "Control", fingerprint: numbered(0x2222) };
    assert!(image.imports().eq([echo, control]));
    assert_eq!(image.export(), Some(WireInfo { name: "", ..echo }));
    assert_eq!(image.entry_offset(), 0x1010);
}

#[test]
fn relro_in_a_separate_load_becomes_read_only() {
    let file = separate_relro().build();
    let image = Image::parse(&file).expect("the image is valid");
    let expected = regions(&[
        (0..1, Protection::Read),
        (1..2, Protection::ReadExecute),
        (2..3, Protection::Read),
        (3..6, Protection::ReadWrite),
    ]);
    assert_eq!(image.layout(), expected);
    assert_eq!(image.span_pages(), 6);
    assert!(image.writable_ranges().eq(once(0x3000..0x6000)));
}

#[test]
fn relro_at_the_start_of_the_data_becomes_read_only() {
    let file = shared_relro().build();
    let image = Image::parse(&file).expect("the image is valid");
    let expected = regions(&[
        (0..1, Protection::Read),
        (1..2, Protection::ReadExecute),
        (2..4, Protection::None),
        (4..5, Protection::Read),
        (5..6, Protection::ReadWrite),
    ]);
    assert_eq!(image.layout(), expected);
    assert!(image.writable_ranges().eq(once(0x5000..0x6000)));
}

#[test]
fn an_image_without_relro_keeps_its_data_writable() {
    let mut builder = shared_relro();
    builder.programs.retain(|program| program.kind != elf::abi::PT_GNU_RELRO);
    let file = builder.build();
    let image = Image::parse(&file).expect("the image is valid");
    assert!(image.writable_ranges().eq(once(0x4000..0x6000)));
}

#[test]
fn contents_are_copied_and_the_rest_is_zero() {
    let file = separate_relro().build();
    let memory = load(&file, BASE);
    assert_eq!(memory[..0x1f01], file[..0x1f01]);
    assert!(memory[0x1f01..0x2008].iter().all(|&byte| byte == 0));
    assert_eq!(memory[0x2008..0x2100], file[0x2008..0x2100]);
    assert_eq!(memory[0x2110..0x2190], file[0x2110..0x2190]);
    assert!(memory[0x2190..0x3020].iter().all(|&byte| byte == 0));
    assert_eq!(memory[0x3038..0x3080], file[0x3038..0x3080]);
    assert!(memory[0x3080..].iter().all(|&byte| byte == 0));
}

#[test]
fn relocated_words_are_addresses_at_the_base() {
    let memory = load(&separate_relro().build(), BASE);
    assert_eq!(word(&memory, 0x2100), BASE + 0x1010);
    assert_eq!(word(&memory, 0x2108), BASE + 0x500);
    assert_eq!(word(&memory, 0x3030), BASE + 0x3040);
    let memory = load(&shared_relro().build(), BASE);
    assert_eq!(word(&memory, 0x4ff8), BASE + 0x1000);
    assert_eq!(word(&memory, 0x5010), BASE + 0x5de8);
}

#[test]
fn an_image_without_a_dynamic_section_has_no_relocations() {
    let mut builder = separate_relro();
    builder.programs.retain(|program| program.kind != elf::abi::PT_DYNAMIC);
    let file = builder.build();
    assert_eq!(load(&file, BASE)[0x2008..0x2190], file[0x2008..0x2190]);
}

#[test]
fn restoring_the_writable_ranges_restores_the_image() {
    for builder in [separate_relro(), shared_relro()] {
        let file = builder.build();
        let image = Image::parse(&file).expect("the image is valid");
        let pristine = load(&file, BASE);
        let mut memory = pristine.clone();
        for region in image.layout().iter().filter(|region| region.protection == Protection::ReadWrite) {
            memory[region.pages.start * PAGE_SIZE..region.pages.end * PAGE_SIZE].fill(0x55);
        }
        for range in image.writable_ranges() {
            memory[range.clone()].copy_from_slice(&pristine[range]);
        }
        assert!(memory == pristine);
    }
}

#[test]
fn memory_of_another_size_is_refused() {
    let file = separate_relro().build();
    let image = Image::parse(&file).expect("the image is valid");
    for actual in [0, 0x5fff, 0x6001] {
        let expected = ImageError::MemorySize { expected: 0x6000, actual };
        assert_eq!(image.load_into(&mut vec![0; actual], BASE), Err(expected));
    }
}

#[test]
fn a_base_inside_a_page_or_at_the_end_of_the_address_space_is_refused() {
    let file = separate_relro().build();
    let image = Image::parse(&file).expect("the image is valid");
    for base in [BASE + 8, 0usize.wrapping_sub(0x5000)] {
        let expected = ImageError::Base { base, span: 0x6000 };
        assert_eq!(image.load_into(&mut vec![0; 0x6000], base), Err(expected));
    }
}
