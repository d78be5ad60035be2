//! Clients: call the kill targets all the time and verify every answer.

use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use coppice_example_interfaces::{Echo, Message};
use coppice_experiment::Random;
use coppice_interfaces::{Handle, RpcError, RpcResult};
use coppice_rref::{Bytes, RRef, RRefDeque};
use coppice_runtime::thread;

use crate::soak::{FAULT_TARGETS, Outcome, Soak};
use coppice_experiment::Failure;

/// One kind of call. Returns true if the answer was right.
type Call = fn(&Soak, &mut Random) -> RpcResult<bool>;

/// All kinds of calls, with names for the report of a stalled client.
pub(crate) const CALLS: [(&str, Call); 10] = [
    ("ping", ping),
    ("echo", echo),
    ("sum", sum),
    ("reverse", reverse),
    ("lending", lending),
    ("objects", objects),
    ("counting", counting),
    ("private heap", private_heap),
    ("release of kept calls", release_kept_calls),
    ("through a shadow", through_a_shadow),
];

/// The kind of call that must not fail.
const SHADOWED: usize = CALLS.len() - 1;

/// Calls until the stretch is over, as worker number `worker`.
pub(crate) fn run(soak: &Arc<Soak>, worker: usize, mut random: Random) -> Outcome {
    while !soak.over.load(Ordering::Relaxed) {
        let kind = random.below(CALLS.len() as u64) as usize;
        let (name, call) = CALLS[kind];
        soak.workers[worker].does(kind as u32);
        match call(soak, &mut random) {
            Ok(true) => soak.answers.fetch_add(1, Ordering::Relaxed),
            Ok(false) => return Err(Failure(format!("wrong answer to a call of the kind \"{name}\""))),
            Err(error) if kind == SHADOWED => {
                return Err(Failure(format!("a client of the shadow got a crash error: {error}")));
            }
            Err(error) => {
                soak.check(&error)?;
                // Another call at once would fail as well while the domain is dead.
                thread::yield_now();
                soak.errors.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
    Ok(())
}

/// Returns a message on the shared heap.
pub(crate) fn message(text: &[u8]) -> RRef<Message> {
    Bytes::shared_from(text).expect("the text fits a message")
}

/// Returns a random link of the chain, which forwards calls to its end.
fn chain<'a>(soak: &'a Soak, random: &mut Random) -> &'a Handle<dyn Echo> {
    [&soak.wires.right, &soak.wires.left, &soak.wires.echo][random.below(3) as usize]
}

fn ping(soak: &Soak, random: &mut Random) -> RpcResult<bool> {
    let number = random.next();
    Ok(chain(soak, random).ping(number)? == number)
}

/// An object that moves there and back.
fn echo(soak: &Soak, random: &mut Random) -> RpcResult<bool> {
    let bytes = random.next().to_le_bytes();
    Ok(chain(soak, random).echo(message(&bytes))?[..] == bytes)
}

/// A borrowed object.
fn sum(soak: &Soak, random: &mut Random) -> RpcResult<bool> {
    let bytes = random.next().to_le_bytes();
    let borrowed = message(&bytes);
    let sum = chain(soak, random).sum(&borrowed)?;
    Ok(sum == bytes.iter().map(|&byte| u64::from(byte)).sum() && borrowed[..] == bytes)
}

/// An object with nested objects.
fn reverse(soak: &Soak, random: &mut Random) -> RpcResult<bool> {
    let first = random.next() as u8;
    let mut batch = RRef::new(RRefDeque::<Message, 32>::new());
    for number in 0..32 {
        batch.push_back(message(&[first.wrapping_add(number)])).expect("a batch has room for 32 messages");
    }
    let batch = chain(soak, random).reverse(batch)?;
    let in_order =
        batch.iter().zip((0..32).rev()).all(|(got, number)| got[..] == [first.wrapping_add(number)]);
    Ok(batch.len() == 32 && in_order)
}

/// A lent object. It comes back when the borrower returns it or dies, and holds bytes of the lender or of the
/// borrower, which may have died while it wrote them.
fn lending(soak: &Soak, random: &mut Random) -> RpcResult<bool> {
    let stamps = b'A'..=b'D';
    let (claim, lent) = message(&[b'm'; 40]).lend();
    let holder = &soak.wires.holder;
    let answer = (|| {
        holder.keep(lent)?;
        holder.stamp(stamps.start() + random.below(4) as u8)?;
        holder.give_back()
    })();
    // Another client's call may be returning it, or a sweep may be about to reach it. Then the call does not
    // wait for it.
    let is_right = claim.redeem().map_or(true, |back| {
        back.len() == 40 && back.iter().all(|byte| *byte == b'm' || stamps.contains(byte))
    });
    // Wrong content takes precedence over the error.
    if is_right { answer.map(|_| true) } else { Ok(false) }
}

/// An object that is called in its maker's domain, through handles of other domains.
fn objects(soak: &Soak, random: &mut Random) -> RpcResult<bool> {
    let start = random.below(1 << 40);
    let factory = &soak.wires.factory;
    let counter = factory.make(start)?;
    let other = counter.clone();
    let counts_on = counter.next()? == start && other.next()? == start + 1;
    let counter = factory.pass(counter)?;
    Ok(counts_on && factory.drive(counter, 3)? == start + 4 && other.next()? == start + 5)
}

fn counting(soak: &Soak, random: &mut Random) -> RpcResult<bool> {
    let fault_target = soak.fault_target(random.below(FAULT_TARGETS) as usize);
    let depth = random.below(50) as u32;
    Ok(fault_target.count()? > 0 && fault_target.recurse(depth)? == depth)
}

fn private_heap(soak: &Soak, random: &mut Random) -> RpcResult<bool> {
    soak.fault_target(random.below(FAULT_TARGETS) as usize).fill_heap(8 * random.below(4000), false)
}

/// Releases calls that stay in the holder because a killer made its victim start some.
fn release_kept_calls(soak: &Soak, _: &mut Random) -> RpcResult<bool> {
    soak.wires.holder.let_go().map(|()| true)
}

/// A call that the shadow repeats: the client must not notice a death of the domain behind it.
fn through_a_shadow(soak: &Soak, random: &mut Random) -> RpcResult<bool> {
    let bytes = random.next().to_le_bytes();
    let borrowed = message(&bytes);
    let number = random.next();
    let sum = soak.wires.shadow_echo.sum(&borrowed)?;
    Ok(sum == bytes.iter().map(|&byte| u64::from(byte)).sum()
        && soak.wires.shadow_echo.ping(number)? == number)
}

impl Soak {
    /// Checks an error against the expected ends of the kill targets.
    pub(crate) fn check(&self, error: &RpcError) -> Outcome {
        match self.kill_targets.iter().find(|victim| victim.is_named_by(error)) {
            Some(victim) => victim.mismatch(error).map_or(Ok(()), |mismatch| Err(Failure(mismatch))),
            None => Err(Failure(format!("a domain that no killer ends has died: {error}"))),
        }
    }
}
