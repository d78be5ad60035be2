//! [`PacketPool`]: packets, each lent once.

use alloc::vec::Vec;

use coppice_net::{Batch, Packet, PacketHead};
use coppice_rref::{Lent, Loan, RRef};

use crate::NetClientError;

/// Packets of equal size. A packet's tag is its number, counted from 0.
///
/// The pool keeps the loans of all packets, and holds the *spare* ones. The others circulate until they are
/// put back, or until a crash returns them and [`Self::recover`] finds them.
pub struct PacketPool {
    slots: Vec<PacketSlot>,
    spare: Vec<Lent<Packet>>,
    start: u32,
}

/// The lender's side of one packet.
struct PacketSlot {
    /// `None` only inside [`PacketPool::recover`], which lends the packet again.
    loan: Option<Loan<Packet>>,
    /// Identifies the object; a borrower may overwrite the tag in its head.
    address: usize,
}

/// The distribution of a pool's packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Audit {
    /// The number of packets that the pool has allocated.
    pub made: usize,
    /// Spare packets in the pool.
    pub home: usize,
    /// Packets returned by the crash or exit of a borrower, which [`PacketPool::recover`] would find.
    pub back: usize,
    /// Packets lent to a queue or held by the pool's owner.
    pub away: usize,
    /// Spare packets with the tag of another one: a borrower has overwritten it.
    pub renamed: usize,
}

impl PacketPool {
    /// Allocates `count` packets of `bytes` bytes each.
    ///
    /// # Errors
    /// [`NetClientError::NoMemory`] when the shared heap or the domain's quota is exhausted.
    pub fn new(count: usize, bytes: usize) -> Result<Self, NetClientError> {
        Self::with_start(count, bytes, 0)
    }

    /// Like [`Self::new`], with `start` bytes of headroom before each frame. The headroom is part of `bytes`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_start(count: usize, bytes: usize, start: u32) -> Result<Self, NetClientError> {
        let mut pool = Self { slots: Vec::with_capacity(count), spare: Vec::with_capacity(count), start };
        for number in 0..count {
            let head = PacketHead::new(number as u64).with_start(start);
            let Ok(packet) = RRef::try_with_capacity(head, bytes) else {
                return Err(NetClientError::NoMemory { made: number, wanted: count });
            };
            let (loan, lent) = packet.lend();
            pool.slots.push(PacketSlot { loan: Some(loan), address: lent.address() });
            pool.spare.push(lent);
        }
        Ok(pool)
    }

    /// The number of packets that the pool has allocated.
    pub fn made(&self) -> usize {
        self.slots.len()
    }

    /// The number of spare packets.
    pub fn spare(&self) -> usize {
        self.spare.len()
    }

    /// Takes a spare packet out. Its head may still describe its last frame.
    #[inline]
    pub fn take(&mut self) -> Option<Lent<Packet>> {
        self.spare.pop()
    }

    /// Puts a packet back as a spare one. Its frame is dropped.
    #[inline]
    pub fn put(&mut self, packet: Lent<Packet>) {
        self.spare.push(packet);
    }

    /// Appends up to `max` spare packets to `batch`, as far as it has room, and returns their number. The
    /// packets are not cleared: use this for the `receive` batch of an exchange, in which all packets count
    /// as spare.
    pub fn fill(&mut self, batch: &mut RRef<Batch>, max: usize) -> usize {
        let mut count = 0;
        while count < max
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

    /// Moves packets from the back of `batch` into the pool until `keep` are left, and returns their number.
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

    /// Lends the packets again that a crash has returned, keeps them as spare ones, and returns their number.
    pub fn recover(&mut self) -> usize {
        let before = self.spare.len();
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if !slot.loan.as_ref().is_some_and(Loan::is_back) {
                continue;
            }
            let Some(loan) = slot.loan.take() else { continue };
            match loan.redeem() {
                Ok(mut packet) => {
                    // The borrower may have crashed while it wrote to the head.
                    **packet = PacketHead::new(number as u64).with_start(self.start);
                    let (loan, lent) = packet.lend();
                    slot.loan = Some(loan);
                    self.spare.push(lent);
                }
                Err(loan) => slot.loan = Some(loan),
            }
        }
        self.spare.len() - before
    }

    /// Counts the packets, in a pass over all of them.
    pub fn audit(&self) -> Audit {
        let back = self.slots.iter().filter(|slot| slot.loan.as_ref().is_some_and(Loan::is_back)).count();
        let is_renamed = |packet: &&Lent<Packet>| {
            let slot = usize::try_from(packet.tag()).ok().and_then(|tag| self.slots.get(tag));
            slot.is_none_or(|slot| slot.address != packet.address())
        };
        let (made, home) = (self.slots.len(), self.spare.len());
        Audit {
            made,
            home,
            back,
            away: made - home - back,
            renamed: self.spare.iter().filter(is_renamed).count(),
        }
    }
}
