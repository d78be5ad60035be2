#[coppice_interfaces::interface]
trait Service {
    fn call(&self, counter: dyn coppice_example_interfaces::Counter) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
