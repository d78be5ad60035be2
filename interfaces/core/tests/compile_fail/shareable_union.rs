use coppice_rref::Shareable;

#[derive(Shareable)]
union Request {
    number: u64,
}

fn main() {}
