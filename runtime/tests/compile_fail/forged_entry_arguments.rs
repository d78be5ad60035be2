#![forbid(unsafe_code)]

use coppice_abi::{EntryArguments, Services, UpcallEntry};
use coppice_interfaces::{DomainId, RawHandles};

fn by_constructor(services: &'static Services, cells: &[*mut u8]) -> EntryArguments {
    EntryArguments::new(services, DomainId::NONE, cells, &[], 0)
}

fn by_default() -> EntryArguments {
    Default::default()
}

fn started(arguments: &mut EntryArguments, upcall: UpcallEntry) {
    arguments.export = core::ptr::null_mut();
    arguments.set_started(core::ptr::null_mut(), upcall);
}

fn handles(cells: &[*mut u8]) -> RawHandles<'_> {
    RawHandles::new(cells)
}

fn main() {}
