trait Plain: Send + Sync {}

#[coppice_interfaces::interface]
trait Service {
    fn call(&self, counter: coppice_interfaces::Handle<dyn Plain>) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
