//! Admin commands.

mod rig;

use nvme_model::NvmeConfig;
use rig::{PAGE, Pair, Rig, Sqe};

const INVALID_OPCODE: u16 = 0x01;
const INVALID_FIELD: u16 = 0x02;
const INVALID_NAMESPACE: u16 = 0x0b;

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[test]
fn identify_describes_controller_and_namespaces() {
    let mut rig = Rig::off("memory=4M,serial=S42,mdts=7");
    rig.enable();
    let controller = rig.identify(1, 0).expect("controller");
    assert_eq!(&controller[4..24], b"S42                 ");
    assert!(controller[24..64].starts_with(b"Coppice NVMe model   "));
    assert_eq!((controller[77], controller[512], controller[513]), (7, 0x66, 0x44), "MDTS, SQES, CQES");
    assert_eq!(controller[516], 2, "NN");
    assert_eq!(controller[520], 0b11101, "ONCS");
    assert_eq!(controller[525], 0b111, "VWC");
    assert_eq!(controller[80..84], [0, 0, 2, 0], "the version of VS");
    let one = rig.identify(0, 1).expect("namespace 1");
    let two = rig.identify(0, 2).expect("namespace 2");
    assert_eq!((word(&one, 0), word(&one, 8), word(&one, 16)), (2048, 2048, 2048));
    assert_eq!(word(&two, 0), 8192);
    assert_eq!((one[25], one[26], one[130], one[134]), (1, 0, 9, 12), "two formats, the first in use");
    assert_ne!(one[104..120], two[104..120], "NGUID");
    assert_eq!(rig.identify(0, u32::MAX).expect("common")[25], 1);
    assert_eq!(rig.identify(0, 3), Err(INVALID_NAMESPACE));
    assert_eq!(rig.identify(0, 0), Err(INVALID_NAMESPACE));
    let list = rig.identify(2, 0).expect("list");
    assert_eq!(list[..12], [1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(rig.identify(2, 1).expect("list")[..8], [2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(rig.identify(2, u32::MAX), Err(INVALID_NAMESPACE));
    let descriptors = rig.identify(3, 2).expect("descriptors");
    assert_eq!(descriptors[..4], [2, 16, 0, 0]);
    assert_eq!(descriptors[4..20], two[104..120]);
    assert_eq!(descriptors[20..25], [4, 1, 0, 0, 0], "CSI: NVM");
    assert_eq!(rig.identify(0x42, 0), Err(INVALID_FIELD));
}

#[test]
fn unknown_commands_are_refused_and_logged() {
    let mut rig = Rig::new("");
    for opcode in [0x03, 0x07, 0x0d, 0x10, 0x18, 0x7c, 0x81, 0x84, 0xc0, 0xff] {
        assert_eq!(rig.admin(Sqe::new(opcode)).code, INVALID_OPCODE, "{opcode:#x}");
    }
    let log = rig.log(1, 128).expect("error log");
    assert_eq!((word(&log, 0), word(&log, 64)), (10, 9), "the latest first");
    assert_eq!(log[12..14], [2, 0x80], "DNR and the code, above the phase tag");
}

#[test]
fn queues_are_created_and_deleted_by_the_rules() {
    let mut rig = Rig::new("queues=4,mqes=63");
    let page = rig.host.allocate(4 * PAGE);
    let completion = |id: u32, size: u32, d11| Sqe::new(5).prp(page, 0).d10(size << 16 | id).d11(d11);
    let submission = |id: u32, size: u32, d11| Sqe::new(1).prp(page, 0).d10(size << 16 | id).d11(d11);
    for (command, expected, why) in [
        (completion(0, 7, 1), 0x101, "queue 0 is the admin queue"),
        (completion(5, 7, 1), 0x101, "beyond the number of queues"),
        (completion(1, 0, 1), 0x102, "one entry"),
        (completion(1, 64, 1), 0x102, "more than MQES"),
        (completion(1, 7, 0), INVALID_FIELD, "not contiguous"),
        (completion(1, 7, 5 << 16 | 3), 0x108, "no such vector"),
        (completion(1, 7, 1).prp(page + 8, 0), 0x13, "not at a page"),
        (submission(1, 7, 1 << 16 | 1), 0x100, "no completion queue yet"),
        (submission(1, 7, 1), 0x101, "completion queue 0"),
        (submission(1, 7, 9 << 16 | 1), 0x101, "no such completion queue"),
        (completion(1, 63, 4 << 16 | 3), 0, "the largest, with the last vector"),
        (completion(1, 7, 1), 0x101, "it exists"),
        (submission(1, 0, 1 << 16 | 1), 0x102, "one entry"),
        (submission(1, 7, 1 << 16), INVALID_FIELD, "not contiguous"),
        (submission(1, 63, 1 << 16 | 1), 0, "the largest"),
        (submission(1, 7, 1 << 16 | 1), 0x101, "it exists"),
        (submission(2, 7, 1 << 16 | 1), 0, "two queues on one completion queue"),
        (Sqe::new(4).d10(1), 0x10c, "in use"),
        (Sqe::new(4).d10(0), 0x101, "the admin queue cannot be deleted"),
        (Sqe::new(4).d10(3), 0x101, "no such queue"),
        (Sqe::new(0).d10(0), 0x101, "the admin queue cannot be deleted"),
        (Sqe::new(0).d10(77), 0x101, "no such queue"),
        (Sqe::new(9).d10(7).d11(0), 0x0c, "too late to set a number of queues"),
        (Sqe::new(0).d10(1), 0, "deleted"),
        (Sqe::new(0).d10(2), 0, "deleted"),
        (Sqe::new(4).d10(1), 0, "and its completion queue"),
        (Sqe::new(9).d10(7).d11(0), 0, "allowed again without queues"),
    ] {
        assert_eq!(rig.admin(command).code, expected, "{why}");
    }
    // Entry sizes have to be set before I/O queues are created.
    rig.disable();
    rig.admin = Pair::new(&rig.host, 0, 16);
    rig.start();
    rig.write32(0x14, 1);
    assert!(rig.wait_status(3, 1, rig::LIMIT));
    assert_eq!(rig.admin(completion(1, 7, 1)).code, 0x102);
}

#[test]
fn deleting_a_queue_completes_its_commands_as_aborted() {
    let mut rig = Rig::new("latency=10s");
    let mut pair = rig.pair(1, 8);
    let ids = [0; 3].map(|_| rig.submit(&mut pair, Sqe::new(0).nsid(1)));
    // Time to fetch the commands, which is not observable.
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(rig.admin(Sqe::new(0).d10(1)).code, 0);
    let mut aborted = ids.map(|_| rig.poll(&mut pair).expect("completed before the deletion"));
    aborted.sort_by_key(|done| done.id);
    assert_eq!(aborted.map(|done| (done.id, done.code)), ids.map(|id| (id, 0x08)));
}

#[test]
fn abort_ends_a_command_that_was_not_begun() {
    let mut rig = Rig::new("latency=10s");
    let mut pair = rig.pair(1, 8);
    let first = rig.submit(&mut pair, Sqe::new(0).nsid(1));
    let second = rig.submit(&mut pair, Sqe::new(0).nsid(1));
    // Time to fetch the commands, which is not observable.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let abort = |sq: u32, id: u16| Sqe::new(8).d10(u32::from(id) << 16 | sq);
    let done = rig.admin(abort(1, second));
    assert_eq!((done.code, done.dword0), (0, 0));
    let aborted = rig.wait(&mut pair);
    assert_eq!((aborted.id, aborted.code), (second, 0x07));
    assert_eq!(rig.admin(abort(1, second)).dword0, 1, "already aborted");
    assert_eq!(rig.admin(abort(9, first)).dword0, 1, "no such queue");
    // An event request can be aborted, too.
    let mut admin = rig.admin.clone();
    let waiting = rig.submit(&mut admin, Sqe::new(0x0c));
    rig.submit(&mut admin, abort(0, waiting));
    let aborted = rig.wait(&mut admin);
    assert_eq!((aborted.id, aborted.code), (waiting, 0x07));
    assert_eq!(rig.wait(&mut admin).dword0, 0);
}

#[test]
fn features_are_kept_until_a_reset() {
    let mut rig = Rig::new("queues=6");
    let get = |feature: u32| Sqe::new(10).d10(feature);
    let set = |feature: u32, value: u32| Sqe::new(9).d10(feature).d11(value);
    assert_eq!(rig.admin(set(7, 0x0002_0002)).dword0, 0x0005_0005, "all queues of the device");
    assert_eq!(rig.admin(set(7, 0xffff)).code, INVALID_FIELD);
    for (feature, default, value) in [
        (1, 7, 0x0304_0502),
        (2, 0, 0x20),
        (4, 343, 320),
        (5, 0, 10),
        (6, 1, 0),
        (8, 0, 0x105),
        (10, 0, 1),
        (11, 0, 3),
    ] {
        assert_eq!(rig.admin(get(feature)).dword0, default, "feature {feature}");
        assert_eq!(rig.admin(set(feature, value)).code, 0, "feature {feature}");
        assert_eq!(rig.admin(get(feature)).dword0, value, "feature {feature}");
        assert_eq!(rig.admin(get(feature | 1 << 8)).dword0, default, "its default");
        assert_eq!(rig.admin(get(feature | 3 << 8)).dword0, 4, "changeable");
        let saving = set(feature | 1 << 31, value);
        assert_eq!(rig.admin(saving).code, 0x10d, "not saveable");
        assert_eq!(rig.admin(set(feature, value).nsid(1)).code, 0x10f, "not per namespace");
    }
    assert_eq!(rig.admin(set(9, 1 << 16 | 3)).code, 0);
    assert_eq!(rig.admin(get(9).d11(3)).dword0, 1 << 16 | 3);
    assert_eq!(rig.admin(get(9).d11(7)).code, INVALID_FIELD, "no such vector");
    assert_eq!(rig.admin(set(4, 1 << 20 | 280)).code, 0, "under temperature");
    assert_eq!(rig.admin(get(4).d11(1 << 20)).dword0, 280);
    assert_eq!(rig.admin(get(0x7e)).code, INVALID_FIELD);
    assert_eq!(rig.admin(set(2, 1)).code, INVALID_FIELD, "no such power state");
    rig.disable();
    rig.restart();
    assert_eq!(rig.admin(get(6)).dword0, 1);
}

#[test]
fn logs_can_be_read_in_parts() {
    let mut rig = Rig::new("");
    let mut pair = rig.pair(1, 8);
    for lba in 0..3 {
        rig.write_block(&mut pair, lba, 1, 0);
    }
    rig.read_block(&mut pair, 0);
    let health = rig.log(2, 512).expect("SMART");
    assert_eq!(health[..5], [0, 44, 1, 100, 10], "no warning, 300 K, spare and its threshold");
    assert_eq!((word(&health, 32), word(&health, 48)), (1, 1), "data units, rounded up");
    assert_eq!((word(&health, 64), word(&health, 80)), (1, 3), "commands");
    let memory = rig.host.allocate(PAGE);
    let part = Sqe::new(2).nsid(u32::MAX).prp(memory, 0).d10(2 | 1 << 16);
    assert_eq!(rig.admin(part.d12(64)).code, 0);
    assert_eq!(word(&rig.host.peek(memory, 8), 0), 1, "at offset 64");
    assert_eq!(rig.admin(part.d12(2)).code, INVALID_FIELD, "no dword");
    assert_eq!(rig.admin(part.d12(1024)).code, INVALID_FIELD, "beyond the end");
    assert_eq!(rig.log(0x70, 512), Err(0x109));
    let supported = rig.log(0, 1024).expect("supported pages");
    let pages: Vec<usize> = (0..256).filter(|page| supported[4 * page] & 1 != 0).collect();
    assert_eq!(pages, [0, 1, 2, 3, 4, 5]);
    let effects = rig.log(5, 4096).expect("commands and effects");
    assert_eq!((effects[4 * 6], effects[4 * 0x80], effects[4 * 7]), (1, 3, 0));
    assert_eq!((effects[1024 + 4], effects[1024 + 8], effects[1024 + 12]), (3, 1, 0));
    assert_eq!(&rig.log(3, 512).expect("firmware")[8..16], b"1.0     ");
}

#[test]
fn events_are_reported_once_until_their_log_is_read() {
    let mut rig = Rig::new("");
    assert_eq!(rig.admin(Sqe::new(9).d10(11).d11(1 << 8 | 0x1f)).code, 0);
    let mut admin = rig.admin.clone();
    let ids: Vec<u16> = (0..4).map(|_| rig.submit(&mut admin, Sqe::new(0x0c))).collect();
    rig.submit(&mut admin, Sqe::new(0x0c));
    assert_eq!(rig.wait(&mut admin).code, 0x105, "four may be outstanding");
    rig.nvme.set_temperature(350);
    let done = rig.wait(&mut admin);
    assert_eq!((done.id, done.dword0), (ids[0], 0x02_0101));
    rig.nvme.announce_change(1);
    let done = rig.wait(&mut admin);
    assert_eq!((done.id, done.dword0), (ids[1], 0x04_0002));
    rig.nvme.set_temperature(351);
    assert!(rig.wait_for(&mut admin, std::time::Duration::from_millis(20)).is_none(), "not twice");
    rig.admin = admin;
    let page = rig.host.allocate(PAGE);
    let mut admin = rig.admin.clone();
    // With Retain Asynchronous Event, the events stay masked.
    rig.submit(&mut admin, Sqe::new(2).nsid(u32::MAX).prp(page, 0).d10(2 | 1 << 15 | 127 << 16));
    assert_eq!(rig.wait(&mut admin).code, 0);
    assert_eq!(rig.host.peek(page, 1), [2], "the warning");
    assert!(rig.wait_for(&mut admin, std::time::Duration::from_millis(20)).is_none());
    rig.submit(&mut admin, Sqe::new(2).nsid(u32::MAX).prp(page, 0).d10(2 | 127 << 16));
    let both = [rig.wait(&mut admin), rig.wait(&mut admin)];
    assert!(both.iter().any(|done| done.id == ids[2] && done.dword0 == 0x02_0101), "{both:?}");
    rig.admin = admin;
    assert_eq!(rig.log(4, 4096).expect("changed namespaces")[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(rig.log(4, 4096).expect("changed namespaces")[..4], [0; 4], "cleared by reading");
}

#[test]
fn a_format_erases_and_changes_the_block_size() {
    let mut rig = Rig::new("");
    let mut pair = rig.pair(1, 8);
    rig.write_block(&mut pair, 9, 0x33, 0);
    assert_eq!(rig.admin(Sqe::new(0x80).nsid(1).d10(2)).code, 0x10a, "no such format");
    assert_eq!(rig.admin(Sqe::new(0x80).nsid(1).d10(1 << 5)).code, 0x10a, "no protection information");
    assert_eq!(rig.admin(Sqe::new(0x80).nsid(1).d10(2 << 9)).code, INVALID_FIELD, "no cryptographic erase");
    assert_eq!(rig.admin(Sqe::new(0x80).nsid(5)).code, INVALID_NAMESPACE);
    assert_eq!(rig.read_block(&mut pair, 9), [0x33; 512]);
    assert_eq!(rig.admin(Sqe::new(0x80).nsid(1).d10(1)).code, 0);
    let namespace = rig.identify(0, 1).expect("namespace");
    assert_eq!((word(&namespace, 0), namespace[26]), (256, 1));
    let memory = rig.host.allocate(PAGE);
    assert_eq!(rig.call(&mut pair, Sqe::read(1, 255, 1).prp(memory, 0)).code, 0);
    assert_eq!(rig.call(&mut pair, Sqe::read(1, 256, 1).prp(memory, 0)).code, 0x80);
    rig.call(&mut pair, Sqe::read(1, 1, 1).prp(memory, 0));
    assert_eq!(rig.host.peek(memory, PAGE as usize), [0; PAGE as usize]);
}

#[test]
fn namespaces_of_different_sizes_are_separate() {
    let config = NvmeConfig::parse("memory=1M,memory=2M").expect("the description is valid");
    assert_eq!(config.namespaces.len(), 2);
    let mut rig = Rig::off("memory=2M");
    rig.enable();
    let mut pair = rig.pair(1, 8);
    let page = rig.host.allocate(PAGE);
    rig.host.poke(page, &[5; 512]);
    assert_eq!(rig.call(&mut pair, Sqe::write(2, 4095, 1).prp(page, 0)).code, 0);
    assert_eq!(rig.call(&mut pair, Sqe::write(1, 4095, 1).prp(page, 0)).code, 0x80);
    assert_eq!(rig.read_block(&mut pair, 2047), [0; 512], "namespace 1 is unchanged");
}
