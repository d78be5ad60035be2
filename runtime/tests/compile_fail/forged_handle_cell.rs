#![forbid(unsafe_code)]

use coppice_abi::RawObject;
use coppice_example_interfaces::Counter;
use coppice_interfaces::{Handle, HandleCell};

fn by_constructor(proxy: RawObject) -> HandleCell {
    HandleCell::new(proxy)
}

fn by_default() -> HandleCell {
    Default::default()
}

fn handle(cell: &mut HandleCell) -> Handle<dyn Counter> {
    Handle::from_cell(core::ptr::NonNull::from(cell).cast())
}

fn main() {}
