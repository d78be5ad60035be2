//! Bring-up and configuration, and devices that do not respond.

mod packets;
mod scripted;

use device_bus::Model;
use ixgbe_driver::{Config, Controller, Fault, Groups, HashFields, IxgbeError, Queue, QueueOptions, Step};
use packets::Packets;
use scripted::{I82576, I82599, MAC, Map, Scripted};

const CTRL: u64 = 0;
const STATUS: u64 = 8;
const LINKS: u64 = 0x42A4;

fn open(controller: &Controller) -> Queue<Packets> {
    controller.open_queue(QueueOptions::default()).expect("a queue")
}

#[test]
fn every_chip_comes_up_and_reports_its_identity() {
    for (map, device, model) in [
        (I82599, 0x10FB, "Intel 82599"),
        (I82599, 0x10F7, "Intel 82599"),
        (I82599, 0x1528, "Intel X540"),
        (I82576, 0x10C9, "Intel 82576"),
    ] {
        let chip = Scripted::new(Map { device, ..map });
        let (_bench, controller) = chip.start().expect("the device works");
        let info = controller.info();
        assert_eq!((info.mac, info.model, info.queues), (MAC, model, 16));
        assert_eq!(controller.resets(), 0);
        assert!(controller.link().expect("the device is present").is_up);
        assert_eq!(chip.script().resets, 1, "the device is reset before its first use");
        let queue = open(&controller);
        assert_eq!(queue.options(), QueueOptions::default());
        drop(queue);
        drop(controller);
        assert_eq!(chip.script().resets, 2, "the device is reset at the end");
    }
}

#[test]
fn the_82599_is_initialised_in_the_order_of_its_datasheet() {
    let chip = Scripted::new(I82599);
    let (_bench, controller) = chip.start().expect("the device works");
    let queue = open(&controller);
    let log = chip.script().log.clone();
    let first = |register, bits: u32| {
        let found = log.iter().position(|&(at, value)| at == register && value & bits == bits);
        found.unwrap_or_else(|| panic!("register {register:#x} was never written with {bits:#x}"))
    };
    let steps = [
        ("EIMC", 0x888, 0x7FFF_FFFF),
        ("CTRL master disable", CTRL, 1 << 2),
        ("CTRL.RST", CTRL, 1 << 26),
        ("CTRL_EXT.DRV_LOAD", 0x18, 1 << 28),
        ("AUTOC restart", 0x42A0, 1 << 12),
        ("RXPBSIZE", 0x3C00, 512 << 10),
        ("RDRXCTL", 0x2F00, 1 << 1 | 1 << 25 | 1 << 26),
        ("CTRL_EXT.NS_DIS", 0x18, 1 << 16),
        ("RTTDCS.ARBDIS", 0x4900, 1 << 6),
        ("DTXMXSZRQ", 0x8100, 0xFFF),
        ("TXPBSIZE", 0xCC00, 160 << 10),
        ("DMATXCTL.TE", 0x4A80, 1),
        ("GPIE", 0x898, 1 << 4),
        ("RAL", 0xA200, 0),
        ("MRQC", 0xEC80, 1),
        ("HLREG0", 0x4240, 1 << 1 | 1 << 10),
        ("FCTRL.BAM", 0x5080, 1 << 10),
        ("RXCTRL.RXEN", 0x3000, 1),
        ("RDBAL", 0x1000, 0),
        ("SRRCTL", 0x1014, 1 << 25 | 2),
        ("RXDCTL.ENABLE", 0x1028, 1 << 25),
        ("TDBAL", 0x6000, 0),
        ("TXDCTL.ENABLE", 0x6028, 1 << 25),
        ("IVAR", 0x900, 0x8181),
    ];
    for pair in steps.windows(2) {
        let [(before, ..), (after, ..)] = [pair[0], pair[1]];
        let (at, next) = (first(pair[0].1, pair[0].2), first(pair[1].1, pair[1].2));
        assert!(at < next, "{before} comes before {after}");
    }
    // RSCFRSTSIZE is cleared, flow control is off, the arbiter runs again.
    assert_eq!(chip.register(0x2F00) >> 17 & 0x1F, 0);
    assert_eq!((chip.register(0x3D00), chip.register(0x4294)), (0, 1 << 1));
    assert_eq!(chip.register(0x4900) >> 6 & 1, 0);
    drop(queue);
}

#[test]
fn frames_without_a_receive_packet_are_dropped_only_with_several_queues() {
    for (map, srrctl, drop_en) in [(I82599, 0x14, 1 << 28), (I82576, 0x0C, 1 << 31)] {
        let chip = Scripted::new(map);
        let (_bench, controller) = chip.start().expect("the device works");
        let dropping = |queues: &[u64]| -> Vec<bool> {
            let register = |queue: &u64| chip.register(chip.receive(*queue) + srrctl);
            assert!(queues.iter().all(|queue| register(queue) & !drop_en == 1 << 25 | 2));
            queues.iter().map(|queue| register(queue) & drop_en != 0).collect()
        };
        let mut one = open(&controller);
        assert_eq!(dropping(&[0]), [false]);
        let mut other = open(&controller);
        assert_eq!(dropping(&[0, 1]), [true, true]);
        let third = open(&controller);
        assert_eq!(dropping(&[0, 1, 2]), [true, true, true]);
        drop(third);
        assert_eq!(dropping(&[0, 1]), [true, true]);
        // The first queue attached after a reset is alone.
        assert_eq!(controller.reset(0), Ok(()));
        assert_eq!(other.reset(|_| {}), Ok(()));
        assert_eq!(dropping(&[1]), [false]);
        assert_eq!(one.reset(|_| {}), Ok(()));
        assert_eq!(dropping(&[0, 1]), [true, true]);
        drop(one);
        assert_eq!(dropping(&[1]), [false]);
        let again = open(&controller);
        assert_eq!((again.id(), dropping(&[0, 1])), (0, vec![true, true]));
    }
}

#[test]
fn an_unknown_device_is_refused_with_its_id() {
    let chip = Scripted::new(Map { device: 0x100E, ..I82599 });
    let error = chip.start().map(|_| ()).expect_err("an e1000");
    assert_eq!(error, IxgbeError::UnknownDevice { vendor: 0x8086, device: 0x100E });
    assert_eq!(chip.script().log, [], "an unknown device is not accessed");
}

#[test]
fn each_wait_has_a_time_limit_and_names_the_register() {
    let cases = [
        (CTRL, 1 << 26, 1 << 26, Step::Reset),
        (0x1_0010, 1 << 9, 0, Step::Eeprom),
        (0x2F00, 1 << 3, 0, Step::DmaInit),
        (0x8D04, 1, 0, Step::ReceivePath),
    ];
    for (register, mask, value, step) in cases {
        let chip = Scripted::new(I82599);
        chip.script().pinned.insert(register, (mask, value));
        match chip.start().map(|_| ()) {
            Err(IxgbeError::Fault(Fault::Stuck { step: found, register: at, value: held })) => {
                assert_eq!((found, u64::from(at), held & mask), (step, register, value));
            }
            other => panic!("{step:?}: {other:?}"),
        }
    }
    for (register, step) in [(0x1028, Step::ReceiveEnable), (0x6028, Step::TransmitEnable)] {
        let chip = Scripted::new(I82599);
        let (_bench, controller) = chip.start().expect("the device works");
        chip.script().pinned.insert(register, (1 << 25, 0));
        let result = controller.open_queue::<Packets>(QueueOptions::default()).map(|_| ());
        let fault = Fault::Stuck { step, register: register as u32, value: chip.read(0, register, 4) as u32 };
        assert_eq!(result, Err(fault.into()));
        // The queue was not kept, and can be opened when the device works.
        chip.script().pinned.clear();
        assert_eq!(open(&controller).id(), 0);
    }
}

#[test]
fn requests_that_never_end_are_dropped_by_two_resets() {
    let chip = Scripted::new(I82599);
    chip.script().pinned.insert(STATUS, (1 << 19, 1 << 19));
    let (_bench, _controller) = chip.start().expect("the device works");
    assert_eq!(chip.script().resets, 2);
}

#[test]
fn a_missing_device_is_detected_at_once() {
    let chip = Scripted::new(I82599);
    chip.script().gone = true;
    assert_eq!(chip.start().map(|_| ()), Err(Fault::Gone.into()));
}

#[test]
fn a_device_without_a_unicast_address_is_refused() {
    for (low, high, mac) in [
        (0, 1 << 31, [0; 6]),
        (0x01, 1 << 31, [1, 0, 0, 0, 0, 0]),
        // RAH.AV is clear.
        (0x02, 0, [0; 6]),
    ] {
        let chip = Scripted::new(I82599);
        chip.script().pinned.insert(0xA200, (u32::MAX, low));
        chip.script().pinned.insert(0xA204, (u32::MAX, high));
        assert_eq!(chip.start().map(|_| ()), Err(IxgbeError::NoAddress { mac }));
    }
}

#[test]
fn a_configuration_is_written_to_the_registers_and_survives_a_reset() {
    let chip = Scripted::new(I82599);
    let (_bench, controller) = chip.start().expect("the device works");
    let mac = [2, 1, 2, 3, 4, 5];
    let config = Config {
        mac: Some(mac),
        frame_bytes: 9014,
        promiscuous: true,
        all_multicast: false,
        groups: Groups::new([[1, 0, 0x5E, 0, 0x34, 0x12]]).expect("a group"),
        hash_key: std::array::from_fn(|at| at as u8),
        hash_fields: HashFields { tcp4: true, ..HashFields::default() },
    };
    let check = |what: &str| {
        let register = |at| chip.register(at);
        assert_eq!((register(0xA200), register(0xA204)), (0x0302_0102, 0x8000_0504), "{what}: RAL, RAH");
        // MAXFRS counts a VLAN tag and the FCS; HLREG0.JUMBOEN.
        assert_eq!((register(0x4268) >> 16, register(0x4240) >> 2 & 1), (9022, 1), "{what}");
        assert_eq!(register(0x5080), 1 << 8 | 1 << 9 | 1 << 10, "{what}: FCTRL");
        assert_eq!(register(0x5200 + 4 * 9), 1 << 3, "{what}: MTA");
        assert_eq!((register(0xEB80), register(0xEBA4)), (0x0302_0100, 0x2726_2524), "{what}: RSSRK");
        assert_eq!(register(0xEC80), 1 | 1 << 16, "{what}: MRQC");
        assert_eq!(register(0x3000) & 1, 1, "{what}: RXEN");
    };
    assert_eq!(controller.configure(&config), Ok(()));
    check("configured");
    assert_eq!(controller.reset(controller.resets()), Ok(()));
    check("reset");
    assert_eq!(controller.config(), config);
    // An invalid configuration changes nothing.
    let group = Config { mac: Some([1, 0, 0, 0, 0, 0]), ..config.clone() };
    assert_eq!(controller.configure(&group), Err(IxgbeError::Address { mac: [1, 0, 0, 0, 0, 0] }));
    let most = controller.info().longest_frame;
    let long = Config { frame_bytes: most + 1, ..config.clone() };
    let error = IxgbeError::FrameBytes { bytes: most + 1, least: 82, most };
    assert_eq!(controller.configure(&long), Err(error));
    check("refused");
    assert_eq!(controller.config(), config);
}

#[test]
fn the_82576_is_configured_through_its_own_registers() {
    let chip = Scripted::new(I82576);
    let (_bench, controller) = chip.start().expect("the device works");
    let config = Config { frame_bytes: 9014, all_multicast: true, ..Config::default() };
    assert_eq!(controller.configure(&config), Ok(()));
    // RCTL: RXEN, MPE, LPE, BAM, SECRC; RLPML; TCTL.EN; CTRL.SLU.
    assert_eq!(chip.register(0x100), 1 << 1 | 1 << 4 | 1 << 5 | 1 << 15 | 1 << 26);
    assert_eq!(chip.register(0x5004), 9022);
    assert_eq!((chip.register(0x400) >> 1 & 1, chip.register(0) >> 6 & 1), (1, 1));
    let queues: Vec<_> = (0..10).map(|_| open(&controller)).collect();
    // Queue 9 is in the upper half of IVAR1; it shares the vector of queue 1.
    assert_eq!(chip.register(0x1704), 0x8282_8282);
    // SRRCTL of queue 9: 2 KiB, advanced descriptors, Drop_En.
    assert_eq!(chip.register(0xC000 + 9 * 0x40 + 0x0C), 1 << 31 | 1 << 25 | 2);
    drop(queues);
}

#[test]
fn an_82576_as_modelled_by_qemu_comes_up() {
    // EECD.Auto_RD is never set. After a reset there is no link before the PHY has negotiated; MDIC is ready
    // at once.
    let chip = Scripted::new(I82576);
    chip.script().pinned.insert(0x10, (1 << 9, 0));
    chip.script().pinned.insert(0x08, (1 << 1, 0));
    chip.script().pinned.insert(0x20, (1 << 28, 1 << 28));
    let (_bench, controller) = chip.start().expect("the device works");
    assert_eq!(chip.written(0x20), [1 << 12 | 1 << 9 | 1 << 21 | 1 << 26]);
    assert!(!controller.link().expect("the device is present").is_up);
    chip.script().pinned.remove(&0x08);
    assert!(controller.link().expect("the device is present").is_up);
    // Without an address the EEPROM was not read.
    let chip = Scripted::new(I82576);
    chip.script().pinned.insert(0x10, (1 << 9, 0));
    chip.script().pinned.insert(0x5404, (1 << 31, 0));
    let stuck = Fault::Stuck { step: Step::Eeprom, register: 0x10, value: 0 };
    assert_eq!(chip.start().map(|_| ()), Err(stuck.into()));
    let chip = Scripted::new(I82576);
    chip.script().pinned.insert(0x08, (1 << 1, 0));
    match chip.start().map(|_| ()) {
        Err(IxgbeError::Fault(Fault::Stuck { step, register: 0x20, .. })) => assert_eq!(step, Step::Phy),
        other => panic!("a PHY that never gets ready: {other:?}"),
    }
}

#[test]
fn frames_are_distributed_over_the_open_queues() {
    let chip = Scripted::new(I82599);
    let (_bench, controller) = chip.start().expect("the device works");
    let entries = |chip: &Scripted| -> Vec<u8> {
        (0..32).flat_map(|word| chip.register(0xEB00 + 4 * word).to_le_bytes()).collect()
    };
    let mut queues: Vec<_> = (0..3).map(|_| open(&controller)).collect();
    assert_eq!(entries(&chip)[..6], [0, 1, 2, 0, 1, 2]);
    drop(queues.remove(1));
    assert_eq!(entries(&chip)[..6], [0, 2, 0, 2, 0, 2]);
    let more: Vec<_> = (0..14).map(|_| open(&controller)).collect();
    assert_eq!(more[0].id(), 1);
    let none = controller.open_queue::<Packets>(QueueOptions::default()).map(|_| ());
    assert_eq!(none, Err(IxgbeError::NoQueue { queues: 16 }));
    // Queues detached by a reset receive nothing until they are attached again.
    assert_eq!(controller.reset(0), Ok(()));
    assert_eq!(queues[0].reset(|_| {}), Ok(()));
    assert!(entries(&chip).iter().all(|&queue| queue == 0));
}

#[test]
fn queues_of_unsupported_depth_are_refused() {
    let chip = Scripted::new(I82599);
    let (_bench, controller) = chip.start().expect("the device works");
    let refused = |options| controller.open_queue::<Packets>(options).map(|_| ());
    for depth in [0, 4097, u32::MAX] {
        let options = QueueOptions { receive_depth: depth, ..QueueOptions::default() };
        assert_eq!(refused(options), Err(IxgbeError::Depth { depth, most: 4096 }));
    }
    let odd = QueueOptions { send_depth: 77, receive_depth: 1, packet_bytes: 1024 };
    let queue = controller.open_queue::<Packets>(odd).expect("the depth is rounded up");
    assert_eq!((queue.options().send_depth, queue.options().receive_depth), (128, 64));
    // TDLEN, RDLEN.
    assert_eq!((chip.register(0x6008), chip.register(0x1008)), (128 * 16, 64 * 16));
}

#[test]
fn the_link_state_is_the_devices_and_its_changes_are_counted() {
    let chip = Scripted::new(I82599);
    let (_bench, controller) = chip.start().expect("the device works");
    let link = || {
        let link = controller.link().expect("the device is present");
        (link.is_up, link.megabits, link.changes)
    };
    assert_eq!(link(), (true, 10_000, 0));
    chip.set(LINKS, 0);
    assert_eq!(link(), (false, 0, 1));
    chip.set(LINKS, 1 << 30 | 0b10 << 28);
    assert_eq!(link(), (true, 1_000, 2));
    // EICR.LSC: the link went down and up between two reads.
    chip.set(0x800, 1 << 20);
    assert_eq!(link(), (true, 1_000, 4));
}

#[test]
fn a_failed_reset_is_reported_to_all_queues_and_can_be_repeated() {
    let chip = Scripted::new(I82599);
    let (_bench, controller) = chip.start().expect("the device works");
    let (mut one, mut other) = (open(&controller), open(&controller));
    chip.script().pinned.insert(0x1_0010, (1 << 9, 0));
    let stuck = Fault::Stuck { step: Step::Eeprom, register: 0x1_0010, value: 0 };
    assert_eq!(one.reset(|_| {}), Err(stuck.into()));
    assert_eq!(other.reset(|_| {}), Err(stuck.into()));
    assert_eq!(controller.configure(&Config::default()), Err(stuck.into()));
    chip.script().pinned.clear();
    assert_eq!(controller.reset(controller.resets()), Ok(()));
    assert_eq!(one.reset(|_| {}), Ok(()));
    assert_eq!(other.reset(|_| {}), Ok(()));
    // A different device in the same slot is detected.
    chip.script().pinned.insert(0xA200, (0xFF << 24, 0x55 << 24));
    assert_eq!(one.reset(|_| {}), Err(Fault::Changed.into()));
}

#[test]
fn the_stop_order_stops_requests_and_resets() {
    let chip = Scripted::new(I82599);
    let (bench, controller) = chip.start().expect("the device works");
    let queue = open(&controller);
    let resets = chip.script().resets;
    assert!(bench.quiesce());
    assert_eq!(chip.script().resets, resets + 1);
    chip.script().pinned.insert(STATUS, (1 << 19, 1 << 19));
    assert!(!bench.quiesce(), "a device with pending requests is not stopped");
    chip.script().pinned.clear();
    drop(queue);
}
