//! An interface with every kind of argument and result that a generated shadow supports.

#![forbid(unsafe_code)]

use std::time::Duration;

use coppice_example_interfaces::Counter;
use coppice_interfaces::{Handle, RpcResult, Shadow, Shadowed, Text, interface};
use coppice_rref::{Bytes, Flat, Lent, RRef, Shareable};

#[derive(Clone, Debug, PartialEq, Eq, Shareable, Flat)]
pub struct Setting {
    name: Text<8>,
    value: [u16; 3],
}

#[interface]
pub trait Surviving {
    /// No argument.
    #[retry]
    fn nothing(&self) -> RpcResult<()>;
    /// Plain data that is `Clone` and not `Copy`, borrows, an interface object; names that the
    /// shadow's code might use.
    #[retry]
    fn read(&self, target: Setting, call: &RRef<u64>, error: &RRef<u8>, count: Handle<dyn Counter>)
    -> RpcResult<RRef<u64>>;
    /// Several arguments.
    #[replay]
    fn set(&self, target: Setting, b: bool, gate: Handle<dyn Counter>) -> RpcResult<Result<(), Setting>>;
    /// The latest call is kept.
    #[replay(last)]
    fn set_level(&self, level: u8) -> RpcResult<()>;
    /// Arguments that move.
    #[fail]
    fn submit(&self, request: RRef<u64>, buffer: Lent<Bytes<64>>, by: &RRef<u64>) -> RpcResult<Option<RRef<u64>>>;
}

pub fn wrap(target: Handle<dyn Surviving>) -> Handle<dyn Surviving> {
    <dyn Surviving>::export_shadow(Shadow::new(target, Duration::from_millis(1)))
}

pub fn call(shadow: &Shadow<dyn Surviving>) -> RpcResult<()> {
    shadow.nothing()?;
    shadow.set_level(3)
}

fn main() {}
