#[coppice_interfaces::interface]
trait Service {
    fn call(&self, work: Box<dyn Fn() + Send + Sync>) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
