#![forbid(unsafe_code)]

use coppice_abi::{DmaBlock, Window};

fn by_constructor(memory: *mut u8) -> (Window, DmaBlock) {
    (Window::mapped(memory, 4096), DmaBlock::new(memory, 0))
}

fn by_default() -> (Window, DmaBlock) {
    Default::default()
}

fn main() {}
