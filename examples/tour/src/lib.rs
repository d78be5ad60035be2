//! A tour of the system: shows the domain graph, makes calls through it, crashes a domain several times, and
//! shows that no memory is lost.

#![no_std]
#![forbid(unsafe_code)]

use core::time::Duration;

use coppice_control::{Control, DomainInfo, DomainState};
use coppice_example_interfaces::{Echo, Message};
use coppice_interfaces::{DomainId, Handle, Imports, RpcResult, Text};
use coppice_rref::Bytes;
use coppice_runtime::{Domain, Environment, StartError, thread, time};

/// The number of crashes.
const CRASHES: u32 = 5;

/// The timeout of a restart.
const RESTART_TIMEOUT: Duration = Duration::from_secs(5);

/// The domain.
pub struct TourDomain;

/// The imports.
#[derive(Imports)]
pub struct Wires {
    /// The kernel: for information about domains.
    control: Handle<dyn Control>,
    /// The first domain of a chain of echoes.
    chain: Handle<dyn Echo>,
}

impl Domain for TourDomain {
    type Imports = Wires;
    type Export = ();

    fn start(environment: &Environment<'_>, wires: Wires) -> Result<(), StartError> {
        let target = environment.option("target").unwrap_or("echo");
        wires.control.find(Text::new(target))??;
        thread::spawn(move || {
            let tour = Tour { control: wires.control, chain: wires.chain, target };
            let success = tour.run().unwrap_or_else(|error| {
                log::error!("{error}");
                false
            });
            let _ = tour.control.shut_down(success);
        })?;
        Ok(())
    }
}

struct Tour {
    control: Handle<dyn Control>,
    chain: Handle<dyn Echo>,
    /// The domain to crash: the last one of the chain.
    target: &'static str,
}

impl Tour {
    fn say(&self, line: core::fmt::Arguments<'_>) -> RpcResult<()> {
        self.control.print(Text::format(line))
    }

    fn run(&self) -> RpcResult<bool> {
        self.show_graph()?;
        self.say(format_args!(""))?;
        let mut good = self.show_calls()?;
        self.say(format_args!(""))?;
        // The first instance and its crash fill caches that stay, so the comparison begins at the second.
        let before = self.crash_once(1)?;
        let mut after = before;
        for crash in 2..=CRASHES {
            after = self.crash_once(crash)?;
        }
        let (Some(before), Some(after)) = (before, after) else {
            self.say(format_args!("{} was not restarted in time", self.target))?;
            return Ok(false);
        };
        let lost = before as i64 - after as i64;
        self.say(format_args!(""))?;
        self.say(format_args!("{} crashes: {lost} bytes of memory lost", CRASHES))?;
        good &= lost == 0;
        self.say(format_args!("{}", if good { "tour: success" } else { "tour: FAILED" }))?;
        Ok(good)
    }

    fn show_graph(&self) -> RpcResult<()> {
        self.say(format_args!("domains:"))?;
        for number in 0..self.control.domain_count()? {
            let Some(info) = self.control.domain(number)? else { continue };
            self.say(format_args!(
                "  {:<10} generation {}  image {:>4} KiB  heap {:>4} KiB  threads {}",
                info.name,
                info.id.generation(),
                info.image_bytes / 1024,
                info.heap_bytes / 1024,
                info.threads,
            ))?;
            for import in 0.. {
                let Some((target, name)) = self.control.wire(number, import)? else { break };
                self.say(format_args!("    {name:<8} -> {target}"))?;
            }
        }
        Ok(())
    }

    fn show_calls(&self) -> RpcResult<bool> {
        let text = b"a message that is never copied";
        let message = Message::shared_from(text).expect("the text fits a message");
        let address = message.address();
        let sum = self.chain.sum(&message)?;
        let message = self.chain.echo(message)?;
        let good = &message[..] == text
            && message.address() == address
            && sum == text.iter().map(|&b| u64::from(b)).sum();
        self.say(format_args!("through the chain: ping(42) = {}", self.chain.ping(42)?))?;
        self.say(format_args!(
            "through the chain: \"{}\" came back from {address:#x}, where it was before: {good}",
            core::str::from_utf8(&message).unwrap_or("(not UTF-8)")
        ))?;
        Ok(good)
    }

    /// Crashes the target, shows the error that its caller receives, and waits for the restart. The first
    /// time it shows the backtrace too. Returns the number of free bytes after the restart, or `None` if
    /// there was none in time.
    fn crash_once(&self, crash: u32) -> RpcResult<Option<u64>> {
        let message = Bytes::shared_from(b"this domain was asked to panic").expect("the text fits a message");
        let before = time::now();
        let answer = self.chain.panic(message, crash);
        let took = time::now() - before;
        match answer {
            Ok(()) => self.say(format_args!("crash {crash}: the call returned without a crash"))?,
            Err(error) => {
                self.say(format_args!(
                    "crash {crash}: the caller gets an error after {} us: {error}",
                    took.as_micros()
                ))?;
                if let Some(crash_record) = self.control.crash_record(error.domain())? {
                    self.say(format_args!("         crash record: {crash_record}"))?;
                }
                if crash == 1 {
                    self.show_post_mortem(error.domain())?;
                }
            }
        }
        while time::now() - before < RESTART_TIMEOUT {
            if self.target_info()?.is_some_and(|info| info.state == DomainState::Running)
                && self.chain.ping(1).is_ok()
            {
                let downtime = time::now() - before;
                self.say(format_args!(
                    "         {} works again after {} us",
                    self.target,
                    downtime.as_micros()
                ))?;
                return self.settled_free_bytes().map(Some);
            }
            thread::yield_now();
        }
        Ok(None)
    }

    /// Returns the number of free bytes, once it no longer changes: the kernel's threads have then finished
    /// the restart.
    fn settled_free_bytes(&self) -> RpcResult<u64> {
        let mut last = self.free_bytes()?;
        loop {
            time::sleep(Duration::from_millis(2));
            let now = self.free_bytes()?;
            if now == last {
                return Ok(now);
            }
            last = now;
        }
    }

    /// Returns the number of free bytes. The free memory of the shared heap's pages counts as free; so does
    /// the kernel's own heap, which keeps the pages that it once had.
    fn free_bytes(&self) -> RpcResult<u64> {
        let memory = self.control.memory()?;
        let mut free = memory.free_bytes + memory.shared_bytes + memory.kernel_bytes;
        for number in 0..self.control.domain_count()? {
            if let Some(info) = self.control.domain(number)? {
                free -= info.shared_bytes;
            }
        }
        Ok(free)
    }

    /// Shows the calls and functions in which the instance crashed.
    fn show_post_mortem(&self, instance: DomainId) -> RpcResult<()> {
        /// The lines that repeat the instance and its crash record.
        const HEADING_LINES: u32 = 2;
        for line in HEADING_LINES.. {
            let Some(line) = self.control.post_mortem(instance, line)? else { break };
            self.say(format_args!("         {line}"))?;
        }
        Ok(())
    }

    fn target_info(&self) -> RpcResult<Option<DomainInfo>> {
        Ok(self.control.find(Text::new(self.target))?.ok())
    }
}
