use coppice_rref::{AnyBits, Flat, Shareable};

#[derive(Shareable, Flat, AnyBits)]
enum Request {
    Read,
    Write,
}

fn main() {}
