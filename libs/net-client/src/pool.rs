//! [`Pool`]: packets, each lent once.

use alloc::vec::Vec;

use coppice_net::{Batch, Packet, PacketHead};
use coppice_rref::{Lent, Loan, RRef};

use crate::PortError;

/// Packets that all have room for as many bytes. A packet's tag is its number, from 0 on.
///
/// The claims stay here. What is *spare* is here too; all else is somewhere on its way, until it is put back, or until a crash
/// brings it back and [`Self::recover`] finds it.
pub struct Pool {
    places: Vec<Place>,
    spare: Vec<Lent<Packet>>,
    start: u32,
}

struct Place {
    /// `None` only while it is lent anew.
    loan: Option<Loan<Packet>>,
    /// Which object it is, whatever a borrower writes into its head.
    address: usize,
}

/// Where a pool's packets are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Audit {
    /// How many there are.
    pub made: usize,
    /// Spare, in the pool.
    pub home: usize,
    /// Given back by who had them, or by their end: [`Pool::recover`] would find them.
    pub back: usize,
    /// Lent to somebody, or in the hands of the pool's owner.
    pub away: usize,
    /// Of those at home, how many have another's tag: a borrower has changed what is not its to change.
    pub renamed: usize,
}

impl Pool {
    /// `count` packets of `bytes` bytes each.
    ///
    /// # Errors
    /// [`PortError::NoMemory`].
    pub fn new(count: usize, bytes: usize) -> Result<Self, PortError> {
        Self::with_start(count, bytes, 0)
    }

    /// The same, with `start` bytes of room in front of each frame, which are part of `bytes`.
    ///
    /// # Errors
    /// [`PortError::NoMemory`].
    pub fn with_start(count: usize, bytes: usize, start: u32) -> Result<Self, PortError> {
        let mut pool = Self { places: Vec::with_capacity(count), spare: Vec::with_capacity(count), start };
        for number in 0..count {
            let head = PacketHead::new(number as u64).with_start(start);
            let Ok(packet) = RRef::try_with_capacity(head, bytes) else {
                return Err(PortError::NoMemory { made: number, wanted: count });
            };
            let (loan, lent) = packet.lend();
            pool.places.push(Place { loan: Some(loan), address: lent.address() });
            pool.spare.push(lent);
        }
        Ok(pool)
    }

    /// How many packets it has made.
    pub fn made(&self) -> usize {
        self.places.len()
    }

    /// How many are spare here.
    pub fn spare(&self) -> usize {
        self.spare.len()
    }

    /// A spare packet. Its head may still describe the frame that it had last.
    #[inline]
    pub fn take(&mut self) -> Option<Lent<Packet>> {
        self.spare.pop()
    }

    /// Takes a packet back. What was in it is over.
    #[inline]
    pub fn put(&mut self, packet: Lent<Packet>) {
        self.spare.push(packet);
    }

    /// Puts up to `most` spare packets behind what is in `batch`, as far as there is room. Answers how many. It does not look at them:
    /// so this is for what is handed in as `receive`, where everything is spare.
    pub fn fill(&mut self, batch: &mut RRef<Batch>, most: usize) -> usize {
        let mut count = 0;
        while count < most
            && !batch.is_full()
            && let Some(packet) = self.spare.pop()
        {
            if let Err(packet) = batch.push_back(packet) {
                self.spare.push(packet);
                break;
            }
            count += 1;
        }
        count
    }

    /// Takes packets from the back of `batch` until `keep` are left. Answers how many.
    pub fn drain(&mut self, batch: &mut RRef<Batch>, keep: usize) -> usize {
        let mut count = 0;
        while batch.len() > keep
            && let Some(packet) = batch.pop_back()
        {
            self.spare.push(packet);
            count += 1;
        }
        count
    }

    /// Lends anew what has come back past whoever had it, and has it here as spare. Answers how many.
    pub fn recover(&mut self) -> usize {
        let before = self.spare.len();
        for (number, place) in self.places.iter_mut().enumerate() {
            if !place.loan.as_ref().is_some_and(Loan::is_back) {
                continue;
            }
            let Some(loan) = place.loan.take() else { continue };
            match loan.redeem() {
                Ok(mut packet) => {
                    // Whoever had it may have died in the middle of writing to its head.
                    **packet = PacketHead::new(number as u64).with_start(self.start);
                    let (loan, lent) = packet.lend();
                    place.loan = Some(loan);
                    self.spare.push(lent);
                }
                Err(loan) => place.loan = Some(loan),
            }
        }
        self.spare.len() - before
    }

    /// Counts. Looks at each packet.
    pub fn audit(&self) -> Audit {
        let back = self.places.iter().filter(|place| place.loan.as_ref().is_some_and(Loan::is_back)).count();
        let is_renamed = |packet: &&Lent<Packet>| {
            let place = usize::try_from(packet.tag()).ok().and_then(|tag| self.places.get(tag));
            place.is_none_or(|place| place.address != packet.address())
        };
        let (made, home) = (self.places.len(), self.spare.len());
        Audit {
            made,
            home,
            back,
            away: made - home - back,
            renamed: self.spare.iter().filter(is_renamed).count(),
        }
    }
}
