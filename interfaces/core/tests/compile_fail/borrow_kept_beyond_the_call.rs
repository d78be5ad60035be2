use std::sync::Mutex;

use coppice_interfaces::{RpcResult, interface};
use coppice_rref::RRef;

#[interface]
trait Service {
    fn read(&self, number: &RRef<u64>) -> RpcResult<()>;
}

struct Keeper {
    kept: Mutex<Option<&'static RRef<u64>>>,
}

impl Service for Keeper {
    fn read(&self, number: &RRef<u64>) -> RpcResult<()> {
        *self.kept.lock().unwrap() = Some(number);
        Ok(())
    }
}

fn main() {}
