//! Clients: call the victims all the time, and look at every answer.

use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use coppice_example_interfaces::{Echo, Message};
use coppice_experiment::Random;
use coppice_interfaces::{Handle, RpcError, RpcResult};
use coppice_rref::{Bytes, RRef, RRefDeque};
use coppice_runtime::thread;

use crate::soak::{Outcome, SUBJECTS, Soak};
use coppice_experiment::Failure;

/// A kind of call: whether the answer was right.
type Call = fn(&Soak, &mut Random) -> RpcResult<bool>;

/// All kinds of calls, with names for whoever has to find out where one stays.
pub(crate) const CALLS: [(&str, Call); 10] = [
    ("ping", ping),
    ("echo", echo),
    ("sum", sum),
    ("reverse", reverse),
    ("lending", lending),
    ("objects", objects),
    ("counting", counting),
    ("private heap", private_heap),
    ("letting go", letting_go),
    ("through a shadow", through_a_shadow),
];

/// The kind of call that never fails.
const SHADOWED: usize = CALLS.len() - 1;

/// Calls until the stretch is over, as worker number `worker`.
pub(crate) fn run(soak: &Arc<Soak>, worker: usize, mut random: Random) -> Outcome {
    while !soak.over.load(Ordering::Relaxed) {
        let kind = random.below(CALLS.len() as u64) as usize;
        let (name, call) = CALLS[kind];
        soak.workers[worker].does(kind as u32);
        match call(soak, &mut random) {
            Ok(true) => soak.answers.fetch_add(1, Ordering::Relaxed),
            Ok(false) => return Err(Failure(format!("a wrong answer to a call of the kind \"{name}\""))),
            Err(error) if kind == SHADOWED => {
                return Err(Failure(format!("a client of the shadow heard of a death: {error}")));
            }
            Err(error) => {
                soak.check(&error)?;
                // Nothing is gained by asking again while nobody is there.
                thread::yield_now();
                soak.errors.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
    Ok(())
}

/// A message on the shared heap.
pub(crate) fn message(text: &[u8]) -> RRef<Message> {
    Bytes::shared_from(text).expect("the text fits a message")
}

/// Some link of the chain, from where calls go on to its end.
fn chain<'a>(soak: &'a Soak, random: &mut Random) -> &'a Handle<dyn Echo> {
    [&soak.wires.right, &soak.wires.left, &soak.wires.echo][random.below(3) as usize]
}

fn ping(soak: &Soak, random: &mut Random) -> RpcResult<bool> {
    let number = random.next();
    Ok(chain(soak, random).ping(number)? == number)
}

/// What moves there and back.
fn echo(soak: &Soak, random: &mut Random) -> RpcResult<bool> {
    let bytes = random.next().to_le_bytes();
    Ok(chain(soak, random).echo(message(&bytes))?[..] == bytes)
}

/// What is borrowed.
fn sum(soak: &Soak, random: &mut Random) -> RpcResult<bool> {
    let bytes = random.next().to_le_bytes();
    let borrowed = message(&bytes);
    let sum = chain(soak, random).sum(&borrowed)?;
    Ok(sum == bytes.iter().map(|&byte| u64::from(byte)).sum() && borrowed[..] == bytes)
}

/// What has others nested in it.
fn reverse(soak: &Soak, random: &mut Random) -> RpcResult<bool> {
    let first = random.next() as u8;
    let mut batch = RRef::new(RRefDeque::<Message, 32>::new());
    for number in 0..32 {
        batch.push_back(message(&[first.wrapping_add(number)])).expect("as many as fit");
    }
    let batch = chain(soak, random).reverse(batch)?;
    let in_order =
        batch.iter().zip((0..32).rev()).all(|(got, number)| got[..] == [first.wrapping_add(number)]);
    Ok(batch.len() == 32 && in_order)
}

/// What is lent: comes back by the borrower's will or by its death, and holds what was written by the lender or, over
/// that, by the borrower, which may have died in the middle of it.
fn lending(soak: &Soak, random: &mut Random) -> RpcResult<bool> {
    let stamps = b'A'..=b'D';
    let (claim, lent) = message(&[b'm'; 40]).lend();
    let keeper = &soak.wires.keeper;
    let answer = (|| {
        keeper.keep(lent)?;
        keeper.stamp(stamps.start() + random.below(4) as u8)?;
        keeper.give_back()
    })();
    // Another client's call may have taken it up to give it back, or a sweep be on its way to it: then nobody waits for it.
    let is_right = claim.redeem().map_or(true, |back| {
        back.len() == 40 && back.iter().all(|byte| *byte == b'm' || stamps.contains(byte))
    });
    // The content counts before the error does.
    if is_right { answer.map(|_| true) } else { Ok(false) }
}

/// What is called where it was made, wherever the handle is.
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
    let subject = soak.subject(random.below(SUBJECTS) as usize);
    let depth = random.below(50) as u32;
    Ok(subject.count()? > 0 && subject.recurse(depth)? == depth)
}

fn private_heap(soak: &Soak, random: &mut Random) -> RpcResult<bool> {
    soak.subject(random.below(SUBJECTS) as usize).fill_heap(8 * random.below(4000), false)
}

/// Lets calls go on that stay in the keeper because a killer asked its victim for some.
fn letting_go(soak: &Soak, _: &mut Random) -> RpcResult<bool> {
    soak.wires.keeper.let_go().map(|()| true)
}

/// What is tried again by the shadow: no client may hear that the domain behind it died.
fn through_a_shadow(soak: &Soak, random: &mut Random) -> RpcResult<bool> {
    let bytes = random.next().to_le_bytes();
    let borrowed = message(&bytes);
    let number = random.next();
    let sum = soak.wires.steady.sum(&borrowed)?;
    Ok(sum == bytes.iter().map(|&byte| u64::from(byte)).sum() && soak.wires.steady.ping(number)? == number)
}

impl Soak {
    /// Holds an error against the ledger.
    pub(crate) fn check(&self, error: &RpcError) -> Outcome {
        match self.victims.iter().find(|victim| victim.is_named_by(error)) {
            Some(victim) => victim.objection(error).map_or(Ok(()), |objection| Err(Failure(objection))),
            None => Err(Failure(format!("a domain that nobody ends has died: {error}"))),
        }
    }
}
