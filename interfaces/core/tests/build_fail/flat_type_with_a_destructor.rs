use coppice_rref::{Flat, RRef, Shareable};

#[derive(Shareable, Flat)]
struct Guard(u64);

impl Drop for Guard {
    fn drop(&mut self) {}
}

fn main() {
    let _ = RRef::new(Guard(1));
}
