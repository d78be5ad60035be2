#[coppice_interfaces::interface]
pub trait Service {
    #[retry]
    fn write(&self, value: Option<coppice_rref::RRef<u64>>) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
