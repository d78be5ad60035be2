#[coppice_interfaces::interface]
trait Service {
    fn call(&self);
}

fn main() {}
