//! [`Slots`]: the requests that one queue of the shadow has, each in the slot whose number is in its head.

use alloc::vec::Vec;

use coppice_block::{Batch, Command, Request, RequestHead};
use coppice_rref::{Lent, RRef, Subloan};

/// One slot for each request that the queue has room for.
pub(crate) struct Slots {
    slots: Vec<Slot>,
    /// Those with nothing in them.
    free: Vec<u32>,
    /// How many requests have come.
    count: u64,
    /// How many the driver has.
    away: usize,
}

struct Slot {
    content: Content,
    /// How many came before.
    order: u64,
    /// What was asked for. The driver may die in the middle of writing to the head.
    command: Command,
}

enum Content {
    Nothing,
    /// The driver has it.
    Away(Subloan<Request>),
    /// To be submitted.
    Here(Lent<Request>),
}

impl Slots {
    pub(crate) fn new(depth: usize) -> Self {
        let empty = || Slot { content: Content::Nothing, order: 0, command: RequestHead::flush().command() };
        Self {
            slots: (0..depth).map(|_| empty()).collect(),
            free: (0..depth as u32).rev().collect(),
            count: 0,
            away: 0,
        }
    }

    /// How many requests fit.
    pub(crate) fn depth(&self) -> usize {
        self.slots.len()
    }

    /// Whether it has no requests.
    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Whether there is no room.
    pub(crate) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// How many requests the driver has.
    pub(crate) fn away(&self) -> usize {
        self.away
    }

    /// Takes in all requests of `batch` and lends them on, where they lie. False if not all of them have a slot or can be lent on:
    /// then none is taken in.
    #[inline(always)]
    pub(crate) fn submit_all(&mut self, batch: &mut RRef<Batch>) -> bool {
        let len = batch.len();
        if len > self.free.len() {
            return false;
        }
        for index in 0..len {
            let number = self.free[self.free.len() - 1 - index];
            let (Some(claim), Some(request)) = (batch.lend_at(index), batch.get_mut(index)) else {
                self.take_back(batch, index);
                return false;
            };
            request.set_relay(number.into());
            let slot = &mut self.slots[number as usize];
            slot.order = self.count + index as u64;
            slot.command = request.command();
            // What was there is nothing, and that need not be looked at to be dropped.
            core::mem::forget(core::mem::replace(&mut slot.content, Content::Away(claim)));
        }
        self.free.truncate(self.free.len() - len);
        self.count += len as u64;
        self.away += len;
        true
    }

    /// Undoes what [`Self::submit_all`] did to the first `count` requests.
    #[cold]
    #[inline(never)]
    fn take_back(&mut self, batch: &mut RRef<Batch>, count: usize) {
        for index in 0..count {
            let number = self.free[self.free.len() - 1 - index];
            let slot = &mut self.slots[number as usize];
            if let Content::Away(claim) = core::mem::replace(&mut slot.content, Content::Nothing) {
                let settled = batch.settle_at(index, claim);
                debug_assert!(settled.is_ok(), "it was lent on a moment ago");
            }
        }
    }

    /// Joins the answers in `batch` with their claims, where they lie, and makes their slots free. Answers how many of them, from
    /// the front, were answers to what was asked here.
    #[inline(always)]
    pub(crate) fn settle_all(&mut self, batch: &mut RRef<Batch>) -> usize {
        let len = batch.len();
        for index in 0..len {
            let Some(request) = batch.get(index).filter(|request| !request.is_pending()) else {
                return index;
            };
            let number = request.relay();
            let Some(slot) = usize::try_from(number).ok().and_then(|number| self.slots.get_mut(number))
            else {
                return index;
            };
            match core::mem::replace(&mut slot.content, Content::Nothing) {
                Content::Away(claim) => {
                    if let Err(claim) = batch.settle_at(index, claim) {
                        slot.content = Content::Away(claim);
                        return index;
                    }
                }
                other => {
                    slot.content = other;
                    return index;
                }
            }
            self.away -= 1;
            self.free.push(number as u32);
        }
        len
    }

    /// Takes in a request and lends it on.
    ///
    /// # Errors
    /// The request, if there is no slot, or if it cannot be lent on since who lent it has borrowed it too.
    pub(crate) fn submit(&mut self, request: Lent<Request>) -> Result<Lent<Request>, Lent<Request>> {
        if self.is_full() {
            return Err(request);
        }
        let (claim, mut request) = request.lend()?;
        let Some(number) = self.free.pop() else { return Err(request) };
        request.head_mut().set_relay(number.into());
        let command = request.command();
        self.slots[number as usize] = Slot { content: Content::Away(claim), order: self.count, command };
        self.count += 1;
        self.away += 1;
        Ok(request)
    }

    /// Takes in a request and keeps it.
    ///
    /// # Errors
    /// The request, if there is no slot.
    pub(crate) fn keep(&mut self, mut request: Lent<Request>) -> Result<u32, Lent<Request>> {
        let Some(number) = self.free.pop() else { return Err(request) };
        request.head_mut().set_relay(number.into());
        let command = request.command();
        self.slots[number as usize] = Slot { content: Content::Here(request), order: self.count, command };
        self.count += 1;
        Ok(number)
    }

    /// Lends on what is kept in a slot, as if it had just come. `None` if there is nothing, or if it cannot be lent on; it is
    /// then out of the slot.
    pub(crate) fn submit_again(&mut self, number: u32) -> Option<Result<Lent<Request>, Lent<Request>>> {
        let slot = &mut self.slots[number as usize];
        let Content::Here(request) = core::mem::replace(&mut slot.content, Content::Nothing) else {
            return None;
        };
        Some(match request.lend() {
            Ok((claim, mut request)) => {
                request.head_mut().restore(slot.command);
                request.head_mut().set_relay(number.into());
                slot.content = Content::Away(claim);
                self.away += 1;
                Ok(request)
            }
            Err(request) => {
                self.free.push(number);
                Err(request)
            }
        })
    }

    /// Joins what the driver has given back with its claim. `None` if it is none of ours: it has gone back to whoever lent it.
    pub(crate) fn settle(&mut self, request: Lent<Request>) -> Option<(u32, Lent<Request>)> {
        let number = request.relay();
        match self.settle_in(number, request) {
            Ok(request) => Some((number as u32, request)),
            Err(request) => self.search(request),
        }
    }

    fn settle_in(&mut self, number: u64, request: Lent<Request>) -> Result<Lent<Request>, Lent<Request>> {
        let Some(slot) = usize::try_from(number).ok().and_then(|index| self.slots.get_mut(index)) else {
            return Err(request);
        };
        match core::mem::replace(&mut slot.content, Content::Nothing) {
            Content::Away(claim) => match claim.settle(request) {
                Ok(request) => {
                    self.away -= 1;
                    Ok(request)
                }
                Err((claim, request)) => {
                    slot.content = Content::Away(claim);
                    Err(request)
                }
            },
            other => {
                slot.content = other;
                Err(request)
            }
        }
    }

    /// The driver has changed what is not its to change: whose is it?
    #[cold]
    #[inline(never)]
    fn search(&mut self, mut request: Lent<Request>) -> Option<(u32, Lent<Request>)> {
        for number in 0..self.slots.len() {
            match self.settle_in(number as u64, request) {
                Ok(request) => return Some((number as u32, request)),
                Err(other) => request = other,
            }
        }
        log::warn!("the driver gives back a request that it was not given: {:?}", request.head());
        None
    }

    /// Makes a slot free whose request has been settled.
    pub(crate) fn release(&mut self, number: u32) {
        self.free.push(number);
    }

    /// Puts a request back into its slot, to be submitted again.
    pub(crate) fn put_back(&mut self, number: u32, request: Lent<Request>) {
        self.slots[number as usize].content = Content::Here(request);
    }

    /// What was asked for in a slot.
    pub(crate) fn command(&self, number: u32) -> Command {
        self.slots[number as usize].command
    }

    /// Redeems what has come back from a driver that is gone. Whether all of it has.
    pub(crate) fn redeem(&mut self) -> bool {
        for slot in &mut self.slots {
            slot.content = match core::mem::replace(&mut slot.content, Content::Nothing) {
                Content::Away(claim) => match claim.redeem() {
                    Ok(request) => {
                        self.away -= 1;
                        Content::Here(request)
                    }
                    Err(claim) => Content::Away(claim),
                },
                other => other,
            };
        }
        self.away == 0
    }

    /// The slots whose requests are here, in the order in which they came.
    pub(crate) fn in_order(&self, into: &mut impl Extend<u32>) {
        let here = |(number, slot): (usize, &Slot)| {
            matches!(slot.content, Content::Here(_)).then_some((slot.order, number as u32))
        };
        let mut order: Vec<_> = self.slots.iter().enumerate().filter_map(here).collect();
        order.sort_unstable();
        into.extend(order.into_iter().map(|(_, number)| number));
    }

    /// Takes all requests that are here out, as they came.
    pub(crate) fn take_all(&mut self, mut visit: impl FnMut(Lent<Request>)) {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            match core::mem::replace(&mut slot.content, Content::Nothing) {
                Content::Here(mut request) => {
                    request.head_mut().restore(slot.command);
                    self.free.push(number as u32);
                    visit(request);
                }
                other => slot.content = other,
            }
        }
    }
}
