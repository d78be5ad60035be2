//! FaultInjector on the way of a command: later, shorter, longer, answered wrongly.

use std::sync::atomic::Ordering;

use crate::fault_injection::{FaultInjector, Kind};
use crate::prp::Segment;
use crate::queue::Completion;
use crate::status::Status;
use crate::transfer::Transfer;

/// What an overlong transfer writes: nobody's data.
const GARBAGE: u8 = 0xa5;

impl FaultInjector {
    /// Whether commands of this queue are left alone.
    fn spares(&self, sq: u16) -> bool {
        sq == 0 && self.spares_admin.load(Ordering::Relaxed)
    }

    /// How much later a command is executed.
    pub(crate) fn delay_ns(&self, sq: u16) -> u64 {
        if !self.spares(sq) && self.strikes(Kind::Delay) { self.duration_ns(Kind::Delay) } else { 0 }
    }

    /// Whether the controller gives up on this command.
    pub(crate) fn is_fatal(&self, sq: u16) -> bool {
        if self.spares(sq) {
            return false;
        }
        if self.strikes(Kind::Unplug) {
            self.unplug();
        }
        self.strikes(Kind::Fatal)
    }

    /// Shortens a transfer.
    pub(crate) fn shorten(&self, segments: &mut Vec<Segment>) {
        if self.strikes(Kind::Short) {
            let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
            // At least a word less, and maybe nothing at all.
            let mut left = self.draw(Kind::Short) % bytes.max(1) / 4 * 4;
            segments.retain_mut(|segment| {
                segment.bytes = segment.bytes.min(left);
                left -= segment.bytes;
                segment.bytes > 0
            });
        }
    }

    /// Lengthens a transfer to the host, to the end of its last page. Beyond the page it could be anybody's memory,
    /// which no driver could defend itself against.
    pub(crate) fn lengthen(&self, segments: &mut [Segment], page: u64) {
        if self.strikes(Kind::Long)
            && let Some(last) = segments.last_mut()
        {
            last.bytes += (page - (last.address + last.bytes) % page) % page;
        }
    }

    /// Fills what a lengthened transfer to the host has left.
    pub(crate) fn overrun(&self, transfer: &mut Transfer<'_>) -> Result<(), Status> {
        let room = transfer.room();
        if room == 0 { Ok(()) } else { transfer.give(&vec![GARBAGE; room as usize]) }
    }

    /// What becomes of an answer: up to two completions, each after a time in nanoseconds.
    pub(crate) fn completions(
        &self,
        mut completion: Completion,
    ) -> impl Iterator<Item = (u64, Completion)> + use<> {
        if self.spares(completion.sq) {
            return [Some((0, completion)), None].into_iter().flatten();
        }
        if self.strikes(Kind::Drop) {
            return [None, None].into_iter().flatten();
        }
        if self.strikes(Kind::WrongId) {
            completion.id ^= 1 << (self.draw(Kind::WrongId) % 16);
        }
        if self.strikes(Kind::WrongStatus) {
            completion.status = if completion.status.is_error() {
                Status::SUCCESS
            } else {
                // Any type but vendor specific, any code but 0.
                let draw = self.draw(Kind::WrongStatus);
                Status::from_code((draw % 3) as u16 * 0x100 + 1 + (draw >> 8) as u16 % 0xff)
            };
            completion.more = false;
        }
        if self.strikes(Kind::WrongHead) {
            completion.false_head = Some(self.draw(Kind::WrongHead) as u16);
        }
        let delay = if self.strikes(Kind::Reorder) {
            self.draw(Kind::Reorder) % self.duration_ns(Kind::Reorder).max(1) + 1
        } else {
            0
        };
        let twin = self.strikes(Kind::Duplicate).then_some((delay, completion));
        [Some((delay, completion)), twin].into_iter().flatten()
    }
}
