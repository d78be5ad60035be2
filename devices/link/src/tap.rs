//! [`Tap`]: a wire into the host's own network.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use smoltcp::phy::{Medium, TunTapInterface};

use crate::bell::{Bell, wait};
use crate::queue::Mailbox;
use crate::{End, Frame, LossCounters, Waker};

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
    losses: Arc<LossCounters>,
}

impl Shared {
    fn new() -> io::Result<Self> {
        Ok(Self { mailbox: Mailbox::new(FRAMES), bell: Bell::new()?, losses: Arc::default() })
    }
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
        let shared = Arc::new(Shared::new()?);
        let reader = std::thread::Builder::new().name("wire-tap".into()).spawn({
            let (file, shared) = (file.try_clone()?, shared.clone());
            move || read(file, &shared)
        })?;
        Ok(Self { file, shared, reader: Some(reader), current: Vec::new() })
    }
}

fn read(mut file: impl Read + AsFd, shared: &Shared) {
    let mut frame = vec![0; FRAME_BYTES];
    while !shared.bell.is_over() {
        match file.read(&mut frame) {
            Ok(bytes) => {
                if !shared.mailbox.push(&frame[..bytes]) {
                    shared.losses.end_full.add(1);
                }
            }
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
        // It takes a frame whole and at once, or not at all.
        if self.file.write(frame).is_err() {
            self.shared.losses.refused.add(1);
        }
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

    fn losses(&self) -> Arc<LossCounters> {
        self.shared.losses.clone()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.bell.end();
        if let Some(reader) = self.reader.take() {
            // It ends without a result.
            let _ = reader.join();
        }
        self.shared.losses.abandoned.add(self.shared.mailbox.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Losses;

    #[test]
    fn what_is_no_interface_is_told() {
        for (name, said) in
            [("", "interfaces have names"), ("a-name-that-is-too-long", "interfaces have names")]
        {
            assert!(Tap::open(name).err().is_some_and(|error| error.to_string().starts_with(said)), "{name}");
        }
    }

    /// With files of another kind in the interface's place, since this needs no right.
    #[test]
    fn frames_that_the_host_refuses_or_the_inbox_has_no_room_for_are_counted() {
        let shared = Arc::new(Shared::new().expect("a bell"));
        let file = File::options().write(true).open("/dev/full").expect("it is there");
        let mut tap = Tap { file, shared: shared.clone(), reader: None, current: Vec::new() };
        tap.take(&[0xff; 60], 0);
        assert_eq!(shared.losses.read(), Losses { refused: 1, ..Losses::default() });
        // It never has enough; the reader ends when the last frame had no room.
        struct Endless<'a>(File, &'a Shared, usize);
        impl Read for Endless<'_> {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                self.2 += 1;
                if self.2 == FRAMES + 5 {
                    self.1.bell.end();
                }
                Ok(60)
            }
        }
        impl AsFd for Endless<'_> {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.0.as_fd()
            }
        }
        read(Endless(tap.file.try_clone().expect("a handle"), &shared, 0), &shared);
        assert_eq!(shared.losses.read(), Losses { refused: 1, end_full: 5, ..Losses::default() });
        drop(tap);
        assert_eq!(shared.losses.read().abandoned, FRAMES as u64);
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
