#[coppice_interfaces::interface]
pub trait Service {
    #[retry(3)]
    fn read(&self) -> coppice_interfaces::RpcResult<u64>;
}

fn main() {}
