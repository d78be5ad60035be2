//! [`Tap`]: a wire into the host's own network.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use smoltcp::phy::{Medium, TunTapInterface};

use crate::bell::{Bell, wait};
use crate::queue::Mailbox;
use crate::{End, Frame, Waker};

/// Frames that have come and were not given yet.
const FRAMES: usize = 4096;
/// More than any frame.
const FRAME_BYTES: usize = 65_536;

/// A TAP interface of Linux's. Somebody with the right to do so has made it for this user (`ip tuntap add NAME mode tap user USER`),
/// or this process has that right.
pub struct Tap {
    file: File,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
    current: Vec<u8>,
}

struct Shared {
    mailbox: Mailbox,
    bell: Bell,
}

impl Tap {
    /// Attaches to the interface of this name.
    ///
    /// # Errors
    /// What the host says.
    pub fn open(name: &str) -> io::Result<Self> {
        // The interface's name has 15 bytes, and what opens it does not look.
        if name.is_empty() || name.len() > 15 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "interfaces have names of 1 to 15 bytes",
            ));
        }
        let interface = TunTapInterface::new(name, Medium::Ethernet).map_err(|error| {
            let hint = format!("{error} (`sudo ip tuntap add {name} mode tap user $USER` makes one for you)");
            io::Error::new(error.kind(), hint)
        })?;
        // What has opened it cannot be sent to other threads. Its file can, of which this is another handle.
        let this = pidfd_open(getpid(), PidfdFlags::empty())?;
        let file = File::from(pidfd_getfd(this, interface.as_raw_fd(), PidfdGetfdFlags::empty())?);
        let shared = Arc::new(Shared { mailbox: Mailbox::new(FRAMES), bell: Bell::new()? });
        let reader = std::thread::Builder::new().name("wire-tap".into()).spawn({
            let (file, shared) = (file.try_clone()?, shared.clone());
            move || read(file, &shared)
        })?;
        Ok(Self { file, shared, reader: Some(reader), current: Vec::new() })
    }
}

fn read(mut file: File, shared: &Shared) {
    let mut frame = vec![0; FRAME_BYTES];
    while !shared.bell.is_over() {
        match file.read(&mut frame) {
            Ok(bytes) => shared.mailbox.push(&frame[..bytes]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut files = [PollFd::new(&file, PollFlags::IN), PollFd::new(&shared.bell, PollFlags::IN)];
                wait(&mut files, None);
            }
            // The interface is down, or gone: it may come again.
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(50)),
        }
    }
}

impl End for Tap {
    fn take(&mut self, frame: &[u8], _: u64) {
        // What it does not take at once is lost.
        let _ = self.file.write(frame);
    }

    fn give(&mut self, _: u64) -> Option<Frame<'_>> {
        self.shared.mailbox.pop(&mut self.current)
    }

    fn due_ns(&self) -> Option<u64> {
        self.shared.mailbox.due_ns()
    }

    fn attach(&mut self, waker: Waker) {
        self.shared.mailbox.attach(waker);
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.bell.end();
        if let Some(reader) = self.reader.take() {
            // It ends without a result.
            let _ = reader.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_interface_is_told() {
        for (name, said) in
            [("", "interfaces have names"), ("a-name-that-is-too-long", "interfaces have names")]
        {
            assert!(Tap::open(name).err().is_some_and(|error| error.to_string().starts_with(said)), "{name}");
        }
    }

    /// With the right to make interfaces there is one for the time of the test; without it says so.
    #[test]
    fn an_interface_is_opened_or_it_is_told_how() {
        match Tap::open("coppice-test0") {
            Ok(mut tap) => tap.take(&[0xff; 60], 0),
            Err(error) => assert!(error.to_string().contains("ip tuntap add coppice-test0"), "{error}"),
        }
    }
}
