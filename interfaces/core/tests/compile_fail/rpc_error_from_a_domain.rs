#![forbid(unsafe_code)]

use coppice_interfaces::{CrashKind, DomainId, RpcError};

fn main() {
    let _ = RpcError::new(DomainId::KERNEL, CrashKind::Panic);
}
