#[coppice_interfaces::interface]
trait Service {
    fn call(&self, number: Option<*mut u64>) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
