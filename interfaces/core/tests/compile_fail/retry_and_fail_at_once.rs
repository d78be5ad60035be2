#[coppice_interfaces::interface]
pub trait Service {
    #[retry]
    #[fail]
    fn read(&self) -> coppice_interfaces::RpcResult<u64>;
}

fn main() {}
