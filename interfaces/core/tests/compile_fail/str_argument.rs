#[coppice_interfaces::interface]
trait Service {
    fn call(&self, text: &str) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
