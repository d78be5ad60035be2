//! [`NetConfig`]: how a device is set up. One value, so that it can be set again after a restart.

use core::fmt;

use coppice_rref::{Flat, Shareable};

use super::{ETHERNET_HEADER, MacAddr, NetError, NetInfo};

/// How many groups a device can be told one by one; who is in more asks for all ([`NetConfig::all_multicast`]).
pub const MULTICAST_LIMIT: usize = 32;

/// The payload that each Ethernet has room for (IEEE 802.3, 3.2.7).
const ETHERNET_MTU: u32 = 1500;
/// Least payload that IPv4 wants of a link (RFC 791, section 3.2).
const LEAST_MTU: u32 = 68;

/// How a device is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct NetConfig {
    /// The station's address; `None` is the one that the device came with.
    pub mac: Option<MacAddr>,
    /// Bytes of payload in the longest frame; 1500 on an ordinary Ethernet.
    pub mtu: u32,
    /// Receives what is sent to other stations, too.
    pub promiscuous: bool,
    /// Receives what is sent to any group.
    pub all_multicast: bool,
    /// Receives what is sent to the first `groups` of these groups.
    pub multicast: [MacAddr; MULTICAST_LIMIT],
    /// How many groups.
    pub groups: u32,
    /// Over what frames are distributed to queues.
    pub rss: Rss,
}

/// Receive side scaling: how frames are distributed over the open queues. Each open queue gets an equal share of the hashes.
#[derive(Clone, Copy, PartialEq, Eq, Shareable, Flat)]
pub struct Rss {
    /// The key of the Toeplitz hash.
    pub key: [u8; 40],
    /// What is hashed. Frames of other kinds go to the first queue.
    pub fields: HashFields,
}

/// Which kinds of frames are hashed, and over what.
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
    /// All of them.
    pub const ALL: Self = Self { ipv4: true, tcp4: true, udp4: true, ipv6: true, tcp6: true, udp6: true };
    /// None: everything goes to the first queue.
    pub const NONE: Self =
        Self { ipv4: false, tcp4: false, udp4: false, ipv6: false, tcp6: false, udp6: false };
}

impl Rss {
    /// A key under which both directions of a connection have the same hash, and so the same queue: it repeats itself every 16
    /// bits, which is by what source and destination are apart (modulo that) wherever they stand in what is hashed.
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
    /// The groups whose frames are wanted.
    pub fn groups(&self) -> &[MacAddr] {
        &self.multicast[..(self.groups as usize).min(MULTICAST_LIMIT)]
    }

    /// Bytes of the longest frame, without VLAN tag and FCS.
    pub const fn longest_frame(&self) -> u32 {
        self.mtu.saturating_add(ETHERNET_HEADER as u32)
    }

    /// Whether a device that `info` describes can be set up so: what every driver has to look at.
    ///
    /// # Errors
    /// Why not.
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
