//! [`StatisticsSum`]: a device's statistics across restarts of its driver.
//!
//! A starting driver resets its device, and with it the device's counters. The shadow keeps the last values
//! that it read from each instance. Events between that reading and the crash are not counted.

use coppice_interfaces::DomainId;
use coppice_net::Statistics;

/// The sum of the earlier instances' statistics, and the last reading of the present instance.
#[derive(Default)]
pub(crate) struct StatisticsSum {
    past: Statistics,
    instance: Option<DomainId>,
    present: Statistics,
}

impl StatisticsSum {
    /// Records a reading of `instance`. Returns the sum over all instances.
    pub(crate) fn record(&mut self, instance: Option<DomainId>, present: Statistics) -> Statistics {
        if self.instance != instance {
            self.past = add(self.past, self.present);
            self.instance = instance;
        }
        self.present = present;
        add(self.past, present)
    }
}

fn add(one: Statistics, other: Statistics) -> Statistics {
    // All fields by name, so that a new field cannot be forgotten.
    let Statistics {
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
        refused,
        dropped,
        interrupted,
        crashed,
    } = one;
    Statistics {
        received: received.wrapping_add(other.received),
        received_bytes: received_bytes.wrapping_add(other.received_bytes),
        broadcast: broadcast.wrapping_add(other.broadcast),
        multicast: multicast.wrapping_add(other.multicast),
        sent: sent.wrapping_add(other.sent),
        sent_bytes: sent_bytes.wrapping_add(other.sent_bytes),
        missed: missed.wrapping_add(other.missed),
        damaged: damaged.wrapping_add(other.damaged),
        misshapen: misshapen.wrapping_add(other.misshapen),
        bad_checksums: bad_checksums.wrapping_add(other.bad_checksums),
        refused: refused.wrapping_add(other.refused),
        dropped: dropped.wrapping_add(other.dropped),
        interrupted: interrupted.wrapping_add(other.interrupted),
        crashed: crashed.wrapping_add(other.crashed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_an_instance_survive_its_restart() {
        // Each field has a different value, so that a sum over the wrong field is noticed.
        let count = |sent| Statistics {
            sent,
            received: sent * 2,
            refused: sent * 3,
            dropped: sent * 4,
            interrupted: sent * 5,
            crashed: sent * 6,
            ..Statistics::default()
        };
        let (first, second) = (Some(DomainId::new(5, 0)), Some(DomainId::new(5, 1)));
        let mut sum = StatisticsSum::default();
        assert_eq!(sum.record(first, count(10)), count(10));
        assert_eq!(sum.record(first, count(15)), count(15));
        assert_eq!(sum.record(second, count(1)), count(16));
        assert_eq!(sum.record(second, count(3)), count(18));
    }
}
