//! What a domain died of, at length.

use alloc::string::String;
use alloc::vec::Vec;

use coppice_abi::services;
use coppice_interfaces::RpcError;

/// What the kernel remembers of the death that `error` tells of: lines that say who died of what, where, called by whom
/// and in which functions. `None` when so many have died since that it is forgotten.
///
/// An error that came of no death, such as [`coppice_interfaces::CrashKind::NoStack`], has no crash record, unless the instance
/// that it names has ended since.
pub fn of(error: &RpcError) -> Option<String> {
    let mut text = Vec::new();
    loop {
        // SAFETY: writable for as many bytes as we say.
        let len = unsafe { (services().crash_text)(error.domain(), text.as_mut_ptr(), text.len()) };
        if len <= text.len() {
            text.truncate(len);
            return String::from_utf8(text).ok().filter(|text| !text.is_empty());
        }
        text.resize(len, 0);
    }
}
