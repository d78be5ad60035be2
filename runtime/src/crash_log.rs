//! Crash records, as text.

use alloc::string::String;
use alloc::vec::Vec;

use coppice_abi::services;
use coppice_interfaces::RpcError;

/// Returns the kernel's crash record of the crash that `error` reports: lines with the cause, the place, the
/// callers and the functions on the stack. `None` when later crashes have evicted it.
///
/// An error without a crash, such as [`coppice_interfaces::CrashKind::NoStack`], has no record, unless the
/// instance that it names has ended since.
pub fn of(error: &RpcError) -> Option<String> {
    let mut text = Vec::new();
    loop {
        // SAFETY: `text` is writable for its length.
        let len = unsafe { (services().crash_text)(error.domain(), text.as_mut_ptr(), text.len()) };
        if len <= text.len() {
            text.truncate(len);
            return String::from_utf8(text).ok().filter(|text| !text.is_empty());
        }
        text.resize(len, 0);
    }
}
