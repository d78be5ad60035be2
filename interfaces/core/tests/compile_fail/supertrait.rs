#[coppice_interfaces::interface]
trait Service: Clone {
    fn call(&self) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
