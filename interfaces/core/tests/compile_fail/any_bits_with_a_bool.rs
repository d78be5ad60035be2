use coppice_rref::{AnyBits, Flat, Shareable};

#[derive(Shareable, Flat, AnyBits)]
struct Request {
    flush: bool,
}

fn main() {}
