#[coppice_interfaces::interface]
trait Service {
    fn call(&self, bytes: &[u8]) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
