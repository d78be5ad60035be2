#[coppice_interfaces::interface]
pub trait Service {
    #[replay]
    fn set(&self, value: &coppice_rref::RRef<u64>) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
