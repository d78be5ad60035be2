#[coppice_interfaces::interface]
trait Service {
    fn call(
        &self,
        number: &coppice_rref::RRef<u64>,
    ) -> coppice_interfaces::RpcResult<&coppice_rref::RRef<u64>>;
}

fn main() {}
