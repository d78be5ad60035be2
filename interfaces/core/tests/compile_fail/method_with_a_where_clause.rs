#[coppice_interfaces::interface]
trait Service {
    fn call(&self) -> coppice_interfaces::RpcResult<()>
    where
        Self: Sized;
}

fn main() {}
