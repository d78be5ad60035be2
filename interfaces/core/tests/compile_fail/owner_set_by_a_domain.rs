#![forbid(unsafe_code)]

use coppice_interfaces::DomainId;
use coppice_rref::RRef;

fn steal(object: &RRef<u64>) {
    object.header().pass_to(DomainId::KERNEL);
}

fn main() {}
