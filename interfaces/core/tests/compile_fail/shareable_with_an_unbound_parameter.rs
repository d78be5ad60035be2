use coppice_rref::Shareable;

#[derive(Shareable)]
struct Request<T> {
    value: T,
}

fn main() {}
