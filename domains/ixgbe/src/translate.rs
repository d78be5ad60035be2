//! Translation between the interface's types and errors and the driver's.

use coppice_net::{ETHERNET_HEADER, Link, NetConfig, NetError, Refusal, Statistics};
use ixgbe_driver::{Config, Groups, HashFields, IxgbeError};

use crate::counters::Counters;

/// Returns the driver's configuration for a client's.
///
/// # Errors
/// [`IxgbeError::Group`] when an address of the multicast list is not a group address.
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

/// Returns the interface's error for the driver's, and logs the details that do not cross.
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
        // Errors of the machine or the manifest: the client cannot act on them.
        other => {
            log::warn!("{other}");
            NetError::Device { register: 0, value: 0 }
        }
    }
}

/// Returns the interface's reason for a frame that the driver refused.
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

/// Returns the interface's link state.
pub(crate) fn link(link: ixgbe_driver::Link) -> Link {
    Link { is_up: link.is_up, megabits: link.megabits, changes: link.changes }
}

/// Combines the device's counts with those of the domain's queues.
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
        // Counted by the shadow.
        crashed: 0,
    }
}

#[cfg(test)]
mod tests {
    use coppice_net::MacAddr;

    use super::*;

    #[test]
    fn a_configuration_is_translated_completely() {
        let mut net = NetConfig { mtu: 9000, promiscuous: true, groups: 1, ..NetConfig::default() };
        net.multicast[0] = MacAddr([1, 0, 0x5e, 0, 0, 1]);
        net.mac = Some(MacAddr([2, 0, 0, 0, 0, 9]));
        let config = config(&net).expect("a valid configuration");
        assert_eq!((config.frame_bytes, config.mac), (9014, Some([2, 0, 0, 0, 0, 9])));
        assert!(config.promiscuous && !config.all_multicast && config.hash_fields.udp6);
        assert_eq!(Ok(&config.groups), Groups::new([[1, 0, 0x5e, 0, 0, 1]]).as_ref());
        assert_eq!(config.hash_key, net.rss.key);
    }

    #[test]
    fn statistics_include_the_counts_of_the_domain() {
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
    fn frame_lengths_are_reported_as_payload_lengths() {
        let bytes = IxgbeError::FrameBytes { bytes: 20_000, least: 82, most: 9724 };
        assert_eq!(error(bytes), NetError::Mtu { mtu: 19_986, least: 68, most: 9710 });
    }
}
