//! An ivshmem server for one client, QEMU's `ivshmem-doorbell`, which gives the bare machine its mailbox.
//!
//! The protocol is QEMU's (docs/specs/ivshmem-spec.rst, section "Ivshmem Client-Server protocol"): messages
//! of eight bytes, some with a file descriptor. This process is also a peer, so that the machine can notify
//! it.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use coppice_mailbox::{DEVICE_PEER, MACHINE_PEER, VECTOR_LIMIT};
use device_bus::{DmaError, Host, Model};
use device_models::DeviceOption;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use tempfile::TempDir;

use crate::mailbox::Mailbox;
use crate::memory::Memory;

const PROTOCOL_VERSION: i64 = 0;
/// The message with the descriptor of the shared memory.
const SHARED_MEMORY: i64 = -1;

/// The prefixes of the lines on standard output with the path of the machine's memory, and of each device's
/// socket.
pub(crate) const MEMORY_LINE: &str = "memory ";
pub(crate) const SOCKET_LINE: &str = "socket ";

/// The time at which the machine learns that the process is a peer, and so can notify it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Announcement {
    /// At connection.
    Immediate,
    /// Some time after the machine has posted its first request and has tried to notify the process: a fault
    /// for tests.
    Delayed,
}

/// The time after the first request at which a delayed announcement is made.
const ANNOUNCEMENT_DELAY: Duration = Duration::from_millis(100);

/// Serves a machine with `bytes` of memory: prints the paths of the memory and of the sockets, and returns
/// when the machine has ended.
pub(crate) fn serve(bytes: u64, devices: &[DeviceOption], announce: Announcement) -> Result<()> {
    // The parent process is QEMU, or becomes it. If it ended before it has connected, this process would wait
    // for ever.
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::TERM))
        .context("requesting a signal at the end of the parent process")?;
    if getppid() != parent {
        bail!("the parent process has ended");
    }
    let file = File::from(memfd_create("coppice-memory", MemfdFlags::CLOEXEC)?);
    file.set_len(bytes).with_context(|| format!("{bytes} bytes of memory"))?;
    let memory = Arc::new(Memory::default());
    let low = low_memory(bytes);
    memory.map(0, low, file.try_clone()?, 0)?;
    if low < bytes {
        memory.map(4 << 30, bytes - low, file.try_clone()?, low)?;
    }
    println!("{MEMORY_LINE}/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let mut threads = Vec::new();
    for device in devices {
        let device = RemoteDevice::new(device.make()?, memory.clone())?;
        // In the order of the devices, because the machine numbers them in this order.
        let socket = DeviceSocket::new()?;
        println!("{SOCKET_LINE}{}", socket.path.display());
        threads.push(thread::spawn(move || device.serve(socket, announce)));
    }
    let results =
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a device has panicked")));
    results.collect()
}

/// The bytes of memory that QEMU's q35 board maps below 4 GiB; the rest begins at 4 GiB (QEMU,
/// hw/i386/pc_q35.c: with 2.75 GiB of memory or more it reserves 2 GiB of addresses for devices).
fn low_memory(bytes: u64) -> u64 {
    const LOW_LIMIT: u64 = 0xb000_0000;
    const LOW: u64 = 0x8000_0000;
    if bytes < LOW_LIMIT { bytes } else { LOW }
}

/// The socket at which a machine connects to a device.
struct DeviceSocket {
    listener: UnixListener,
    path: PathBuf,
    _folder: TempDir,
}

impl DeviceSocket {
    fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("coppice-device-").tempdir();
        let folder = folder.context("creating a folder for a socket")?;
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
        Ok(Self { listener, path, _folder: folder })
    }
}

/// A model with the resources that it shares with a machine.
struct RemoteDevice {
    model: Arc<dyn Model>,
    mailbox: Arc<Mailbox>,
    /// The event counter with which the machine wakes this process.
    doorbell: File,
    /// The event counters that interrupt the machine.
    vectors: Arc<[File]>,
}

/// The machine as the host of the model.
struct GuestHost {
    memory: Arc<Memory>,
    mailbox: Arc<Mailbox>,
    vectors: Arc<[File]>,
}

impl RemoteDevice {
    /// Attaches `model` to a machine with `memory`.
    fn new(model: Arc<dyn Model>, memory: Arc<Memory>) -> Result<Self> {
        let mailbox = Arc::new(Mailbox::new(&*model)?);
        let doorbell = File::from(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let vector = |_| Ok(File::from(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?));
        let vectors: Arc<[File]> = (0..VECTOR_LIMIT).map(vector).collect::<Result<_>>()?;
        let guest = GuestHost { memory, mailbox: mailbox.clone(), vectors: vectors.clone() };
        model.attach(Arc::new(guest))?;
        Ok(Self { model, mailbox, doorbell, vectors })
    }

    /// Serves the machine that connects to `socket`, until it disconnects.
    fn serve(self, socket: DeviceSocket, announce: Announcement) -> Result<()> {
        let (mut machine, _) = socket.listener.accept().context("waiting for a machine to connect")?;
        drop(socket);
        let Self { model, mailbox, doorbell, vectors } = self;
        let heartbeat = mailbox.clone();
        thread::spawn(move || heartbeat.run_heartbeat());
        let (served, served_doorbell) = (mailbox.clone(), doorbell.try_clone()?);
        thread::spawn(move || {
            if let Err(error) = served.serve(&*model, &served_doorbell) {
                eprintln!("unplugging a device: {error:#}");
                model.set_bus_master(false);
                served.leave();
            }
        });
        let announced = match announce {
            Announcement::Immediate => announce_device(&machine, &mailbox, &doorbell, &vectors, || ()),
            Announcement::Delayed => announce_device(&machine, &mailbox, &doorbell, &vectors, || {
                while !mailbox.is_in_use() {
                    thread::sleep(Duration::from_millis(1));
                }
                thread::sleep(ANNOUNCEMENT_DELAY);
            }),
        };
        announced.context("announcing the device to its machine")?;
        // A client sends nothing; it closes the connection when the machine ends.
        while machine.read(&mut [0; 64]).is_ok_and(|bytes| bytes > 0) {}
        mailbox.leave();
        Ok(())
    }
}

/// Sends the machine the memory and the event counters of the device. The machine can notify this process
/// once `hold_back` has returned.
fn announce_device(
    machine: &UnixStream,
    mailbox: &Mailbox,
    doorbell: &File,
    vectors: &[File],
    hold_back: impl FnOnce(),
) -> Result<()> {
    send(machine, PROTOCOL_VERSION, None)?;
    send(machine, MACHINE_PEER.into(), None)?;
    send(machine, SHARED_MEMORY, Some(mailbox.file().as_fd()))?;
    hold_back();
    send(machine, DEVICE_PEER.into(), Some(doorbell.as_fd()))?;
    vectors.iter().try_for_each(|vector| send(machine, MACHINE_PEER.into(), Some(vector.as_fd())))
}

fn send(machine: &UnixStream, message: i64, fd: Option<BorrowedFd<'_>>) -> Result<()> {
    let bytes = message.to_le_bytes();
    let Some(fd) = fd else {
        let mut machine = machine;
        return Ok(machine.write_all(&bytes)?);
    };
    let fds = [fd];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)), "the buffer has room for one descriptor");
    // A message of eight bytes is sent as a whole or not at all.
    sendmsg(machine, &[IoSlice::new(&bytes)], &mut control, SendFlags::empty())?;
    Ok(())
}

impl GuestHost {
    /// Refuses an access if the machine has withdrawn the permission. The model checks bus mastering as well;
    /// this check is for a process that did not react to the machine in time.
    fn check(&self) -> Result<(), DmaError> {
        if self.mailbox.may_reach_memory() { Ok(()) } else { Err(DmaError::Disabled) }
    }
}

impl Host for GuestHost {
    fn read_memory(&self, address: u64, into: &mut [u8]) -> Result<(), DmaError> {
        self.check()?;
        self.memory.read(address, into)
    }

    fn write_memory(&self, address: u64, from: &[u8]) -> Result<(), DmaError> {
        self.check()?;
        self.memory.write(address, from)
    }

    fn publish_u32(&self, address: u64, value: u32) -> Result<(), DmaError> {
        self.check()?;
        self.memory.publish(address, value)
    }

    fn raise(&self, vector: u16) {
        if self.check().is_ok()
            && self.mailbox.is_open(vector)
            && let Some(mut counter) = self.vectors.get(usize::from(vector))
        {
            // A full counter has a notification pending.
            let _ = counter.write(&1u64.to_ne_bytes());
        }
    }
}
