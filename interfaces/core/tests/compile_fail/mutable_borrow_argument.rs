#[coppice_interfaces::interface]
trait Service {
    fn call(&self, number: &mut coppice_rref::RRef<u64>) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
