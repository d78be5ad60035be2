#[coppice_interfaces::interface]
trait Service {
    fn call() -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
