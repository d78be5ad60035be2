use coppice_rref::Shareable;

#[derive(Shareable)]
struct Request<'a> {
    number: &'a u64,
}

fn main() {}
