#![forbid(unsafe_code)]

use coppice_rref::{Fingerprint, RRef};

fn confuse(object: &RRef<u64>) {
    object.header().set_type(Fingerprint(1));
}

fn main() {}
