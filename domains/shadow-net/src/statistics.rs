//! [`Sum`]: what a device has counted while one driver after the other had it.
//!
//! A driver that begins resets its device, and so what that has counted. The shadow remembers what the last instance said when
//! it was asked last; what was counted after that is not known to anybody.

use coppice_interfaces::DomainId;
use coppice_net::Statistics;

/// The counts of the past, and of the present instance as far as they were asked for.
#[derive(Default)]
pub(crate) struct Sum {
    past: Statistics,
    instance: Option<DomainId>,
    present: Statistics,
}

impl Sum {
    /// `instance` says that it has counted `present` so far. Answers what all lives have.
    pub(crate) fn note(&mut self, instance: Option<DomainId>, present: Statistics) -> Statistics {
        if self.instance != instance {
            self.past = add(self.past, self.present);
            self.instance = instance;
        }
        self.present = present;
        add(self.past, present)
    }
}

fn add(one: Statistics, other: Statistics) -> Statistics {
    // All of them by name, so that a new one cannot be forgotten.
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
    fn what_a_instance_has_counted_outlives_it() {
        // Each count is another number, so that none is added to its neighbour.
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
        let mut sum = Sum::default();
        assert_eq!(sum.note(first, count(10)), count(10));
        assert_eq!(sum.note(first, count(15)), count(15));
        assert_eq!(sum.note(second, count(1)), count(16));
        assert_eq!(sum.note(second, count(3)), count(18));
    }
}
