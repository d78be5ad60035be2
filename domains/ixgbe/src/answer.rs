//! How the driver's words are said to clients, and theirs to the driver.

use coppice_net::{ETHERNET_HEADER, Link, NetConfig, NetError, Refusal, Statistics};
use ixgbe_driver::{Config, Groups, HashFields, IxgbeError};

use crate::counters::Counters;

/// The driver's setting for a client's.
///
/// # Errors
/// When an address names no group.
pub(crate) fn config(config: &NetConfig) -> Result<Config, IxgbeError> {
    let fields = config.rss.fields;
    Ok(Config {
        mac: config.mac.map(|mac| mac.0),
        frame_bytes: config.longest_frame(),
        promiscuous: config.promiscuous,
        all_multicast: config.all_multicast,
        groups: Groups::new(config.groups().iter().map(|group| group.0))?,
        hash_key: config.rss.key,
        hash_fields: HashFields {
            ipv4: fields.ipv4,
            tcp4: fields.tcp4,
            udp4: fields.udp4,
            ipv6: fields.ipv6,
            tcp6: fields.tcp6,
            udp6: fields.udp6,
        },
    })
}

/// Why something is not done.
#[cold]
pub(crate) fn error(error: IxgbeError) -> NetError {
    use coppice_net::MacAddr;
    match error {
        IxgbeError::Depth { depth, most } => NetError::Depth { depth, most },
        IxgbeError::NoQueue { queues } => NetError::NoQueue { queues: queues.into() },
        IxgbeError::Address { mac } | IxgbeError::NoAddress { mac } => {
            NetError::Address { mac: MacAddr(mac) }
        }
        IxgbeError::Group { mac } => NetError::Group { mac: MacAddr(mac) },
        IxgbeError::FrameBytes { bytes, least, most } => {
            let payload = |bytes: u32| bytes.saturating_sub(ETHERNET_HEADER as u32);
            NetError::Mtu { mtu: payload(bytes), least: payload(least), most: payload(most) }
        }
        IxgbeError::Fault(fault) => {
            log::warn!("{fault}");
            let (register, value) = fault.register();
            NetError::Device { register, value }
        }
        // Of the machine or the manifest, and nothing that a client could do about.
        other => {
            log::warn!("{other}");
            NetError::Device { register: 0, value: 0 }
        }
    }
}

/// Why a frame is not sent.
#[cold]
pub(crate) fn refusal(refusal: ixgbe_driver::Refusal) -> Refusal {
    match refusal {
        ixgbe_driver::Refusal::TooShort { .. } => Refusal::TooShort,
        ixgbe_driver::Refusal::TooLong { .. } | ixgbe_driver::Refusal::TooManyParts { .. } => {
            Refusal::TooLong
        }
        ixgbe_driver::Refusal::Incomplete => Refusal::Incomplete,
        ixgbe_driver::Refusal::Offload(_) => Refusal::Offload,
    }
}

pub(crate) fn link(link: ixgbe_driver::Link) -> Link {
    Link { is_up: link.is_up, megabits: link.megabits, changes: link.changes }
}

/// The counts of the device, and of the domain's queues.
pub(crate) fn statistics(counted: ixgbe_driver::Statistics, counters: &Counters) -> Statistics {
    let ixgbe_driver::Statistics {
        received,
        received_bytes,
        broadcast,
        multicast,
        sent,
        sent_bytes,
        missed,
        damaged,
        misshapen,
        bad_checksums,
    } = counted;
    Statistics {
        received,
        received_bytes,
        broadcast,
        multicast,
        sent,
        sent_bytes,
        missed,
        damaged,
        misshapen,
        bad_checksums,
        refused: counters.refused.get(),
        dropped: counters.dropped.get(),
        interrupted: counters.interrupted.get(),
        // A shadow counts them.
        crashed: 0,
    }
}

#[cfg(test)]
mod tests {
    use coppice_net::MacAddr;

    use super::*;

    #[test]
    fn a_setting_reaches_the_driver_whole() {
        let mut net = NetConfig { mtu: 9000, promiscuous: true, groups: 1, ..NetConfig::default() };
        net.multicast[0] = MacAddr([1, 0, 0x5e, 0, 0, 1]);
        net.mac = Some(MacAddr([2, 0, 0, 0, 0, 9]));
        let config = config(&net).expect("a good setting");
        assert_eq!((config.frame_bytes, config.mac), (9014, Some([2, 0, 0, 0, 0, 9])));
        assert!(config.promiscuous && !config.all_multicast && config.hash_fields.udp6);
        assert_eq!(Ok(&config.groups), Groups::new([[1, 0, 0x5e, 0, 0, 1]]).as_ref());
        assert_eq!(config.hash_key, net.rss.key);
    }

    #[test]
    fn frames_that_the_domain_has_counted_are_in_the_statistics() {
        let counters = Counters::default();
        counters.refused.add(1);
        counters.dropped.add(2);
        counters.interrupted.add(3);
        counters.interrupted.add(1);
        let counted = ixgbe_driver::Statistics { sent: 7, ..ixgbe_driver::Statistics::default() };
        let expected =
            Statistics { sent: 7, refused: 1, dropped: 2, interrupted: 4, ..Statistics::default() };
        assert_eq!(statistics(counted, &counters), expected);
    }

    #[test]
    fn a_length_is_said_as_payload() {
        let bytes = IxgbeError::FrameBytes { bytes: 20_000, least: 82, most: 9724 };
        assert_eq!(error(bytes), NetError::Mtu { mtu: 19_986, least: 68, most: 9710 });
    }
}
