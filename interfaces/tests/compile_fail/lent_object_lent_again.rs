use coppice_rref::Lent;

fn pass_on(object: Lent<u64>) {
    let _ = object.lend();
}

fn main() {}
