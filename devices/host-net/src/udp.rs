//! [`Udp`]: a link through the host's network, one frame per datagram.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use device_link::{Frame, LossCounters, Mailbox, Peer, Waker};

/// Received frames that the device has not taken yet.
const FRAMES: usize = 4096;
/// The size of the receive buffer, more than any datagram.
const DATAGRAM_BYTES: usize = 65_536;
/// The interval at which the reader checks for its end: the longest that a drop takes.
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Frames in datagrams, as in QEMU's `-netdev dgram` and `-netdev socket,udp=`. The link is always up, as UDP
/// does not know if the other side exists.
pub struct Udp {
    socket: UdpSocket,
    inbox: Arc<Inbox>,
    reader: Option<JoinHandle<()>>,
    current: Vec<u8>,
}

struct Inbox {
    mailbox: Mailbox,
    is_stopping: AtomicBool,
    losses: Arc<LossCounters>,
}

impl Udp {
    /// Binds a socket to `local`, which sends to `remote` and receives from there alone.
    ///
    /// # Errors
    /// The error of the host if the address is taken or not the host's, or there are no sockets or threads
    /// left.
    pub fn new(local: SocketAddr, remote: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(local)?;
        socket.connect(remote)?;
        socket.set_read_timeout(Some(STOP_POLL_INTERVAL))?;
        // A device's thread never blocks for long: a datagram without room in a millisecond is lost.
        socket.set_write_timeout(Some(Duration::from_millis(1)))?;
        let inbox = Arc::new(Inbox {
            mailbox: Mailbox::new(FRAMES),
            is_stopping: AtomicBool::new(false),
            losses: Arc::default(),
        });
        let reader = std::thread::Builder::new().name("link-udp".into()).spawn({
            let (socket, inbox) = (socket.try_clone()?, inbox.clone());
            move || read(&socket, &inbox)
        })?;
        Ok(Self { socket, inbox, reader: Some(reader), current: Vec::new() })
    }
}

fn read(socket: &UdpSocket, inbox: &Inbox) {
    let mut datagram = vec![0; DATAGRAM_BYTES];
    while !inbox.is_stopping.load(Ordering::Acquire) {
        // An error is the end of the interval, or a report that the other side does not listen.
        match socket.recv(&mut datagram) {
            Ok(bytes) if bytes > 0 => {
                if !inbox.mailbox.push(&datagram[..bytes]) {
                    inbox.losses.peer_full.add(1);
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

impl Peer for Udp {
    fn take(&mut self, frame: &[u8], _: u64) {
        // Datagrams that the host takes and does not deliver are not reported.
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
        self.inbox.is_stopping.store(true, Ordering::Release);
        if let Some(reader) = self.reader.take() {
            // The thread returns nothing, and a panic was printed.
            let _ = reader.join();
        }
        self.inbox.losses.abandoned.add(self.inbox.mailbox.queued() as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use device_link::Losses;

    #[test]
    fn datagrams_carry_frames_both_ways() {
        // Ports that are free now.
        let free = || UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        let (left, right) = (free(), free());
        let mut peers = [Udp::new(left, right).expect("a socket"), Udp::new(right, left).expect("a socket")];
        for (from, to) in [(0, 1), (1, 0)] {
            let frame = vec![from as u8 + 1; 1514];
            peers[from].take(&frame, 0);
            let start = Instant::now();
            while peers[to].due_ns().is_none() {
                assert!(start.elapsed() < Duration::from_secs(60), "nothing came");
                std::thread::yield_now();
            }
            assert_eq!(peers[to].give(0).map(|frame| frame.bytes.to_vec()), Some(frame));
        }
        assert!(Udp::new(left, right).is_err(), "the port is taken");
    }

    #[test]
    fn frames_refused_by_the_host_or_without_room_are_counted() {
        let remote = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let free = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        let mut peer = Udp::new(free, remote.local_addr().expect("it is bound")).expect("a socket");
        // Longer than any datagram.
        peer.take(&vec![0; 70_000], 0);
        let losses = peer.losses();
        assert_eq!(losses.read(), Losses { refused: 1, ..Losses::default() });
        // The host also drops datagrams while the reader is late, so the inbox may need more than its size.
        let start = Instant::now();
        while losses.read().peer_full == 0 {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "the inbox has {} frames",
                peer.inbox.mailbox.queued()
            );
            for _ in 0..64 {
                remote.send_to(&[1; 60], free).expect("it is sent");
            }
            std::thread::yield_now();
        }
        assert_eq!(peer.inbox.mailbox.queued(), FRAMES);
        drop(peer);
        assert_eq!(losses.read().abandoned, FRAMES as u64);
    }
}
