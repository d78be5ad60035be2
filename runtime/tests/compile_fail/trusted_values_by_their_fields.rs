//! Struct literals: the compiler reports private fields in them only when it finds no other error.

#![forbid(unsafe_code)]

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;

use coppice_abi::crossing::{Continuation, CpuBlock, ThreadControl};
use coppice_abi::note::{Identity, Name, Wire};
use coppice_abi::{DmaBlock, EntryArguments, RawObject, SLOT_LIMIT, Services, ServicesSeal, Window};
use coppice_example_interfaces::Counter;
use coppice_hardware::{MappedWindow, Region};
use coppice_interfaces::{DomainId, HandleCell, Interface, InterfaceEntry, ProxyCore};
use coppice_rref::{DropValue, Fingerprint, Lent, RRef, TypeEntry, VisitRoots};

fn continuation(other: Continuation) -> Continuation {
    Continuation { rip: 0x1000, rsp: 0x2000, ..other }
}

fn cpu_block(thread: *mut ThreadControl) -> CpuBlock {
    CpuBlock { thread, critical: 0, cpu: 0, calls: [0; SLOT_LIMIT] }
}

fn entry_arguments(other: EntryArguments) -> EntryArguments {
    EntryArguments { physical_offset: 0, ..other }
}

fn handle_cell(proxy: RawObject) -> HandleCell {
    HandleCell { proxy }
}

fn interface_entry() -> InterfaceEntry {
    InterfaceEntry { name: "Control", ..InterfaceEntry::of::<dyn Counter>() }
}

fn note() -> Wire {
    let fingerprint = <dyn Counter as Interface>::FINGERPRINT;
    Wire { name: Name::new("next"), interface: Name::new("Counter"), fingerprint }
}

fn note_identity(other: Identity) -> Identity {
    Identity { compiler: [0; 40], ..other }
}

fn proxy_core(alive: &'static AtomicU64, target: RawObject) -> ProxyCore {
    ProxyCore { domain: AtomicU64::new(1), alive, target: UnsafeCell::new(target) }
}

fn raw_object(address: usize) -> RawObject {
    RawObject { data: address as *mut (), vtable: core::ptr::null() }
}

fn reference(value: NonNull<u64>) -> RRef<u64> {
    RRef { value, owns: PhantomData }
}

fn lent(value: NonNull<u64>) -> Lent<u64> {
    Lent { value, holds: PhantomData }
}

fn region(memory: NonNull<u8>) -> (Region, MappedWindow) {
    (Region { memory, address: 0, len: 4096 }, MappedWindow { base: memory, len: 4096 })
}

fn services(other: Services) -> Services {
    Services { seal: ServicesSeal { _private: () }, ..other }
}

fn thread_control(other: ThreadControl) -> ThreadControl {
    ThreadControl { current: DomainId::KERNEL, ..other }
}

fn type_entry(id: Fingerprint, drop: DropValue, for_each_root: VisitRoots) -> TypeEntry {
    TypeEntry { id, name: "", drop, for_each_root }
}

fn window(memory: *mut u8) -> (Window, DmaBlock) {
    (Window { memory, len: 4096 }, DmaBlock { memory, address: 0 })
}

fn main() {}
