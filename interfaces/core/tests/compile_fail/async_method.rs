#[coppice_interfaces::interface]
trait Service {
    async fn call(&self) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
