//! A domain with an interface of its own, whose proxy it makes by hand: each call would be a virtual call on
//! any two words, and so a read or a write of any memory. The audit refuses the same source
//! (`xtask/src/audit/tests/forgery.rs`).

#![forbid(unsafe_code)]

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

use coppice_abi::{RawObject, me};
use coppice_example_interfaces::Counter;
use coppice_interfaces::{Handle, Imports, Interface, ProxyCore, RpcResult, interface};
use coppice_runtime::{Domain, Environment, StartError, thread};

/// The domain.
pub struct ForgeDomain;

/// Its imports.
#[derive(Imports)]
pub struct Wires {
    vault: Handle<dyn Counter>,
}

/// An interface of this domain's own, which no kernel knows.
#[interface]
pub trait Word {
    /// Reads.
    fn peek(&self) -> RpcResult<u64>;
    /// Writes.
    fn poke(&self, value: u64) -> RpcResult<()>;
}

struct Cell64(AtomicU64);

impl Word for Cell64 {
    fn peek(&self) -> RpcResult<u64> {
        Ok(self.0.load(Ordering::Relaxed))
    }
    fn poke(&self, value: u64) -> RpcResult<()> {
        self.0.store(value, Ordering::Relaxed);
        Ok(())
    }
}

static ALIVE: AtomicU64 = AtomicU64::new(0);
static REAL: Cell64 = Cell64(AtomicU64::new(0));

/// The word at any address.
fn at(address: usize) -> WordProxy {
    ALIVE.store(me().to_bits(), Ordering::Relaxed);
    let real: *const dyn Word = &raw const REAL;
    let vtable = <dyn Word as Interface>::as_raw(real).vtable;
    let target = RawObject { data: address as *mut (), vtable };
    WordProxy(ProxyCore { domain: AtomicU64::new(me().to_bits()), alive: &ALIVE, target: UnsafeCell::new(target) })
}

impl Domain for ForgeDomain {
    type Imports = Wires;
    type Export = ();

    fn start(_: &Environment<'_>, wires: Wires) -> Result<(), StartError> {
        thread::spawn(move || drop(attack(&wires)))?;
        Ok(())
    }
}

fn attack(wires: &Wires) -> RpcResult<()> {
    wires.vault.next()?;
    // The proxy in the kernel's heap, whose core names the object in the vault's private heap.
    let proxy = <dyn Counter as Interface>::as_raw(&raw const *wires.vault).data as usize;
    let object = at(proxy + 16).peek()? as usize;
    at(object).poke(0x4141_4141_0000_0000)
}

fn main() {}
