#[coppice_interfaces::interface]
trait Service<T> {
    fn call(&self, value: T) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
