#[coppice_interfaces::interface]
trait Service {
    fn call(&self, number: std::cell::Cell<u64>) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
