use std::cell::Cell;

use coppice_rref::Shareable;

#[derive(Shareable)]
enum Request {
    Nothing,
    Number(Cell<u64>),
}

fn main() {}
