#[coppice_interfaces::interface]
trait Service {
    fn call(&self, text: String) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
