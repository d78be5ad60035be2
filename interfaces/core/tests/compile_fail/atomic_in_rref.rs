#[coppice_interfaces::interface]
trait Service {
    fn call(
        &self,
        number: coppice_rref::RRef<std::sync::atomic::AtomicU32>,
    ) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
