#[coppice_interfaces::interface]
trait Service {
    fn call(&self) -> Result<u64, ()>;
}

fn main() {}
