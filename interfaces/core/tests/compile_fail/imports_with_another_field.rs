use coppice_interfaces::Imports;

#[derive(Imports)]
struct Wires {
    number: u64,
}

fn main() {}
