#[coppice_interfaces::interface]
trait Service {
    fn call(&self, work: impl FnOnce() + Send + 'static) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
