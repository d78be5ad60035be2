//! [`Connection`]: one connection of the host, and the guest's connection that belongs to it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};

use rustix::event::PollFlags;
use smoltcp::iface::{Context, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Duration;

/// The buffer of each direction: a few frames at any speed of a test.
const BUFFER_BYTES: usize = 64 << 10;
/// The time after which a guest that does not answer is given up.
const GUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Copies bytes between a host connection and a guest connection.
pub(super) struct Connection {
    host: TcpStream,
    guest: SocketHandle,
    address: Ipv4Addr,
    /// The host has ended its direction.
    host_ended: bool,
    /// The direction to the host is shut down.
    host_is_shut: bool,
    is_closed: bool,
}

impl Connection {
    /// Connects to the guest from `port` of the gateway; `None` if the host refuses an option or the stack
    /// the connection.
    pub(super) fn new(
        host: TcpStream,
        to: SocketAddrV4,
        port: u16,
        context: &mut Context,
        sockets: &mut SocketSet<'static>,
    ) -> Option<Self> {
        host.set_nonblocking(true).ok()?;
        // Bytes are sent at once, not collected until there are more.
        host.set_nodelay(true).ok()?;
        let buffer = || SocketBuffer::new(vec![0; BUFFER_BYTES]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_timeout(Some(GUEST_TIMEOUT));
        socket.set_nagle_enabled(false);
        socket.connect(context, (*to.ip(), to.port()), port).ok()?;
        let guest = sockets.add(socket);
        Some(Self {
            host,
            guest,
            address: *to.ip(),
            host_ended: false,
            host_is_shut: false,
            is_closed: false,
        })
    }

    pub(super) fn host(&self) -> &TcpStream {
        &self.host
    }

    /// The guest's address, while the guest has not answered yet.
    pub(super) fn awaited_guest(&self, sockets: &SocketSet<'_>) -> Option<Ipv4Addr> {
        let socket = sockets.get::<Socket<'_>>(self.guest);
        (socket.state() == State::SynSent).then_some(self.address)
    }

    /// The events of the host's socket that the connection can use now.
    pub(super) fn interest(&self, sockets: &SocketSet<'_>) -> PollFlags {
        let socket = sockets.get::<Socket<'_>>(self.guest);
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, !self.host_ended && socket.can_send());
        flags.set(PollFlags::OUT, !self.host_is_shut && socket.can_recv());
        flags
    }

    /// Copies all bytes that can be copied. Returns false if the connection is closed; its socket is removed
    /// then.
    pub(super) fn pump(&mut self, sockets: &mut SocketSet<'static>) -> bool {
        let socket = sockets.get_mut::<Socket<'_>>(self.guest);
        let result = self.send(socket).and_then(|()| self.receive(socket));
        if result.is_err() {
            // The host's side is gone without an orderly end, and so the guest's is reset.
            socket.abort();
        }
        match socket.state() {
            State::TimeWait => self.is_closed = true,
            // The first time the socket stays: a reset that it still has to send goes out before the next
            // call.
            State::Closed if self.host_ended && self.host_is_shut => self.is_closed = true,
            State::Closed => {
                (self.host_ended, self.host_is_shut) = (true, true);
                // The host's socket may be down already.
                let _ = self.host.shutdown(Shutdown::Both);
            }
            _ => {}
        }
        if self.is_closed {
            sockets.remove(self.guest);
        }
        !self.is_closed
    }

    /// Copies bytes from the host to the guest.
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
                // The socket cannot send any more, which its state shows, too.
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Copies bytes from the guest to the host.
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
