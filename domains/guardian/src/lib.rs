//! Answers for other domains, and hoards; does with what the kernel tells it as it is told to.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use coppice_interfaces::{Conduct, Guardian, Handle, Message, RpcResult, Text, Told};
use coppice_rref::RRef;
use coppice_runtime::sync::Mutex;
use coppice_runtime::{ChildFailing, Domain, Environment, Excess, Revocation, Verdict, thread, time};

/// How long after its answer it complies that does so late.
const LATE: Duration = Duration::from_millis(20);

/// The domain.
pub struct GuardianDomain;

/// Upcalls are of the domain and of no object of its, so they find their data here.
static CONDUCT: Mutex<Option<Conduct>> = Mutex::new(None);
static TOLD: Mutex<Option<Told>> = Mutex::new(None);
static HOARD: Mutex<Vec<RRef<Message>>> = Mutex::new(Vec::new());
static BALLAST: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
/// Changes with each [`Guardian::behave`].
static ERA: AtomicU32 = AtomicU32::new(0);

impl Domain for GuardianDomain {
    type Imports = ();
    type Export = Handle<dyn Guardian>;

    /// `conduct=pass-on` among the arguments makes it hand every failure of a child on.
    fn start(environment: &Environment<'_>, (): ()) -> Self::Export {
        if environment.option("conduct") == Some("pass-on") {
            *CONDUCT.lock() = Some(Conduct::PassOn);
        }
        <dyn Guardian>::export(Service)
    }

    fn child_failing(child: &ChildFailing) -> Verdict {
        note(|told| {
            told.failures += 1;
            told.child = Some((Text::new(child.name), child.kind, child.crashes));
        });
        match conduct() {
            Conduct::Comply => Verdict::Retry,
            Conduct::Refuse => Verdict::GiveUp,
            Conduct::PassOn => Verdict::Escalate,
            Conduct::Hang | Conduct::ComplyAndHang => hang(),
            Conduct::Crash => panic!("a child is failing"),
        }
    }

    fn revoke(demand: &Revocation) {
        let Excess::SharedHeap { owned, allowed } = demand.excess else {
            return give_up_computing(demand.excess);
        };
        note(|told| (told.demands, told.allowed) = (told.demands + 1, allowed));
        match conduct() {
            Conduct::Comply => release(owned, allowed),
            Conduct::Refuse => {}
            Conduct::PassOn => {
                let later = move || {
                    time::sleep(LATE);
                    release(owned, allowed);
                };
                thread::spawn(later).expect("the manifest allows a thread");
            }
            Conduct::Hang => hang(),
            Conduct::ComplyAndHang => {
                release(owned, allowed);
                hang()
            }
            Conduct::Crash => panic!("it was asked to give something up"),
        }
    }
}

fn give_up_computing(excess: Excess) {
    let Excess::Cpu { allowed, .. } = excess else { return };
    note(|told| (told.demands, told.allowed) = (told.demands + 1, allowed));
    if conduct() == Conduct::Comply {
        ERA.fetch_add(1, Ordering::Relaxed);
    }
}

fn conduct() -> Conduct {
    CONDUCT.lock().unwrap_or_default()
}

fn note(change: impl FnOnce(&mut Told)) {
    change(TOLD.lock().get_or_insert_default());
}

fn hang() -> ! {
    loop {
        time::sleep_until(Duration::MAX);
    }
}

/// Drops messages of those that make up `owned` bytes, until at most `allowed` are left.
fn release(owned: u64, allowed: u64) {
    let mut hoard = HOARD.lock();
    // All messages are of one size, and what else it owns is little.
    let each = owned / hoard.len().max(1) as u64;
    let excess = (owned - allowed).div_ceil(each.max(1)) + 1;
    let keep = hoard.len().saturating_sub(excess as usize);
    hoard.truncate(keep);
}

struct Service;

impl Guardian for Service {
    fn behave(&self, conduct: Conduct) -> RpcResult<()> {
        *CONDUCT.lock() = Some(conduct);
        ERA.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn told(&self) -> RpcResult<Told> {
        Ok(TOLD.lock().unwrap_or_default())
    }

    fn hoard(&self, message: RRef<Message>) -> RpcResult<u32> {
        let mut hoard = HOARD.lock();
        hoard.push(message);
        Ok(hoard.len() as u32)
    }

    fn give_up(&self, keep: u32) -> RpcResult<()> {
        HOARD.lock().truncate(keep as usize);
        Ok(())
    }

    fn fill_heap(&self, bytes: u64) -> RpcResult<()> {
        let ballast = black_box(vec![1; bytes as usize]);
        BALLAST.lock().push(ballast);
        Ok(())
    }

    fn spawn(&self, count: u32) -> RpcResult<u32> {
        let spawned = (0..count).map_while(|_| thread::spawn(|| time::sleep_until(Duration::MAX)).ok());
        Ok(spawned.count() as u32)
    }

    fn compute(&self) -> RpcResult<()> {
        let era = ERA.load(Ordering::Relaxed);
        let compute = move || {
            while ERA.load(Ordering::Relaxed) == era {
                core::hint::spin_loop();
            }
        };
        thread::spawn(compute).expect("the manifest allows a thread");
        Ok(())
    }
}
