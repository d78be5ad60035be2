//! The shell with two commands that call a chain of echoes: one succeeds, the other makes the end of the
//! chain panic.
//!
//! An example of [`Commands`]: the shell itself imports the kernel's control alone.

#![no_std]
#![forbid(unsafe_code)]

use coppice_control::Control;
use coppice_domain_shell::{Commands, Console, Shell};
use coppice_example_interfaces::{Echo, Message};
use coppice_interfaces::{Handle, Imports, RpcResult};
use coppice_runtime::{Domain, Environment, StartError, time};

/// The domain.
pub struct EchoShellDomain;

/// The imports.
#[derive(Imports)]
pub struct Wires {
    /// The kernel.
    control: Handle<dyn Control>,
    /// The first domain of a chain of echoes.
    chain: Handle<dyn Echo>,
}

impl Domain for EchoShellDomain {
    type Imports = Wires;
    type Export = ();

    fn start(_: &Environment<'_>, wires: Wires) -> Result<(), StartError> {
        Ok(Shell::new(wires.control, EchoCommands { chain: wires.chain }).start()?)
    }
}

struct EchoCommands {
    chain: Handle<dyn Echo>,
}

impl Commands for EchoCommands {
    const HELP: &'static str = "\
ping [NUMBER]       makes a call through the chain of echoes
crash [DEPTH]       makes the end of the chain panic, at a recursion depth of DEPTH";

    fn run(&self, console: &Console, command: &str, argument: Option<&str>) -> RpcResult<bool> {
        match command {
            "ping" => self.ping(console, argument)?,
            "crash" => self.crash(console, argument)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl EchoCommands {
    fn ping(&self, console: &Console, number: Option<&str>) -> RpcResult<()> {
        let number = number.and_then(|number| number.parse().ok()).unwrap_or(42);
        let before = time::now();
        match self.chain.ping(number) {
            Ok(answer) => {
                let took = (time::now() - before).as_nanos();
                console.say(format_args!("{answer} after {took} ns"))
            }
            Err(error) => console.say(format_args!("{error}")),
        }
    }

    fn crash(&self, console: &Console, depth: Option<&str>) -> RpcResult<()> {
        let depth = depth.and_then(|depth| depth.parse().ok()).unwrap_or(0);
        let message = Message::shared_from(b"requested by the shell").expect("the text fits a message");
        match self.chain.panic(message, depth) {
            Ok(()) => console.say(format_args!("the call returned without a crash")),
            Err(error) => console.say(format_args!("{error}")),
        }
    }
}
