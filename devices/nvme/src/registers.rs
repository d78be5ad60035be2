//! [`Registers`] (Base, section 3.1.3; PCIe, section 3.1), shared by drivers' threads and the device's
//! thread.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use device_bus::WorkSignal;

use crate::config::NvmeConfig;
use crate::spec::VERSION;

pub(crate) const CAP: u64 = 0x00;
pub(crate) const VS: u64 = 0x08;
pub(crate) const INTMS: u64 = 0x0c;
pub(crate) const INTMC: u64 = 0x10;
pub(crate) const CC: u64 = 0x14;
pub(crate) const CSTS: u64 = 0x1c;
pub(crate) const NSSR: u64 = 0x20;
pub(crate) const AQA: u64 = 0x24;
pub(crate) const ASQ: u64 = 0x28;
pub(crate) const ACQ: u64 = 0x30;
pub(crate) const CRTO: u64 = 0x68;
/// The first doorbell: submission queue 0's tail.
pub(crate) const DOORBELLS: u64 = 0x1000;

/// "NVMe", the value that starts a subsystem reset (Base, section 3.1.3.7).
const NSSR_MAGIC: u32 = 0x4e56_4d65;

pub(crate) const CC_EN: u32 = 1;
pub(crate) const CC_SHN: u32 = 0b11 << 14;

pub(crate) const CSTS_RDY: u32 = 1;
pub(crate) const CSTS_CFS: u32 = 1 << 1;
pub(crate) const CSTS_SHST: u32 = 0b11 << 2;
pub(crate) const CSTS_SHST_COMPLETE: u32 = 0b10 << 2;
pub(crate) const CSTS_NSSRO: u32 = 1 << 4;

/// The largest memory page that CAP.MPSMAX offers: 64 KiB.
pub(crate) const MPS_MAX: u32 = 4;

/// The bits of the device's work signal. Doorbells have none.
pub(crate) mod work {
    pub(crate) const RESET: u32 = 1;
    pub(crate) const ENABLE: u32 = 1 << 1;
    pub(crate) const SHUTDOWN: u32 = 1 << 2;
    pub(crate) const SUBSYSTEM_RESET: u32 = 1 << 3;
    /// A doorbell without a queue was written.
    pub(crate) const WRONG_DOORBELL: u32 = 1 << 4;
    /// A doorbell was written with a value beyond its queue.
    pub(crate) const WRONG_VALUE: u32 = 1 << 5;
    /// An interrupt mask was cleared.
    pub(crate) const UNMASKED: u32 = 1 << 6;
    /// The inbox has a request.
    pub(crate) const REQUEST: u32 = 1 << 7;
    /// The DMA port may have opened, so that delayed work can go on.
    pub(crate) const PORT: u32 = 1 << 8;
}

/// The registers, with the signal that tells the device's thread of writes.
pub(crate) struct Registers {
    capabilities: u64,
    stride: u32,
    configuration: AtomicU32,
    /// Held while CC changes, and while CSTS changes for the enabled period that CC.EN began: after a driver
    /// has ended the period, none of its status bits may appear.
    enable_lock: Mutex<()>,
    status: AtomicU32,
    admin_sizes: AtomicU32,
    admin_submission: AtomicU64,
    admin_completion: AtomicU64,
    interrupt_mask: AtomicU32,
    /// Tail of submission queue n at 2n, head of completion queue n at 2n + 1.
    doorbells: Box<[Doorbell]>,
    pub(crate) work_signal: WorkSignal,
}

/// A doorbell, with the size of its queue, so that the writing thread can check a value.
#[derive(Default)]
struct Doorbell {
    value: AtomicU32,
    /// The number of entries of its queue; 0 if it has none.
    limit: AtomicU32,
}

impl Registers {
    pub(crate) fn new(config: &NvmeConfig) -> Self {
        // CAP: MQES, CQR (queues are contiguous), TO, DSTRD, NSSRS, CSS (NVM command set), MPSMIN 4 KiB,
        // MPSMAX, and CRMS (ready means that namespaces are ready).
        let capabilities = u64::from(config.mqes)
            | 1 << 16
            | u64::from(timeout_units(config)) << 24
            | u64::from(config.stride) << 32
            | 1 << 36
            | 1 << 37
            | u64::from(MPS_MAX) << 52
            | 1 << 59;
        Self {
            capabilities,
            stride: u32::from(config.stride),
            configuration: AtomicU32::new(0),
            enable_lock: Mutex::new(()),
            status: AtomicU32::new(0),
            admin_sizes: AtomicU32::new(0),
            admin_submission: AtomicU64::new(0),
            admin_completion: AtomicU64::new(0),
            interrupt_mask: AtomicU32::new(0),
            doorbells: (0..2 * (u32::from(config.queues) + 1)).map(|_| Doorbell::default()).collect(),
            work_signal: WorkSignal::new(),
        }
    }

    /// The size of BAR 0, which holds all doorbells.
    pub(crate) fn window_bytes(&self) -> u64 {
        (DOORBELLS + self.doorbells.len() as u64 * (4 << self.stride)).next_power_of_two()
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
        let half = |long: u64, offset: u64| (long >> (8 * (offset & 4))) as u32;
        match offset {
            CAP | 4 => half(self.capabilities, offset),
            VS => VERSION,
            INTMS | INTMC => self.interrupt_mask.load(Ordering::Relaxed),
            CC => self.configuration.load(Ordering::Relaxed),
            CSTS => self.status.load(Ordering::Acquire),
            AQA => self.admin_sizes.load(Ordering::Relaxed),
            ASQ | 0x2c => half(self.admin_submission.load(Ordering::Relaxed), offset),
            ACQ | 0x34 => half(self.admin_completion.load(Ordering::Relaxed), offset),
            // CRWMT, the time until the controller is ready with media; CRIMT is for a mode that is not
            // supported.
            CRTO => timeout_of(self.capabilities),
            // The value of a doorbell is undefined (PCIe, section 3.1.2.1); NSSR and reserved registers read
            // as zero.
            _ => 0,
        }
    }

    pub(crate) fn write(&self, offset: u64, size: u8, value: u64) {
        if offset >= DOORBELLS {
            if size == 4 {
                self.ring(offset, value as u32);
            }
            return;
        }
        match (offset, size) {
            (INTMS, 4) => {
                self.interrupt_mask.fetch_or(value as u32, Ordering::Relaxed);
            }
            (INTMC, 4) => {
                self.interrupt_mask.fetch_and(!(value as u32), Ordering::Relaxed);
                self.work_signal.notify(work::UNMASKED);
            }
            (CC, 4) => self.configure(value as u32),
            (CSTS, 4) => {
                self.status.fetch_and(!(value as u32 & CSTS_NSSRO), Ordering::Relaxed);
            }
            (NSSR, 4) if value as u32 == NSSR_MAGIC => self.work_signal.notify(work::SUBSYSTEM_RESET),
            (AQA, 4) => self.admin_sizes.store(value as u32 & 0x0fff_0fff, Ordering::Relaxed),
            (ASQ, 8) => self.admin_submission.store(value, Ordering::Relaxed),
            (ACQ, 8) => self.admin_completion.store(value, Ordering::Relaxed),
            (ASQ | 0x2c, 4) => replace_half(&self.admin_submission, offset, value as u32),
            (ACQ | 0x34, 4) => replace_half(&self.admin_completion, offset, value as u32),
            // 64-bit drivers may write two registers at once.
            (0x08..=0x20, 8) => {
                self.write(offset, 4, value & 0xffff_ffff);
                self.write(offset + 4, 4, value >> 32);
            }
            // All others are read-only or reserved. Accesses smaller than a register are not permitted (PCIe,
            // section 3.1).
            _ => {}
        }
    }

    /// Handles a write of CC (Base, section 3.1.3.5).
    fn configure(&self, new: u32) {
        let guard = self.enable_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.configuration.swap(new, Ordering::AcqRel);
        let mut bits = 0;
        if old & CC_EN != 0 && new & CC_EN == 0 {
            bits |= work::RESET;
            // Cleared here and not by the device's thread: a driver need not wait for RDY to be cleared if it
            // is not set, and would attribute a stale CFS to the next enabled period.
            self.change_status(CSTS_CFS, 0);
        }
        if old & CC_EN == 0 && new & CC_EN != 0 {
            bits |= work::ENABLE;
        }
        if new & CC_SHN != 0 && old & CC_SHN != new & CC_SHN {
            bits |= work::SHUTDOWN;
        }
        if bits != 0 {
            self.work_signal.set(bits);
            drop(guard);
            self.work_signal.wake();
        }
    }

    /// Sets bits of CSTS, unless the driver has ended the enabled period to which they belong.
    pub(crate) fn announce(&self, bits: u32) {
        let _guard = self.enable_lock.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.work_signal.is_set(work::RESET) {
            self.change_status(0, bits);
        }
    }

    fn ring(&self, offset: u64, value: u32) {
        let index = (offset - DOORBELLS) >> (2 + self.stride);
        let exact = (index << (2 + self.stride)) + DOORBELLS == offset;
        let Some(doorbell) = self.doorbells.get(index as usize).filter(|_| exact) else {
            return self.work_signal.notify(work::WRONG_DOORBELL);
        };
        let limit = doorbell.limit.load(Ordering::Acquire);
        if value >= limit {
            // The device's thread ignores both events while the controller is disabled.
            return self.work_signal.notify(if limit == 0 {
                work::WRONG_DOORBELL
            } else {
                work::WRONG_VALUE
            });
        }
        // Release: the device's thread sees the commands.
        doorbell.value.store(value, Ordering::Release);
        self.work_signal.wake();
    }

    // The methods below are for the device's thread.

    /// The last value written to doorbell `index`.
    pub(crate) fn doorbell(&self, index: usize) -> u32 {
        self.doorbells[index].value.load(Ordering::Acquire)
    }

    /// Connects doorbell `index` to a queue of `entries`; 0 disconnects it.
    pub(crate) fn connect(&self, index: usize, entries: u32) {
        self.doorbells[index].value.store(0, Ordering::Relaxed);
        self.doorbells[index].limit.store(entries, Ordering::Release);
    }

    pub(crate) fn disconnect_all(&self) {
        for index in 0..self.doorbells.len() {
            self.doorbells[index].limit.store(0, Ordering::Release);
            self.doorbells[index].value.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn configuration(&self) -> u32 {
        self.configuration.load(Ordering::Acquire)
    }

    pub(crate) fn status(&self) -> u32 {
        self.status.load(Ordering::Relaxed)
    }

    pub(crate) fn change_status(&self, clear: u32, set: u32) {
        let change = |old: u32| Some(old & !clear | set);
        let _ = self.status.fetch_update(Ordering::AcqRel, Ordering::Relaxed, change);
    }

    /// AQA, ASQ and ACQ.
    pub(crate) fn admin_queues(&self) -> (u32, u64, u64) {
        (
            self.admin_sizes.load(Ordering::Relaxed),
            self.admin_submission.load(Ordering::Relaxed),
            self.admin_completion.load(Ordering::Relaxed),
        )
    }

    /// Resets all registers to their state after power-on, including AQA, ASQ and ACQ, which a controller
    /// reset keeps (Base, section 3.7.2). Sets CSTS to `status` last, which tells a driver that the reset is
    /// complete.
    ///
    /// Signals of earlier register writes are dropped: a reset that one of them requests would be performed
    /// after this one is reported complete, and undo the setup of the next driver.
    pub(crate) fn reset(&self, status: u32) {
        let _guard = self.enable_lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.work_signal.clear(!(work::REQUEST | work::PORT));
        self.admin_sizes.store(0, Ordering::Relaxed);
        self.admin_submission.store(0, Ordering::Relaxed);
        self.admin_completion.store(0, Ordering::Relaxed);
        self.interrupt_mask.store(0, Ordering::Relaxed);
        self.configuration.store(0, Ordering::Release);
        self.status.store(status, Ordering::Release);
    }

    pub(crate) fn is_masked(&self, vector: u16) -> bool {
        vector < 32 && self.interrupt_mask.load(Ordering::Relaxed) >> vector & 1 != 0
    }
}

/// CAP.TO: the longest time that a driver has to wait for RDY, in units of 500 ms.
fn timeout_units(config: &NvmeConfig) -> u8 {
    let needed = config.ready_ns.div_ceil(500_000_000) + 1;
    needed.clamp(2, 255) as u8
}

fn timeout_of(capabilities: u64) -> u32 {
    (capabilities >> 24 & 0xff) as u32
}

fn replace_half(register: &AtomicU64, offset: u64, value: u32) {
    let shift = 8 * (offset & 4);
    let replaced = |old: u64| Some(old & !(0xffff_ffff << shift) | u64::from(value) << shift);
    let _ = register.fetch_update(Ordering::Relaxed, Ordering::Relaxed, replaced);
}
