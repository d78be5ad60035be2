#[coppice_interfaces::interface]
trait Service {
    fn call(&self) -> u64;
}

fn main() {}
