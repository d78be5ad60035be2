//! [`Stream`]: a link through a byte stream of the host, each frame behind its length.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use device_link::{Frame, LossCounters, Mailbox, Peer, Waker};

/// The most queued frames in each direction.
const FRAMES: usize = 4096;
/// The longest frame. A longer one means that the other side speaks another protocol.
const FRAME_LIMIT: usize = 65_536;
/// The interval at which threads check for their end: the longest that the drop of a listener takes.
const STOP_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The address of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StreamAddress {
    /// An address for TCP.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for StreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A connected socket of either family.
#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// Frames behind a length of 4 bytes, big-endian, as in QEMU's `-netdev stream` and `-netdev socket,listen=`.
/// The link is up while there is a connection. A listener serves one connection at a time.
pub struct Stream {
    shared: Arc<Shared>,
    outbox: SyncSender<Vec<u8>>,
    reader: Option<JoinHandle<()>>,
    current: Vec<u8>,
}

struct Shared {
    mailbox: Mailbox,
    is_up: AtomicBool,
    is_stopping: AtomicBool,
    losses: Arc<LossCounters>,
    /// The current connection, for shutting it down.
    connection: Mutex<Option<Socket>>,
}

impl Stream {
    /// Connects to a listener.
    ///
    /// # Errors
    /// The error of the host if the connection is refused or cannot be made.
    pub fn connect(address: &StreamAddress) -> io::Result<Self> {
        let socket = match address {
            StreamAddress::Tcp(address) => Socket::Tcp(TcpStream::connect(address)?),
            StreamAddress::Unix(path) => Socket::Unix(UnixStream::connect(path)?),
        };
        Self::run(move |shared, outbox| serve(socket, shared, outbox))
    }

    /// Listens, and serves one connection after the other.
    ///
    /// # Errors
    /// The error of the host if the address is taken or cannot be bound.
    pub fn listen(address: &StreamAddress) -> io::Result<Self> {
        let listener = match address {
            StreamAddress::Tcp(address) => Listener::Tcp(TcpListener::bind(address)?),
            StreamAddress::Unix(path) => Listener::Unix(UnixListener::bind(path)?, path.clone()),
        };
        listener.set_nonblocking()?;
        Self::run(move |shared, outbox| {
            while !shared.is_stopping.load(Ordering::Acquire) {
                match listener.accept() {
                    Ok(socket) => serve(socket, shared, outbox),
                    Err(_) => std::thread::sleep(STOP_POLL_INTERVAL),
                }
            }
        })
    }

    fn run(work: impl FnOnce(&Shared, &Mutex<Receiver<Vec<u8>>>) + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            mailbox: Mailbox::new(FRAMES),
            is_up: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            losses: Arc::default(),
            connection: Mutex::new(None),
        });
        let (outbox, frames) = sync_channel(FRAMES);
        let reader = std::thread::Builder::new().name("link-stream".into()).spawn({
            let shared = shared.clone();
            move || {
                let frames = Mutex::new(frames);
                work(&shared, &frames);
                // Without a connection these frames are not sent, and there will be no other connection.
                let left = lock(&frames).try_iter().count();
                shared.losses.abandoned.add(left as u64);
            }
        })?;
        Ok(Self { shared, outbox, reader: Some(reader), current: Vec::new() })
    }
}

/// Serves one connection until it ends.
fn serve(socket: Socket, shared: &Shared, outbox: &Mutex<Receiver<Vec<u8>>>) {
    let (Ok(kept), Ok(mut writing)) = (socket.try_clone(), socket.try_clone()) else { return };
    *lock(&shared.connection) = Some(kept);
    let set_up = |is_up| {
        shared.is_up.store(is_up, Ordering::Release);
        shared.mailbox.wake();
    };
    let is_done = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Without a writer the link stays down.
        let writer =
            std::thread::Builder::new().name("link-stream-out".into()).spawn_scoped(scope, move || {
                let frames = lock(outbox);
                while !is_done.load(Ordering::Acquire) && !shared.is_stopping.load(Ordering::Acquire) {
                    match frames.recv_timeout(STOP_POLL_INTERVAL) {
                        Ok(frame) if write(&mut writing, &frame).is_err() => {
                            shared.losses.refused.add(1);
                            break;
                        }
                        _ => {}
                    }
                }
            });
        if writer.is_ok() && !shared.is_stopping.load(Ordering::Acquire) {
            set_up(true);
            // An error ends the connection, as an end of file does.
            let _ = read(socket, shared);
            set_up(false);
        }
        is_done.store(true, Ordering::Release);
        if let Some(socket) = lock(&shared.connection).take() {
            socket.shutdown();
        }
    });
}

fn read(mut socket: Socket, shared: &Shared) -> io::Result<()> {
    let mut frame = Vec::new();
    loop {
        let mut length = [0; 4];
        socket.read_exact(&mut length)?;
        let bytes = u32::from_be_bytes(length) as usize;
        if bytes == 0 || bytes > FRAME_LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {bytes} bytes")));
        }
        frame.resize(bytes, 0);
        socket.read_exact(&mut frame)?;
        if !shared.mailbox.push(&frame) {
            shared.losses.peer_full.add(1);
        }
    }
}

fn write(socket: &mut Socket, frame: &[u8]) -> io::Result<()> {
    let mut message = Vec::with_capacity(4 + frame.len());
    message.extend_from_slice(&(frame.len() as u32).to_be_bytes());
    message.extend_from_slice(frame);
    socket.write_all(&message)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Socket {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
            Self::Unix(socket) => Self::Unix(socket.try_clone()?),
        })
    }

    fn shutdown(&self) {
        // An error means that the connection is down already.
        let _ = match self {
            Self::Tcp(socket) => socket.shutdown(Shutdown::Both),
            Self::Unix(socket) => socket.shutdown(Shutdown::Both),
        };
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buffer),
            Self::Unix(socket) => socket.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(buffer),
            Self::Unix(socket) => socket.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Listener {
    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.set_nonblocking(true),
            Self::Unix(listener, _) => listener.set_nonblocking(true),
        }
    }

    fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (socket, _) = listener.accept()?;
                socket.set_nonblocking(false)?;
                // Frames are sent at once, not collected until there are more.
                socket.set_nodelay(true)?;
                Ok(Socket::Tcp(socket))
            }
            Self::Unix(listener, _) => {
                let (socket, _) = listener.accept()?;
                socket.set_nonblocking(false)?;
                Ok(Socket::Unix(socket))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // The file may have been removed already.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Peer for Stream {
    fn take(&mut self, frame: &[u8], _: u64) {
        let losses = &self.shared.losses;
        if !self.is_up() {
            losses.not_connected.add(1);
            return;
        }
        match self.outbox.try_send(frame.to_vec()) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => losses.peer_full.add(1),
            // The connection has just ended, and there will be no other.
            Err(TrySendError::Disconnected(_)) => losses.not_connected.add(1),
        }
    }

    fn give(&mut self, _: u64) -> Option<Frame<'_>> {
        self.shared.mailbox.pop(&mut self.current)
    }

    fn due_ns(&self) -> Option<u64> {
        self.shared.mailbox.due_ns()
    }

    fn is_up(&self) -> bool {
        self.shared.is_up.load(Ordering::Acquire)
    }

    fn attach(&mut self, waker: Waker) {
        self.shared.mailbox.attach(waker);
    }

    fn losses(&self) -> Arc<LossCounters> {
        self.shared.losses.clone()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        if let Some(socket) = &*lock(&self.shared.connection) {
            socket.shutdown();
        }
        if let Some(reader) = self.reader.take() {
            // The thread returns nothing, and a panic was printed.
            let _ = reader.join();
        }
        self.shared.losses.abandoned.add(self.shared.mailbox.queued() as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use device_link::Losses;

    fn wait(what: &str, is_so: impl Fn() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_connection_carries_frames_both_ways_and_can_be_made_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        for address in [StreamAddress::Unix(folder.path().join("wire")), StreamAddress::Tcp(free)] {
            let mut listening = Stream::listen(&address).expect("the address is free");
            assert!(!listening.is_up());
            for round in 0..2 {
                let mut connected = Stream::connect(&address).expect("the stream listens");
                wait("no connection", || listening.is_up() && connected.is_up());
                connected.take(&[round; 1514], 0);
                wait("nothing came", || listening.due_ns().is_some());
                assert_eq!(listening.give(0).map(|frame| frame.bytes.to_vec()), Some(vec![round; 1514]));
                listening.take(&[round; 60], 0);
                wait("nothing came back", || connected.due_ns().is_some());
                assert_eq!(connected.give(0).map(|frame| frame.bytes.to_vec()), Some(vec![round; 60]));
                drop(connected);
                wait("the connection does not end", || !listening.is_up());
            }
        }
        assert!(Stream::connect(&StreamAddress::Unix(folder.path().join("missing"))).is_err());
    }

    #[test]
    fn frames_without_a_connection_or_without_room_are_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("wire");
        let mut stream = Stream::listen(&StreamAddress::Unix(path.clone())).expect("the address is free");
        let losses = stream.losses();
        stream.take(&[1; 60], 0);
        assert_eq!(losses.read(), Losses { not_connected: 1, ..Losses::default() });
        let mut remote = UnixStream::connect(path).expect("the stream listens");
        wait("no connection", || stream.is_up());
        // The device takes none of the other side's frames, and the other side none of the device's.
        for _ in 0..FRAMES + 7 {
            remote.write_all(&[0, 0, 0, 2, 5, 5]).expect("the reader takes them");
        }
        wait("all frames are read", || losses.read().peer_full == 7);
        // A frame larger than the host's buffers: once its length has arrived, the writer is in the middle of
        // it.
        stream.take(&vec![2; 16 << 20], 0);
        remote.read_exact(&mut [0; 4]).expect("its length");
        (0..FRAMES + 10).for_each(|_| stream.take(&[2; 60], 0));
        assert_eq!(losses.read(), Losses { not_connected: 1, peer_full: 17, ..Losses::default() });
        drop(remote);
        wait("the connection ends", || !stream.is_up());
        wait("the writer's frame is refused", || losses.read().refused == 1);
        let before = losses.read();
        stream.take(&[1; 60], 0);
        assert_eq!(losses.read(), Losses { not_connected: before.not_connected + 1, ..before });
        drop(stream);
        assert_eq!(losses.read().abandoned, 2 * FRAMES as u64, "those of the mailbox and of the outbox");
    }
}
