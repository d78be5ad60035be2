//! Work that keeps the kernel busy on a domain's behalf, so that the domain can be ended in the middle of any of it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use coppice_interfaces::{Counter, Handle, Message, RpcResult};
use coppice_rref::{RRef, RRefDeque};
use coppice_runtime::sync::{Event, Mutex};
use coppice_runtime::{thread, time};

use crate::{Wires, message};

/// Asks for everything there is, in turn, for ever.
pub(crate) fn labour(wires: &Arc<Wires>, seed: u32) {
    let mut kinds: [fn(&Arc<Wires>); 9] =
        [private_heap, shared_heap, containers, calls, lending, objects, threads, waiting, contention];
    let first = seed as usize % kinds.len();
    kinds.rotate_left(first);
    loop {
        kinds.iter().for_each(|kind| kind(wires));
    }
}

fn private_heap(_: &Arc<Wires>) {
    let mut blocks: Vec<Vec<u8>> = (1..20).map(|size| alloc::vec![1; size * 100]).collect();
    blocks.retain(|block| block.len() % 200 == 0);
    blocks.push(alloc::vec![2; 30_000]);
}

fn shared_heap(_: &Arc<Wires>) {
    let mut messages: Vec<_> = (0..40).map(|_| message(b"labour")).collect();
    messages.truncate(20);
    drop(RRef::new([3_u8; 5000]));
    drop(RRef::<[u8; 100_000]>::zeroed());
    let _ = messages.pop().map(RRef::into_inner);
}

fn batch() -> RRef<RRefDeque<Message, 32>> {
    let mut batch = RRef::new(RRefDeque::new());
    while !batch.is_full() {
        batch.push_back(message(b"labour")).expect("it is not full");
    }
    batch
}

fn containers(_: &Arc<Wires>) {
    let mut batch = batch();
    let mut other = RRef::new(RRefDeque::<Message, 32>::new());
    while let Some(message) = batch.pop_front() {
        other.push_back(message).expect("both have one capacity");
    }
    drop(other.into_inner());
}

fn calls(wires: &Arc<Wires>) {
    let _ = wires.echo.ping(1);
    if let Ok(message) = wires.echo.echo(message(b"labour")) {
        let _ = wires.echo.sum(&message);
    }
    let _ = wires.echo.reverse(batch());
}

fn lending(wires: &Arc<Wires>) {
    let claims = [(); 4].map(|()| {
        let (claim, lent) = message(b"labour").lend();
        let _ = wires.keeper.keep(lent);
        claim
    });
    let _ = wires.keeper.give_back();
    // Another thread's call may have given them back, or be about to.
    claims.into_iter().for_each(|claim| drop(claim.redeem()));
    let (claim, lent) = message(b"labour").lend();
    drop(lent);
    drop(claim.redeem());
}

/// A counter that is dropped by the kernel's thread.
struct Tally(AtomicU64);

impl Counter for Tally {
    fn next(&self) -> RpcResult<u64> {
        Ok(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

fn objects(_: &Arc<Wires>) {
    let counter: Handle<dyn Counter> = <dyn Counter>::export(Tally(AtomicU64::new(0)));
    let other = counter.clone();
    let _ = (counter.next(), other.next());
}

fn threads(_: &Arc<Wires>) {
    if let Ok(helper) = thread::spawn(thread::yield_now) {
        thread::yield_now();
        helper.join();
    }
}

fn waiting(_: &Arc<Wires>) {
    let event = Arc::new(Event::new());
    let ticket = event.ticket();
    let waker = event.clone();
    if thread::spawn(move || waker.notify_all()).is_ok() {
        event.wait(ticket);
    }
    time::sleep(Duration::from_micros(50));
    event.wait_until(event.ticket(), time::now() + Duration::from_micros(50));
}

fn contention(_: &Arc<Wires>) {
    static SHARED: Mutex<u64> = Mutex::new(0);
    for _ in 0..50 {
        *SHARED.lock() += 1;
    }
}
