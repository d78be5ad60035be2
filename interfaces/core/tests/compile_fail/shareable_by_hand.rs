#![forbid(unsafe_code)]

use coppice_rref::{Fingerprint, Header, Shareable, TypeEntry, fingerprint};

struct Request(u64);

unsafe impl Shareable for Request {
    const SHAPE: Fingerprint = fingerprint("Request").finish();
    const ROOTS: bool = false;
    fn for_each_root<V: FnMut(&Header)>(&self, _: &mut V) {}
    fn for_each_type(_: &mut dyn FnMut(TypeEntry)) {}
}

fn main() {}
