//! [`Shared`]: what a device's queues have in common.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use coppice_hardware::{Device, Interrupt};
use spin::{Mutex, MutexGuard, Once};

use crate::chip::{Chip, identify};
use crate::config::{is_station, redirection};
use crate::controller::MOST_DEPTH;
use crate::losses::LossCounters;
use crate::port::Port;
use crate::registers::{CTRL_EXT, CTRL_EXT_DRV_LOAD, GONE, GPIE_MSIX, RAH_AV};
use crate::statistics::Counters;
use crate::transmit::MOST_PARTS;
use crate::{Config, Fault, Info, IxgbeError, Link, Options, Statistics};

/// Vectors that EICR and EIMS have bits for (82599 datasheet, section 8.2.3.5.1: causes above 15 are in other registers). The
/// first is the link's.
const MOST_VECTORS: u16 = 16;
/// How often counters are read by those who use queues: one of bytes at 10 Gb/s is full after 55 s.
const COUNT_NS: u64 = 10_000_000_000;

/// A device, to its queues.
pub(crate) struct Shared {
    pub(crate) port: Port,
    pub(crate) chip: &'static dyn Chip,
    pub(crate) info: Info,
    /// How often it was stopped since it first worked. A queue that was attached before the last time is no more.
    resets: AtomicU32,
    /// The longest frame, for those who send.
    longest: AtomicU32,
    pub(crate) losses: Arc<LossCounters>,
    next_count_ns: AtomicU64,
    link_interrupt: Once<Option<Interrupt>>,
    state: Mutex<State>,
}

/// What changes seldom.
pub(crate) struct State {
    config: Config,
    /// Which queues are somebody's.
    open: u32,
    /// Which of them take part.
    attached: u32,
    /// Those of `attached` that have SRRCTL.Drop_En set.
    dropping: u32,
    counters: Counters,
    link: Link,
    /// Why it does not work.
    failed: Option<Fault>,
}

impl Shared {
    pub(crate) fn open(device: Device, options: Options) -> Result<Self, IxgbeError> {
        let chip = identify(&device.info())?;
        let port = Port::new(device, options)?;
        // Somebody may have used it before. It must forget his memory before it may reach any.
        chip.reset(&port)?;
        port.device.enable_dma(&port.stop_order())?;
        let mac = read_mac(&port, chip);
        if !is_station(mac) || mac == [0xFF; 6] {
            return Err(IxgbeError::NoAddress { mac });
        }
        let info = Info {
            mac,
            model: chip.name(),
            queues: chip.queues(),
            most_depth: MOST_DEPTH,
            longest_frame: chip.longest_frame(),
            most_parts: MOST_PARTS as u32,
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
            port,
            chip,
            info,
        };
        {
            let mut state = shared.state();
            shared.start(&mut state)?;
            // What was counted before is not ours (82599 datasheet, section 4.6.5).
            chip.count(&shared.port, &mut Counters::default());
            (state.link, _) = chip.link(&shared.port);
        }
        Ok(shared)
    }

    /// From a device that was reset to one that works, with no queue attached.
    fn start(&self, state: &mut State) -> Result<(), Fault> {
        let (port, chip) = (&self.port, self.chip);
        let layout = chip.layout();
        chip.start(port)?;
        port.write(layout.gpie, GPIE_MSIX);
        // A message clears its cause and masks its vector: who wants the next says so. Not so the link's, whose cause has to
        // be looked at.
        let queues = u32::from(u16::MAX) & !1;
        let queues = if port.vectors == 1 { 1 } else { queues };
        port.write(layout.eiac, queues);
        port.write(layout.eiam, queues);
        for vector in 0..usize::from(port.vectors.min(MOST_VECTORS)) {
            port.write(layout.eitr + 4 * vector, chip.throttle(port.options.interrupt_gap_us));
        }
        if port.vectors > 0 {
            chip.route_link(port);
        }
        (state.attached, state.dropping) = (0, 0);
        self.apply(&state.config, None, 0)?;
        // A device that reads as all ones has taken all of this without a word.
        port.alive()
    }

    /// Writes a configuration to the device, which has `previous`, or none that is known. Most of it is the table of groups, which
    /// hardly ever changes, and a crash is over the sooner the less there is to write.
    fn apply(&self, config: &Config, previous: Option<&Config>, attached: u32) -> Result<(), Fault> {
        let (port, layout) = (&self.port, self.chip.layout());
        let [a, b, c, d, e, f] = config.mac.unwrap_or(self.info.mac);
        port.write(layout.ral, u32::from_le_bytes([a, b, c, d]));
        port.write(layout.ral + 4, u32::from_le_bytes([e, f, 0, 0]) | RAH_AV);
        for (index, &word) in config.groups.table().iter().enumerate() {
            if previous.is_some_and(|previous| previous.groups.table()[index] == word) {
                continue;
            }
            port.write(layout.mta + 4 * index, word);
        }
        for (index, word) in config.key_words().enumerate() {
            port.write(layout.rssrk + 4 * index, word);
        }
        self.redirect(attached);
        port.write(layout.mrqc, layout.mrqc_rss | config.hash_fields.bits());
        self.chip.configure(port, config)
    }

    /// Shares frames out over the attached queues.
    fn redirect(&self, attached: u32) {
        let reta = self.chip.layout().reta;
        for (index, word) in redirection(attached).into_iter().enumerate() {
            self.port.write(reta + 4 * index, word);
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        driver_polling::lock(&self.port.device, &self.state)
    }

    #[inline]
    pub(crate) fn resets(&self) -> u32 {
        self.resets.load(Ordering::Acquire)
    }

    /// Bytes of the longest frame.
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
            // As it was, if the device allows that at all.
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
        self.chip.count(&self.port, &mut state.counters);
        if let Err(fault) = self.port.alive() {
            // What a device said that is gone is all ones.
            state.counters = before;
            return Err(fault);
        }
        Ok(())
    }

    /// For those who use queues: reads counters now and then, so that none overflows.
    pub(crate) fn tend(&self, now_ns: u64) {
        if now_ns >= self.next_count_ns.load(Ordering::Relaxed)
            && let Some(mut state) = self.state.try_lock()
        {
            self.next_count_ns.store(now_ns.saturating_add(COUNT_NS), Ordering::Relaxed);
            // Whoever uses the device finds out by himself that it is gone.
            let _ = self.count(&mut state);
        }
    }

    pub(crate) fn link(&self) -> Result<Link, IxgbeError> {
        let mut state = self.state();
        let (now, changed) = self.chip.link(&self.port);
        self.port.alive()?;
        let before = state.link;
        let changes = match (now.is_up != before.is_up, changed) {
            (true, _) => 1,
            // It went down and came back, or the other way round.
            (false, true) if state.link.changes > 0 || before.is_up => 2,
            (false, _) => 0,
        };
        state.link = Link { changes: before.changes.wrapping_add(changes), ..now };
        Ok(state.link)
    }

    /// Whether the link is up, for the watch.
    pub(crate) fn link_is_up(&self) -> bool {
        self.link().is_ok_and(|link| link.is_up)
    }

    pub(crate) fn wait_link(&self, deadline_ns: u64) -> bool {
        let interrupt = self
            .link_interrupt
            .call_once(|| if self.port.vectors > 0 { self.port.device.interrupt(0).ok() } else { None });
        match interrupt {
            Some(interrupt) => interrupt.wait(deadline_ns),
            None => {
                self.port.device.sleep_until(deadline_ns);
                true
            }
        }
    }

    /// The vector of a queue: one of its own if there are enough, else one that it shares with another.
    pub(crate) fn vector(&self, queue: u16) -> Option<u16> {
        match self.port.vectors.min(MOST_VECTORS) {
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

    /// Resets the device, unless somebody else has since `seen` was read off [`Self::resets`].
    ///
    /// # Errors
    /// If `resets` has not changed, the device was not stopped. Otherwise it was, but does not work again.
    pub(crate) fn reset(&self, seen: u32) -> Result<(), IxgbeError> {
        let mut state = self.state();
        // What was done in vain may be tried again, by whoever comes first.
        if self.resets() != seen && state.failed.is_none() {
            return Ok(());
        }
        let seen = self.resets();
        // It counts from 0 again.
        let _ = self.count(&mut state);
        let reset = self.chip.reset(&self.port);
        if let Err(fault) = reset
            && fault.is_final()
        {
            state.failed = Some(fault);
            return Err(fault.into());
        }
        (state.attached, state.dropping) = (0, 0);
        self.resets.store(seen.wrapping_add(1), Ordering::Release);
        let started = reset.and_then(|()| {
            if read_mac(&self.port, self.chip) == self.info.mac {
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
    /// Why the device does not work, if it does not.
    pub(crate) const fn works(&self) -> Result<(), Fault> {
        match self.failed {
            None => Ok(()),
            Some(fault) => Err(fault),
        }
    }

    /// A queue takes part from now on, or no longer.
    pub(crate) fn set_attached(&mut self, shared: &Shared, queue: u16, attached: bool) {
        let bit = 1 << queue;
        self.attached = if attached { self.attached | bit } else { self.attached & !bit };
        // Before the table: from the moment that a second queue gets frames, neither may hold up the other.
        self.set_dropping(shared);
        shared.redirect(self.attached);
    }

    /// Sets SRRCTL.Drop_En for several queues, and clears it for a single one.
    ///
    /// Without the bit, a frame whose queue has no descriptor waits in the packet buffer, and all frames behind it wait as
    /// well (82599 datasheet, section 8.2.3.8.7). With several queues, one driver thread that is late would stop all others.
    /// With one queue there is nobody to hold up, so a late driver loses nothing until the packet buffer is full.
    fn set_dropping(&mut self, shared: &Shared) {
        let wanted = if self.attached.count_ones() > 1 { self.attached } else { 0 };
        let changed = (wanted ^ self.dropping) & self.attached;
        let layout = shared.chip.layout();
        for queue in (0..usize::from(shared.info.queues)).filter(|queue| changed >> queue & 1 != 0) {
            let register = layout.receive.0 + layout.receive.1 * queue + layout.srrctl;
            let set = if wanted == 0 { 0 } else { layout.srrctl_drop };
            shared.port.update(register, layout.srrctl_drop, set);
        }
        self.dropping = wanted;
    }
}

impl Drop for Shared {
    /// The last queue is gone: the device is left as it was found.
    fn drop(&mut self) {
        if self.chip.reset(&self.port).is_ok() {
            self.port.update(CTRL_EXT, CTRL_EXT_DRV_LOAD, 0);
        }
    }
}

/// The first receive address, which a reset has loaded from the EEPROM (82599 datasheet, section 8.2.3.7.8).
fn read_mac(port: &Port, chip: &dyn Chip) -> [u8; 6] {
    let ral = chip.layout().ral;
    let (low, high) = (port.read(ral), port.read(ral + 4));
    if high & RAH_AV == 0 || low == GONE {
        return [0; 6];
    }
    let ([a, b, c, d], [e, f, _, _]) = (low.to_le_bytes(), high.to_le_bytes());
    [a, b, c, d, e, f]
}
