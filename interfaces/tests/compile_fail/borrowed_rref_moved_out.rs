use coppice_interfaces::{Echo, Handle, Message};
use coppice_rref::RRef;

fn pass_on(echo: &Handle<dyn Echo>, borrowed: &RRef<Message>) {
    let _ = echo.echo(*borrowed);
}

fn main() {}
