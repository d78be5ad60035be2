#![forbid(unsafe_code)]

use coppice_rref::{DropValue, Shareable, TypeEntry, VisitRoots};

fn by_constructor(drop: DropValue, for_each_root: VisitRoots) -> TypeEntry {
    TypeEntry::new(<u64 as Shareable>::SHAPE, "", drop, for_each_root)
}

fn by_default() -> TypeEntry {
    Default::default()
}

fn called(entry: &TypeEntry, value: *mut u8) {
    entry.drop_value(value);
}

fn main() {}
