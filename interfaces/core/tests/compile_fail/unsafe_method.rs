#[coppice_interfaces::interface]
trait Service {
    unsafe fn call(&self) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
