#![forbid(unsafe_code)]

use coppice_interfaces::RpcError;

fn main() {
    let _ = RpcError(1.try_into().unwrap());
}
