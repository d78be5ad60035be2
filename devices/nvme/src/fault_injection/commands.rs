//! Faults of commands: delays, short and long transfers, wrong completions.

use std::sync::atomic::Ordering;

use crate::fault_injection::{FaultInjector, Kind};
use crate::prp::Segment;
use crate::queue::Completion;
use crate::status::Status;
use crate::transfer::Transfer;

/// The content of the excess of a long transfer; no data of the disk.
const GARBAGE: u8 = 0xa5;

impl FaultInjector {
    /// Returns true if commands of this queue are exempt.
    fn is_exempt(&self, sq: u16) -> bool {
        sq == 0 && self.spares_admin.load(Ordering::Relaxed)
    }

    /// The delay of a command before its execution.
    pub(crate) fn delay_ns(&self, sq: u16) -> u64 {
        if !self.is_exempt(sq) && self.fires(Kind::Delay) { self.duration_ns(Kind::Delay) } else { 0 }
    }

    /// Returns true if the controller fails at this command.
    pub(crate) fn is_fatal(&self, sq: u16) -> bool {
        if self.is_exempt(sq) {
            return false;
        }
        if self.fires(Kind::Unplug) {
            self.unplug();
        }
        self.fires(Kind::Fatal)
    }

    /// Shortens a transfer, for [`Kind::Short`].
    pub(crate) fn shorten(&self, segments: &mut Vec<Segment>) {
        if self.fires(Kind::Short) {
            let bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
            // Shorter by at least a word, and possibly empty.
            let mut left = self.draw(Kind::Short) % bytes.max(1) / 4 * 4;
            segments.retain_mut(|segment| {
                segment.bytes = segment.bytes.min(left);
                left -= segment.bytes;
                segment.bytes > 0
            });
        }
    }

    /// Lengthens a transfer to the host, for [`Kind::Long`], to the end of its last page. The memory after
    /// the page may belong to another domain; no driver can defend itself against a write there.
    pub(crate) fn lengthen(&self, segments: &mut [Segment], page: u64) {
        if self.fires(Kind::Long)
            && let Some(last) = segments.last_mut()
        {
            last.bytes += (page - (last.address + last.bytes) % page) % page;
        }
    }

    /// Fills the excess of a long transfer to the host.
    pub(crate) fn overrun(&self, transfer: &mut Transfer<'_>) -> Result<(), Status> {
        let excess = transfer.remaining();
        if excess == 0 { Ok(()) } else { transfer.write_host(&vec![GARBAGE; excess as usize]) }
    }

    /// Turns a completion into up to two, each with a delay in nanoseconds.
    pub(crate) fn completions(
        &self,
        mut completion: Completion,
    ) -> impl Iterator<Item = (u64, Completion)> + use<> {
        if self.is_exempt(completion.sq) {
            return [Some((0, completion)), None].into_iter().flatten();
        }
        if self.fires(Kind::Drop) {
            return [None, None].into_iter().flatten();
        }
        if self.fires(Kind::WrongId) {
            completion.id ^= 1 << (self.draw(Kind::WrongId) % 16);
        }
        if self.fires(Kind::WrongStatus) {
            completion.status = if completion.status.is_error() {
                Status::SUCCESS
            } else {
                // Any status code type but vendor specific, any code but 0.
                let draw = self.draw(Kind::WrongStatus);
                Status::from_code((draw % 3) as u16 * 0x100 + 1 + (draw >> 8) as u16 % 0xff)
            };
            completion.more = false;
        }
        if self.fires(Kind::WrongHead) {
            completion.false_head = Some(self.draw(Kind::WrongHead) as u16);
        }
        let delay = if self.fires(Kind::Reorder) {
            self.draw(Kind::Reorder) % self.duration_ns(Kind::Reorder).max(1) + 1
        } else {
            0
        };
        let duplicate = self.fires(Kind::Duplicate).then_some((delay, completion));
        [Some((delay, completion)), duplicate].into_iter().flatten()
    }
}
