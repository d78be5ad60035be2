use super::*;
use crate::physical::fake::FakeMemory;

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn pvh() -> FakeMemory {
    let halves = |low: u64, high: u64| low | high << 32;
    FakeMemory(vec![
        (
            0x1000,
            words(&[
                halves(PVH_MAGIC.into(), 1),
                halves(0, 1), // flags, one module
                0x2000,       // module list
                0x3000,       // command line
                0xf_5000,     // RSDP
                0x4000,       // memory map
                3,            // entries
            ]),
        ),
        (0x2000, words(&[0x70_0000, 0x1234, 0, 0])),
        (0x3000, b"log=debug probe=interrupts\0".to_vec()),
        (0x4000, words(&[0, 0x9_fc00, 1, 0x9_fc00, 0x400, 2, 0x10_0000, 0x3f0_0000, 1])),
    ])
}

fn tag(kind: u32, body: &[u8]) -> Vec<u8> {
    let mut tag = [kind.to_le_bytes(), (body.len() as u32 + 8).to_le_bytes()].concat();
    tag.extend(body);
    tag.resize(tag.len().next_multiple_of(8), 0);
    tag
}

fn multiboot2(tags: &[Vec<u8>]) -> FakeMemory {
    let body = tags.concat();
    let mut info = [(body.len() as u32 + 8).to_le_bytes(), [0; 4]].concat();
    info.extend(body);
    FakeMemory(vec![(0x1000, info)])
}

fn grub_tags() -> Vec<Vec<u8>> {
    let module = [0x70_0000u32.to_le_bytes(), 0x70_1234u32.to_le_bytes()].concat();
    let mut map = [24u32.to_le_bytes(), [0; 4]].concat();
    map.extend(words(&[0, 0x9_fc00, 1, 0x9_fc00, 0x400, 2, 0x10_0000, 0x3f0_0000, 1]));
    vec![
        tag(1, b"log=debug probe=interrupts\0"),
        tag(14, &[1; 20]),
        tag(3, &module),
        tag(3, &[0; 8]),
        tag(6, &map),
        tag(15, &[2; 36]),
        tag(0, &[]),
    ]
}

fn assert_is_the_example(info: &BootInfo) {
    assert_eq!(info.memory.ranges(), [0..0x9_f000, 0x10_0000..0x400_0000]);
    assert_eq!(&info.command_line[..], b"log=debug probe=interrupts");
    assert_eq!(info.archive, Some(0x70_0000..0x70_1234));
}

#[test]
fn both_protocols_yield_the_same_information() {
    let by_qemu = read(&pvh(), PVH_MAGIC, 0x1000).expect("well-formed");
    assert_is_the_example(&by_qemu);
    assert_eq!(by_qemu.rsdp, Some(0xf_5000));

    let memory = multiboot2(&grub_tags());
    let by_grub = read(&memory, MULTIBOOT2_MAGIC, 0x1000).expect("well-formed");
    assert_is_the_example(&by_grub);
    let rsdp = by_grub.rsdp.expect("two tags have one");
    assert_eq!(memory.bytes(rsdp, 36), Some(&[2; 36][..]), "the newer root pointer wins");
}

#[test]
fn a_truncation_at_any_byte_is_an_error_and_never_panics() {
    let (_, whole) = multiboot2(&grub_tags()).0.remove(0);
    for len in 0..whole.len() {
        let memory = FakeMemory(vec![(0x1000, whole[..len].to_vec())]);
        let error = read(&memory, MULTIBOOT2_MAGIC, 0x1000).err().expect("the list says it is longer");
        assert_eq!(error, BootInfoError::Truncated { what: "tag list", address: 0x1000 });

        let mut shortened = whole.clone();
        shortened[..4].copy_from_slice(&(len as u32).to_le_bytes());
        let memory = FakeMemory(vec![(0x1000, shortened)]);
        assert!(read(&memory, MULTIBOOT2_MAGIC, 0x1000).is_err(), "{len} bytes have no end tag");
    }
    for piece in 0..4 {
        for len in 0..pvh().0[piece].1.len() {
            let mut memory = pvh();
            memory.0[piece].1.truncate(len);
            assert!(read(&memory, PVH_MAGIC, 0x1000).is_err(), "piece {piece} truncated to {len} bytes");
        }
    }
}

#[test]
fn a_tag_shorter_than_its_own_header_is_refused() {
    let mut tags = grub_tags();
    tags[0][4..8].copy_from_slice(&0u32.to_le_bytes());
    let error = read(&multiboot2(&tags), MULTIBOOT2_MAGIC, 0x1000).err();
    assert_eq!(error, Some(BootInfoError::Truncated { what: "tag", address: 0x1000 }));
}

#[test]
fn an_unknown_loader_is_an_error_with_its_number() {
    let error = read(&pvh(), 0x2bad_b002, 0x1000).err().expect("Multiboot 1 is not supported");
    assert_eq!(
        error.to_string(),
        "the loader identifies itself as 0x2badb002, which is neither PVH nor Multiboot2"
    );
}
