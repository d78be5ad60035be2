use coppice_rref::{Flat, RRef, Shareable};

#[derive(Shareable, Flat)]
struct Request {
    number: RRef<u64>,
}

fn main() {}
