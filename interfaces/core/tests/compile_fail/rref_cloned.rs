use coppice_rref::RRef;

fn twice(object: &RRef<u64>) -> RRef<u64> {
    object.clone()
}

fn main() {}
