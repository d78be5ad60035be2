#[coppice_interfaces::interface]
pub trait Service {
    #[retry]
    fn read(&self) -> coppice_interfaces::RpcResult<u64>;
    fn write(&self, value: u64) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
