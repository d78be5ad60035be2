#![forbid(unsafe_code)]

use core::ptr::NonNull;

use coppice_rref::RRef;

fn from_an_address(value: NonNull<u64>) -> RRef<u64> {
    RRef::from_raw(value)
}

fn twice(object: &RRef<u64>) {
    object.alias();
}

fn by_default() -> RRef<u64> {
    Default::default()
}

fn main() {}
