#![forbid(unsafe_code)]

use coppice_interfaces::interface;

#[interface]
pub trait Word {
    fn peek(&self) -> coppice_interfaces::RpcResult<u64>;
}

fn main() {}
