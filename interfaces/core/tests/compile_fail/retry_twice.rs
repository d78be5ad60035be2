#[coppice_interfaces::interface]
pub trait Service {
    #[retry]
    #[retry]
    fn read(&self) -> coppice_interfaces::RpcResult<u64>;
}

fn main() {}
