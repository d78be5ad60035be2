#![forbid(unsafe_code)]

use coppice_rref::{AnyBits, Flat, Shareable};

#[derive(Shareable)]
struct Plain {
    number: u64,
}

#[derive(Flat)]
struct Flattened {
    number: u64,
}

#[derive(AnyBits)]
struct Bits {
    number: u64,
}

fn main() {}
