#![forbid(unsafe_code)]

use coppice_abi::note::{IMPORT, Note, Wire};
use coppice_example_interfaces::Counter;
use coppice_interfaces::Interface;

fn by_constructor() -> Note<Wire> {
    Note::new(IMPORT, Wire::new("next", "Counter", <dyn Counter as Interface>::FINGERPRINT))
}

fn main() {}
