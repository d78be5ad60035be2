//! A prompt: looks at domains, ends them, starts them again.

#![no_std]
#![forbid(unsafe_code)]

use coppice_control::{Control, ControlError, DomainInfo, DomainState, Resource, RestartPlan};
use coppice_example_interfaces::{Echo, Message};
use coppice_interfaces::{DomainId, Handle, Imports, RpcResult, Text};
use coppice_runtime::{Domain, Environment, StartError, thread, time};

/// Events that one `trace` shows.
const EVENTS: u32 = 40;

const HELP: &str = "\
ps                  domains: state, instance, calls, CPU time, memory
tree                who answers for whom, what they may have, and what becomes of the dead
wires               who is wired to whom
mem                 the machine's memory
audit               who has which memory, and whether the kernel's books agree
ping [NUMBER]       calls through the chain
crash [DEPTH]       has the end of the chain panic, DEPTH calls of itself deep
kill NAME           ends a domain
restart NAME        ends a domain if it lives, and starts it
reload NAME         as restart, from the image file
revoke NAME KIB     asks a domain to own no more of the shared heap, and ends it if it does
why NAME            what a domain's last death was
post-mortem [NAME]  the same at length; without NAME, the latest of all. With `trace on`, what came before
trace on            records crossings, faults, restarts and interrupts
trace               stops that, and shows the oldest events
quit                ends the system";

/// The domain.
pub struct ShellDomain;

/// What it is wired to.
#[derive(Imports)]
pub struct Wires {
    /// What the commands use.
    control: Handle<dyn Control>,
    /// What `ping` calls.
    chain: Handle<dyn Echo>,
}

impl Domain for ShellDomain {
    type Imports = Wires;
    type Export = ();

    fn start(_: &Environment<'_>, wires: Wires) -> Result<(), StartError> {
        let shell = Shell { control: wires.control, chain: wires.chain };
        // The kernel does not die before its domains, so there is nobody to tell of an error.
        thread::spawn(move || {
            let _ = shell.run();
        })?;
        Ok(())
    }
}

struct Shell {
    control: Handle<dyn Control>,
    chain: Handle<dyn Echo>,
}

impl Shell {
    fn say(&self, line: core::fmt::Arguments<'_>) -> RpcResult<()> {
        self.control.print(Text::format(line))
    }

    fn run(&self) -> RpcResult<()> {
        self.say(format_args!("Type `help` for the commands."))?;
        loop {
            let line = self.control.read_line()?;
            let mut words = line.split_ascii_whitespace();
            let (command, argument) = (words.next().unwrap_or_default(), words.next());
            match (command, argument) {
                ("", _) => {}
                ("help", _) => HELP.lines().try_for_each(|line| self.say(format_args!("{line}")))?,
                ("ps", _) => self.domains()?,
                ("tree", _) => self.tree("kernel", 0)?,
                ("wires", _) => self.wires()?,
                ("mem", _) => self.memory()?,
                ("audit", _) => self.audit()?,
                ("ping", number) => self.ping(number)?,
                ("crash", depth) => self.crash(depth)?,
                ("kill", Some(name)) => self.answer(self.control.kill(Text::new(name))?)?,
                ("restart", Some(name)) => self.answer(self.control.restart(Text::new(name))?)?,
                ("reload", Some(name)) => self.answer(self.control.reload(Text::new(name))?)?,
                ("revoke", Some(name)) => self.revoke(name, words.next())?,
                ("why", Some(name)) => self.why(name)?,
                ("post-mortem", name) => self.post_mortem(name)?,
                ("trace", Some("on")) => self.control.set_tracing(true)?,
                ("trace", None) => self.trace()?,
                ("quit", _) => return self.control.shut_down(true),
                ("kill" | "restart" | "reload" | "revoke" | "why", None) => {
                    self.say(format_args!("{command}: which domain?"))?
                }
                _ => self.say(format_args!("`{line}` is no command; `help` shows them"))?,
            }
        }
    }

    fn answer(&self, outcome: Result<(), ControlError>) -> RpcResult<()> {
        match outcome {
            Ok(()) => self.say(format_args!("done")),
            Err(error) => self.say(format_args!("no: {error:?}")),
        }
    }

    fn domains(&self) -> RpcResult<()> {
        self.say(format_args!(
            "domain      state     instance      calls    cpu ms  image K  heap K  objects  threads  deadline ms  cpu %"
        ))?;
        for number in 0..self.control.domain_count()? {
            let Some(info) = self.control.domain(number)? else { continue };
            self.say(format_args!(
                "{:<10}  {:<8}  {:>4}  {:>9}  {:>8}  {:>7}  {:>6}  {:>7}  {:>7}  {:>11}  {:>5}",
                info.name,
                Text::<16>::format(format_args!("{:?}", info.state)),
                info.id.generation(),
                info.calls,
                info.cpu_ns / 1_000_000,
                info.image_bytes / 1024,
                info.heap_bytes / 1024,
                info.shared_objects,
                info.threads,
                limit(info.deadline_ns.div_ceil(1_000_000)),
                limit(info.cpu_percent.into()),
            ))?;
        }
        Ok(())
    }

    /// The domains that `parent` answers for, each with those that it answers for itself.
    fn tree(&self, parent: &str, depth: usize) -> RpcResult<()> {
        for number in 0..self.control.domain_count()? {
            let Some(info) = self.control.domain(number)?.filter(|info| *info.parent == *parent) else {
                continue;
            };
            let name = Text::<48>::format(format_args!("{:depth$}{}", "", info.name));
            self.say(format_args!(
                "{name:<24}  heap {:>6} K  shared {:>6} K  threads {:>3}  {}",
                info.heap_quota / 1024,
                info.shared_quota / 1024,
                info.thread_quota,
                outlook(&info),
            ))?;
            // As deep as the manifest's tree, which has no cycle.
            self.tree(&info.name, depth + 2)?;
        }
        Ok(())
    }

    fn revoke(&self, name: &str, kib: Option<&str>) -> RpcResult<()> {
        let Some(kib) = kib.and_then(|kib| kib.parse::<u64>().ok()) else {
            return self.say(format_args!("revoke: down to how many KiB?"));
        };
        match self.control.revoke(Text::new(name), Resource::SharedHeap, kib.saturating_mul(1024))? {
            Ok(true) => self.say(format_args!("it is asked")),
            Ok(false) => self.say(format_args!("it has no more than that")),
            Err(error) => self.answer(Err(error)),
        }
    }

    fn wires(&self) -> RpcResult<()> {
        for number in 0..self.control.domain_count()? {
            let Some(info) = self.control.domain(number)? else { continue };
            for import in 0.. {
                let Some((target, name)) = self.control.wire(number, import)? else { break };
                self.say(format_args!("{:<10}  {name:<8} -> {target}", info.name))?;
            }
        }
        Ok(())
    }

    fn memory(&self) -> RpcResult<()> {
        let memory = self.control.memory()?;
        for (what, bytes) in [
            ("in all", memory.total_bytes),
            ("free", memory.free_bytes),
            ("shared heap", memory.shared_bytes),
            ("stacks", memory.stack_bytes),
        ] {
            self.say(format_args!("{what:<12} {:>10} KiB", bytes / 1024))?;
        }
        Ok(())
    }

    fn audit(&self) -> RpcResult<()> {
        let summary = self.control.audit()?;
        for number in 0..summary.lines {
            let Some(line) = self.control.audit_line(number)? else { break };
            if line.frames > 0 {
                self.say(format_args!("{:<12} {:<13} {:>8} frames", line.owner, line.what, line.frames))?;
            }
        }
        self.say(format_args!(
            "{:<26} {:>8} frames, all accounted for unless it says so",
            "in all", summary.frames
        ))?;
        for number in 0..summary.findings {
            let Some(finding) = self.control.audit_finding(number)? else { break };
            self.say(format_args!("FINDING: {finding}"))?;
        }
        self.say(format_args!("{} findings", summary.findings))
    }

    fn ping(&self, number: Option<&str>) -> RpcResult<()> {
        let number = number.and_then(|number| number.parse().ok()).unwrap_or(42);
        let before = time::now();
        match self.chain.ping(number) {
            Ok(answer) => {
                let took = (time::now() - before).as_nanos();
                self.say(format_args!("{answer} after {took} ns"))
            }
            Err(error) => self.say(format_args!("{error}")),
        }
    }

    fn crash(&self, depth: Option<&str>) -> RpcResult<()> {
        let depth = depth.and_then(|depth| depth.parse().ok()).unwrap_or(0);
        let message = Message::shared_from(b"it was asked to").expect("the text fits a message");
        match self.chain.panic(message, depth) {
            Ok(()) => self.say(format_args!("it lives on")),
            Err(error) => self.say(format_args!("{error}")),
        }
    }

    fn why(&self, name: &str) -> RpcResult<()> {
        match self.last_death(Some(name))? {
            Some(instance) => {
                let crash_record = self.control.crash_record(instance)?.unwrap_or(Text::new("forgotten"));
                self.say(format_args!("generation {}: {crash_record}", instance.generation()))
            }
            None => self.say(format_args!("nothing is known of a death of {name}")),
        }
    }

    fn post_mortem(&self, name: Option<&str>) -> RpcResult<()> {
        let Some(instance) = self.last_death(name)? else {
            return self.say(format_args!("nothing is known of a death of {}", name.unwrap_or("anybody")));
        };
        for line in 0.. {
            let Some(line) = self.control.post_mortem(instance, line)? else { break };
            self.say(format_args!("{line}"))?;
        }
        Ok(())
    }

    /// The latest instance that ended, of the domain of that name or of any.
    fn last_death(&self, name: Option<&str>) -> RpcResult<Option<DomainId>> {
        let slot = match name.map(|name| self.control.find(Text::new(name))).transpose()? {
            Some(Ok(info)) => Some(info.id.slot()),
            Some(Err(_)) => return Ok(None),
            None => None,
        };
        for back in 0.. {
            match self.control.death(back)? {
                Some(instance) if slot.is_none_or(|slot| slot == instance.slot()) => {
                    return Ok(Some(instance));
                }
                Some(_) => {}
                None => break,
            }
        }
        Ok(None)
    }

    fn trace(&self) -> RpcResult<()> {
        // Else the ring would fill with the crossings that show it.
        self.control.set_tracing(false)?;
        for _ in 0..EVENTS {
            let Some(event) = self.control.next_trace()? else { break };
            self.say(format_args!(
                "{:>12} ns  cpu {}  {:<9}  {:?}  {:#x}",
                event.time_ns, event.cpu, event.kind, event.domain, event.detail
            ))?;
        }
        Ok(())
    }
}

/// A limit, or that there is none.
fn limit(value: u64) -> Text<24> {
    match value {
        0 => Text::new("-"),
        value => Text::format(format_args!("{value}")),
    }
}

/// What a domain is doing, or what becomes of it.
fn outlook(info: &DomainInfo) -> Text<48> {
    match info.restart_plan {
        RestartPlan::Restart { due_ns } if info.state == DomainState::Dead => {
            let wait = core::time::Duration::from_nanos(due_ns).saturating_sub(time::now());
            Text::format(format_args!("waits for its restart for {} ms", wait.as_millis()))
        }
        RestartPlan::AwaitingParent => Text::new("waits for what its parent says"),
        RestartPlan::GivenUp => Text::new("is given up"),
        RestartPlan::Restart { .. } | RestartPlan::None => Text::format(format_args!("{:?}", info.state)),
    }
}
