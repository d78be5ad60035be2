#[coppice_interfaces::interface]
trait Service {
    const LIMIT: u64;
}

fn main() {}
