#![forbid(unsafe_code)]

use coppice_abi::crossing::{Continuation, RpcError, Status, resume};
use coppice_interfaces::DomainId;

fn by_constructor(error: RpcError) -> Continuation {
    Continuation::unused(DomainId::NONE, error)
}

fn by_default() -> Continuation {
    Default::default()
}

fn changed(continuation: &mut Continuation) {
    continuation.rip = 0x1000;
    continuation.mark(Status::FAILED);
}

fn resumed(continuation: &Continuation) -> ! {
    resume(continuation)
}

fn main() {}
