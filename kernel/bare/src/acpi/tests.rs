use super::*;
use crate::physical::fake::FakeMemory;

fn finish(mut bytes: Vec<u8>, sum_at: usize) -> Vec<u8> {
    let sum = bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
    bytes[sum_at] = bytes[sum_at].wrapping_sub(sum);
    bytes
}

fn make_table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut bytes = signature.to_vec();
    bytes.extend((HEADER as u32 + body.len() as u32).to_le_bytes());
    bytes.resize(HEADER, 0);
    bytes.extend(body);
    finish(bytes, 9)
}

fn make_root(revision: u8, rsdt: u32, xsdt: u64) -> Vec<u8> {
    let mut old = b"RSD PTR \0COPICE".to_vec();
    old.push(revision);
    old.extend(rsdt.to_le_bytes());
    let mut root = finish(old, 8);
    root.extend(36u32.to_le_bytes());
    root.extend(xsdt.to_le_bytes());
    root.extend([0; 4]);
    finish(root, 32)
}

fn madt() -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend([0, 8, 0, 0, 1, 0, 0, 0]); // CPU 0, enabled
    body.extend([0, 8, 1, 7, 1, 0, 0, 0]); // CPU 7, enabled
    body.extend([0, 8, 2, 9, 0, 0, 0, 0]); // CPU 9, disabled
    body.extend([9, 16, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]); // CPU 7 once more, as x2APIC
    body.extend([9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]); // CPU 256
    body.extend([4, 6, 0xff, 0, 0, 1]); // an NMI line
    body.extend([1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    body.extend([2, 10, 0, 4, 20, 0, 0, 0, 0x0f, 0]); // IRQ 4 is input 20, low, level
    body.extend([2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
    make_table(b"APIC", &body)
}

fn fadt(dsdt: u32) -> Vec<u8> {
    let mut body = vec![0; 116 - HEADER];
    let mut put = |offset: usize, value: u32| {
        body[offset - HEADER..offset - HEADER + 4].copy_from_slice(&value.to_le_bytes());
    };
    put(40, dsdt);
    put(48, 0xb2);
    put(52, 0xf1);
    put(64, 0x604);
    put(76, 0x608);
    make_table(b"FACP", &body)
}

fn dsdt(s5: &[u8]) -> Vec<u8> {
    make_table(b"DSDT", &[b"some code \x08_S4_\x12\x06\x04\x0a\x01\x00\x00\x00 and", s5].concat())
}

const S5: &[u8] = b"\x08_S5_\x12\x08\x04\x0a\x05\x01\x00\x00";

fn machine() -> FakeMemory {
    let mut mcfg = vec![0; 8];
    mcfg.extend(0xb000_0000u64.to_le_bytes());
    mcfg.extend([0, 0, 0, 255, 0, 0, 0, 0]);
    let list = |addresses: &[u64]| addresses.iter().flat_map(|at| at.to_le_bytes()).collect::<Vec<_>>();
    FakeMemory(vec![
        (0xf_5a10, make_root(2, 0, 0x10_0000)),
        (0x10_0000, make_table(b"XSDT", &list(&[0x20_0000, 0x30_0000, 0x40_0000]))),
        (0x20_0000, fadt(0x50_0000)),
        (0x30_0000, madt()),
        (0x40_0000, make_table(b"MCFG", &mcfg)),
        (0x50_0000, dsdt(S5)),
    ])
}

#[test]
fn everything_is_found_through_a_scan_of_the_bios_area() {
    let platform = read(&machine(), None).expect("well-formed");
    assert_eq!(&platform.cpus[..], [0, 7, 256]);
    assert_eq!(&platform.io_apics[..], [IoApic { address: 0xfec0_0000, first_gsi: 0 }]);
    assert_eq!(platform.overrides[0], Override { irq: 4, gsi: 20, active_low: true, level: true });
    assert_eq!(platform.overrides[1], Override { irq: 0, gsi: 2, active_low: false, level: false });
    assert_eq!(&platform.ecam[..], [Ecam { address: 0xb000_0000, segment: 0, first_bus: 0, last_bus: 255 }]);
    assert_eq!(platform.pm_timer, Some(0x608));
    let power_off = PowerOff { pm1a: 0x604, pm1b: None, sleep_type: [5, 1], enable: Some((0xb2, 0xf1)) };
    assert_eq!(platform.power_off, Some(power_off));
}

#[test]
fn a_root_pointer_of_acpi_1_leads_to_the_rsdt() {
    let mut memory = machine();
    memory.0[0].1 = make_root(0, 0x60_0000, 0);
    memory.0.push((0x60_0000, make_table(b"RSDT", &0x30_0000u32.to_le_bytes())));
    let platform = read(&memory, Some(0xf_5a10)).expect("well-formed");
    assert_eq!(platform.cpus.len(), 3);
    assert_eq!(platform.pm_timer, None, "the RSDT does not list the FADT");
}

#[test]
fn a_flipped_bit_in_the_madt_is_a_checksum_error_with_its_location() {
    let mut memory = machine();
    memory.0[3].1[50] ^= 4;
    let error = read(&memory, None).err().expect("the sum is wrong");
    assert_eq!(error.to_string(), "ACPI: table APIC at 0x300000 has a wrong checksum");
}

#[test]
fn a_damaged_root_pointer_is_ignored() {
    let mut memory = machine();
    memory.0[0].1[17] ^= 1;
    assert_eq!(read(&memory, None).err(), Some(AcpiError::NoRootPointer));
}

#[test]
fn a_truncated_table_is_an_error_or_costs_only_its_functions() {
    for piece in 1..6 {
        for len in 0..machine().0[piece].1.len() {
            let mut memory = machine();
            memory.0[piece].1.truncate(len);
            match (piece, read(&memory, None)) {
                (1 | 3, Err(AcpiError::Truncated { .. } | AcpiError::Missing { .. })) => {}
                (1 | 3, _) => panic!("list or MADT truncated to {len} bytes went unnoticed"),
                (_, outcome) => assert!(outcome.is_ok(), "piece {piece} truncated to {len} bytes"),
            }
        }
    }
}

#[test]
fn an_entry_of_length_zero_ends_the_walk_over_the_madt() {
    let mut memory = machine();
    let mut body = vec![0; 8];
    body.extend([0, 8, 0, 0, 1, 0, 0, 0]);
    body.extend([0, 0, 0, 0, 1, 0, 0, 0]);
    memory.0[3].1 = make_table(b"APIC", &body);
    assert_eq!(&read(&memory, None).expect("well-formed up to there").cpus[..], [0]);
}

#[test]
fn power_off_is_absent_when_its_package_is_computed() {
    let mut memory = machine();
    memory.0[5].1 = dsdt(b"\x08_S5_\x12\x08\x04\x11\x05\x01\x00\x00");
    assert_eq!(read(&memory, None).expect("well-formed").power_off, None);
}
