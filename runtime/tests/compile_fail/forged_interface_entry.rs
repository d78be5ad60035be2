#![forbid(unsafe_code)]

use coppice_example_interfaces::Counter;
use coppice_interfaces::{InterfaceEntry, ProxyCore};

fn by_default() -> InterfaceEntry {
    Default::default()
}

fn called(core: *const ProxyCore) {
    InterfaceEntry::of::<dyn Counter>().proxy(core);
}

fn main() {}
