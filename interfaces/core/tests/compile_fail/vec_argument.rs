#[coppice_interfaces::interface]
trait Service {
    fn call(&self, numbers: Vec<u64>) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
