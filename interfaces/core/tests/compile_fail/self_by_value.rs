#[coppice_interfaces::interface]
trait Service {
    fn call(self) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
