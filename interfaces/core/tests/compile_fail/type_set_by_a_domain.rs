#![forbid(unsafe_code)]

use coppice_rref::RRef;

fn confuse(object: &RRef<u64>, other: &RRef<u64>) {
    object.header().set_type(other.header().type_number());
}

fn main() {}
