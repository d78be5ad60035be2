#[coppice_interfaces::interface]
trait Service {
    fn call<'a>(&'a self) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
