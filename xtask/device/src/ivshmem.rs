//! An ivshmem server with one client, QEMU's `ivshmem-doorbell`: how the bare machine gets its mailbox.
//!
//! The protocol is QEMU's (docs/specs/ivshmem-spec.rst, section "Ivshmem Client-Server protocol"): messages of eight bytes, some
//! with a file descriptor. We are a peer as well, so that the machine can ring us.

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
/// What comes before the shared memory's descriptor.
const MEMORY: i64 = -1;

/// What stands before the path of the machine's memory, and before the path of each device's socket, on standard output.
pub(crate) const MEMORY_LINE: &str = "memory ";
pub(crate) const SOCKET_LINE: &str = "socket ";

/// When the machine is told that the process is a peer, which lets it ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Introduction {
    /// With all else.
    Whole,
    /// Only a while after it has begun to ask for something, and so to ring in vain: a fault to be tested.
    Late,
}

/// How much later that is.
const LATE: Duration = Duration::from_millis(100);

/// Serves a machine with `bytes` of memory: says where the memory and the devices are to be had, and ends with the machine.
pub(crate) fn serve(bytes: u64, devices: &[DeviceOption], introduction: Introduction) -> Result<()> {
    // Who started us is the machine, or becomes it. If it dies before it has called, we would wait for ever.
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::TERM)).context("asking to end with who started us")?;
    if getppid() != parent {
        bail!("who started us is gone");
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
    let mut slots = Vec::new();
    for device in devices {
        let slot = Slot::new(device.make()?, memory.clone())?;
        // In the order of the devices: the machine numbers them as they come.
        let place = Place::new()?;
        println!("{SOCKET_LINE}{}", place.path.display());
        slots.push(thread::spawn(move || slot.serve(place, introduction)));
    }
    let outcomes = slots.into_iter().map(|slot| slot.join().unwrap_or_else(|_| bail!("a device broke")));
    outcomes.collect()
}

/// How much of its memory QEMU's q35 board puts below 4 GiB; the rest begins there (QEMU, hw/i386/pc_q35.c: from 2.75 GiB on it
/// keeps 2 GiB of addresses for devices).
fn low_memory(bytes: u64) -> u64 {
    const LOW_LIMIT: u64 = 0xb000_0000;
    const LOW: u64 = 0x8000_0000;
    if bytes < LOW_LIMIT { bytes } else { LOW }
}

/// Where a machine comes for a device.
struct Place {
    listener: UnixListener,
    path: PathBuf,
    _folder: TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("coppice-device-").tempdir();
        let folder = folder.context("a place for a socket")?;
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).with_context(|| path.display().to_string())?;
        Ok(Self { listener, path, _folder: folder })
    }
}

/// A model that is ready for a machine.
struct Slot {
    model: Arc<dyn Model>,
    mailbox: Arc<Mailbox>,
    /// What the machine wakes us with.
    doorbell: File,
    /// What we interrupt the machine with.
    vectors: Arc<[File]>,
}

/// A machine, as its device sees it.
struct Guest {
    memory: Arc<Memory>,
    mailbox: Arc<Mailbox>,
    vectors: Arc<[File]>,
}

impl Slot {
    /// Attaches `model` to a machine with that memory.
    fn new(model: Arc<dyn Model>, memory: Arc<Memory>) -> Result<Self> {
        let mailbox = Arc::new(Mailbox::new(&*model)?);
        let doorbell = File::from(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let vector = |_| Ok(File::from(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?));
        let vectors: Arc<[File]> = (0..VECTOR_LIMIT).map(vector).collect::<Result<_>>()?;
        let guest = Guest { memory, mailbox: mailbox.clone(), vectors: vectors.clone() };
        model.attach(Arc::new(guest))?;
        Ok(Self { model, mailbox, doorbell, vectors })
    }

    /// Serves the machine that comes to `place`, until that hangs up.
    fn serve(self, place: Place, introduction: Introduction) -> Result<()> {
        let (mut machine, _) = place.listener.accept().context("waiting for a machine")?;
        drop(place);
        let Self { model, mailbox, doorbell, vectors } = self;
        let beating = mailbox.clone();
        thread::spawn(move || beating.beat());
        let (served, bell) = (mailbox.clone(), doorbell.try_clone()?);
        thread::spawn(move || {
            if let Err(error) = served.serve(&*model, &bell) {
                eprintln!("a device leaves its slot: {error:#}");
                model.set_bus_master(false);
                served.leave();
            }
        });
        let introduced = match introduction {
            Introduction::Whole => introduce(&machine, &mailbox, &doorbell, &vectors, || ()),
            Introduction::Late => introduce(&machine, &mailbox, &doorbell, &vectors, || {
                while !mailbox.is_in_use() {
                    thread::sleep(Duration::from_millis(1));
                }
                thread::sleep(LATE);
            }),
        };
        introduced.context("introducing the device to its machine")?;
        // A client says nothing; it hangs up when the machine ends.
        while machine.read(&mut [0; 64]).is_ok_and(|bytes| bytes > 0) {}
        mailbox.leave();
        Ok(())
    }
}

/// Tells the machine all about the device. `hold_back` returns when it may ring.
fn introduce(
    machine: &UnixStream,
    mailbox: &Mailbox,
    doorbell: &File,
    vectors: &[File],
    hold_back: impl FnOnce(),
) -> Result<()> {
    send(machine, PROTOCOL_VERSION, None)?;
    send(machine, MACHINE_PEER.into(), None)?;
    send(machine, MEMORY, Some(mailbox.file().as_fd()))?;
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
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)), "there is room for one descriptor");
    // Eight bytes go in one piece or not at all.
    sendmsg(machine, &[IoSlice::new(&bytes)], &mut control, SendFlags::empty())?;
    Ok(())
}

impl Guest {
    /// The model asks itself, too. This is for a process that the machine did not want to wait for any longer.
    fn check(&self) -> Result<(), DmaError> {
        if self.mailbox.may_reach_memory() { Ok(()) } else { Err(DmaError::Disabled) }
    }
}

impl Host for Guest {
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
            // A counter that is full rings already.
            let _ = counter.write(&1u64.to_ne_bytes());
        }
    }
}
