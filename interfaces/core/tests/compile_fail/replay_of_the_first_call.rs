#[coppice_interfaces::interface]
pub trait Service {
    #[replay(first)]
    fn set(&self, value: u64) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
