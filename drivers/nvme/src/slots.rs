//! [`Slots`]: the table of commands in flight, by command identifier.

use alloc::boxed::Box;

/// Commands in flight. The lower bits of a command's identifier are its slot; the upper bits are a generation
/// that changes with each use of the slot. So a second completion of a command matches nothing, even when the
/// slot is in use again (until the generations wrap: 512 uses of one slot at 128 slots). The initial
/// generation differs between slots, so that an identifier with a flipped bit matches no other command.
///
/// # Invariants
/// - A slot in use holds the identifier of its command; a free slot holds the complement of the last one. The
///   two cannot be confused: the complement's lower bits are not the slot's.
/// - FFFFh is never used as an identifier (Base 3.3.3.1: the error log has another meaning for it).
pub(crate) struct Slots<T> {
    slots: Box<[Slot<T>]>,
    /// Free slots, in the first `free_len` elements.
    free: Box<[u16]>,
    free_len: usize,
    mask: u16,
}

struct Slot<T> {
    id: u16,
    content: Option<T>,
}

impl<T> Slots<T> {
    /// Creates a table for `len` commands, at most 4096.
    pub(crate) fn new(len: u16) -> Self {
        assert!((1..=4096).contains(&len), "{len} slots");
        // At least one bit, so that a complement's lower bits never equal the slot.
        let mask = len.max(2).next_power_of_two() - 1;
        let first = |slot: u16| !(slot | (slot.wrapping_mul(0x9E37) & !mask));
        let slots = (0..len).map(|slot| Slot { id: first(slot), content: None });
        Self { slots: slots.collect(), free: (0..len).rev().collect(), free_len: len.into(), mask }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    #[inline]
    pub(crate) fn in_use(&self) -> usize {
        self.slots.len() - self.free_len
    }

    /// Returns the slot that the next [`Self::occupy`] takes.
    #[inline]
    pub(crate) fn vacancy(&self) -> Option<usize> {
        Some(usize::from(*self.free.get(self.free_len.checked_sub(1)?)?))
    }

    /// Takes the slot [`Self::vacancy`], which must exist, and returns its new identifier.
    #[inline]
    pub(crate) fn occupy(&mut self, content: T) -> u16 {
        self.free_len -= 1;
        let slot = &mut self.slots[usize::from(self.free[self.free_len])];
        let step = self.mask + 1;
        let mut id = (!slot.id).wrapping_add(step);
        if id == u16::MAX {
            id = id.wrapping_add(step);
        }
        slot.id = id;
        slot.content = Some(content);
        id
    }

    /// Removes the command `id`; returns `None` if it is not in flight.
    #[inline]
    pub(crate) fn release(&mut self, id: u16) -> Option<T> {
        let index = id & self.mask;
        let slot = self.slots.get_mut(usize::from(index))?;
        if slot.id != id {
            return None;
        }
        slot.id = !id;
        // In bounds: each slot in use was taken from this list.
        self.free[self.free_len] = index;
        self.free_len += 1;
        slot.content.take()
    }

    /// Returns the identifier of the command in a slot, if there is one.
    pub(crate) fn id(&self, index: usize) -> Option<u16> {
        let slot = self.slots.get(index)?;
        slot.content.is_some().then_some(slot.id)
    }

    /// Removes an arbitrary command in flight.
    pub(crate) fn release_any(&mut self) -> Option<T> {
        let id = (0..self.slots.len()).find_map(|index| self.id(index))?;
        self.release(id)
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_identifier_releases_its_command_once() {
        let mut slots = Slots::new(4);
        let ids: Vec<u16> = (0..4).map(|number| slots.occupy(number)).collect();
        assert_eq!(slots.vacancy(), None);
        assert_eq!(slots.release(ids[2]), Some(2));
        assert_eq!(slots.release(ids[2]), None);
        assert_eq!(slots.in_use(), 3);
        let again = slots.occupy(9);
        assert_ne!(again, ids[2]);
        assert_eq!(slots.release(ids[2]), None);
        assert_eq!(slots.release(again), Some(9));
    }

    #[test]
    fn only_identifiers_in_flight_are_found_at_every_table_size() {
        for len in [1, 2, 3, 31, 128, 129, 1000, 4096] {
            let mut slots = Slots::new(len);
            assert!((0..=u16::MAX).all(|id| slots.release(id).is_none()), "{len} slots, none in use");
            let mut ids = BTreeSet::new();
            for _ in 0..70_000 / u32::from(len) + 2 {
                ids = (0..len).map(|number| slots.occupy(number)).collect();
                assert_eq!(ids.len(), len.into());
                assert!(!ids.contains(&u16::MAX));
                if ids.iter().any(|&id| slots.release(id).is_none()) {
                    panic!("an identifier in flight was not found, {len} slots");
                }
            }
            assert!(ids.iter().all(|&id| slots.release(id).is_none()));
        }
    }

    #[test]
    fn neighbouring_identifiers_are_not_in_flight_together() {
        let mut slots = Slots::new(128);
        let ids: BTreeSet<u16> = (0..128).map(|number| slots.occupy(number)).collect();
        let hits =
            ids.iter().flat_map(|id| (0..16).map(move |bit| id ^ 1 << bit)).filter(|id| ids.contains(id));
        assert_eq!(hits.count(), 0, "a flipped bit hits another command");
    }

    #[test]
    fn all_commands_can_be_released() {
        let mut slots = Slots::new(3);
        slots.occupy('a');
        slots.occupy('b');
        let mut taken = [slots.release_any(), slots.release_any()];
        taken.sort_unstable();
        assert_eq!(taken, [Some('a'), Some('b')]);
        assert_eq!(slots.release_any(), None);
        assert_eq!(slots.len(), 3);
    }
}
