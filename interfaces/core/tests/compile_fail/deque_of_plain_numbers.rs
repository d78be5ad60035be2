use coppice_rref::{RRef, RRefDeque};

fn push(deque: &mut RRef<RRefDeque<u64, 4>>) {
    let _ = deque.push_back(7);
}

fn main() {}
