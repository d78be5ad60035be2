//! [`NetConfig`]: the configuration of a device. It is one value, so that a shadow can apply it again after a
//! restart.

use core::fmt;

use coppice_rref::{Flat, Shareable};

use crate::{ETHERNET_HEADER, MacAddr, NetError, NetInfo};

/// The largest number of multicast groups in a configuration. A client of more groups sets
/// [`NetConfig::all_multicast`].
pub const MULTICAST_LIMIT: usize = 32;

/// The payload that every Ethernet supports, in bytes (IEEE 802.3, 3.2.7).
const ETHERNET_MTU: u32 = 1500;
/// The smallest payload that IPv4 requires of a link, in bytes (RFC 791, section 3.2).
const LEAST_MTU: u32 = 68;

/// The configuration of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct NetConfig {
    /// The station address; `None` for the device's permanent one.
    pub mac: Option<MacAddr>,
    /// The payload of the longest frame in bytes; 1500 on an ordinary Ethernet.
    pub mtu: u32,
    /// Receives frames to other stations too.
    pub promiscuous: bool,
    /// Receives frames to all multicast groups.
    pub all_multicast: bool,
    /// Receives frames to the first `groups` of these multicast groups.
    pub multicast: [MacAddr; MULTICAST_LIMIT],
    /// The number of valid entries of `multicast`.
    pub groups: u32,
    /// The distribution of frames over queues.
    pub rss: Rss,
}

/// Receive side scaling: the distribution of frames over the open queues. Each open queue gets an equal part
/// of the hash values.
#[derive(Clone, Copy, PartialEq, Eq, Shareable, Flat)]
pub struct Rss {
    /// The key of the Toeplitz hash.
    pub key: [u8; 40],
    /// The hashed fields. Frames of other kinds go to the queue that was opened while no other was open. If
    /// that queue is closed while others are open, they are lost until the next queue is opened.
    pub fields: HashFields,
}

/// The kinds of frames that are hashed, and the fields that each hash covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
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
    /// All kinds.
    pub const ALL: Self = Self { ipv4: true, tcp4: true, udp4: true, ipv6: true, tcp6: true, udp6: true };
    /// No kind: all frames go to the first queue.
    pub const NONE: Self =
        Self { ipv4: false, tcp4: false, udp4: false, ipv6: false, tcp6: false, udp6: false };
}

impl Rss {
    /// A key that gives both directions of a connection the same hash, and so the same queue. It repeats
    /// every 16 bits, and source and destination are a multiple of 16 bits apart in all hashed inputs.
    pub const SYMMETRIC_KEY: [u8; 40] = {
        let mut key = [0; 40];
        let mut index = 0;
        while index < key.len() {
            key[index] = if index.is_multiple_of(2) { 0x6d } else { 0x5a };
            index += 1;
        }
        key
    };
}

impl Default for Rss {
    fn default() -> Self {
        Self { key: Self::SYMMETRIC_KEY, fields: HashFields::ALL }
    }
}

impl fmt::Debug for Rss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RSS over {:?}", self.fields)
    }
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            mac: None,
            mtu: ETHERNET_MTU,
            promiscuous: false,
            all_multicast: false,
            multicast: [MacAddr::default(); MULTICAST_LIMIT],
            groups: 0,
            rss: Rss::default(),
        }
    }
}

impl NetConfig {
    /// The multicast groups to receive.
    pub fn groups(&self) -> &[MacAddr] {
        &self.multicast[..(self.groups as usize).min(MULTICAST_LIMIT)]
    }

    /// The size of the longest frame in bytes, without VLAN tag and FCS.
    pub const fn longest_frame(&self) -> u32 {
        self.mtu.saturating_add(ETHERNET_HEADER as u32)
    }

    /// Checks the configuration against a device with the properties `info`. Every driver has to call this.
    ///
    /// # Errors
    /// The first field that the device cannot be configured with.
    pub fn check(&self, info: &NetInfo) -> Result<(), NetError> {
        if let Some(mac) = self.mac.filter(|mac| !mac.is_station()) {
            return Err(NetError::Address { mac });
        }
        let most = info.longest_frame.saturating_sub(ETHERNET_HEADER as u32);
        if self.mtu < LEAST_MTU || self.mtu > most {
            return Err(NetError::Mtu { mtu: self.mtu, least: LEAST_MTU, most });
        }
        if self.groups as usize > MULTICAST_LIMIT {
            return Err(NetError::Groups { groups: self.groups, most: MULTICAST_LIMIT as u32 });
        }
        match self.groups().iter().find(|mac| !mac.is_multicast()) {
            Some(&mac) => Err(NetError::Group { mac }),
            None => Ok(()),
        }
    }
}
