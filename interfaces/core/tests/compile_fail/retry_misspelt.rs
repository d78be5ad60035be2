#[coppice_interfaces::interface]
pub trait Service {
    #[retyr]
    fn read(&self) -> coppice_interfaces::RpcResult<u64>;
}

fn main() {}
