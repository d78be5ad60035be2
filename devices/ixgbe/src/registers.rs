//! [`Registers`]: the registers, shared by drivers' threads and the device's own thread.
//!
//! Most registers are memory: the device's thread reads them when it is notified of a change. Heads and tails
//! are separate, each on cache lines of its own, since two threads use them all the time.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use device_bus::WorkSignal;

use crate::interrupts::Interrupts;
use crate::losses::LossCounters;
use crate::map::*;
use crate::serial::Serial;
use crate::statistics::Statistics;

/// The longest time that a read of CTRL waits for a reset. No software notices such a delay of a device on a
/// bus.
const RESET_READ_TIMEOUT: Duration = Duration::from_millis(1);

/// Signals to the device's thread.
pub(crate) mod signal {
    /// A register changed from which the thread derives state.
    pub(crate) const CONFIG: u32 = 1;
    /// The driver set CTRL.RST or CTRL.LRST.
    pub(crate) const RESET: u32 = 1 << 1;
    /// An interrupt may be due.
    pub(crate) const INTERRUPT: u32 = 1 << 2;
    /// The host has queued a request.
    pub(crate) const REQUEST: u32 = 1 << 3;
    /// The port may have opened, so that DMA can go on.
    pub(crate) const PORT: u32 = 1 << 4;
    /// The wire has a frame, or its link has changed.
    pub(crate) const WIRE: u32 = 1 << 5;
}

/// The number of registers that share one flag for "written".
const PAGE_WORDS: usize = 1024;

/// The registers that are memory.
pub(crate) struct Image {
    words: Box<[AtomicU32]>,
    /// Pages with words that may not be 0. A driver writes to a dozen of them, and a reset is much of the
    /// cost of its crash.
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

    /// Clears all words except the first one, CTRL: when its reset bits are clear, a driver goes on.
    fn clear(&self) {
        for (index, (page, written)) in self.words.chunks(PAGE_WORDS).zip(&self.written).enumerate() {
            if written.swap(false, Ordering::AcqRel) {
                let kept = usize::from(index == 0);
                page[kept..].iter().for_each(|word| word.store(0, Ordering::Relaxed));
            }
        }
    }

    /// Reads the register at `offset`; 0 if there is none.
    #[inline]
    pub(crate) fn get(&self, offset: u64) -> u32 {
        self.words.get((offset / 4) as usize).map_or(0, |word| word.load(Ordering::Acquire))
    }

    pub(crate) fn set(&self, offset: u64, value: u32) {
        if let Some((word, written)) = self.word(offset) {
            word.store(value, Ordering::Release);
            // After the word: a reset in between has either cleared it or finds the flag the next time.
            written.store(true, Ordering::Release);
        }
    }

    /// Clears bits, then sets bits.
    pub(crate) fn change(&self, offset: u64, clear: u32, set: u32) {
        if let Some((word, written)) = self.word(offset) {
            let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |old| Some(old & !clear | set));
            written.store(true, Ordering::Release);
        }
    }

    /// Sets bits, and returns those that were set already.
    fn test_and_set(&self, offset: u64, bits: u32) -> u32 {
        let Some((word, written)) = self.word(offset) else { return 0 };
        let before = word.fetch_or(bits, Ordering::AcqRel) & bits;
        written.store(true, Ordering::Release);
        before
    }
}

/// A word with cache lines of its own: two, since processors fetch them in pairs.
#[repr(align(128))]
#[derive(Default)]
pub(crate) struct CacheAligned(AtomicU32);

/// The head, tail and state of a queue.
#[derive(Default)]
pub(crate) struct Queue {
    tail: CacheAligned,
    head: CacheAligned,
    /// DCTL.ENABLE as it reads: set once the device's thread has enabled the queue.
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

/// A register of a queue that is not memory.
enum QueueRegister<'a> {
    Head(&'a Queue),
    Tail(&'a Queue),
    Control(&'a Queue),
}

/// The state that drivers' threads and the device's thread share.
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
    /// Held where the reset bits of CTRL change together with the signal for a reset. The bits are set
    /// exactly while a reset is requested or under way, for all interleavings of a driver's writes and the
    /// end of a reset.
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

    /// Resets all registers to the defaults of section 8.2.3, with the MAC address of the EEPROM. Only the
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
        // A module in the cage pulls SDP2.
        image.set(ESDP, 1 << 2);
        // HLREG0: the FCS is added (0) and stripped (1), frames are padded (10).
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
        // The clock of the link's MAC and port runs.
        image.set(MACC, 1);
        // The EEPROM is present and read, with its size.
        image.set(EEC, crate::serial::EEC_VALUE);
        image.set(EEMNGCTL, 1 << 18 | 1 << 19);
        for queue in 0..QUEUES as u64 {
            image.set(rx_queue(queue) + queue::SRRCTL, 0x4 << 8 | 2);
        }
        image.change(CTRL, !CTRL_RESETS, 0);
    }

    /// Ends a reset, so that a driver that waits for it goes on. The bits stay if the driver has requested
    /// another reset since: it would set up a device that is then reset. For the device's thread.
    pub(crate) fn end_reset(&self) {
        let _resets = self.resets();
        if !self.work_signal.is_set(signal::RESET) {
            self.image.change(CTRL, CTRL_RESETS, 0);
        }
    }

    /// Ends a function level reset, which also cancels resets that a driver requested by CTRL. For the
    /// device's thread.
    pub(crate) fn end_function_reset(&self) {
        let _resets = self.resets();
        self.work_signal.clear(signal::RESET);
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
            // The reader that finds SWSM.SMBI clear owns the semaphore: reading sets it (section 8.2.3.4.3).
            SWSM => self.image.get(SWSM) & !1 | self.image.test_and_set(SWSM, 1),
            CTRL => self.read_ctrl(),
            STATUS => self.read_status(),
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
            // Registers are 32 bits wide and are written as a whole (section 8.1.1).
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
                    self.work_signal.notify(signal::CONFIG);
                }
            };
        }
        if let Some(needs_signal) = self.interrupts.write(offset, value) {
            if needs_signal {
                self.work_signal.notify(signal::INTERRUPT);
            }
            return;
        }
        let image = &self.image;
        match offset {
            CTRL => self.write_ctrl(value),
            // Counters and other read-only registers.
            STATUS | LINKS | LINKS2 | ANLP1 | SECTXSTAT | SECRXSTAT | FWSM | EEMNGCTL | MBVFICR => {}
            0x3f60..0x3fe0 | 0x4000..0x4100 | 0x4120 | 0x4180..0x41b0 => {}
            // A driver cannot change the state of the descriptor memory.
            RDRXCTL => image.set(offset, value | RDRXCTL_DMAIDONE),
            EERD | EEWR | EEC | MSCA | I2CCTL => self.serial.write(offset, value, image),
            // Software and firmware have bits of their own (section 8.2.3.4.3). SWESMBI can only be set if
            // the firmware does not own it.
            SWSM | SW_FW_SYNC => image.set(offset, value),
            AUTOC => {
                // A restarted link is up at once. In a mode that negotiates over a backplane it looks for a
                // partner for ever. Linux's driver goes through such a mode to restart the pipeline behind
                // the MAC, and waits until negotiation has left its first state.
                let negotiates = value & AUTOC_LMS_BACKPLANE != 0;
                image.set(ANLP1, if negotiates { ANLP1_ABILITY_DETECT } else { 0 });
                image.set(offset, value & !AUTOC_RESTART);
                self.work_signal.notify(signal::CONFIG);
            }
            // Filter tables are initialized at once.
            FDIRCTRL => image.set(offset, value | FDIRCTRL_INIT_DONE),
            // Commands complete at once; a query finds nothing.
            FDIRCMD => image.set(offset, value & !0x3),
            RXCTRL | DMATXCTL | RTTDCS | HLREG0 => {
                image.set(offset, value);
                self.work_signal.notify(signal::CONFIG);
            }
            _ => {
                image.set(offset, value);
                // The thread is not woken for each of the hundreds of writes of a driver's start: it handles
                // the signal before any other work.
                self.work_signal.set(signal::CONFIG);
            }
        }
    }

    /// Writes CTRL (section 8.2.3.1.1). Resets end when the device's thread has done them.
    fn write_ctrl(&self, value: u32) {
        let resets = self.resets();
        // A write of 0 to its bit does not end a reset.
        self.image.set(CTRL, value | self.image.get(CTRL) & CTRL_RESETS);
        let is_reset = value & CTRL_RESETS != 0;
        self.work_signal.set(if is_reset { signal::RESET } else { signal::CONFIG });
        drop(resets);
        self.work_signal.wake();
    }

    /// Reads CTRL, after waiting a moment for the end of a reset: Linux's driver polls ten times within 10 us
    /// and then gives up, and the device's thread may have to be woken first.
    fn read_ctrl(&self) -> u32 {
        let deadline = Instant::now() + RESET_READ_TIMEOUT;
        loop {
            let value = self.image.get(CTRL);
            if value & CTRL_RESETS == 0 || Instant::now() >= deadline {
                return value;
            }
            // A reset takes a few microseconds, and the shortest sleep of a host ten times that.
            std::thread::yield_now();
        }
    }

    /// Reads STATUS. A driver that polls it while DMA is being disabled has no other work, so the device's
    /// thread may run first.
    fn read_status(&self) -> u32 {
        let is_disabled = || self.image.get(CTRL) & CTRL_MASTER_DISABLE != 0;
        if self.image.get(STATUS) & STATUS_MASTER_ENABLED != 0 && is_disabled() {
            std::thread::yield_now();
        }
        self.image.get(STATUS)
    }

    /// Returns the head, tail or control register of a queue at `offset`.
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

    /// Returns true if the driver has set the enable bit of the queue whose registers begin at `base`.
    pub(crate) fn is_enable_requested(&self, base: u64) -> bool {
        self.image.get(base + queue::DCTL) & queue::DCTL_ENABLE != 0
    }
}

/// The offset of a receive queue's registers.
pub(crate) fn rx_queue(index: u64) -> u64 {
    if index < 64 { RX_QUEUES + index * QUEUE_STRIDE } else { RX_QUEUES_HIGH + (index - 64) * QUEUE_STRIDE }
}

/// The offset of a transmit queue's registers.
pub(crate) fn tx_queue(index: u64) -> u64 {
    TX_QUEUES + index * QUEUE_STRIDE
}
