//! One interface with every kind of argument and result that a generated shadow may have to do with.

#![forbid(unsafe_code)]

use std::time::Duration;

use coppice_interfaces::{Counter, Handle, RpcResult, Shadow, Shadowed, Text, interface};
use coppice_rref::{Bytes, Flat, Lent, RRef, Shareable};

#[derive(Clone, Debug, PartialEq, Eq, Shareable, Flat)]
pub struct Setting {
    name: Text<8>,
    value: [u16; 3],
}

#[interface]
pub trait Surviving {
    /// Nothing to repeat.
    #[retry]
    fn nothing(&self) -> RpcResult<()>;
    /// Plain data that is `Clone` and not `Copy`, borrows, an interface object; names that a shadow might use itself.
    #[retry]
    fn read(&self, target: Setting, call: &RRef<u64>, error: &RRef<u8>, count: Handle<dyn Counter>)
    -> RpcResult<RRef<u64>>;
    /// More arguments than one can count.
    #[replay]
    fn set(&self, target: Setting, b: bool, gate: Handle<dyn Counter>) -> RpcResult<Result<(), Setting>>;
    /// The latest counts.
    #[replay(last)]
    fn set_level(&self, level: u8) -> RpcResult<()>;
    /// Whatever moves.
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
