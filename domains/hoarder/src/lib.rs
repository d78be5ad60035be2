//! Takes as much of the shared heap as it gets.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::sync::Arc;
use alloc::vec::Vec;

use coppice_interfaces::{Counter, Handle, Hoarder, Message, RpcResult};
use coppice_rref::{RRef, RRefDeque};
use coppice_runtime::sync::Mutex;
use coppice_runtime::thread::Builder;
use coppice_runtime::{Domain, Environment};

/// The domain.
pub struct HoarderDomain;

impl Domain for HoarderDomain {
    type Imports = ();
    type Export = Handle<dyn Hoarder>;

    fn start(_: &Environment<'_>, (): ()) -> Self::Export {
        <dyn Hoarder>::export(Service::default())
    }
}

/// What its hoard is made of; a slot of 1088 bytes holds it.
type Piece = [u64; 128];

/// One that takes two spans of its own.
type Boulder = [u64; 12_500];

#[derive(Default)]
struct Service {
    hoard: Arc<Mutex<Hoard>>,
}

#[derive(Default)]
struct Hoard {
    pieces: Vec<RRef<Piece>>,
    boulders: Vec<RRef<Boulder>>,
    messages: Vec<RRef<Message>>,
    counters: Vec<Handle<dyn Counter>>,
}

impl Hoard {
    fn count(&self) -> usize {
        self.pieces.len() + self.boulders.len() + self.messages.len() + self.counters.len()
    }
}

/// A counter that always answers the same.
struct Stuck;

impl Counter for Stuck {
    fn next(&self) -> RpcResult<u64> {
        Ok(0)
    }
}

fn collect_pieces(hoard: &Mutex<Hoard>) {
    while let Ok(piece) = RRef::try_new([1; 128]) {
        hoard.lock().pieces.push(piece);
    }
}

fn batch() -> RRef<RRefDeque<Message, 32>> {
    let mut batch = RRef::new(RRefDeque::new());
    while !batch.is_full() {
        batch.push_back(Message::new_shared()).expect("it is not full");
    }
    batch
}

impl Hoarder for Service {
    fn fill(&self, threads: u32, large: bool) -> RpcResult<u32> {
        let before = self.hoard.lock().count();
        if large {
            while let Ok(boulder) = RRef::try_new([1; 12_500]) {
                self.hoard.lock().boulders.push(boulder);
            }
        } else {
            let spawn = |number: u32| {
                let hoard = self.hoard.clone();
                Builder::new().affinity(1 << number).spawn(move || collect_pieces(&hoard))
            };
            let helpers: Vec<_> = (1..threads).map(spawn).collect();
            collect_pieces(&self.hoard);
            for helper in helpers {
                helper.expect("the manifest allows the threads").join();
            }
        }
        Ok((self.hoard.lock().count() - before) as u32)
    }

    fn overfill(&self) -> RpcResult<()> {
        loop {
            let piece = RRef::new([2; 128]);
            self.hoard.lock().pieces.push(piece);
        }
    }

    fn clone_handles(&self) -> RpcResult<()> {
        let counter = <dyn Counter>::export(Stuck);
        loop {
            let other = counter.clone();
            self.hoard.lock().counters.push(other);
        }
    }

    fn export_counters(&self) -> RpcResult<()> {
        loop {
            let counter = <dyn Counter>::export(Stuck);
            self.hoard.lock().counters.push(counter);
        }
    }

    fn make(&self) -> RpcResult<RRef<Message>> {
        Ok(Message::new_shared())
    }

    fn make_batch(&self) -> RpcResult<RRef<RRefDeque<Message, 32>>> {
        Ok(batch())
    }

    fn keep(&self, message: RRef<Message>) -> RpcResult<()> {
        self.hoard.lock().messages.push(message);
        Ok(())
    }

    fn keep_counter(&self, counter: Handle<dyn Counter>) -> RpcResult<()> {
        self.hoard.lock().counters.push(counter);
        Ok(())
    }

    fn let_go(&self) -> RpcResult<u32> {
        let hoard = core::mem::take(&mut *self.hoard.lock());
        Ok(hoard.count() as u32)
    }
}
