#[coppice_interfaces::interface]
trait Service {
    fn call(&self, number: Box<u64>) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
