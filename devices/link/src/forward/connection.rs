//! [`Connection`]: one of the host's connections and the guest's that belongs to it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};

use rustix::event::PollFlags;
use smoltcp::iface::{Context, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Duration;

/// Bytes under way, each way: some frames' worth at any speed of a test.
const BUFFER_BYTES: usize = 64 << 10;
/// A guest that does not answer for so long is none.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that go both ways.
pub(super) struct Connection {
    host: TcpStream,
    guest: SocketHandle,
    address: Ipv4Addr,
    /// The host sends no more.
    host_ended: bool,
    /// The host gets no more.
    host_is_shut: bool,
    is_over: bool,
}

impl Connection {
    /// Connects to the guest, from this port of the gateway's; `None` if that cannot be.
    pub(super) fn new(
        host: TcpStream,
        to: SocketAddrV4,
        port: u16,
        context: &mut Context,
        sockets: &mut SocketSet<'static>,
    ) -> Option<Self> {
        host.set_nonblocking(true).ok()?;
        // Bytes are to arrive when they are sent, not when there are more of them.
        host.set_nodelay(true).ok()?;
        let buffer = || SocketBuffer::new(vec![0; BUFFER_BYTES]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_timeout(Some(PATIENCE));
        socket.set_nagle_enabled(false);
        socket.connect(context, (*to.ip(), to.port()), port).ok()?;
        let guest = sockets.add(socket);
        Some(Self { host, guest, address: *to.ip(), host_ended: false, host_is_shut: false, is_over: false })
    }

    pub(super) fn host(&self) -> &TcpStream {
        &self.host
    }

    /// Whom it is still looking for, if the guest has not answered yet.
    pub(super) fn awaits(&self, sockets: &SocketSet<'_>) -> Option<Ipv4Addr> {
        let socket = sockets.get::<Socket<'_>>(self.guest);
        (socket.state() == State::SynSent).then_some(self.address)
    }

    /// What of the host's side is worth waiting for.
    pub(super) fn interest(&self, sockets: &SocketSet<'_>) -> PollFlags {
        let socket = sockets.get::<Socket<'_>>(self.guest);
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, !self.host_ended && socket.can_send());
        flags.set(PollFlags::OUT, !self.host_is_shut && socket.can_recv());
        flags
    }

    /// Moves what can be moved; whether the connection goes on. Its socket is removed if not.
    pub(super) fn pump(&mut self, sockets: &mut SocketSet<'static>) -> bool {
        let socket = sockets.get_mut::<Socket<'_>>(self.guest);
        let works = self.send(socket).and_then(|()| self.receive(socket));
        if works.is_err() {
            // The host's side is gone without a word, and so is the guest's.
            socket.abort();
        }
        match socket.state() {
            State::TimeWait => self.is_over = true,
            // The first time it stays: what it may owe the guest, a reset, goes out before it is looked at again.
            State::Closed if self.host_ended && self.host_is_shut => self.is_over = true,
            State::Closed => {
                (self.host_ended, self.host_is_shut) = (true, true);
                // It may be down already.
                let _ = self.host.shutdown(Shutdown::Both);
            }
            _ => {}
        }
        if self.is_over {
            sockets.remove(self.guest);
        }
        !self.is_over
    }

    /// From the host to the guest.
    fn send(&mut self, socket: &mut Socket<'_>) -> io::Result<()> {
        while !self.host_ended && socket.can_send() {
            let read = socket.send(|buffer| match self.host.read(buffer) {
                Ok(bytes) => (bytes, Ok(bytes)),
                Err(error) => (0, Err(error)),
            });
            match read {
                Ok(Ok(0)) => {
                    self.host_ended = true;
                    socket.close();
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(Err(error)) => return Err(error),
                // It cannot send any more, which its state says, too.
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// From the guest to the host.
    fn receive(&mut self, socket: &mut Socket<'_>) -> io::Result<()> {
        while socket.can_recv() {
            let written = socket.recv(|buffer| match self.host.write(buffer) {
                Ok(bytes) => (bytes, Ok(())),
                Err(error) => (0, Err(error)),
            });
            match written {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => break,
            }
        }
        let has_ended =
            matches!(socket.state(), State::CloseWait | State::LastAck | State::Closing | State::TimeWait);
        if has_ended && !self.host_is_shut {
            self.host_is_shut = true;
            self.host.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }
}
