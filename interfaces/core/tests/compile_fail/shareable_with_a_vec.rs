use coppice_rref::Shareable;

#[derive(Shareable)]
struct Request {
    numbers: Vec<u64>,
}

fn main() {}
