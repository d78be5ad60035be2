//! [`Event`]: asynchronous events of a controller (Base 5.2).

/// An asynchronous event. It has been cleared, so that more of its kind can arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// An error that belongs to no command, such as an invalid doorbell value.
    Error {
        /// Event information (Base figure 146).
        information: u8,
    },
    /// Reliability, temperature or spare capacity has left its normal range; see
    /// [`crate::Controller::health`].
    Health {
        /// Event information (Base figure 147).
        information: u8,
    },
    /// The set of namespaces, or the size or format of one, has changed.
    NamespacesChanged,
    /// A notice of another kind.
    Notice {
        /// Event information (Base figure 148).
        information: u8,
    },
    /// An event of another type.
    Other {
        /// Event type (Base figure 145).
        kind: u8,
        /// Event information.
        information: u8,
    },
}

impl Event {
    /// Decodes double word 0 of the completion. Returns the event and the log page that clears it.
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
    fn events_are_decoded_by_type_and_information() {
        assert_eq!(Event::decode(0x01_01_00), (Event::Error { information: 1 }, 1));
        assert_eq!(Event::decode(0x02_00_01), (Event::Health { information: 0 }, 2));
        assert_eq!(Event::decode(0x04_00_02), (Event::NamespacesChanged, 4));
        assert_eq!(Event::decode(0x03_01_02), (Event::Notice { information: 1 }, 3));
        assert_eq!(Event::decode(0x00_05_06), (Event::Other { kind: 6, information: 5 }, 0));
    }
}
