//! [`Event`]: what a controller says of itself without being asked (Base 5.2).

/// An asynchronous event. It was cleared, and more of its kind can arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// An error that belongs to no command; such as a doorbell with a wrong value.
    Error {
        /// What kind (Base figure 146).
        information: u8,
    },
    /// Reliability, temperature or spare is not as it should be; [`crate::Controller::health`] says more.
    Health {
        /// What kind (Base figure 147).
        information: u8,
    },
    /// Namespaces have changed: size, format, or that they are there at all.
    NamespacesChanged,
    /// A notice of another kind.
    Notice {
        /// What kind (Base figure 148).
        information: u8,
    },
    /// An event of another type.
    Other {
        /// Type (Base figure 145).
        kind: u8,
        /// What kind.
        information: u8,
    },
}

impl Event {
    /// From double word 0 of the completion, with the log page that clears it.
    pub(crate) fn decode(result: u32) -> (Self, u8) {
        let (kind, information, page) = ((result & 7) as u8, (result >> 8) as u8, (result >> 16) as u8);
        let event = match (kind, information) {
            (0, _) => Self::Error { information },
            (1, _) => Self::Health { information },
            (2, 0) => Self::NamespacesChanged,
            (2, _) => Self::Notice { information },
            _ => Self::Other { kind, information },
        };
        (event, page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_apart_by_type_and_information() {
        assert_eq!(Event::decode(0x01_01_00), (Event::Error { information: 1 }, 1));
        assert_eq!(Event::decode(0x02_00_01), (Event::Health { information: 0 }, 2));
        assert_eq!(Event::decode(0x04_00_02), (Event::NamespacesChanged, 4));
        assert_eq!(Event::decode(0x03_01_02), (Event::Notice { information: 1 }, 3));
        assert_eq!(Event::decode(0x00_05_06), (Event::Other { kind: 6, information: 5 }, 0));
    }
}
