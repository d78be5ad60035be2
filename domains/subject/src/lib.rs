//! Does to itself what an experiment asks for, so that it can be ended in any situation.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod labour;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use coppice_interfaces::{
    Control, Counter, Echo, Fault, Handle, Imports, Keeper, Message, RpcError, RpcResult, Subject, Text,
};
use coppice_rref::{Bytes, Lent, Loan, RRef};
use coppice_runtime::sync::Mutex;
use coppice_runtime::{Domain, Environment, thread, time};

/// What [`Subject::count`] counts in: image data that a new life finds as it was at first.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// The domain.
pub struct SubjectDomain;

/// What it is wired to.
#[derive(Imports)]
pub struct Wires {
    /// Whom it lends to.
    keeper: Handle<dyn Keeper>,
    /// Whom it provokes.
    echo: Handle<dyn Echo>,
}

impl Domain for SubjectDomain {
    type Imports = Wires;
    type Export = Handle<dyn Subject>;

    /// `fail=yes` among the arguments makes it panic here, `fail=odd` in every second life, and `hang=yes` not come back
    /// while its keeper keeps a call.
    fn start(environment: &Environment<'_>, wires: Wires) -> Self::Export {
        match environment.option("fail") {
            None => {}
            Some("odd") => {
                assert!(environment.generation().is_multiple_of(2), "it was told to fail in odd lives")
            }
            Some(_) => panic!("it was told to fail"),
        }
        if environment.option("hang").is_some() && wires.keeper.staying().is_ok_and(|staying| staying > 0) {
            coppice_failure::fail(Fault::InfiniteLoop);
        }
        <dyn Subject>::export(Service {
            wires: Arc::new(wires),
            belongings: Mutex::default(),
            gate: Arc::default(),
        })
    }
}

struct Service {
    wires: Arc<Wires>,
    belongings: Mutex<Belongings>,
    /// What locked counters take, and the number that they count.
    gate: Arc<Mutex<u64>>,
}

/// What a crash has to take back.
#[derive(Default)]
struct Belongings {
    heap: Vec<Vec<u64>>,
    messages: Vec<RRef<Message>>,
    claims: Vec<Loan<Message>>,
    counters: Vec<Handle<dyn Counter>>,
}

fn message(text: &[u8]) -> RRef<Message> {
    Bytes::shared_from(text).expect("the text fits a message")
}

impl Subject for Service {
    fn fail(&self, fault: Fault) -> RpcResult<()> {
        coppice_failure::fail(fault);
        Ok(())
    }

    fn set_trap(&self) -> RpcResult<Handle<dyn Counter>> {
        Ok(<dyn Counter>::export(Trap))
    }

    fn fail_by_the_clock(&self, fault: Fault, mut clock: Lent<u64>) -> RpcResult<()> {
        *clock = time::tsc();
        coppice_failure::fail(fault);
        Ok(())
    }

    fn count(&self) -> RpcResult<u64> {
        Ok(COUNT.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn fill_heap(&self, bytes: u64, keep: bool) -> RpcResult<bool> {
        let mut words = vec![0_u64; bytes as usize / size_of::<u64>()];
        let scramble = |index: usize| (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for (index, word) in words.iter_mut().enumerate() {
            *word = scramble(index);
        }
        let right = black_box(&words).iter().enumerate().all(|(index, &word)| word == scramble(index));
        if keep {
            self.belongings.lock().heap.push(words);
        }
        Ok(right)
    }

    fn own(&self, count: u32) -> RpcResult<()> {
        let messages = (0..count).map(|_| message(b"what a subject owns"));
        self.belongings.lock().messages.extend(messages);
        Ok(())
    }

    fn adopt(&self, counter: Handle<dyn Counter>) -> RpcResult<()> {
        self.belongings.lock().counters.push(counter);
        Ok(())
    }

    fn spawn(&self, count: u32) -> RpcResult<u32> {
        let spawned = (0..count).map_while(|_| thread::spawn(|| time::sleep_until(Duration::MAX)).ok());
        Ok(spawned.count() as u32)
    }

    fn spin(&self, milliseconds: u32) -> RpcResult<()> {
        let end = time::now() + Duration::from_millis(milliseconds.into());
        while time::now() < end {
            core::hint::spin_loop();
        }
        Ok(())
    }

    fn lend(&self, count: u32) -> RpcResult<Result<(), RpcError>> {
        for _ in 0..count {
            let (claim, lent) = message(b"what a subject has lent").lend();
            self.belongings.lock().claims.push(claim);
            if let Err(error) = self.wires.keeper.keep(lent) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    fn read_late(&self) -> RpcResult<()> {
        let wires = self.wires.clone();
        let read = move || {
            let message = message(b"what a subject wants read");
            let _ = wires.keeper.read_late(&message);
        };
        thread::spawn(read).expect("the manifest allows a thread");
        Ok(())
    }

    fn count_slowly(&self) -> RpcResult<()> {
        let wires = self.wires.clone();
        let count = move || {
            if let Ok(counter) = wires.keeper.slow_counter(7) {
                let _ = counter.next();
            }
        };
        thread::spawn(count).expect("the manifest allows a thread");
        Ok(())
    }

    fn stay_locked(&self) -> RpcResult<()> {
        let wires = self.wires.clone();
        let stay = move || {
            let _ = wires.keeper.stay_locked();
        };
        thread::spawn(stay).expect("the manifest allows a thread");
        Ok(())
    }

    fn deadly_counter(&self) -> RpcResult<Handle<dyn Counter>> {
        Ok(<dyn Counter>::export(DeadlyCounter))
    }

    fn provoke(&self) -> RpcResult<Option<RpcError>> {
        Ok(self.wires.echo.panic(message(b"provoked by a subject"), 2).err())
    }

    fn labour(&self, threads: u32) -> RpcResult<()> {
        for seed in 0..threads {
            let wires = self.wires.clone();
            thread::spawn(move || labour::labour(&wires, seed)).expect("the manifest allows the threads");
        }
        Ok(())
    }

    fn dive(&self, depth: u32) -> RpcResult<u32> {
        #[inline(never)]
        fn deeper(depth: u32) -> u32 {
            let frame = black_box([depth; 64]);
            if depth == 0 { 0 } else { deeper(depth - 1) + black_box(&frame).len() as u32 / 64 }
        }
        Ok(deeper(depth))
    }

    fn call_from_the_deep(&self) -> RpcResult<RpcError> {
        #[inline(never)]
        fn deeper(echo: &Handle<dyn Echo>, depth: u64) -> RpcError {
            let frame = black_box([depth; 64]);
            match echo.ping(black_box(&frame)[0]) {
                Ok(depth) => black_box(deeper(echo, depth + 1)),
                Err(error) => error,
            }
        }
        Ok(deeper(&self.wires.echo, 0))
    }

    fn panic_in_thread(&self) -> RpcResult<()> {
        thread::spawn(|| panic!("a thread of its own")).expect("the manifest allows a thread");
        Ok(())
    }

    fn linger(&self, message: RRef<Message>, microseconds: u32, asleep: bool) -> RpcResult<RRef<Message>> {
        let end = time::now() + Duration::from_micros(microseconds.into());
        if asleep {
            time::sleep_until(end);
        }
        while time::now() < end {
            core::hint::spin_loop();
        }
        Ok(message)
    }

    fn compute(&self, threads: u32) -> RpcResult<()> {
        for _ in 0..threads {
            thread::spawn(|| coppice_failure::fail(Fault::InfiniteLoop))
                .expect("the manifest allows the threads");
        }
        Ok(())
    }

    fn locked_counter(&self) -> RpcResult<Handle<dyn Counter>> {
        Ok(<dyn Counter>::export(LockedCounter(self.gate.clone())))
    }

    fn count_locked(&self, counter: Handle<dyn Counter>) -> RpcResult<Result<u64, RpcError>> {
        let _held = self.gate.lock();
        time::sleep(Duration::from_micros(200));
        Ok(counter.next())
    }

    fn sticky_counter(&self) -> RpcResult<Handle<dyn Counter>> {
        Ok(<dyn Counter>::export(StickyCounter))
    }

    fn read_line(&self, control: Handle<dyn Control>, in_thread: bool) -> RpcResult<()> {
        let read = move || {
            let _ = control.read_line();
        };
        if in_thread {
            thread::spawn(read).expect("the manifest allows a thread");
        } else {
            read();
        }
        Ok(())
    }

    fn log(&self, word: Text<32>) -> RpcResult<()> {
        log::error!("an error, {word}");
        log::warn!("a warning, {word}");
        log::info!("information, {word}");
        log::debug!("a detail, {word}");
        log::trace!("a trace, {word}");
        Ok(())
    }
}

struct DeadlyCounter;

impl Counter for DeadlyCounter {
    fn next(&self) -> RpcResult<u64> {
        panic!("a deadly counter was asked")
    }
}

struct LockedCounter(Arc<Mutex<u64>>);

impl Counter for LockedCounter {
    fn next(&self) -> RpcResult<u64> {
        let mut number = self.0.lock();
        *number += 1;
        Ok(*number)
    }
}

struct StickyCounter;

impl Counter for StickyCounter {
    fn next(&self) -> RpcResult<u64> {
        Ok(0)
    }
}

impl Drop for StickyCounter {
    fn drop(&mut self) {
        coppice_failure::fail(Fault::InfiniteLoop);
    }
}

/// A counter that somebody else may hold, and whose end is that of its domain.
struct Trap;

impl Counter for Trap {
    fn next(&self) -> RpcResult<u64> {
        Ok(0)
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        panic!("an object's destructor panicked")
    }
}
