//! Registers as drivers' threads and the device's own thread share them.
//!
//! Most registers are memory: the device's thread reads them when it is told that they have changed. Heads and tails are apart,
//! each on cache lines of its own, since two threads work with them all the time.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use device_bus::WorkSignal;

use crate::interrupts::Interrupts;
use crate::losses::LossCounters;
use crate::map::*;
use crate::serial::Serial;
use crate::statistics::Statistics;

/// Longest time that a read of CTRL waits for a reset: what a device on a bus may take over an answer without anybody's noticing.
const RESET_PATIENCE: Duration = Duration::from_millis(1);

/// What the device's thread has to look at.
pub(crate) mod work {
    /// Registers that it keeps a digest of.
    pub(crate) const CONFIG: u32 = 1;
    /// CTRL.RST or CTRL.LRST.
    pub(crate) const RESET: u32 = 1 << 1;
    /// An interrupt may be due.
    pub(crate) const INTERRUPT: u32 = 1 << 2;
    /// Somebody asks for something that is no register.
    pub(crate) const REQUEST: u32 = 1 << 3;
    /// The port may have opened: what waited for it can go on.
    pub(crate) const PORT: u32 = 1 << 4;
    /// The wire has something.
    pub(crate) const WIRE: u32 = 1 << 5;
}

/// Registers of which it is noted together that some were written.
const PAGE_WORDS: usize = 1024;

/// Registers that are memory.
pub(crate) struct Image {
    words: Box<[AtomicU32]>,
    /// Pages with words that may not be 0. A driver writes to a dozen of them, and a reset is much of what its crash costs.
    written: Box<[AtomicBool]>,
}

impl Image {
    pub(crate) fn new() -> Self {
        let words = REGISTER_BYTES as usize / 4;
        Self {
            words: (0..words).map(|_| AtomicU32::new(0)).collect(),
            written: (0..words.div_ceil(PAGE_WORDS)).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    fn word(&self, offset: u64) -> Option<(&AtomicU32, &AtomicBool)> {
        let index = (offset / 4) as usize;
        Some((self.words.get(index)?, self.written.get(index / PAGE_WORDS)?))
    }

    /// Makes all of them 0, but for the first. That is CTRL: when its reset bits are gone, a driver goes on.
    fn clear(&self) {
        for (index, (page, written)) in self.words.chunks(PAGE_WORDS).zip(&self.written).enumerate() {
            if written.swap(false, Ordering::AcqRel) {
                let kept = usize::from(index == 0);
                page[kept..].iter().for_each(|word| word.store(0, Ordering::Relaxed));
            }
        }
    }

    /// What the register at `offset` holds; 0 where there is none.
    #[inline]
    pub(crate) fn get(&self, offset: u64) -> u32 {
        self.words.get((offset / 4) as usize).map_or(0, |word| word.load(Ordering::Acquire))
    }

    pub(crate) fn set(&self, offset: u64, value: u32) {
        if let Some((word, written)) = self.word(offset) {
            word.store(value, Ordering::Release);
            // After the word: a reset in between has cleared it, or finds it the next time.
            written.store(true, Ordering::Release);
        }
    }

    /// Clears and sets bits.
    pub(crate) fn change(&self, offset: u64, clear: u32, set: u32) {
        if let Some((word, written)) = self.word(offset) {
            let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |old| Some(old & !clear | set));
            written.store(true, Ordering::Release);
        }
    }

    /// Sets bits, and answers those that were set already.
    fn test_and_set(&self, offset: u64, bits: u32) -> u32 {
        let Some((word, written)) = self.word(offset) else { return 0 };
        let before = word.fetch_or(bits, Ordering::AcqRel) & bits;
        written.store(true, Ordering::Release);
        before
    }
}

/// A word with cache lines of its own; two, since processors fetch them in pairs.
#[repr(align(128))]
#[derive(Default)]
pub(crate) struct Apart(AtomicU32);

/// Head, tail and state of a queue.
#[derive(Default)]
pub(crate) struct Queue {
    tail: Apart,
    head: Apart,
    /// DCTL.ENABLE as it reads: the device's thread has followed.
    enabled: AtomicU32,
}

impl Queue {
    #[inline]
    pub(crate) fn tail(&self) -> u32 {
        self.tail.0.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn head(&self) -> u32 {
        self.head.0.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn set_head(&self, head: u32) {
        self.head.0.store(head, Ordering::Release);
    }

    pub(crate) fn set_enabled(&self, enabled: bool) {
        self.enabled.store(if enabled { queue::DCTL_ENABLE } else { 0 }, Ordering::Release);
    }

    fn reset(&self) {
        self.tail.0.store(0, Ordering::Relaxed);
        self.head.0.store(0, Ordering::Relaxed);
        self.enabled.store(0, Ordering::Release);
    }
}

/// A register of a queue.
enum QueueRegister<'a> {
    Head(&'a Queue),
    Tail(&'a Queue),
    Control(&'a Queue),
}

/// All that threads share.
pub(crate) struct Registers {
    pub(crate) image: Image,
    pub(crate) rx: Box<[Queue]>,
    pub(crate) tx: Box<[Queue]>,
    pub(crate) statistics: Statistics,
    pub(crate) losses: LossCounters,
    pub(crate) interrupts: Interrupts,
    pub(crate) work_signal: WorkSignal,
    serial: Serial,
    mac: [u8; 6],
    /// Held where the reset bits of CTRL change together with the call for a reset. They are set exactly while a reset is called
    /// for or under way, however the writes of a driver and the end of a reset interleave.
    resets: Mutex<()>,
}

impl Registers {
    pub(crate) fn new(mac: [u8; 6], serial: Serial) -> Self {
        let registers = Self {
            image: Image::new(),
            rx: (0..QUEUES).map(|_| Queue::default()).collect(),
            tx: (0..QUEUES).map(|_| Queue::default()).collect(),
            statistics: Statistics::new(),
            losses: LossCounters::default(),
            interrupts: Interrupts::default(),
            work_signal: WorkSignal::new(),
            serial,
            mac,
            resets: Mutex::new(()),
        };
        registers.reset();
        registers
    }

    /// Everything as after power-on, as the defaults of section 8.2.3 have it, the MAC address loaded from the EEPROM. Only the
    /// reset bits of CTRL stay, until [`end_reset`](Self::end_reset).
    pub(crate) fn reset(&self) {
        let image = &self.image;
        image.clear();
        self.rx.iter().chain(&self.tx).for_each(Queue::reset);
        self.statistics.reset();
        self.interrupts.reset();
        let [a, b, c, d, e, f] = self.mac;
        image.set(STATUS, STATUS_MASTER_ENABLED);
        image.set(RAL, u32::from_le_bytes([a, b, c, d]));
        image.set(RAL + 4, u32::from_le_bytes([e, f, 0, 0]) | RAH_VALID);
        // SDP2 is what a module in its cage pulls.
        image.set(ESDP, 1 << 2);
        // HLREG0: FCS is added (0) and stripped (1), frames are padded (10).
        image.set(HLREG0, 1 << 0 | HLREG0_RXCRCSTRP | 1 << 10 | 1 << 13);
        image.set(MAXFRS, 1518 << 16);
        image.set(RDRXCTL, RDRXCTL_DMAIDONE | RDRXCTL_CRCSTRIP | 0x8 << 17);
        image.set(RXPBSIZE, 512 << 10);
        image.set(TXPBSIZE, 160 << 10);
        image.set(DTXMXSZRQ, 0x10);
        image.set(FCTRL, 0);
        image.set(VLNCTRL, 0x8100);
        image.set(DMATXCTL, 0x8100 << 16 | 1 << 2);
        // 10 Gb/s serial (LMS, bits 15:13), SFI (AUTOC2, bits 17:16).
        image.set(AUTOC, 0xc09c_6004);
        image.set(AUTOC2, 2 << 16);
        image.set(SECTXSTAT, SEC_READY);
        image.set(SECRXSTAT, SEC_READY);
        image.set(FWSM, FWSM_VALID);
        // MAC and port of the link are up to clock.
        image.set(MACC, 1);
        // Read by hand or by EERD: present, read, its size.
        image.set(EEC, crate::serial::EEC_VALUE);
        image.set(EEMNGCTL, 1 << 18 | 1 << 19);
        for queue in 0..QUEUES as u64 {
            image.set(rx_queue(queue) + queue::SRRCTL, 0x4 << 8 | 2);
        }
        image.change(CTRL, !CTRL_RESETS, 0);
    }

    /// For the device's thread: a reset is complete, and a driver that waits for it goes on. Not if it has asked for another one
    /// since: it would set up a device that is then reset.
    pub(crate) fn end_reset(&self) {
        let _resets = self.resets();
        if !self.work_signal.is_set(work::RESET) {
            self.image.change(CTRL, CTRL_RESETS, 0);
        }
    }

    /// For the device's thread: the same for a function level reset, after which nothing is left of resets that a driver asked
    /// for by CTRL.
    pub(crate) fn end_function_reset(&self) {
        let _resets = self.resets();
        self.work_signal.clear(work::RESET);
        self.image.set(CTRL, 0);
    }

    fn resets(&self) -> MutexGuard<'_, ()> {
        self.resets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn read(&self, offset: u64, size: u8) -> u64 {
        let aligned = offset & !3;
        let low = u64::from(self.read_u32(aligned));
        match size {
            8 => low | u64::from(self.read_u32(aligned + 4)) << 32,
            4 => low,
            2 => low >> (8 * (offset & 2)) & 0xffff,
            1 => low >> (8 * (offset & 3)) & 0xff,
            _ => 0,
        }
    }

    fn read_u32(&self, offset: u64) -> u32 {
        let offset = canonical(offset);
        if let Some(register) = self.queue_register(offset) {
            return match register {
                QueueRegister::Head(queue) => queue.head(),
                QueueRegister::Tail(queue) => queue.tail(),
                QueueRegister::Control(queue) => {
                    self.image.get(offset) & !queue::DCTL_ENABLE | queue.enabled.load(Ordering::Acquire)
                }
            };
        }
        if let Some(value) = self.statistics.read(offset) {
            return value;
        }
        if let Some(value) = self.interrupts.read(offset, &self.image) {
            return value;
        }
        match offset {
            // Whoever reads SWSM.SMBI as 0 has it: reading sets it (section 8.2.3.4.3).
            SWSM => self.image.get(SWSM) & !1 | self.image.test_and_set(SWSM, 1),
            CTRL => self.control_when_reset(),
            STATUS => self.status(),
            I2CCTL => self.serial.i2c_lines(self.image.get(I2CCTL)),
            _ => self.image.get(offset),
        }
    }

    pub(crate) fn write(&self, offset: u64, size: u8, value: u64) {
        match size {
            4 if offset.is_multiple_of(4) => self.write_u32(offset, value as u32),
            8 if offset.is_multiple_of(8) => {
                self.write_u32(offset, value as u32);
                self.write_u32(offset + 4, (value >> 32) as u32);
            }
            // Registers are 32 bits wide, and written whole (section 8.1.1).
            _ => {}
        }
    }

    fn write_u32(&self, offset: u64, value: u32) {
        let offset = canonical(offset);
        if let Some(register) = self.queue_register(offset) {
            return match register {
                QueueRegister::Tail(queue) => {
                    // Releases the descriptors to the device's thread.
                    queue.tail.0.store(value, Ordering::Release);
                    self.work_signal.wake();
                }
                QueueRegister::Head(queue) => queue.set_head(value),
                QueueRegister::Control(_) => {
                    self.image.set(offset, value & !queue::TXDCTL_SWFLSH);
                    self.work_signal.notify(work::CONFIG);
                }
            };
        }
        if let Some(must_look) = self.interrupts.write(offset, value) {
            if must_look {
                self.work_signal.notify(work::INTERRUPT);
            }
            return;
        }
        let image = &self.image;
        match offset {
            CTRL => self.control(value),
            // Counters, and what only the device says.
            STATUS | LINKS | LINKS2 | ANLP1 | SECTXSTAT | SECRXSTAT | FWSM | EEMNGCTL | MBVFICR => {}
            0x3f60..0x3fe0 | 0x4000..0x4100 | 0x4120 | 0x4180..0x41b0 => {}
            // Whether descriptors were read into the device's memory is nothing that a driver can change.
            RDRXCTL => image.set(offset, value | RDRXCTL_DMAIDONE),
            EERD | EEWR | EEC | MSCA | I2CCTL => self.serial.write(offset, value, image),
            // The bits of either side are its own (section 8.2.3.4.3): SWESMBI can only be set if the firmware has not got it.
            SWSM | SW_FW_SYNC => image.set(offset, value),
            AUTOC => {
                // The link is up again as soon as it has been restarted. In a mode that negotiates over a backplane it looks
                // for a partner, for ever; Linux's driver goes through such a mode to restart the pipeline behind the MAC, and
                // waits until negotiation has left its first state.
                let seeks = value & AUTOC_LMS_BACKPLANE != 0;
                image.set(ANLP1, if seeks { ANLP1_ABILITY_DETECT } else { 0 });
                image.set(offset, value & !AUTOC_RESTART);
                self.work_signal.notify(work::CONFIG);
            }
            // Tables of filters are initialized at once.
            FDIRCTRL => image.set(offset, value | FDIRCTRL_INIT_DONE),
            // Commands are done at once; a query finds nothing.
            FDIRCMD => image.set(offset, value & !0x3),
            RXCTRL | DMATXCTL | RTTDCS | HLREG0 => {
                image.set(offset, value);
                self.work_signal.notify(work::CONFIG);
            }
            _ => {
                image.set(offset, value);
                // It is not woken for each of the hundreds that a driver begins with: it looks before it does anything.
                self.work_signal.set(work::CONFIG);
            }
        }
    }

    /// CTRL (section 8.2.3.1.1): resets end when the device's thread has done them.
    fn control(&self, value: u32) {
        let resets = self.resets();
        // A reset that is under way does not end because its bit is written as 0.
        self.image.set(CTRL, value | self.image.get(CTRL) & CTRL_RESETS);
        let is_reset = value & CTRL_RESETS != 0;
        self.work_signal.set(if is_reset { work::RESET } else { work::CONFIG });
        drop(resets);
        self.work_signal.wake();
    }

    /// CTRL, as soon as a reset that was asked for is over, or after a moment: Linux's driver looks ten times within 10 us and
    /// then gives up, and the device's thread may have to be woken first.
    fn control_when_reset(&self) -> u32 {
        let deadline = Instant::now() + RESET_PATIENCE;
        loop {
            let value = self.image.get(CTRL);
            if value & CTRL_RESETS == 0 || Instant::now() >= deadline {
                return value;
            }
            // A reset takes some microseconds, and the shortest sleep of a host's is ten times that.
            std::thread::yield_now();
        }
    }

    /// STATUS. Who reads it while requests come to their end has nothing better to do than to let the device's thread run.
    fn status(&self) -> u32 {
        let ends = || self.image.get(CTRL) & CTRL_MASTER_DISABLE != 0;
        if self.image.get(STATUS) & STATUS_MASTER_ENABLED != 0 && ends() {
            std::thread::yield_now();
        }
        self.image.get(STATUS)
    }

    /// Splits the offset of a head, a tail or a control register.
    #[inline]
    fn queue_register(&self, offset: u64) -> Option<QueueRegister<'_>> {
        let (queues, first, index) = match offset {
            RX_QUEUES..0x2000 => (&self.rx, RX_QUEUES, 0),
            RX_QUEUES_HIGH..0xe000 => (&self.rx, RX_QUEUES_HIGH, 64),
            TX_QUEUES..0x8000 => (&self.tx, TX_QUEUES, 0),
            _ => return None,
        };
        let queue = queues.get(index + ((offset - first) / QUEUE_STRIDE) as usize)?;
        match offset % QUEUE_STRIDE {
            queue::HEAD => Some(QueueRegister::Head(queue)),
            queue::TAIL => Some(QueueRegister::Tail(queue)),
            queue::DCTL => Some(QueueRegister::Control(queue)),
            _ => None,
        }
    }

    /// Whether a driver wants the queue whose registers begin at `base`.
    pub(crate) fn is_wanted(&self, base: u64) -> bool {
        self.image.get(base + queue::DCTL) & queue::DCTL_ENABLE != 0
    }
}

/// Where the registers of a receive queue begin.
pub(crate) fn rx_queue(index: u64) -> u64 {
    if index < 64 { RX_QUEUES + index * QUEUE_STRIDE } else { RX_QUEUES_HIGH + (index - 64) * QUEUE_STRIDE }
}

/// Where the registers of a transmit queue begin.
pub(crate) fn tx_queue(index: u64) -> u64 {
    TX_QUEUES + index * QUEUE_STRIDE
}
