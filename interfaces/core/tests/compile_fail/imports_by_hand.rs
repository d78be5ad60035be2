use coppice_interfaces::{Imports, RawHandles};

struct Wires;

impl Imports for Wires {
    type Notes = ();
    const NOTES: () = ();
    fn take(_: &mut RawHandles<'_>) -> Self {
        Self
    }
}

fn main() {}
