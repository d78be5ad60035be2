#[coppice_interfaces::interface]
trait Service {
    fn call<T>(&self, value: T) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
