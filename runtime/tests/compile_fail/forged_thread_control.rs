#![forbid(unsafe_code)]

use coppice_abi::crossing::{Abandon, Continuation, ThreadControl};
use coppice_interfaces::DomainId;

extern "C" fn checkpoint() {}

fn by_constructor(abandon: Abandon) -> ThreadControl {
    ThreadControl::new(0, checkpoint, abandon)
}

fn by_default() -> ThreadControl {
    Default::default()
}

fn changed(control: &mut ThreadControl, continuation: &Continuation) {
    control.current = DomainId::KERNEL;
    control.return_to(continuation);
}

fn main() {}
