//! The module in the port of an 82599: a passive direct attach cable, with its identification EEPROM
//! (SFF-8472, chapter 4).
//!
//! Drivers reach it by driving the two lines of an I2C bus through I2CCTL, bit by bit (82599 datasheet,
//! section 8.2.3.1.8), at any speed and in any order: the module sees only edges.

const CLOCK_IN: u32 = 1;
const CLOCK_OUT: u32 = 1 << 1;
const DATA_IN: u32 = 1 << 2;
const DATA_OUT: u32 = 1 << 3;
/// The address of the identification EEPROM; the lowest bit is set for reading.
const ADDRESS: u8 = 0xa0;

/// The EEPROM of a module, a slave of the bus.
pub(crate) struct Module {
    bytes: [u8; 256],
    clock: bool,
    data: bool,
    state: State,
    /// The number of transferred bits of the current byte; the ninth is the acknowledgement.
    bits: u8,
    shift: u8,
    /// The offset of the next byte to be read.
    at: u8,
    /// True while the module pulls the data line low.
    pulls_low: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The module is not addressed.
    Idle,
    /// The next byte is the address.
    Addressed,
    /// The next byte written is the offset.
    Offset,
    /// The next byte written is data, which a cable does not store.
    Written,
    /// The master reads.
    Read,
}

impl Module {
    pub(crate) fn new() -> Self {
        let bytes = identification();
        Self {
            bytes,
            clock: true,
            data: true,
            state: State::Idle,
            bits: 0,
            shift: 0,
            at: 0,
            pulls_low: false,
        }
    }

    /// Returns I2CCTL as it reads: the master's outputs, and the lines.
    pub(crate) fn lines(&self, written: u32) -> u32 {
        let line = |bit: u32, high: bool| if high { bit } else { 0 };
        let own = written & (CLOCK_OUT | DATA_OUT);
        let data = self.data && !self.pulls_low;
        own | line(CLOCK_IN, self.clock) | line(DATA_IN, data)
    }

    /// Handles a change of the master's outputs.
    pub(crate) fn drive(&mut self, control: u32) {
        let (clock, data) = (control & CLOCK_OUT != 0, control & DATA_OUT != 0);
        if self.clock && clock && self.data != data {
            // A change of data while the clock is high is a start or a stop.
            self.state = if data { State::Idle } else { State::Addressed };
            (self.bits, self.shift, self.pulls_low) = (0, 0, false);
        }
        let (rises, falls) = (!self.clock && clock, self.clock && !clock);
        (self.clock, self.data) = (clock, data);
        if rises {
            self.sample(data);
        } else if falls {
            self.update_data_line();
        }
    }

    /// Samples a bit, on the rising edge of the clock.
    fn sample(&mut self, data: bool) {
        match self.state {
            State::Idle => {}
            // `shift` holds the byte that is being sent.
            State::Read if self.bits < 8 || self.pulls_low => {}
            State::Read => {
                // The master does not acknowledge the last byte that it reads.
                if data {
                    self.state = State::Idle;
                }
            }
            _ => self.shift = self.shift << 1 | u8::from(data),
        }
        self.bits += 1;
    }

    /// Updates the data line, on the falling edge of the clock.
    fn update_data_line(&mut self) {
        if self.state == State::Idle {
            self.pulls_low = false;
            return;
        }
        match self.bits {
            8 if self.state != State::Read => self.pulls_low = self.acknowledge(),
            9 => {
                self.bits = 0;
                self.pulls_low = false;
                if self.state == State::Read {
                    self.begin_byte();
                }
            }
            0 => {}
            // The master acknowledges the byte.
            8 => self.pulls_low = false,
            bit if self.state == State::Read => self.pulls_low = self.shift << bit & 0x80 == 0,
            _ => {}
        }
    }

    /// Handles a complete byte. Returns true if the module acknowledges it.
    fn acknowledge(&mut self) -> bool {
        self.state = match self.state {
            State::Addressed if self.shift & 0xfe == ADDRESS => {
                if self.shift & 1 != 0 {
                    State::Read
                } else {
                    State::Offset
                }
            }
            State::Addressed | State::Idle => State::Idle,
            State::Offset => {
                self.at = self.shift;
                State::Written
            }
            other => other,
        };
        // For reading, `bits` counts on to 9 with the acknowledgement, and the first byte begins then.
        self.state != State::Idle
    }

    fn begin_byte(&mut self) {
        self.shift = self.bytes[usize::from(self.at)];
        self.at = self.at.wrapping_add(1);
        self.pulls_low = self.shift & 0x80 == 0;
    }
}

/// The identification fields (SFF-8472, table 4-1).
fn identification() -> [u8; 256] {
    let mut bytes = [0; 256];
    // SFP, identified by this EEPROM alone, copper pigtail.
    bytes[..3].copy_from_slice(&[3, 4, 0x21]);
    // SFP+ cable technology: passive.
    bytes[8] = 1 << 2;
    // Nominal rate in units of 100 MBd, length in metres.
    bytes[12] = 103;
    bytes[18] = 1;
    bytes[20..36].copy_from_slice(b"COPPICE         ");
    bytes[40..56].copy_from_slice(b"DAC             ");
    bytes[68..84].copy_from_slice(b"1               ");
    let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[63] = sum(&bytes[..63]);
    bytes[95] = sum(&bytes[64..95]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Master(Module);

    impl Master {
        fn lines(&mut self, clock: bool, data: bool) {
            self.0.drive(if clock { CLOCK_OUT } else { 0 } | if data { DATA_OUT } else { 0 });
        }

        fn start(&mut self) {
            self.lines(false, true);
            self.lines(true, true);
            self.lines(true, false);
            self.lines(false, false);
        }

        fn bit(&mut self, data: bool) -> bool {
            self.lines(false, data);
            self.lines(true, data);
            let read = self.0.lines(0) & DATA_IN != 0;
            self.lines(false, data);
            read
        }

        /// Writes a byte. Returns true if it was acknowledged.
        fn put(&mut self, byte: u8) -> bool {
            (0..8).rev().for_each(|bit| {
                self.bit(byte >> bit & 1 != 0);
            });
            !self.bit(true)
        }

        fn take(&mut self, more: bool) -> u8 {
            let byte = (0..8).fold(0, |byte, _| byte << 1 | u8::from(self.bit(true)));
            self.bit(!more);
            byte
        }
    }

    #[test]
    fn a_module_identifies_itself_as_a_cable() {
        let mut master = Master(Module::new());
        for (at, expected) in [(0, 3), (8, 4), (20, b'C'), (27, b' '), (63, identification()[63])] {
            master.start();
            assert!(master.put(0xa0) && master.put(at), "offset {at}");
            master.start();
            assert!(master.put(0xa1));
            assert_eq!(master.take(false), expected, "offset {at}");
        }
        master.start();
        assert!(master.put(0xa0) && master.put(20));
        master.start();
        assert!(master.put(0xa1));
        let name: Vec<_> = (0..7).map(|index| master.take(index < 6)).collect();
        assert_eq!(name, b"COPPICE");
    }

    #[test]
    fn a_module_does_not_acknowledge_another_address() {
        let mut master = Master(Module::new());
        master.start();
        assert!(!master.put(0xa2));
        master.start();
        assert!(master.put(0xa0));
    }
}
