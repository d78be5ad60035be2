//! An interactive prompt: shows, kills and restarts domains.
//!
//! [`ShellDomain`] imports the kernel's control alone, so it runs on each kernel. [`Shell`] takes the
//! [`Commands`] of another image, for services that only some systems have.

#![no_std]
#![forbid(unsafe_code)]

use coppice_control::{
    Control, ControlError, DomainInfo, DomainState, LATENCY_CLASSES, LatencyKind, Resource, RestartPlan,
};
use coppice_interfaces::{DomainId, Handle, Imports, RpcResult, Text};
use coppice_runtime::thread::{self, Refused};
use coppice_runtime::{Domain, Environment, StartError, time};

/// The number of events that one `trace` shows.
const EVENTS: u32 = 40;

const HELP: &str = "\
ps                  domains: state, instance, calls, CPU time, memory
tree                supervision tree, quotas, and pending restarts
wires               connections between domains
mem                 the machine's memory
latency             longest sections, stops of the world and times with interrupts off, by CPU
audit               frames by owner, checked against the kernel's bookkeeping
kill NAME           kills a domain
restart NAME        kills a domain if it runs, and starts it again
reload NAME         as restart, with the image read from its file again
revoke NAME KIB     requests that a domain frees shared heap down to KIB, and kills it if it does not
why NAME            last crash record of a domain
post-mortem [NAME]  the same in detail; without NAME, the latest of all. With `trace on`, with preceding events
trace on            starts to record crossings, faults, restarts and interrupts
trace               stops recording and shows the oldest events
quit                shuts the system down";

/// The domain.
pub struct ShellDomain;

/// The imports.
#[derive(Imports)]
pub struct Wires {
    /// The kernel.
    control: Handle<dyn Control>,
}

impl Domain for ShellDomain {
    type Imports = Wires;
    type Export = ();

    fn start(_: &Environment<'_>, wires: Wires) -> Result<(), StartError> {
        Ok(Shell::new(wires.control, NoCommands).start()?)
    }
}

/// Further commands of a shell.
pub trait Commands: Send + 'static {
    /// A line for each command, in the format of the shell's own: the command, and from column 20 its effect.
    const HELP: &'static str;

    /// Runs `command`. Returns false if it is none of these commands.
    ///
    /// # Errors
    /// [`coppice_interfaces::RpcError`] when the console cannot be written, which ends the shell. The failure
    /// of a service that the command calls is a result to print.
    fn run(&self, console: &Console, command: &str, argument: Option<&str>) -> RpcResult<bool>;
}

/// No further commands.
struct NoCommands;

impl Commands for NoCommands {
    const HELP: &'static str = "";

    fn run(&self, _: &Console, _: &str, _: Option<&str>) -> RpcResult<bool> {
        Ok(false)
    }
}

/// The console of a shell.
pub struct Console {
    control: Handle<dyn Control>,
}

impl Console {
    /// Prints a line.
    ///
    /// # Errors
    /// [`coppice_interfaces::RpcError`] when the call to the kernel fails.
    pub fn say(&self, line: core::fmt::Arguments<'_>) -> RpcResult<()> {
        self.control.print(Text::format(line))
    }
}

/// A prompt with its commands and those of `C`.
pub struct Shell<C> {
    console: Console,
    commands: C,
}

impl<C: Commands> Shell<C> {
    /// Returns a shell that controls the system through `control`.
    pub fn new(control: Handle<dyn Control>, commands: C) -> Self {
        Self { console: Console { control }, commands }
    }

    /// Runs the shell on a thread of its own.
    ///
    /// # Errors
    /// [`Refused`] when the manifest allows no thread.
    pub fn start(self) -> Result<(), Refused> {
        // A call to the kernel fails only when this domain is being killed, so the error has no reader.
        thread::spawn(move || {
            let _ = self.run();
        })?;
        Ok(())
    }

    fn run(&self) -> RpcResult<()> {
        let console = &self.console;
        console.say(format_args!("Type `help` for the commands."))?;
        loop {
            let line = console.control.read_line()?;
            let mut words = line.split_ascii_whitespace();
            let (command, argument) = (words.next().unwrap_or_default(), words.next());
            match (command, argument) {
                ("help", _) => HELP
                    .lines()
                    .chain(C::HELP.lines())
                    .try_for_each(|line| console.say(format_args!("{line}")))?,
                ("quit", _) => return console.control.shut_down(true),
                _ if console.execute(command, argument, words.next())? => {}
                _ if self.commands.run(console, command, argument)? => {}
                _ => console.say(format_args!("unknown command `{line}`; `help` lists the commands"))?,
            }
        }
    }
}

impl Console {
    /// Runs one of the shell's own commands. Returns false if it is none.
    fn execute(&self, command: &str, argument: Option<&str>, second: Option<&str>) -> RpcResult<bool> {
        match (command, argument) {
            ("", _) => {}
            ("ps", _) => self.domains()?,
            ("tree", _) => self.tree("kernel", 0)?,
            ("wires", _) => self.wires()?,
            ("mem", _) => self.memory()?,
            ("latency", _) => self.latency()?,
            ("audit", _) => self.audit()?,
            ("kill", Some(name)) => self.report(self.control.kill(Text::new(name))?)?,
            ("restart", Some(name)) => self.report(self.control.restart(Text::new(name))?)?,
            ("reload", Some(name)) => self.report(self.control.reload(Text::new(name))?)?,
            ("revoke", Some(name)) => self.revoke(name, second)?,
            ("why", Some(name)) => self.why(name)?,
            ("post-mortem", name) => self.post_mortem(name)?,
            ("trace", Some("on")) => self.control.set_tracing(true)?,
            ("trace", None) => self.trace()?,
            ("kill" | "restart" | "reload" | "revoke" | "why", None) => {
                self.say(format_args!("{command}: expected the name of a domain"))?
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn report(&self, outcome: Result<(), ControlError>) -> RpcResult<()> {
        match outcome {
            Ok(()) => self.say(format_args!("done")),
            Err(error) => self.say(format_args!("failed: {error:?}")),
        }
    }

    fn domains(&self) -> RpcResult<()> {
        self.say(format_args!(
            "domain        state     instance      calls    cpu ms  image K  heap K  objects  threads  deadline ms  cpu %  \
             log drops"
        ))?;
        for number in 0..self.control.domain_count()? {
            let Some(info) = self.control.domain(number)? else { continue };
            self.say(format_args!(
                "{:<12}  {:<8}  {:>4}  {:>9}  {:>8}  {:>7}  {:>6}  {:>7}  {:>7}  {:>11}  {:>5}  {:>9}",
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
                info.log_dropped,
            ))?;
        }
        Ok(())
    }

    /// Shows the children of `parent`, each with its own descendants.
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
                restart_plan(&info),
            ))?;
            // The recursion is as deep as the manifest's tree, which has no cycle.
            self.tree(&info.name, depth + 2)?;
        }
        Ok(())
    }

    fn revoke(&self, name: &str, kib: Option<&str>) -> RpcResult<()> {
        let Some(kib) = kib.and_then(|kib| kib.parse::<u64>().ok()) else {
            return self.say(format_args!("revoke: expected a number of KiB"));
        };
        match self.control.revoke(Text::new(name), Resource::SharedHeap, kib.saturating_mul(1024))? {
            Ok(true) => self.say(format_args!("requested")),
            Ok(false) => self.say(format_args!("it owns no more than that")),
            Err(error) => self.report(Err(error)),
        }
    }

    fn wires(&self) -> RpcResult<()> {
        for number in 0..self.control.domain_count()? {
            let Some(info) = self.control.domain(number)? else { continue };
            for import in 0.. {
                let Some((target, name)) = self.control.wire(number, import)? else { break };
                self.say(format_args!("{:<12}  {name:<8} -> {target}", info.name))?;
            }
        }
        Ok(())
    }

    fn memory(&self) -> RpcResult<()> {
        let memory = self.control.memory()?;
        for (what, bytes) in [
            ("total", memory.total_bytes),
            ("free", memory.free_bytes),
            ("shared heap", memory.shared_bytes),
            ("stacks", memory.stack_bytes),
        ] {
            self.say(format_args!("{what:<12} {:>10} KiB", bytes / 1024))?;
        }
        Ok(())
    }

    fn latency(&self) -> RpcResult<()> {
        self.say(format_args!(
            "cpu  kind                       times   p50 us  p99.99 us  longest us  from"
        ))?;
        for cpu in 0..self.control.cpu_count()? {
            let mut counts = [0; LATENCY_CLASSES];
            for kind in LatencyKind::ALL {
                let Some(latency) = self.control.latency(cpu, kind)? else { continue };
                let micros = |ns: u64| Text::<24>::format(format_args!("{}.{}", ns / 1000, ns / 100 % 10));
                self.say(format_args!(
                    "{cpu:>3}  {:<18}  {:>12}  {:>7}  {:>9}  {:>10}  {}",
                    kind.name(),
                    latency.count(),
                    micros(latency.quantile_ns(500_000)),
                    micros(latency.quantile_ns(999_900)),
                    micros(latency.longest_ns),
                    latency.place,
                ))?;
                counts.iter_mut().zip(latency.counts).for_each(|(sum, count)| *sum += count);
            }
            let longest = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
            for (class, count) in
                counts.iter().enumerate().take(longest + 1).skip_while(|(_, count)| **count == 0)
            {
                self.say(format_args!("     up to {:>12} ns: {count:>12} times", 2_u64 << class))?;
            }
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
        self.say(format_args!("{:<26} {:>8} frames; unaccounted ones are listed", "total", summary.frames))?;
        for number in 0..summary.findings {
            let Some(finding) = self.control.audit_finding(number)? else { break };
            self.say(format_args!("FINDING: {finding}"))?;
        }
        self.say(format_args!("{} findings", summary.findings))
    }

    fn why(&self, name: &str) -> RpcResult<()> {
        match self.last_crash(Some(name))? {
            Some(instance) => {
                let crash_record =
                    self.control.crash_record(instance)?.unwrap_or(Text::new("no longer in the log"));
                self.say(format_args!("generation {}: {crash_record}", instance.generation()))
            }
            None => self.say(format_args!("no crash of {name} is recorded")),
        }
    }

    fn post_mortem(&self, name: Option<&str>) -> RpcResult<()> {
        let Some(instance) = self.last_crash(name)? else {
            return self.say(format_args!("no crash of {} is recorded", name.unwrap_or("any domain")));
        };
        for line in 0.. {
            let Some(line) = self.control.post_mortem(instance, line)? else { break };
            self.say(format_args!("{line}"))?;
        }
        Ok(())
    }

    /// The instance that ended last, of the domain `name` or of any.
    fn last_crash(&self, name: Option<&str>) -> RpcResult<Option<DomainId>> {
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
        // Otherwise the ring would fill with the crossings that print its events.
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

/// Formats a limit; 0 means no limit.
fn limit(value: u64) -> Text<24> {
    match value {
        0 => Text::new("-"),
        value => Text::format(format_args!("{value}")),
    }
}

/// Describes the state of a domain, or the pending decision about a dead one.
fn restart_plan(info: &DomainInfo) -> Text<48> {
    match info.restart_plan {
        RestartPlan::Restart { due_ns } if info.state == DomainState::Dead => {
            let wait = core::time::Duration::from_nanos(due_ns).saturating_sub(time::now());
            Text::format(format_args!("restarts in {} ms", wait.as_millis()))
        }
        RestartPlan::AwaitingParent => Text::new("waits for its parent's decision"),
        RestartPlan::GivenUp => Text::new("given up"),
        RestartPlan::Restart { .. } | RestartPlan::None => Text::format(format_args!("{:?}", info.state)),
    }
}
