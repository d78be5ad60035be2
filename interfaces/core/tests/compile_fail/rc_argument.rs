#[coppice_interfaces::interface]
trait Service {
    fn call(&self, number: std::rc::Rc<u64>) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
