#[coppice_interfaces::interface]
trait Service {
    fn call(&mut self) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
