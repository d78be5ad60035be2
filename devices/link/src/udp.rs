//! [`Udp`]: a wire through a network of the host's, one frame in each datagram.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::queue::Mailbox;
use crate::{End, Frame, LossCounters, Waker};

/// Frames that have come and were not given yet.
const FRAMES: usize = 4096;
/// More than any datagram.
const DATAGRAM_BYTES: usize = 65_536;
/// How long dropping the end may take, and how often its thread wakes for nothing.
const PATIENCE: Duration = Duration::from_millis(100);

/// Frames in datagrams, as QEMU's `-netdev dgram` and `-netdev socket,udp=` have them. The link is always up, as nobody can know.
pub struct Udp {
    socket: UdpSocket,
    inbox: Arc<Inbox>,
    reader: Option<JoinHandle<()>>,
    current: Vec<u8>,
}

struct Inbox {
    mailbox: Mailbox,
    is_over: AtomicBool,
    losses: Arc<LossCounters>,
}

impl Udp {
    /// Receives at `local` what comes from `remote`, and sends there.
    ///
    /// # Errors
    /// What the host says.
    pub fn new(local: SocketAddr, remote: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(local)?;
        socket.connect(remote)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        // A device's thread waits for nothing; a datagram that finds no room in a millisecond is lost.
        socket.set_write_timeout(Some(Duration::from_millis(1)))?;
        let inbox = Arc::new(Inbox {
            mailbox: Mailbox::new(FRAMES),
            is_over: AtomicBool::new(false),
            losses: Arc::default(),
        });
        let reader = std::thread::Builder::new().name("wire-udp".into()).spawn({
            let (socket, inbox) = (socket.try_clone()?, inbox.clone());
            move || read(&socket, &inbox)
        })?;
        Ok(Self { socket, inbox, reader: Some(reader), current: Vec::new() })
    }
}

fn read(socket: &UdpSocket, inbox: &Inbox) {
    let mut datagram = vec![0; DATAGRAM_BYTES];
    while !inbox.is_over.load(Ordering::Acquire) {
        // An error is the end of the wait, or says that nobody listens at the other side at the moment.
        match socket.recv(&mut datagram) {
            Ok(bytes) if bytes > 0 => {
                if !inbox.mailbox.push(&datagram[..bytes]) {
                    inbox.losses.end_full.add(1);
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(_) => {}
        }
    }
}

impl End for Udp {
    fn take(&mut self, frame: &[u8], _: u64) {
        // What the host takes and does not deliver, it tells nobody.
        if self.socket.send(frame).is_err() {
            self.inbox.losses.refused.add(1);
        }
    }

    fn give(&mut self, _: u64) -> Option<Frame<'_>> {
        self.inbox.mailbox.pop(&mut self.current)
    }

    fn due_ns(&self) -> Option<u64> {
        self.inbox.mailbox.due_ns()
    }

    fn attach(&mut self, waker: Waker) {
        self.inbox.mailbox.attach(waker);
    }

    fn losses(&self) -> Arc<LossCounters> {
        self.inbox.losses.clone()
    }
}

impl Drop for Udp {
    fn drop(&mut self) {
        self.inbox.is_over.store(true, Ordering::Release);
        if let Some(reader) = self.reader.take() {
            // It ends without a result.
            let _ = reader.join();
        }
        self.inbox.losses.abandoned.add(self.inbox.mailbox.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::Losses;

    #[test]
    fn frames_go_through_datagrams_both_ways() {
        // Ports that nobody has at the moment.
        let free = || UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        let (left, right) = (free(), free());
        let mut ends = [Udp::new(left, right).expect("a socket"), Udp::new(right, left).expect("a socket")];
        for (from, to) in [(0, 1), (1, 0)] {
            let frame = vec![from as u8 + 1; 1514];
            ends[from].take(&frame, 0);
            let begun = Instant::now();
            while ends[to].due_ns().is_none() {
                assert!(begun.elapsed() < Duration::from_secs(60), "nothing came");
                std::thread::yield_now();
            }
            assert_eq!(ends[to].give(0).map(|frame| frame.bytes.to_vec()), Some(frame));
        }
        assert!(Udp::new(left, right).is_err(), "the port is taken");
    }

    #[test]
    fn frames_that_the_host_refuses_or_the_inbox_has_no_room_for_are_counted() {
        let peer = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let free = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        let mut end = Udp::new(free, peer.local_addr().expect("it is bound")).expect("a socket");
        // No datagram is that long.
        end.take(&vec![0; 70_000], 0);
        let losses = end.losses();
        assert_eq!(losses.read(), Losses { refused: 1, ..Losses::default() });
        // The host loses datagrams, too, when the reader is late, so that more than the inbox holds are not enough.
        let begun = Instant::now();
        while losses.read().end_full == 0 {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "the inbox has {} frames",
                end.inbox.mailbox.len()
            );
            for _ in 0..64 {
                peer.send_to(&[1; 60], free).expect("it is sent");
            }
            std::thread::yield_now();
        }
        assert_eq!(end.inbox.mailbox.len(), FRAMES);
        drop(end);
        assert_eq!(losses.read().abandoned, FRAMES as u64);
    }
}
