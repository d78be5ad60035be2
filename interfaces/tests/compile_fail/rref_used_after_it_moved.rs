use coppice_interfaces::{Echo, Handle, Message};
use coppice_rref::RRef;

fn send(echo: &Handle<dyn Echo>, message: RRef<Message>) -> usize {
    let _ = echo.echo(message);
    message.len()
}

fn main() {}
