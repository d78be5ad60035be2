//! [`Config`]: the configuration of a device.

use crate::IxgbeError;
use crate::registers::{MRQC_IPV4, MRQC_IPV6, MRQC_TCP4, MRQC_TCP6, MRQC_UDP4, MRQC_UDP6};

/// The size of an Ethernet header without a VLAN tag, in bytes.
const ETHERNET_HEADER: u32 = 14;
/// The smallest value of the largest payload: IPv4 requires this of a link (RFC 791, section 3.2).
const MIN_PAYLOAD: u32 = 68;
/// The number of words of the multicast table.
pub(crate) const MTA_WORDS: usize = 128;

/// The configuration of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The MAC address; `None` for the permanent one.
    pub mac: Option<[u8; 6]>,
    /// The longest frame in bytes, from the destination address on, without VLAN tag and FCS.
    pub frame_bytes: u32,
    /// Receives frames to all unicast addresses.
    pub promiscuous: bool,
    /// Receives frames to all multicast addresses.
    pub all_multicast: bool,
    /// Receives frames to these multicast addresses: see [`Groups`].
    pub groups: Groups,
    /// The key of the Toeplitz hash.
    pub hash_key: [u8; 40],
    /// The fields to hash.
    pub hash_fields: HashFields,
}

/// The protocols whose frames are hashed, and the hashed fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HashFields {
    /// IPv4: both addresses.
    pub ipv4: bool,
    /// TCP over IPv4: addresses and ports.
    pub tcp4: bool,
    /// UDP over IPv4: addresses and ports.
    pub udp4: bool,
    /// IPv6: both addresses.
    pub ipv6: bool,
    /// TCP over IPv6: addresses and ports.
    pub tcp6: bool,
    /// UDP over IPv6: addresses and ports.
    pub udp6: bool,
}

impl HashFields {
    /// Returns MRQC's field enables.
    pub(crate) fn bits(self) -> u32 {
        let bit = |on, bit| if on { bit } else { 0 };
        bit(self.ipv4, MRQC_IPV4)
            | bit(self.tcp4, MRQC_TCP4)
            | bit(self.udp4, MRQC_UDP4)
            | bit(self.ipv6, MRQC_IPV6)
            | bit(self.tcp6, MRQC_TCP6)
            | bit(self.udp6, MRQC_UDP6)
    }
}

/// A set of multicast addresses in the device's form: a bit for each hash of an address (82599 datasheet,
/// section 8.2.3.7.7). So frames to some other groups are received, too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Groups {
    table: [u32; MTA_WORDS],
}

impl Groups {
    /// The empty set.
    pub const NONE: Self = Self { table: [0; MTA_WORDS] };

    /// Creates the set of `groups`.
    ///
    /// # Errors
    /// [`IxgbeError::Group`] when an address is not a multicast address.
    pub fn new(groups: impl IntoIterator<Item = [u8; 6]>) -> Result<Self, IxgbeError> {
        let mut all = Self::NONE;
        for mac in groups {
            if mac[0] & 1 == 0 {
                return Err(IxgbeError::Group { mac });
            }
            // Bits 47:36 of the address: MCSTCTRL.MO, RCTL.MO are 0.
            let hash = usize::from(mac[4] >> 4) | usize::from(mac[5]) << 4;
            all.table[hash / 32] |= 1 << (hash % 32);
        }
        Ok(all)
    }

    pub(crate) const fn table(&self) -> &[u32; MTA_WORDS] {
        &self.table
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mac: None,
            frame_bytes: 1514,
            promiscuous: false,
            all_multicast: false,
            groups: Groups::NONE,
            hash_key: [0; 40],
            hash_fields: HashFields::default(),
        }
    }
}

impl Config {
    /// Validates the configuration for a device whose frames have at most `most` bytes.
    pub(crate) fn check(&self, most: u32) -> Result<(), IxgbeError> {
        if let Some(mac) = self.mac.filter(|mac| !is_unicast(*mac)) {
            return Err(IxgbeError::Address { mac });
        }
        let least = MIN_PAYLOAD + ETHERNET_HEADER;
        if self.frame_bytes < least || self.frame_bytes > most {
            return Err(IxgbeError::FrameBytes { bytes: self.frame_bytes, least, most });
        }
        Ok(())
    }

    /// Returns the hash key as register words, in little-endian order.
    pub(crate) fn key_words(&self) -> impl Iterator<Item = u32> {
        self.hash_key.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes))
    }
}

/// Returns true if `mac` is a unicast address.
pub(crate) fn is_unicast(mac: [u8; 6]) -> bool {
    mac[0] & 1 == 0 && mac != [0; 6]
}

/// Returns the redirection table over `queues`, a set of bits: the queue of each of 128 hashes, four in a
/// word.
pub(crate) fn redirection(queues: u32) -> [u32; 32] {
    let mut table = [0; 32];
    let open = (0..32_u32).filter(|queue| queues >> queue & 1 != 0);
    if queues == 0 {
        return table;
    }
    for (entry, queue) in open.cycle().take(128).enumerate() {
        table[entry / 4] |= queue << (8 * (entry % 4));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_configuration_is_refused_with_its_value() {
        let good = Config::default();
        assert_eq!(good.check(9000), Ok(()));
        let mac = [1, 0, 0x5e, 0, 0, 1];
        assert_eq!(Config { mac: Some(mac), ..good.clone() }.check(9000), Err(IxgbeError::Address { mac }));
        let none = [0; 6];
        let unset = Config { mac: Some(none), ..good.clone() };
        assert_eq!(unset.check(9000), Err(IxgbeError::Address { mac: none }));
        let error = IxgbeError::FrameBytes { bytes: 9001, least: 82, most: 9000 };
        assert_eq!(Config { frame_bytes: 9001, ..good.clone() }.check(9000), Err(error));
        assert!(Config { frame_bytes: 81, ..good }.check(9000).is_err());
        let station = [2, 0, 0, 0, 0, 1];
        assert_eq!(Groups::new([mac, station]), Err(IxgbeError::Group { mac: station }));
    }

    #[test]
    fn a_group_sets_the_bit_of_the_upper_twelve_bits_of_its_address() {
        let groups = Groups::new([[1, 0, 0x5e, 0, 0x34, 0x12]]).expect("a group");
        // 0x123: word 9, bit 3.
        assert_eq!(groups.table().iter().map(|word| word.count_ones()).sum::<u32>(), 1);
        assert_eq!(groups.table()[9], 1 << 3);
    }

    #[test]
    fn hashes_are_distributed_evenly_over_the_open_queues_only() {
        for queues in [0b1_u32, 0b101, 0xFFFF, 0b1000_0000_0000_0000] {
            let table = redirection(queues);
            let mut counts = [0; 32];
            for entry in 0..128 {
                counts[(table[entry / 4] >> (8 * (entry % 4)) & 0xFF) as usize] += 1;
            }
            let even = 128 / queues.count_ones();
            for (queue, &count) in counts.iter().enumerate() {
                let open = queues >> queue & 1 != 0;
                assert!(if open { count == even || count == even + 1 } else { count == 0 }, "{queues:b}");
            }
        }
        assert_eq!(redirection(0), [0; 32]);
    }
}
