#![forbid(unsafe_code)]

use coppice_abi::crossing::{CpuBlock, ThreadControl, enter, leave};

fn by_constructor(thread: *mut ThreadControl) -> CpuBlock {
    CpuBlock::new(thread, 0, 0)
}

fn by_default() -> CpuBlock {
    Default::default()
}

fn changed(block: &mut CpuBlock) {
    block.critical = 0;
}

fn section() {
    enter();
    leave();
}

fn main() {}
