#![forbid(unsafe_code)]

fn through_the_runtime() -> usize {
    coppice_runtime::abi::services().pages_alloc as usize
}

fn through_the_interfaces() {
    coppice_interfaces::private::abi::me();
}

fn main() {}
