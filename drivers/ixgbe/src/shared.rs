//! [`Shared`]: the state that a device's queues share.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use coppice_hardware::{Device, Interrupt};
use spin::{Mutex, MutexGuard, Once};

use crate::chip::Chip;
use crate::config::{is_unicast, redirection};
use crate::identify::identify;
use crate::losses::LossCounters;
use crate::options::MAX_DEPTH;
use crate::register_block::RegisterBlock;
use crate::registers::{CTRL_EXT, CTRL_EXT_DRV_LOAD, GONE, GPIE_MSIX, RAH_AV};
use crate::statistics::Counters;
use crate::transmit::MAX_PARTS;
use crate::{Config, Fault, Info, IxgbeError, Link, Options, Statistics};

/// The number of vectors with bits in EICR and EIMS (82599 datasheet, section 8.2.3.5.1: causes above 15 are
/// in other registers). The first is the link's.
const MAX_VECTORS: u16 = 16;
/// The interval at which queues read the counters: a byte counter at 10 Gb/s overflows after 55 s.
const COUNT_NS: u64 = 10_000_000_000;

/// A device as its queues see it.
pub(crate) struct Shared {
    pub(crate) regs: RegisterBlock,
    pub(crate) chip: &'static dyn Chip,
    pub(crate) info: Info,
    /// The number of times that the device was stopped since bring-up. A queue attached before the last one
    /// is detached.
    resets: AtomicU32,
    /// The longest frame in bytes, read by senders without the lock.
    longest: AtomicU32,
    pub(crate) losses: Arc<LossCounters>,
    next_count_ns: AtomicU64,
    link_interrupt: Once<Option<Interrupt>>,
    state: Mutex<State>,
}

/// Rarely changing state.
pub(crate) struct State {
    config: Config,
    /// Open queues, as a set of bits.
    open: u32,
    /// Attached queues among them.
    attached: u32,
    /// Attached queues with SRRCTL.Drop_En set.
    dropping: u32,
    counters: Counters,
    link: Link,
    /// The fault after which the device does not work.
    failed: Option<Fault>,
}

impl Shared {
    pub(crate) fn open(device: Device, options: Options) -> Result<Self, IxgbeError> {
        let chip = identify(&device.info())?;
        let regs = RegisterBlock::new(device, options)?;
        // An earlier driver may have used the device. It must forget that driver's memory before it may
        // access any.
        chip.reset(&regs)?;
        regs.device.enable_dma(&regs.stop_order())?;
        let mac = read_mac(&regs, chip);
        if !is_unicast(mac) || mac == [0xFF; 6] {
            return Err(IxgbeError::NoAddress { mac });
        }
        let info = Info {
            mac,
            model: chip.name(),
            queues: chip.queues(),
            most_depth: MAX_DEPTH,
            longest_frame: chip.longest_frame(),
            most_parts: MAX_PARTS as u32,
        };
        let config = Config::default();
        let shared = Self {
            resets: AtomicU32::new(0),
            longest: AtomicU32::new(config.frame_bytes),
            losses: Arc::default(),
            next_count_ns: AtomicU64::new(0),
            link_interrupt: Once::new(),
            state: Mutex::new(State {
                config,
                open: 0,
                attached: 0,
                dropping: 0,
                counters: Counters::default(),
                link: Link::default(),
                failed: None,
            }),
            regs,
            chip,
            info,
        };
        {
            let mut state = shared.state();
            shared.start(&mut state)?;
            // Discards events from before (82599 datasheet, section 4.6.5).
            chip.count(&shared.regs, &mut Counters::default());
            (state.link, _) = chip.link(&shared.regs);
        }
        Ok(shared)
    }

    /// Brings a device up after its reset, with no queue attached.
    fn start(&self, state: &mut State) -> Result<(), Fault> {
        let (regs, chip) = (&self.regs, self.chip);
        let layout = chip.layout();
        chip.start(regs)?;
        regs.write(layout.gpie, GPIE_MSIX);
        // A message clears its cause and masks its vector, and the queue unmasks it before it sleeps. The
        // link's vector is excluded: its cause has to be read.
        let queues = u32::from(u16::MAX) & !1;
        let queues = if regs.vectors == 1 { 1 } else { queues };
        regs.write(layout.eiac, queues);
        regs.write(layout.eiam, queues);
        for vector in 0..usize::from(regs.vectors.min(MAX_VECTORS)) {
            regs.write(layout.eitr + 4 * vector, chip.throttle(regs.options.interrupt_gap_us));
        }
        if regs.vectors > 0 {
            chip.route_link(regs);
        }
        (state.attached, state.dropping) = (0, 0);
        self.apply(&state.config, None, 0)?;
        // The writes above succeed silently on a device that is gone.
        regs.check_alive()
    }

    /// Writes a configuration to the device. `previous` is the device's current one, if known: most of it is
    /// the multicast table, which hardly ever changes, and fewer writes shorten the recovery from a crash.
    fn apply(&self, config: &Config, previous: Option<&Config>, attached: u32) -> Result<(), Fault> {
        let (regs, layout) = (&self.regs, self.chip.layout());
        let [a, b, c, d, e, f] = config.mac.unwrap_or(self.info.mac);
        regs.write(layout.ral, u32::from_le_bytes([a, b, c, d]));
        regs.write(layout.ral + 4, u32::from_le_bytes([e, f, 0, 0]) | RAH_AV);
        for (index, &word) in config.groups.table().iter().enumerate() {
            if previous.is_some_and(|previous| previous.groups.table()[index] == word) {
                continue;
            }
            regs.write(layout.mta + 4 * index, word);
        }
        for (index, word) in config.key_words().enumerate() {
            regs.write(layout.rssrk + 4 * index, word);
        }
        self.redirect(attached);
        regs.write(layout.mrqc, layout.mrqc_rss | config.hash_fields.bits());
        self.chip.configure(regs, config)
    }

    /// Distributes hashes over the attached queues.
    fn redirect(&self, attached: u32) {
        let reta = self.chip.layout().reta;
        for (index, word) in redirection(attached).into_iter().enumerate() {
            self.regs.write(reta + 4 * index, word);
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        driver_polling::lock(&self.regs.device, &self.state)
    }

    #[inline]
    pub(crate) fn resets(&self) -> u32 {
        self.resets.load(Ordering::Acquire)
    }

    /// Returns the longest frame in bytes.
    #[inline]
    pub(crate) fn longest(&self) -> usize {
        self.longest.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn config(&self) -> Config {
        self.state().config.clone()
    }

    pub(crate) fn configure(&self, config: &Config) -> Result<(), IxgbeError> {
        config.check(self.info.longest_frame)?;
        let mut state = self.state();
        if let Some(fault) = state.failed {
            return Err(fault.into());
        }
        if let Err(fault) = self.apply(config, Some(&state.config), state.attached) {
            // Restores the previous configuration, if the device permits it.
            let _ = self.apply(&state.config, None, state.attached);
            return Err(fault.into());
        }
        state.config = config.clone();
        self.longest.store(config.frame_bytes, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn statistics(&self) -> Result<Statistics, IxgbeError> {
        let mut state = self.state();
        self.count(&mut state)?;
        Ok(state.counters.statistics())
    }

    fn count(&self, state: &mut State) -> Result<(), Fault> {
        let before = state.counters;
        self.chip.count(&self.regs, &mut state.counters);
        if let Err(fault) = self.regs.check_alive() {
            // Counters of a device that is gone read as all ones.
            state.counters = before;
            return Err(fault);
        }
        Ok(())
    }

    /// Reads the counters if they are due, so that none overflows. Queues call this.
    pub(crate) fn read_counters_if_due(&self, now_ns: u64) {
        if now_ns >= self.next_count_ns.load(Ordering::Relaxed)
            && let Some(mut state) = self.state.try_lock()
        {
            self.next_count_ns.store(now_ns.saturating_add(COUNT_NS), Ordering::Relaxed);
            // The queue itself detects a device that is gone.
            let _ = self.count(&mut state);
        }
    }

    pub(crate) fn link(&self) -> Result<Link, IxgbeError> {
        let mut state = self.state();
        let (now, changed) = self.chip.link(&self.regs);
        self.regs.check_alive()?;
        let before = state.link;
        let changes = match (now.is_up != before.is_up, changed) {
            (true, _) => 1,
            // The link went down and came back, or the reverse.
            (false, true) if state.link.changes > 0 || before.is_up => 2,
            (false, _) => 0,
        };
        state.link = Link { changes: before.changes.wrapping_add(changes), ..now };
        Ok(state.link)
    }

    /// Returns true if the link is up, for the hang check.
    pub(crate) fn link_is_up(&self) -> bool {
        self.link().is_ok_and(|link| link.is_up)
    }

    pub(crate) fn wait_link(&self, deadline_ns: u64) -> bool {
        let interrupt = self
            .link_interrupt
            .call_once(|| if self.regs.vectors > 0 { self.regs.device.interrupt(0).ok() } else { None });
        match interrupt {
            Some(interrupt) => interrupt.wait(deadline_ns),
            None => {
                self.regs.device.sleep_until(deadline_ns);
                true
            }
        }
    }

    /// Returns the vector of a queue: its own if there are enough vectors, else one shared with another
    /// queue.
    pub(crate) fn vector(&self, queue: u16) -> Option<u16> {
        match self.regs.vectors.min(MAX_VECTORS) {
            0 => None,
            1 => Some(0),
            vectors => Some(1 + queue % (vectors - 1)),
        }
    }

    pub(crate) fn take_queue(&self) -> Result<u16, IxgbeError> {
        let mut state = self.state();
        let queues = self.info.queues;
        let free = (0..queues).find(|queue| state.open >> queue & 1 == 0);
        let queue = free.ok_or(IxgbeError::NoQueue { queues })?;
        state.open |= 1 << queue;
        Ok(queue)
    }

    pub(crate) fn return_queue(&self, queue: u16) {
        self.state().open &= !(1 << queue);
    }

    /// Resets the device, unless it has been reset since the caller read `seen` from [`Self::resets`].
    ///
    /// # Errors
    /// If `resets` has not changed, the device was not stopped. Otherwise it was, but does not work after the
    /// reset.
    pub(crate) fn reset(&self, seen: u32) -> Result<(), IxgbeError> {
        let mut state = self.state();
        // A failed reset may be repeated by any caller.
        if self.resets() != seen && state.failed.is_none() {
            return Ok(());
        }
        let seen = self.resets();
        // The counters restart at 0.
        let _ = self.count(&mut state);
        let reset = self.chip.reset(&self.regs);
        if let Err(fault) = reset
            && fault.is_final()
        {
            state.failed = Some(fault);
            return Err(fault.into());
        }
        (state.attached, state.dropping) = (0, 0);
        self.resets.store(seen.wrapping_add(1), Ordering::Release);
        let started = reset.and_then(|()| {
            if read_mac(&self.regs, self.chip) == self.info.mac {
                self.start(&mut state)
            } else {
                Err(Fault::Changed)
            }
        });
        state.failed = started.err();
        Ok(started?)
    }
}

impl State {
    /// Returns the fault that makes the device unusable, if there is one.
    pub(crate) const fn check_working(&self) -> Result<(), Fault> {
        match self.failed {
            None => Ok(()),
            Some(fault) => Err(fault),
        }
    }

    /// Attaches or detaches a queue.
    pub(crate) fn set_attached(&mut self, shared: &Shared, queue: u16, attached: bool) {
        let bit = 1 << queue;
        self.attached = if attached { self.attached | bit } else { self.attached & !bit };
        // Before the redirection table: once a second queue receives frames, neither may block the other.
        self.set_drop_enable(shared);
        shared.redirect(self.attached);
    }

    /// Sets SRRCTL.Drop_En for several queues, and clears it for a single one.
    ///
    /// Without the bit, a frame whose queue has no descriptor waits in the packet buffer, and all frames
    /// behind it wait as well (82599 datasheet, section 8.2.3.8.7). With several queues, one late driver
    /// thread would block all others. A single queue blocks no other, so a late driver loses nothing until
    /// the packet buffer is full.
    fn set_drop_enable(&mut self, shared: &Shared) {
        let wanted = if self.attached.count_ones() > 1 { self.attached } else { 0 };
        let changed = (wanted ^ self.dropping) & self.attached;
        let layout = shared.chip.layout();
        for queue in (0..usize::from(shared.info.queues)).filter(|queue| changed >> queue & 1 != 0) {
            let register = layout.receive.0 + layout.receive.1 * queue + layout.srrctl;
            let set = if wanted == 0 { 0 } else { layout.srrctl_drop };
            shared.regs.update(register, layout.srrctl_drop, set);
        }
        self.dropping = wanted;
    }
}

impl Drop for Shared {
    /// Resets the device after its last queue is gone, which restores the state before bring-up.
    fn drop(&mut self) {
        if self.chip.reset(&self.regs).is_ok() {
            self.regs.update(CTRL_EXT, CTRL_EXT_DRV_LOAD, 0);
        }
    }
}

/// Returns the first receive address, which a reset loads from the EEPROM (82599 datasheet, section
/// 8.2.3.7.8).
fn read_mac(regs: &RegisterBlock, chip: &dyn Chip) -> [u8; 6] {
    let ral = chip.layout().ral;
    let (low, high) = (regs.read(ral), regs.read(ral + 4));
    if high & RAH_AV == 0 || low == GONE {
        return [0; 6];
    }
    let ([a, b, c, d], [e, f, _, _]) = (low.to_le_bytes(), high.to_le_bytes());
    [a, b, c, d, e, f]
}
