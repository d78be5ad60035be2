#[coppice_interfaces::interface]
trait Service {
    fn call(&self, work: fn()) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
