#![forbid(unsafe_code)]

use coppice_interfaces::RpcError;
use coppice_rref::RRef;

fn main() {
    let _ = RRef::<RpcError>::zeroed();
}
