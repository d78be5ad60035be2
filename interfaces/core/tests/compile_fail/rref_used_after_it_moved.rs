use coppice_example_interfaces::{Echo, Message};
use coppice_interfaces::Handle;
use coppice_rref::RRef;

fn send(echo: &Handle<dyn Echo>, message: RRef<Message>) -> usize {
    let _ = echo.echo(message);
    message.len()
}

fn main() {}
