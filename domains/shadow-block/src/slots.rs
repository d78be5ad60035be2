//! [`Slots`]: the requests that one queue of the shadow has, each in the slot whose number is in its head.

use alloc::vec::Vec;

use coppice_interfaces::block::{Command, Request, RequestHead};
use coppice_rref::{Lent, Subloan};

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

    /// Takes in a request and lends it on.
    ///
    /// # Errors
    /// The request, if there is no slot, or if it cannot be lent on since who lent it has borrowed it too.
    #[inline(always)]
    pub(crate) fn submit(&mut self, request: Lent<Request>) -> Result<Lent<Request>, Lent<Request>> {
        let Some(&number) = self.free.last() else { return Err(request) };
        let (claim, mut request) = request.lend()?;
        self.free.pop();
        request.head_mut().set_relay(number.into());
        let slot = &mut self.slots[number as usize];
        slot.order = self.count;
        slot.command = request.command();
        slot.content = Content::Away(claim);
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
    #[inline(always)]
    pub(crate) fn settle(&mut self, request: Lent<Request>) -> Option<(u32, Lent<Request>)> {
        let number = request.relay();
        match self.settle_in(number, request) {
            Ok(request) => Some((number as u32, request)),
            Err(request) => self.search(request),
        }
    }

    #[inline(always)]
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
    #[inline(always)]
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
