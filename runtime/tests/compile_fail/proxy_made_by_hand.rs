//! A domain that writes by hand what `#[interface]` would expand to.

#![forbid(unsafe_code)]

use coppice_interfaces::{Handle, Interface, ProxyCore, RpcResult, crossing};
use coppice_rref::{Fingerprint, TypeEntry};

pub trait Word: Send + Sync {
    fn peek(&self) -> RpcResult<u64>;
}

#[repr(transparent)]
struct WordProxy(ProxyCore);

impl Word for WordProxy {
    fn peek(&self) -> RpcResult<u64> {
        crossing::call::<dyn Word, _, _, _>(&self.0, (), &[], |target, ()| target.peek())
    }
}

impl Interface for dyn Word {
    const NAME: &'static str = "Counter";
    const IDENTITY: Fingerprint = Fingerprint::from_bytes([0; Fingerprint::SIZE]);
    const FINGERPRINT: Fingerprint = Self::IDENTITY;
    fn proxy(core: *const ProxyCore) -> *const Self {
        core.cast::<WordProxy>()
    }
    fn from_raw(_: coppice_abi::RawObject) -> *const Self {
        loop {}
    }
    fn as_raw(_: *const Self) -> coppice_abi::RawObject {
        loop {}
    }
    fn for_each_type(_: &mut dyn FnMut(TypeEntry)) {}
}

fn export(word: Box<dyn Word>) -> Handle<dyn Word> {
    Handle::export(word)
}

fn main() {}
