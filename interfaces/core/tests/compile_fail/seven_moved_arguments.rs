#[coppice_interfaces::interface]
trait Service {
    fn call(&self, a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
