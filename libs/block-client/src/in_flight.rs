//! [`InFlightTable`]: the requests that one queue has lent to its driver, with the halves that stay here.
//!
//! A client, or a domain between client and driver, enters each request that it lends, under the number of a
//! slot, and writes that number into the request's head: the client as the tag, a domain in the middle as the
//! relay. When the request comes back, the number leads to the slot, and the two halves are joined there
//! (*settled*). When the driver crashes, the objects return to their loans, and [`InFlightTable::redeem`]
//! collects them: they are *held* by the table until they are lent again or given up.
//!
//! The table decides nothing: the order of requests, retries and answers are its user's. It allocates only
//! when it is created, and has no lock.

use alloc::vec::Vec;

use coppice_block::Request;
use coppice_rref::{Lent, Loan, RRef, Subloan};

/// The half of a lent request that stays with the lender.
pub trait LoanHalf: Sized {
    /// The half that the driver holds.
    type Lent;
    /// The request, once both halves are joined.
    type Whole;

    /// Joins the two halves.
    ///
    /// # Errors
    /// Both halves, if they are not of one request.
    fn settle(self, lent: Self::Lent) -> Result<Self::Whole, (Self, Self::Lent)>;

    /// Returns the request, if the driver has dropped its half or crashed.
    ///
    /// # Errors
    /// The loan itself, while the driver holds the other half.
    fn redeem(self) -> Result<Self::Whole, Self>;
}

/// The half of a client, which allocates the requests.
impl LoanHalf for Loan<Request> {
    type Lent = Lent<Request>;
    type Whole = RRef<Request>;

    #[inline]
    fn settle(self, lent: Lent<Request>) -> Result<RRef<Request>, (Self, Lent<Request>)> {
        Loan::settle(self, lent)
    }

    fn redeem(self) -> Result<RRef<Request>, Self> {
        Loan::redeem(self)
    }
}

/// The half of a domain that lends a client's requests on.
impl LoanHalf for Subloan<Request> {
    type Lent = Lent<Request>;
    type Whole = Lent<Request>;

    #[inline]
    fn settle(self, lent: Lent<Request>) -> Result<Lent<Request>, (Self, Lent<Request>)> {
        Subloan::settle(self, lent)
    }

    fn redeem(self) -> Result<Lent<Request>, Self> {
        Subloan::redeem(self)
    }
}

/// The requests of one queue. `C` is the user's record of each: for example the command, which a driver
/// that crashes may overwrite.
pub struct InFlightTable<L: LoanHalf, C> {
    slots: Vec<Slot<L, C>>,
    /// The numbers of the free slots. The last one is used first.
    free: Vec<u32>,
    in_flight: usize,
}

struct Slot<L: LoanHalf, C> {
    state: State<L>,
    context: C,
}

enum State<L: LoanHalf> {
    Free,
    /// The driver has the other half.
    InFlight(L),
    /// The request is here, and is to be lent again.
    Held(L::Whole),
}

/// A request that has come back.
#[derive(Debug)]
pub struct Settled<W, C> {
    /// The number under which it was entered. It differs from the number in the head if the driver has
    /// changed that.
    pub number: u32,
    /// The request.
    pub request: W,
    /// The context with which it was entered.
    pub context: C,
}

impl<L: LoanHalf, C: Copy> InFlightTable<L, C> {
    /// Creates a table of `depth` slots. `placeholder` is the context of a slot that was never used.
    pub fn new(depth: usize, placeholder: C) -> Self {
        Self {
            slots: (0..depth).map(|_| Slot { state: State::Free, context: placeholder }).collect(),
            free: (0..depth as u32).rev().collect(),
            in_flight: 0,
        }
    }

    /// The number of slots.
    pub fn depth(&self) -> usize {
        self.slots.len()
    }

    /// Returns true if all slots are free.
    pub fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Returns true if no slot is free.
    pub fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// The number of requests that the driver has.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The context of a slot, as it was last entered.
    pub fn context(&self, number: u32) -> C {
        self.slots[number as usize].context
    }

    /// Enters a request that is lent. Returns the number to write into its head.
    ///
    /// # Errors
    /// The loan, if no slot is free.
    #[inline]
    pub fn insert(&mut self, loan: L, context: C) -> Result<u32, L> {
        let Some(number) = self.free.pop() else { return Err(loan) };
        self.slots[number as usize] = Slot { state: State::InFlight(loan), context };
        self.in_flight += 1;
        Ok(number)
    }

    /// Enters `count` requests. `lend` lends the request of an index, writes the given number into its head,
    /// and returns the loan with the context.
    ///
    /// # Errors
    /// The number of requests that were lent before `lend` returned `None`, or 0 if fewer than `count` slots
    /// are free. The caller must take these loans back with [`Self::undo_insert`] before any other call.
    #[inline(always)]
    pub fn insert_all(
        &mut self,
        count: usize,
        mut lend: impl FnMut(usize, u32) -> Option<(L, C)>,
    ) -> Result<(), usize> {
        if count > self.free.len() {
            return Err(0);
        }
        for index in 0..count {
            let number = self.free[self.free.len() - 1 - index];
            let Some((loan, context)) = lend(index, number) else { return Err(index) };
            let slot = &mut self.slots[number as usize];
            slot.context = context;
            // The slot was free: nothing is leaked, and the old state need not be inspected in order to drop
            // it.
            core::mem::forget(core::mem::replace(&mut slot.state, State::InFlight(loan)));
        }
        self.free.truncate(self.free.len() - count);
        self.in_flight += count;
        Ok(())
    }

    /// Returns the loans of the first `count` requests of a failed [`Self::insert_all`], each with its index.
    #[cold]
    #[inline(never)]
    pub fn undo_insert(&mut self, count: usize, mut take: impl FnMut(usize, L)) {
        for index in 0..count {
            let number = self.free[self.free.len() - 1 - index];
            let slot = &mut self.slots[number as usize];
            if let State::InFlight(loan) = core::mem::replace(&mut slot.state, State::Free) {
                take(index, loan);
            }
        }
    }

    /// Keeps a request that is to be lent later. Returns the number of its slot.
    ///
    /// # Errors
    /// The request, if no slot is free.
    pub fn hold(&mut self, request: L::Whole, context: C) -> Result<u32, L::Whole> {
        let Some(number) = self.free.pop() else { return Err(request) };
        self.slots[number as usize] = Slot { state: State::Held(request), context };
        Ok(number)
    }

    /// Takes a held request out of its slot; `None` if the slot holds none.
    pub fn take_held(&mut self, number: u32) -> Option<(L::Whole, C)> {
        let slot = self.slots.get_mut(number as usize)?;
        match core::mem::replace(&mut slot.state, State::Free) {
            State::Held(request) => {
                self.free.push(number);
                Some((request, slot.context))
            }
            other => {
                slot.state = other;
                None
            }
        }
    }

    /// The numbers and contexts of the held requests, by slot.
    pub fn held(&self) -> impl Iterator<Item = (u32, C)> {
        let held = |(number, slot): (usize, &Slot<L, C>)| match slot.state {
            State::Held(_) => Some((number as u32, slot.context)),
            _ => None,
        };
        self.slots.iter().enumerate().filter_map(held)
    }

    /// Settles the loan in slot `number` by `settle`, and frees the slot. Returns false, and changes nothing,
    /// if no loan is in that slot or if `settle` returns it. For requests that are settled where they are, in
    /// a batch.
    #[inline(always)]
    pub fn settle_with(&mut self, number: u64, settle: impl FnOnce(L) -> Result<(), L>) -> bool {
        let Some(slot) = usize::try_from(number).ok().and_then(|index| self.slots.get_mut(index)) else {
            return false;
        };
        match core::mem::replace(&mut slot.state, State::Free) {
            State::InFlight(loan) => {
                if let Err(loan) = settle(loan) {
                    slot.state = State::InFlight(loan);
                    return false;
                }
            }
            other => {
                slot.state = other;
                return false;
            }
        }
        self.in_flight -= 1;
        self.free.push(number as u32);
        true
    }

    /// Joins a returned request with its loan, and frees the slot. `number` is the one in the request's head,
    /// which the driver may have changed: then all slots are searched, and [`Settled::number`] differs from
    /// `number`.
    ///
    /// # Errors
    /// The lent half, if the request is none of this table.
    pub fn settle(&mut self, number: u64, lent: L::Lent) -> Result<Settled<L::Whole, C>, L::Lent> {
        match self.settle_in(number, lent) {
            Ok(settled) => Ok(settled),
            Err(lent) => self.search(lent),
        }
    }

    fn settle_in(&mut self, number: u64, lent: L::Lent) -> Result<Settled<L::Whole, C>, L::Lent> {
        let mut lent = Some(lent);
        let mut whole = None;
        let is_settled = self.settle_with(number, |loan| {
            let Some(half) = lent.take() else { return Err(loan) };
            loan.settle(half).map(|request| whole = Some(request)).map_err(|(loan, half)| {
                lent = Some(half);
                loan
            })
        });
        match (is_settled, whole, lent) {
            (true, Some(request), _) => {
                let number = number as u32;
                Ok(Settled { number, request, context: self.slots[number as usize].context })
            }
            (_, _, Some(lent)) => Err(lent),
            _ => unreachable!("a request is either whole or its lent half is left"),
        }
    }

    #[cold]
    #[inline(never)]
    fn search(&mut self, mut lent: L::Lent) -> Result<Settled<L::Whole, C>, L::Lent> {
        for number in 0..self.slots.len() {
            match self.settle_in(number as u64, lent) {
                Ok(settled) => return Ok(settled),
                Err(other) => lent = other,
            }
        }
        Err(lent)
    }

    /// Collects the requests that the driver has dropped, or lost in a crash: they are held from now on.
    /// Returns true if none is in flight any more.
    pub fn redeem(&mut self) -> bool {
        for slot in &mut self.slots {
            slot.state = match core::mem::replace(&mut slot.state, State::Free) {
                State::InFlight(loan) => match loan.redeem() {
                    Ok(request) => {
                        self.in_flight -= 1;
                        State::Held(request)
                    }
                    Err(loan) => State::InFlight(loan),
                },
                other => other,
            };
        }
        self.in_flight == 0
    }

    /// Drops the loans of all requests in flight, for which there will be no answers. The requests are freed
    /// when their other halves are dropped.
    pub fn abandon(&mut self) {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if let State::InFlight(_) = slot.state {
                slot.state = State::Free;
                self.free.push(number as u32);
            }
        }
        self.in_flight = 0;
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::cell::Cell;
    use std::rc::Rc;
    use std::vec;
    use std::vec::Vec;

    use super::*;

    /// A loan of the object with this number. The driver "crashes" when the cell is set.
    #[derive(Debug)]
    struct FakeLoan(u32, Rc<Cell<bool>>);

    impl LoanHalf for FakeLoan {
        type Lent = u32;
        type Whole = u32;

        fn settle(self, lent: u32) -> Result<u32, (Self, u32)> {
            if self.0 == lent { Ok(lent) } else { Err((self, lent)) }
        }

        fn redeem(self) -> Result<u32, Self> {
            if self.1.get() { Ok(self.0) } else { Err(self) }
        }
    }

    struct Driver(Rc<Cell<bool>>);

    impl Driver {
        fn new() -> Self {
            Self(Rc::default())
        }

        fn lend(&self, object: u32) -> FakeLoan {
            FakeLoan(object, self.0.clone())
        }

        fn crash(&self) {
            self.0.set(true);
        }
    }

    fn held(table: &InFlightTable<FakeLoan, char>) -> Vec<(u32, char)> {
        table.held().collect()
    }

    #[test]
    fn a_request_is_settled_under_its_number_and_frees_its_slot() {
        let driver = Driver::new();
        let mut table = InFlightTable::new(2, '-');
        let first = table.insert(driver.lend(100), 'a').expect("a slot is free");
        let second = table.insert(driver.lend(101), 'b').expect("a slot is free");
        assert!(table.is_full() && table.insert(driver.lend(102), 'c').is_err());
        let settled = table.settle(second.into(), 101).expect("it is in flight");
        assert_eq!((settled.number, settled.request, settled.context), (second, 101, 'b'));
        assert_eq!((table.in_flight(), table.is_full(), table.is_empty()), (1, false, false));
        assert_eq!(table.settle(second.into(), 101).expect_err("it was settled before"), 101);
        let settled = table.settle(first.into(), 100).expect("it is in flight");
        assert_eq!((settled.context, table.is_empty(), table.in_flight()), ('a', true, 0));
    }

    #[test]
    fn a_request_whose_number_was_changed_is_found() {
        let driver = Driver::new();
        let mut table = InFlightTable::new(3, '-');
        let numbers: Vec<u32> =
            (0..3).map(|n| table.insert(driver.lend(100 + n), 'x').expect("free")).collect();
        for (wrong, object) in [(u64::from(numbers[0]), 101), (u64::MAX, 102), (1 << 40, 100)] {
            let settled = table.settle(wrong, object).expect("it is in flight");
            assert_eq!((settled.number, settled.request), (numbers[object as usize - 100], object));
        }
        assert!(table.is_empty());
    }

    #[test]
    fn a_request_of_another_table_is_returned_and_changes_nothing() {
        let driver = Driver::new();
        let mut table = InFlightTable::new(2, '-');
        let number = table.insert(driver.lend(100), 'a').expect("a slot is free");
        assert_eq!(table.settle(number.into(), 555).expect_err("it is of another table"), 555);
        assert_eq!((table.in_flight(), table.context(number)), (1, 'a'));
        assert!(table.settle(number.into(), 100).is_ok());
    }

    #[test]
    fn requests_of_a_crashed_driver_are_held_and_those_of_a_running_one_stay_in_flight() {
        let (crashed, running) = (Driver::new(), Driver::new());
        let mut table = InFlightTable::new(3, '-');
        let first = table.insert(crashed.lend(100), 'a').expect("a slot is free");
        let second = table.insert(running.lend(101), 'b').expect("a slot is free");
        crashed.crash();
        assert!(!table.redeem());
        assert_eq!((held(&table), table.in_flight()), (vec![(first, 'a')], 1));
        assert_eq!(table.take_held(second), None);
        assert_eq!(table.take_held(first), Some((100, 'a')));
        assert_eq!((table.take_held(first), held(&table)), (None, vec![]));
        running.crash();
        assert!(table.redeem());
        assert_eq!(held(&table), [(second, 'b')]);
    }

    #[test]
    fn a_failed_insertion_of_a_batch_is_undone() {
        let driver = Driver::new();
        let mut table = InFlightTable::new(4, '-');
        assert_eq!(table.insert_all(5, |_, _| unreachable!("there are four slots")), Err(0));
        let lend = |index: usize, _| (index < 2).then(|| (driver.lend(index as u32), 'x'));
        assert_eq!(table.insert_all(3, lend), Err(2));
        let mut taken = vec![];
        table.undo_insert(2, |index, loan| taken.push((index, loan.0)));
        assert_eq!((taken, table.is_empty(), table.in_flight()), (vec![(0, 0), (1, 1)], true, 0));
        // All slots can be used again.
        let mut numbers = vec![];
        let lend = |index: usize, number| {
            numbers.push(number);
            Some((driver.lend(index as u32), 'y'))
        };
        assert_eq!(table.insert_all(4, lend), Ok(()));
        for (object, number) in numbers.into_iter().enumerate() {
            assert_eq!(table.settle(number.into(), object as u32).map(|one| one.number), Ok(number));
        }
    }

    #[test]
    fn abandoned_requests_free_their_slots_and_held_ones_stay() {
        let driver = Driver::new();
        let mut table = InFlightTable::new(2, '-');
        table.hold(7, 'h').expect("a slot is free");
        table.insert(driver.lend(100), 'a').expect("a slot is free");
        table.abandon();
        assert_eq!((table.in_flight(), table.is_full(), held(&table)), (0, false, vec![(0, 'h')]));
    }
}
