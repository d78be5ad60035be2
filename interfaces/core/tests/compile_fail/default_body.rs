#[coppice_interfaces::interface]
trait Service {
    fn call(&self) -> coppice_interfaces::RpcResult<u64> {
        Ok(1)
    }
}

fn main() {}
