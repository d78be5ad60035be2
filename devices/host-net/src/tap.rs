//! [`Tap`]: a link into the host's own network.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use smoltcp::phy::{Medium, TunTapInterface};

use crate::event_fd::{EventFd, wait};
use device_link::{Frame, LossCounters, Mailbox, Peer, Waker};

/// Received frames that the device has not taken yet.
const FRAMES: usize = 4096;
/// The size of the receive buffer, more than any frame.
const FRAME_BYTES: usize = 65_536;

/// A TAP interface of Linux. Either root has made it for this user (`ip tuntap add NAME mode tap user USER`),
/// or this process has the right to make it.
pub struct Tap {
    file: File,
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
    current: Vec<u8>,
}

struct Shared {
    mailbox: Mailbox,
    wake: EventFd,
    losses: Arc<LossCounters>,
}

impl Shared {
    fn new() -> io::Result<Self> {
        Ok(Self { mailbox: Mailbox::new(FRAMES), wake: EventFd::new()?, losses: Arc::default() })
    }
}

impl Tap {
    /// Attaches to the interface with this name.
    ///
    /// # Errors
    /// `InvalidInput` if the name is empty or longer than 15 bytes; else the error of the host if the
    /// interface cannot be opened.
    pub fn open(name: &str) -> io::Result<Self> {
        // Linux has room for 15 bytes, and smoltcp does not check the length.
        if name.is_empty() || name.len() > 15 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an interface name has 1 to 15 bytes"));
        }
        let interface = TunTapInterface::new(name, Medium::Ethernet).map_err(|error| {
            let hint = format!("{error} (`sudo ip tuntap add {name} mode tap user $USER` makes one)");
            io::Error::new(error.kind(), hint)
        })?;
        // smoltcp's handle is not `Send`. A duplicate of its file is.
        let this = pidfd_open(getpid(), PidfdFlags::empty())?;
        let file = File::from(pidfd_getfd(this, interface.as_raw_fd(), PidfdGetfdFlags::empty())?);
        let shared = Arc::new(Shared::new()?);
        let reader = std::thread::Builder::new().name("link-tap".into()).spawn({
            let (file, shared) = (file.try_clone()?, shared.clone());
            move || read(file, &shared)
        })?;
        Ok(Self { file, shared, reader: Some(reader), current: Vec::new() })
    }
}

fn read(mut file: impl Read + AsFd, shared: &Shared) {
    let mut frame = vec![0; FRAME_BYTES];
    while !shared.wake.is_stopping() {
        match file.read(&mut frame) {
            Ok(bytes) => {
                if !shared.mailbox.push(&frame[..bytes]) {
                    shared.losses.peer_full.add(1);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut files = [PollFd::new(&file, PollFlags::IN), PollFd::new(&shared.wake, PollFlags::IN)];
                wait(&mut files, None);
            }
            // The interface is down or removed. It may come up again.
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(50)),
        }
    }
}

impl Peer for Tap {
    fn take(&mut self, frame: &[u8], _: u64) {
        // A write takes the whole frame at once, or fails.
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
        self.shared.wake.stop();
        if let Some(reader) = self.reader.take() {
            // The thread returns nothing, and a panic was printed.
            let _ = reader.join();
        }
        self.shared.losses.abandoned.add(self.shared.mailbox.queued() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use device_link::Losses;

    #[test]
    fn an_invalid_interface_name_is_refused() {
        for (name, message) in
            [("", "an interface name has"), ("a-name-that-is-too-long", "an interface name has")]
        {
            assert!(
                Tap::open(name).err().is_some_and(|error| error.to_string().starts_with(message)),
                "{name}"
            );
        }
    }

    /// Other files take the place of the interface, since that needs root.
    #[test]
    fn frames_refused_by_the_host_or_without_room_are_counted() {
        let shared = Arc::new(Shared::new().expect("an event file"));
        let file = File::options().write(true).open("/dev/full").expect("it is there");
        let mut tap = Tap { file, shared: shared.clone(), reader: None, current: Vec::new() };
        tap.take(&[0xff; 60], 0);
        assert_eq!(shared.losses.read(), Losses { refused: 1, ..Losses::default() });
        // An endless source. It stops the reader with the last frame that has no room.
        struct Endless<'a>(File, &'a Shared, usize);
        impl Read for Endless<'_> {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                self.2 += 1;
                if self.2 == FRAMES + 5 {
                    self.1.wake.stop();
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
        assert_eq!(shared.losses.read(), Losses { refused: 1, peer_full: 5, ..Losses::default() });
        drop(tap);
        assert_eq!(shared.losses.read().abandoned, FRAMES as u64);
    }

    /// Opens an interface if the process has the right to, or checks the message if not.
    #[test]
    fn an_interface_is_opened_or_the_error_says_how_to_make_it() {
        match Tap::open("coppice-test0") {
            Ok(mut tap) => tap.take(&[0xff; 60], 0),
            Err(error) => assert!(error.to_string().contains("ip tuntap add coppice-test0"), "{error}"),
        }
    }
}
