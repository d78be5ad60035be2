#![forbid(unsafe_code)]

use coppice_interfaces::{HandleList, Imports, RawHandles};

struct Wires;

impl Imports for Wires {
    type Handles = Self;
    const NAMES: &'static [&'static str] = &[];
    fn from_handles(handles: Self) -> Self {
        handles
    }
}

impl HandleList<Wires> for Wires {
    const COUNT: usize = 0;
    type Notes = ();
    const NOTES: () = ();
    fn take(_: &mut RawHandles<'_>) -> Self {
        Self
    }
}

fn main() {}
