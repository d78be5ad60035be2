#[coppice_interfaces::interface]
pub trait Service {
    #[replay]
    fn register(&self, value: u64) -> coppice_interfaces::RpcResult<u64>;
}

fn main() {}
