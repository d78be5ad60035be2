#![forbid(unsafe_code)]

use coppice_abi::{Services, ServicesSeal};
use coppice_interfaces::DomainId;

fn by_constructor() -> ServicesSeal {
    ServicesSeal::new()
}

fn by_default() -> ServicesSeal {
    Default::default()
}

fn attached(table: &'static Services) {
    coppice_abi::attach(table, DomainId::KERNEL);
}

fn main() {}
