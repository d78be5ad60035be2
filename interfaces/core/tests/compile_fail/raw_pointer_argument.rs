#[coppice_interfaces::interface]
trait Service {
    fn call(&self, number: *const u64) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
