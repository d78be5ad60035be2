use coppice_rref::{RRef, Shareable};

#[derive(Shareable)]
struct Request {
    number: RRef<u64>,
}

fn replace(request: &mut RRef<Request>, number: RRef<u64>) {
    request.number = number;
}

fn main() {}
