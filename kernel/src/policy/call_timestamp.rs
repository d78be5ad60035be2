//! Call timestamps: the time at which a watch tick first saw a call, in the upper 24 bits of
//! [`Continuation::status`] (C4).
//!
//! A timestamp counts units of 65,536 ns and wraps around after 1100 s; timestamps within half of that of the
//! present are unambiguous. Deadlines are shorter ([`coppice_manifest::DEADLINE_LIMIT_NS`]), and a call with
//! a deadline is checked when it has passed, so no timestamp gets older. It is rounded up: no call seems
//! older than it is. 0 means no timestamp; a call that would get 0 gets the next unit.

use coppice_abi::crossing::{Continuation, Status};

/// Nanoseconds in a unit.
pub(crate) const UNIT_NS: u64 = 1 << UNIT_SHIFT;
const UNIT_SHIFT: u32 = 16;
const BITS: u32 = u32::BITS - Status::TIMESTAMP_SHIFT;

const _: () = assert!(coppice_manifest::DEADLINE_LIMIT_NS < UNIT_NS << (BITS - 1));

/// Sets the call's timestamp, if it has none yet. Returns the time since which the call is known to run: not
/// before `now_ns` if this is the first look.
pub(crate) fn seen_since(continuation: &mut Continuation, now_ns: u64) -> u64 {
    if since(continuation, now_ns).is_none() {
        let units = now_ns.div_ceil(UNIT_NS) as u32 & (u32::MAX >> Status::TIMESTAMP_SHIFT);
        continuation.status |= units.max(1) << Status::TIMESTAMP_SHIFT;
    }
    since(continuation, now_ns).expect("the timestamp was just set")
}

/// The time since which the call is known to run; `None` if no tick has seen it.
pub(crate) fn since(continuation: &Continuation, now_ns: u64) -> Option<u64> {
    let timestamp = continuation.status & !Status::OUTCOME;
    if timestamp == 0 {
        return None;
    }
    // Both as the upper bits of 32, so that the difference wraps where timestamps do.
    let now = ((now_ns >> UNIT_SHIFT) as u32) << Status::TIMESTAMP_SHIFT;
    let age = i64::from(now.wrapping_sub(timestamp).cast_signed() >> Status::TIMESTAMP_SHIFT);
    Some((now_ns >> UNIT_SHIFT).saturating_add_signed(-age) << UNIT_SHIFT)
}

#[cfg(test)]
mod tests {
    use core::ptr;

    use coppice_abi::crossing::RpcError;
    use coppice_abi::{CrashKind, DomainId};

    use super::*;

    fn fresh() -> Continuation {
        let callee = DomainId::new(2, 0);
        Continuation {
            rip: 0,
            rsp: 0,
            rbx: 0,
            rbp: 0,
            r15: 0,
            previous: ptr::null_mut(),
            status: Status::RETURNED,
            borrow_count: 0,
            caller: DomainId::KERNEL,
            core: ptr::null(),
            borrows: ptr::null(),
            // SAFETY: the error is seen by no domain.
            error: unsafe { RpcError::new(callee, CrashKind::Killed) },
        }
    }

    const WRAP_NS: u64 = UNIT_NS << BITS;

    #[test]
    fn call_that_no_tick_saw_has_no_timestamp() {
        assert_eq!(since(&fresh(), 12_345), None);
    }

    #[test]
    fn call_is_as_old_as_its_first_look_and_never_older() {
        for first in
            [0, 1, UNIT_NS, UNIT_NS + 1, 7_654_321, WRAP_NS - 1, WRAP_NS, WRAP_NS + 5, 9 * WRAP_NS - 3]
        {
            let mut call = fresh();
            call.status = Status::CALLER_DIED;
            let begin = seen_since(&mut call, first);
            assert!((first..=first + 2 * UNIT_NS).contains(&begin), "{first}: {begin}");
            for age in
                [0, 1, 1_000_000, 20_000_000, coppice_manifest::DEADLINE_LIMIT_NS, WRAP_NS / 2 - 2 * UNIT_NS]
            {
                assert_eq!(since(&call, first + age), Some(begin), "first seen at {first}, {age} later");
                assert_eq!(seen_since(&mut call, first + age), begin, "a later look keeps the timestamp");
            }
            assert_eq!(call.status & Status::OUTCOME, Status::CALLER_DIED, "the outcome is untouched");
        }
    }
}
