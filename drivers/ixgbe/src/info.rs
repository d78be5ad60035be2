//! [`Info`] and [`Link`]: a device's identity and the state of its link.

/// A device's identity and limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Info {
    /// The permanent MAC address.
    pub mac: [u8; 6],
    /// The chip.
    pub model: &'static str,
    /// The number of queues that can be open at a time.
    pub queues: u16,
    /// The largest number of descriptors of a queue's ring, in each direction.
    pub most_depth: u32,
    /// The longest frame that can be configured, without VLAN tag and FCS.
    pub longest_frame: u32,
    /// The largest number of packets per sent frame.
    pub most_parts: u32,
}

/// The state of the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// True if the link is up.
    pub is_up: bool,
    /// Megabits per second; 0 while the link is down.
    pub megabits: u32,
    /// The number of observed transitions between up and down since the device was opened.
    pub changes: u32,
}
