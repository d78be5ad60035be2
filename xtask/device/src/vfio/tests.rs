use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{io::Read, thread};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, memfd_create};
use vfio_user::Client;

use super::*;

/// The bus address of the client's memory; below, registers of the edu device (docs/specs/edu.txt of QEMU).
const MEMORY: u64 = 0x10_0000;
const SOURCE: u64 = 0x80;
const DESTINATION: u64 = 0x88;
const COUNT: u64 = 0x90;
const COMMAND: u64 = 0x98;
const BUFFER: u64 = 0x4_0000;

fn connect(socket: &Path) -> Client {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match Client::new(socket) {
            Ok(client) => return client,
            Err(error) if Instant::now() > deadline => panic!("no server: {error}"),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Starts a server for one client, and connects the client.
fn served(device: &str) -> (tempfile::TempDir, thread::JoinHandle<Result<()>>, Client) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket: PathBuf = folder.path().join("device");
    let device: DeviceOption = device.parse().expect("the option is valid");
    let path = socket.clone();
    let server = thread::spawn(move || run(&device, &path, true));
    let client = connect(&socket);
    (folder, server, client)
}

fn config(client: &mut Client, offset: u64) -> u16 {
    let mut word = [0; 2];
    client.region_read(VFIO_PCI_CONFIG_REGION_INDEX, offset, &mut word).expect("the offset exists");
    u16::from_le_bytes(word)
}

fn write64(client: &mut Client, register: u64, value: u64) {
    client.region_write(0, register, &value.to_le_bytes()).expect("the server replies");
}

#[test]
fn a_client_reads_configuration_space_copies_data_and_gets_interrupts() {
    let (_folder, server, mut client) = served("edu,delay=1ms");
    assert_eq!((config(&mut client, 0), config(&mut client, 2)), (0x1234, 0x11e8));
    assert_eq!(client.region(0).map(|region| region.size), Some(1 << 20));
    let irq = client.get_irq_info(VFIO_PCI_MSIX_IRQ_INDEX).expect("the device has MSI-X");
    assert_eq!(irq.count, 1);

    let memory = File::from(memfd_create("memory", MemfdFlags::CLOEXEC).expect("the memory file works"));
    memory.set_len(0x2000).expect("the memory file works");
    memory.write_all_at(b"coppice!", 0x1000).expect("the memory file works");
    client.dma_map(0x1000, MEMORY, 0x1000, memory.as_raw_fd()).expect("the server replies");
    let counter = File::from(eventfd(0, EventfdFlags::CLOEXEC).expect("the host has event counters"));
    client
        .set_irqs(
            VFIO_PCI_MSIX_IRQ_INDEX,
            VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
            0,
            1,
            &[counter.as_raw_fd()],
        )
        .expect("the server replies");
    // Memory space and bus mastering.
    client.region_write(VFIO_PCI_CONFIG_REGION_INDEX, 4, &6u16.to_le_bytes()).expect("the server replies");
    assert_eq!(config(&mut client, 4), 6);

    // Copies into the device's buffer, and from there to another address; each copy ends with an interrupt.
    for (source, destination, command) in [(MEMORY, BUFFER, 0b101), (BUFFER, MEMORY + 0x800, 0b111)] {
        write64(&mut client, SOURCE, source);
        write64(&mut client, DESTINATION, destination);
        write64(&mut client, COUNT, 8);
        write64(&mut client, COMMAND, command);
        let mut count = [0; 8];
        (&counter).read_exact(&mut count).expect("an interrupt arrives");
        assert_eq!(u64::from_ne_bytes(count), 1);
    }
    let mut copy = [0; 8];
    memory.read_exact_at(&mut copy, 0x1800).expect("the memory file works");
    assert_eq!(&copy, b"coppice!");

    client.reset().expect("the server replies");
    assert_eq!(config(&mut client, 4), 0, "a reset ends bus mastering");
    client.shutdown().expect("the client is connected");
    server.join().expect("the server does not panic").expect("the server succeeds");
}

#[test]
fn an_invalid_vector_is_refused_and_the_connection_stays() {
    let (_folder, server, mut client) = served("nvme,memory=1M,queues=2");
    assert_eq!(client.get_irq_info(VFIO_PCI_MSIX_IRQ_INDEX).expect("the device has MSI-X").count, 3);
    // Beyond the conventional configuration space.
    assert_eq!(config(&mut client, 0x100), 0);
    // Registers are off until memory space is enabled in the command register.
    let mut word = [0; 4];
    client.region_read(0, 8, &mut word).expect("the server replies");
    assert_eq!(word, [0xff; 4]);
    let counter = eventfd(0, EventfdFlags::CLOEXEC).expect("the host has event counters");
    let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    // A fourth vector: the server refuses it, which this client ignores, and keeps serving.
    client
        .set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, flags, 3, 1, &[counter.as_raw_fd()])
        .expect("the server replies");
    assert_eq!(config(&mut client, 0), 0x1234);
    client.shutdown().expect("the client is connected");
    server.join().expect("the server does not panic").expect("the server succeeds");
}

#[test]
fn an_access_is_split_into_aligned_bus_accesses() {
    let found: Vec<_> = bus_accesses(2, 9, 8).collect();
    assert_eq!(found, [(2, 0..2), (4, 2..6), (8, 6..8), (10, 8..9)]);
    assert_eq!(bus_accesses(8, 8, 8).collect::<Vec<_>>(), [(8, 0..8)]);
    assert_eq!(bus_accesses(8, 8, 4).collect::<Vec<_>>(), [(8, 0..4), (12, 4..8)]);
    assert_eq!(bus_accesses(0, 0, 8).count(), 0);
}
