#![forbid(unsafe_code)]

use core::ptr::NonNull;

use coppice_hardware::{DmaAddr, DmaRange, MappedWindow, Region};

fn by_constructor(memory: NonNull<u8>) -> (Region, MappedWindow) {
    (Region::new(memory, 0, 4096), MappedWindow::new(memory, 4096))
}

fn addresses() -> (DmaAddr, DmaRange) {
    (DmaAddr::new(0), DmaRange::new(0, 4096))
}

fn by_default() -> (DmaAddr, DmaRange) {
    Default::default()
}

fn main() {}
