#![forbid(unsafe_code)]

use coppice_abi::RawObject;
use coppice_example_interfaces::{Counter, Echo};
use coppice_interfaces::Interface;

fn by_constructor(address: usize) -> RawObject {
    RawObject::new(address as *mut (), core::ptr::null())
}

fn by_default() -> RawObject {
    Default::default()
}

fn of_an_object(object: &dyn Counter) -> RawObject {
    <dyn Counter as Interface>::as_raw(&raw const *object)
}

fn as_another_interface(object: RawObject) -> *const dyn Echo {
    <dyn Echo as Interface>::from_raw(object)
}

fn changed(mut object: RawObject) {
    object.data = core::ptr::null_mut();
}

fn main() {}
