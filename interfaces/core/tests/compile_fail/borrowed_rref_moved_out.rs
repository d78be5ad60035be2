use coppice_example_interfaces::{Echo, Message};
use coppice_interfaces::Handle;
use coppice_rref::RRef;

fn pass_on(echo: &Handle<dyn Echo>, borrowed: &RRef<Message>) {
    let _ = echo.echo(*borrowed);
}

fn main() {}
