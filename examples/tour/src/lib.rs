//! Shows the domain graph, calls through it, crashes a domain and shows what that leaves.

#![no_std]
#![forbid(unsafe_code)]

use core::time::Duration;

use coppice_control::{Control, DomainInfo, DomainState};
use coppice_example_interfaces::{Echo, Message};
use coppice_interfaces::{DomainId, Handle, Imports, RpcResult, Text};
use coppice_rref::Bytes;
use coppice_runtime::{Domain, Environment, StartError, thread, time};

/// Crashes that the tour shows.
const CRASHES: u32 = 5;

/// How long a dead domain may take to live again.
const PATIENCE: Duration = Duration::from_secs(5);

/// The domain.
pub struct TourDomain;

/// What it is wired to.
#[derive(Imports)]
pub struct Wires {
    /// To look at domains.
    control: Handle<dyn Control>,
    /// The end of a chain of echoes.
    chain: Handle<dyn Echo>,
}

impl Domain for TourDomain {
    type Imports = Wires;
    type Export = ();

    fn start(environment: &Environment<'_>, wires: Wires) -> Result<(), StartError> {
        let victim = environment.option("victim").unwrap_or("echo");
        wires.control.find(Text::new(victim))??;
        thread::spawn(move || {
            let tour = Tour { control: wires.control, chain: wires.chain, victim };
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
    victim: &'static str,
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
        // The first instance and the first crash fill caches that stay: compare from the second on.
        let before = self.crash_once(1)?;
        let mut after = before;
        for crash in 2..=CRASHES {
            after = self.crash_once(crash)?;
        }
        let (Some(before), Some(after)) = (before, after) else {
            self.say(format_args!("{} did not live again", self.victim))?;
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

    /// Crashes the victim, shows what its caller hears, the first time with where it was, and waits for its next instance.
    /// Answers how many bytes are free then; `None` if there is no next instance.
    fn crash_once(&self, crash: u32) -> RpcResult<Option<u64>> {
        let message = Bytes::shared_from(b"this domain was asked to panic").expect("the text fits a message");
        let before = time::now();
        let answer = self.chain.panic(message, crash);
        let took = time::now() - before;
        match answer {
            Ok(()) => self.say(format_args!("crash {crash}: it answered?"))?,
            Err(error) => {
                self.say(format_args!(
                    "crash {crash}: the caller hears after {} us: {error}",
                    took.as_micros()
                ))?;
                if let Some(crash_record) = self.control.crash_record(error.domain())? {
                    self.say(format_args!("         its last words: {crash_record}"))?;
                }
                if crash == 1 {
                    self.show_where(error.domain())?;
                }
            }
        }
        while time::now() - before < PATIENCE {
            if self.victim_info()?.is_some_and(|info| info.state == DomainState::Running)
                && self.chain.ping(1).is_ok()
            {
                let outage = time::now() - before;
                self.say(format_args!(
                    "         {} answers again after {} us",
                    self.victim,
                    outage.as_micros()
                ))?;
                return self.free_at_rest().map(Some);
            }
            thread::yield_now();
        }
        Ok(None)
    }

    /// Bytes that nobody has, once the threads of the kernel's that restarted the victim are done. Shared objects count by
    /// what they take, and not by the pages in which they happen to lie; the kernel's own heap keeps what it once had.
    fn free_at_rest(&self) -> RpcResult<u64> {
        let mut last = self.free()?;
        loop {
            time::sleep(Duration::from_millis(2));
            let now = self.free()?;
            if now == last {
                return Ok(now);
            }
            last = now;
        }
    }

    fn free(&self) -> RpcResult<u64> {
        let memory = self.control.memory()?;
        let mut free = memory.free_bytes + memory.shared_bytes + memory.kernel_bytes;
        for number in 0..self.control.domain_count()? {
            if let Some(info) = self.control.domain(number)? {
                free -= info.shared_bytes;
            }
        }
        Ok(free)
    }

    /// Shows who had called the dead one, and which functions it was in.
    fn show_where(&self, instance: DomainId) -> RpcResult<()> {
        /// Who died and its last words are known by now.
        const KNOWN: u32 = 2;
        for line in KNOWN.. {
            let Some(line) = self.control.post_mortem(instance, line)? else { break };
            self.say(format_args!("         {line}"))?;
        }
        Ok(())
    }

    fn victim_info(&self) -> RpcResult<Option<DomainInfo>> {
        Ok(self.control.find(Text::new(self.victim))?.ok())
    }
}
