#[coppice_interfaces::interface]
trait Service {
    fn call(&self, claim: coppice_rref::Loan<u64>) -> coppice_interfaces::RpcResult<()>;
}

fn main() {}
