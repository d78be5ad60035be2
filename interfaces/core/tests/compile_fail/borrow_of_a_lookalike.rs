struct RRef<T>(T);

#[coppice_interfaces::interface]
trait Service {
    fn call(&self, number: &RRef<u64>) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
