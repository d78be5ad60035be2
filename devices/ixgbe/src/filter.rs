//! [`Filter`]: the address and VLAN filters (82599 datasheet, section 7.1.1).

use crate::map::{
    ADDRESSES, FCTRL, FCTRL_BAM, FCTRL_MPE, FCTRL_UPE, MCSTCTRL, MCSTCTRL_MFE, MTA, PFUTA, RAH_VALID, RAL,
    VFTA, VLNCTRL, VLNCTRL_VFE,
};
use crate::registers::Image;

const BROADCAST: u64 = 0xffff_ffff_ffff;
/// The group bit of an address's first byte.
const GROUP: u64 = 1;

/// A table of 4096 bits.
type Table = Box<[u32; 128]>;

/// The filter registers, in a form that is quick to use.
pub(crate) struct Filter {
    /// The exact addresses, as little-endian numbers.
    exact: Vec<u64>,
    groups: Table,
    unicast: Table,
    vlans: Table,
    /// The shift to the bits of an address that index a table (MCSTCTRL.MO).
    shift: u32,
    hashes_groups: bool,
    hashes_unicast: bool,
    filters_vlans: bool,
    control: u32,
    /// The EtherType of VLAN tags.
    pub(crate) vlan_type: u16,
}

/// The kind of a destination address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AddressKind {
    Unicast,
    Multicast,
    Broadcast,
}

impl Filter {
    pub(crate) fn new() -> Self {
        let table = || Box::new([0; 128]);
        Self {
            exact: Vec::with_capacity(ADDRESSES as usize),
            groups: table(),
            unicast: table(),
            vlans: table(),
            shift: 0,
            hashes_groups: false,
            hashes_unicast: false,
            filters_vlans: false,
            control: 0,
            vlan_type: 0,
        }
    }

    /// Updates the filters from the registers.
    pub(crate) fn update(&mut self, image: &Image) {
        self.control = image.get(FCTRL);
        let vlan = image.get(VLNCTRL);
        self.vlan_type = vlan as u16;
        self.filters_vlans = vlan & VLNCTRL_VFE != 0;
        let multicast = image.get(MCSTCTRL);
        self.hashes_groups = multicast & MCSTCTRL_MFE != 0;
        // Bits 47:36, 46:35, 45:34 or 43:32 of the address.
        self.shift = [36, 35, 34, 32][(multicast & 3) as usize];
        self.exact.clear();
        for index in 0..ADDRESSES {
            let high = image.get(RAL + 8 * index + 4);
            if high & RAH_VALID != 0 {
                self.exact.push(u64::from(image.get(RAL + 8 * index)) | u64::from(high & 0xffff) << 32);
            }
        }
        for (table, first) in [(&mut self.groups, MTA), (&mut self.unicast, PFUTA), (&mut self.vlans, VFTA)] {
            for (index, word) in table.iter_mut().enumerate() {
                *word = image.get(first + 4 * index as u64);
            }
        }
        self.hashes_unicast = self.unicast.iter().any(|word| *word != 0);
    }

    /// Returns true if a frame passes the address filters, and the kind of its address.
    #[inline]
    pub(crate) fn admits(&self, frame: &[u8]) -> (bool, AddressKind) {
        let Some(&[a, b, c, d, e, f]) = frame.first_chunk::<6>() else {
            return (false, AddressKind::Unicast);
        };
        let address = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        if address == BROADCAST {
            return (self.control & (FCTRL_BAM | FCTRL_MPE) != 0, AddressKind::Broadcast);
        }
        if address & GROUP != 0 {
            let passes = self.control & FCTRL_MPE != 0
                || self.exact.contains(&address)
                || self.hashes_groups && self.is_in(&self.groups, address);
            return (passes, AddressKind::Multicast);
        }
        let passes = self.control & FCTRL_UPE != 0
            || self.exact.contains(&address)
            || self.hashes_unicast && self.is_in(&self.unicast, address);
        (passes, AddressKind::Unicast)
    }

    /// Returns true if frames of a VLAN pass.
    pub(crate) fn admits_vlan(&self, tag: u16) -> bool {
        !self.filters_vlans || bit(&self.vlans, usize::from(tag & 0xfff))
    }

    fn is_in(&self, table: &Table, address: u64) -> bool {
        bit(table, (address >> self.shift & 0xfff) as usize)
    }
}

fn bit(table: &Table, index: usize) -> bool {
    table[index / 32] >> (index % 32) & 1 != 0
}

/// Returns the kind of a frame's destination address.
pub(crate) fn address_kind(frame: &[u8]) -> AddressKind {
    match frame.first_chunk::<6>() {
        Some([0xff, 0xff, 0xff, 0xff, 0xff, 0xff]) => AddressKind::Broadcast,
        Some([first, ..]) if first & 1 != 0 => AddressKind::Multicast,
        _ => AddressKind::Unicast,
    }
}
