use std::cell::RefCell;
use std::collections::BTreeMap;

use super::*;

/// Configuration spaces, by address and offset. Absent words read as all ones.
#[derive(Default)]
struct Fake {
    words: RefCell<BTreeMap<(PciAddress, u16), u32>>,
    /// Writable bits of each BAR.
    masks: BTreeMap<(PciAddress, u16), u32>,
    /// Number of BAR writes while the function decoded its BARs.
    careless_writes: RefCell<u32>,
}

impl ConfigRegionAccess for Fake {
    unsafe fn read(&self, address: PciAddress, offset: u16) -> u32 {
        self.words.borrow().get(&(address, offset)).copied().unwrap_or(u32::MAX)
    }

    unsafe fn write(&self, address: PciAddress, offset: u16, value: u32) {
        let mut words = self.words.borrow_mut();
        let is_bar = (0x10..0x28).contains(&offset);
        if is_bar && words.get(&(address, 4)).is_some_and(|command| command & 3 != 0) {
            *self.careless_writes.borrow_mut() += 1;
        }
        let mask = if is_bar { self.masks.get(&(address, offset)).copied().unwrap_or(0) } else { u32::MAX };
        let word = words.entry((address, offset)).or_default();
        *word = *word & !mask | value & mask;
    }
}

impl Fake {
    fn add(&mut self, address: PciAddress, words: &[(u16, u32)]) {
        let mut all = self.words.borrow_mut();
        for offset in (0..0x100).step_by(4) {
            all.insert((address, offset), 0);
        }
        for &(offset, value) in words {
            all.insert((address, offset), value);
        }
    }

    fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        enumerate(self, 0, 0..=255, &mut |function| found.push(function));
        found
    }
}

fn at(bus: u8, device: u8, function: u8) -> PciAddress {
    PciAddress::new(0, bus, device, function)
}

#[test]
fn a_64_bit_bar_has_its_size_and_hides_its_upper_half() {
    let mut fake = Fake::default();
    let card = at(0, 3, 0);
    fake.add(
        card,
        &[
            (0x00, 0x10d3_8086),
            (0x04, 0x0010_0007),
            (0x08, 0x0200_0001),
            (0x10, 0xc),
            (0x14, 0x80),
            (0x18, 0xfebc_0000),
            (0x1c, 0xc001),
            (0x34, 0x40),
            (0x40, 0x0080_5005),
            (0x50, 0x0004_0011),
            (0x54, 0x1002),
            (0x58, 0x1802),
        ],
    );
    fake.masks.insert((card, 0x10), 0xf000_0000);
    fake.masks.insert((card, 0x14), 0xffff_ffff);
    fake.masks.insert((card, 0x18), 0xfffe_0000);
    fake.masks.insert((card, 0x1c), 0xffff_ffe0);

    let functions = fake.functions();
    let [function] = &functions[..] else { panic!("one function, found {}", functions.len()) };
    assert_eq!(function.id, (0x8086, 0x10d3));
    assert_eq!(function.class, (2, 0, 0));
    assert!(
        matches!(function.bars[0], Some(Bar::Memory64 { address: 0x80_0000_0000, size: 0x1000_0000, .. })),
        "{:?}",
        function.bars
    );
    assert!(function.bars[1].is_none());
    assert!(matches!(function.bars[2], Some(Bar::Memory32 { address: 0xfebc_0000, size: 0x2_0000, .. })));
    assert!(matches!(function.bars[3], Some(Bar::Io { port: 0xc000 })));
    assert_eq!(function.capabilities[..], [0x05, 0x11]);
    assert!(function.msi.is_some());
    let msix = function.msix.expect("capability 0x11");
    assert_eq!((msix.table_bar(), msix.table_offset(), msix.table_size()), (2, 0x1000, 5));
    assert_eq!(*fake.careless_writes.borrow(), 0, "decoding is off while a BAR is sized");
    let command = fake.words.borrow()[&(card, 4)];
    assert_eq!(command & 7, 7, "and on again afterwards");
}

#[test]
fn functions_behind_a_bridge_are_found() {
    let mut fake = Fake::default();
    fake.add(at(0, 0, 0), &[(0x00, 0x29c0_8086)]);
    fake.add(at(0, 1, 0), &[(0x00, 0x000c_1b36), (0x0c, 0x0081_0000), (0x18, 0x0002_0200)]);
    fake.add(at(0, 1, 2), &[(0x00, 0x1234_1b36)]);
    fake.add(at(2, 0, 0), &[(0x00, 0x0010_1b36)]);
    let found: Vec<_> = fake.functions().iter().map(|function| function.address).collect();
    assert_eq!(found, [at(0, 0, 0), at(0, 1, 0), at(2, 0, 0), at(0, 1, 2)]);
}

#[test]
fn a_bridge_that_leads_back_and_a_circular_capability_list_end_the_scan() {
    let mut fake = Fake::default();
    fake.add(at(0, 1, 0), &[(0x00, 0x000c_1b36), (0x0c, 0x0001_0000), (0x18, 0)]);
    fake.add(at(0, 2, 0), &[(0x00, 0x0001_1b36), (0x04, 0x0010_0000), (0x34, 0x40), (0x40, 0x4009)]);
    assert_eq!(fake.functions().len(), 2);
    assert_eq!(fake.functions()[1].capabilities.len(), CAPABILITY_LIMIT);
}

#[test]
fn a_bar_of_a_reserved_type_is_skipped() {
    let mut fake = Fake::default();
    fake.add(at(0, 2, 0), &[(0x00, 0x0001_1b36), (0x10, 0b010), (0x14, 0xfe00_0000)]);
    fake.masks.insert((at(0, 2, 0), 0x14), 0xffff_0000);
    let function = &fake.functions()[0];
    assert!(function.bars[0].is_none());
    assert!(matches!(function.bars[1], Some(Bar::Memory32 { address: 0xfe00_0000, size: 0x1_0000, .. })));
}
