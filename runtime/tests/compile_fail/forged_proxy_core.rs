#![forbid(unsafe_code)]

use core::sync::atomic::AtomicU64;

use coppice_abi::RawObject;
use coppice_interfaces::{DomainId, ProxyCore};

fn by_constructor(alive: &'static AtomicU64, target: RawObject) -> ProxyCore {
    ProxyCore::new(DomainId::NONE, alive, target)
}

fn by_default() -> ProxyCore {
    Default::default()
}

fn redirected(core: &ProxyCore, target: RawObject) {
    core.follow(DomainId::NONE, target);
}

fn main() {}
