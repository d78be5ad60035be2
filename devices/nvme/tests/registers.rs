//! Registers: capabilities, enabling, resets, shutdown, doorbells, interrupts, bus mastering.

mod rig;

use std::sync::Arc;
use std::time::{Duration, Instant};

use device_bus::{Function, Model, TestHost};
use nvme_model::{ConfigError, MemoryDisk, Nvme, NvmeConfig};
use rig::{LIMIT, PAGE, Pair, Rig, Sqe};

const SHORT: Duration = Duration::from_millis(50);

#[test]
fn capabilities_report_the_configuration() {
    let rig = Rig::off("mqes=255,stride=1,queues=4");
    let cap = rig.nvme.read(0, 0, 8);
    assert_eq!(cap & 0xffff, 255, "MQES");
    assert_eq!(cap >> 16 & 1, 1, "CQR");
    assert!(cap >> 24 & 0xff >= 2, "TO: a second at least");
    assert_eq!(cap >> 32 & 0xf, 1, "DSTRD");
    assert_eq!(cap >> 37 & 1, 1, "CSS: NVM");
    assert_eq!((cap >> 48 & 0xf, cap >> 52 & 0xf), (0, 4), "MPSMIN, MPSMAX");
    assert_eq!(u64::from(rig.read32(4)), cap >> 32, "also in halves");
    assert_eq!(rig.read32(8), 0x0002_0000, "VS");
    assert_eq!(rig.nvme.read(0, 0, 2), 255);
    assert_eq!(rig.nvme.read(0, 0, 3), 0, "no such access");
    assert_eq!(rig.nvme.read(1, 0, 4), 0, "no such BAR");
    let identity = rig.nvme.identity();
    assert_eq!((identity.class.base, identity.class.sub, identity.class.interface), (1, 8, 2));
    assert_eq!((identity.msix.vectors, identity.bars[0].bytes), (5, 0x2000));
}

#[test]
fn an_impossible_device_is_refused_with_the_reason() {
    let refused = |text: &str| {
        let config = NvmeConfig::parse(text).expect("well-formed");
        Nvme::new(config).err().expect(text).to_string()
    };
    assert_eq!(refused("lba=4096"), "no disk: give `memory=SIZE` or `file=PATH`");
    assert_eq!(refused("memory=1M,lba=520"), "blocks of 520 bytes: only 512 and 4096 are offered");
    assert_eq!(refused("memory=1M,queues=0"), "0 I/O queue pairs: 1 to 128 are possible");
    assert_eq!(refused("memory=1M,mqes=0"), "mqes is 0: queues have at least two entries, so 1 is the least");
    assert_eq!(refused("memory=1000"), "a disk of 1000 bytes is no whole number of 512-byte blocks");
    assert!(refused("file=/nonexistent").starts_with("/nonexistent: No such file"));
    let path = std::env::temp_dir().join(format!("nvme-model-{}", std::process::id()));
    std::fs::write(&path, [0; 700]).expect("a temporary file");
    let text = format!("file={}", path.display());
    let error = refused(&text);
    std::fs::remove_file(&path).expect("the file exists");
    assert!(error.ends_with("700 bytes are no whole number of 512-byte blocks"), "{error}");
    let nothing = Nvme::with_disks(NvmeConfig::default(), vec![Arc::new(MemoryDisk::new(0))]);
    assert!(matches!(nothing.err(), Some(ConfigError::DiskBytes { bytes: 0, .. })));
}

#[test]
fn a_file_contains_flushed_data_and_is_readable_by_others() {
    let path = std::env::temp_dir().join(format!("nvme-model-disk-{}", std::process::id()));
    std::fs::write(&path, vec![0; 1 << 20]).expect("a temporary file");
    let mut rig = Rig::off("");
    rig.nvme = Nvme::new(
        NvmeConfig::parse(&format!("file={},sync=yes", path.display())).expect("the description is valid"),
    )
    .expect("the device is valid");
    rig.nvme.attach(rig.host.clone()).expect("the device has no host");
    rig.nvme.set_bus_master(true);
    rig.enable();
    let mut pair = rig.pair(1, 8);
    rig.write_block(&mut pair, 3, 0x77, 0);
    assert_eq!(std::fs::read(&path).expect("readable")[3 * 512], 0, "in the cache");
    assert_eq!(rig.call(&mut pair, Sqe::new(0).nsid(u32::MAX)).code, 0);
    assert_eq!(std::fs::read(&path).expect("readable")[3 * 512..4 * 512], [0x77; 512]);
    rig.write_block(&mut pair, 4, 0x78, 0);
    drop(rig);
    let contents = std::fs::read(&path).expect("readable");
    std::fs::remove_file(&path).expect("the file exists");
    assert_eq!((contents[3 * 512], contents[4 * 512]), (0x77, 0), "dropping the device cuts the power");
}

#[test]
fn enabling_requires_valid_admin_queues() {
    for (what, register, size, value) in [
        ("ASQ inside a page", 0x28, 8, 0x1_0004),
        ("ACQ inside a page", 0x30, 8, 0x1_0004),
        ("one entry", 0x24, 4, 0x000f_0000),
    ] {
        let rig = Rig::off("");
        rig.start();
        assert!(rig.wait_status(1, 1, LIMIT));
        rig.disable();
        rig.nvme.write(0, register, size, value);
        rig.write32(0x14, 4 << 20 | 6 << 16 | 1);
        assert!(rig.wait_status(2, 2, LIMIT), "{what}: CSTS.CFS");
        assert_eq!(rig.read32(0x1c) & 1, 0, "{what}: not ready");
        rig.disable();
        assert_eq!(rig.read32(0x1c), 0, "{what}: a reset clears CFS");
        rig.enable();
    }
    for wrong in [1 << 4, 5 << 7, 1 << 11] {
        let rig = Rig::off("");
        rig.start();
        rig.disable();
        rig.write32(0x14, 4 << 20 | 6 << 16 | wrong | 1);
        assert!(rig.wait_status(3, 2, LIMIT), "CC {wrong:#x}");
    }
}

#[test]
fn ready_takes_as_long_as_configured() {
    let rig = Rig::off("ready=60ms");
    let begun = Instant::now();
    rig.enable();
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(60), "{took:?}");
    let rig = Rig::off("ready=10s");
    assert_eq!(rig.nvme.read(0, 0, 8) >> 24 & 0xff, 21, "CAP.TO covers it");
    assert_eq!(rig.read32(0x68) & 0xffff, 21, "CRTO.CRWMT");
    rig.start();
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(rig.read32(0x1c), 0);
    rig.disable();
}

#[test]
fn memory_pages_of_64_kib_work() {
    let mut rig = Rig::off("mdts=6");
    let page = 0x1_0000;
    // The memory of the test host begins at 64 KiB, a multiple of this page size.
    let base = rig.host.allocate(8 * page).next_multiple_of(page);
    rig.admin.submission = base;
    rig.admin.completion = base + page;
    rig.start();
    rig.disable();
    rig.write32(0x14, 4 << 20 | 6 << 16 | 4 << 7 | 1);
    assert!(rig.wait_status(3, 1, LIMIT));
    let data = base + 2 * page;
    let done = rig.admin(Sqe::new(6).prp(data + 0xf800, data + page).d10(1));
    assert_eq!(done.code, 0);
    assert_eq!(rig.host.peek(data + 0xf800 + 512, 1), [0x66], "half of it in the first page");
    assert_eq!(rig.host.peek(data + page, 2), [0xf4, 0x01], "half in the second: power of state 0");
}

#[test]
fn resets_drop_queues_and_keep_stored_data() {
    let mut rig = Rig::new("");
    let mut pair = rig.pair(1, 8);
    rig.write_block(&mut pair, 5, 0x42, 0);

    // Controller reset: AQA, ASQ and ACQ stay.
    rig.disable();
    assert_eq!(rig.read32(0x24), 0x000f_000f);
    assert_eq!(rig.nvme.read(0, 0x28, 8), rig.admin.submission);
    rig.restart();
    rig.write32(0x1008, 3);
    let error = rig.log(1, 64).expect("error log");
    assert_eq!(error[..8], [0; 8], "no error yet");
    let mut pair = rig.pair(1, 8);
    assert_eq!(rig.read_block(&mut pair, 5), [0x42; 512]);

    // Function level reset: they are cleared, and bus mastering is off.
    rig.nvme.reset();
    assert_eq!((rig.read32(0x14), rig.read32(0x1c), rig.read32(0x24)), (0, 0, 0));
    assert_eq!(rig.nvme.read(0, 0x28, 8), 0);
    assert!(!rig.nvme.transactions_pending());
    rig.nvme.set_bus_master(true);
    rig.restart();

    // Subsystem reset.
    rig.write32(0x20, 0x1234);
    assert_eq!(rig.read32(0x1c) & 1, 1, "only the specified value resets");
    rig.write32(0x20, 0x4e56_4d65);
    assert!(rig.wait_status(0x11, 0x10, LIMIT), "NSSRO");
    rig.write32(0x1c, 0x10);
    assert_eq!(rig.read32(0x1c), 0);
    rig.restart();
    let mut pair = rig.pair(1, 8);
    assert_eq!(rig.read_block(&mut pair, 5), [0x42; 512]);
}

#[test]
fn a_function_level_reset_voids_a_pending_subsystem_reset() {
    let disk = Arc::new(MemoryDisk::new(1 << 20));
    let mut rig = Rig::with_disk("cache=0", disk.clone());
    let mut pair = rig.pair(1, 8);
    let page = rig.host.allocate(PAGE);
    // The device's thread fetches both commands, completes the first and is then blocked by the second.
    let held = disk.contents();
    rig.put(&mut pair, Sqe::new(0).nsid(1));
    rig.submit(&mut pair, Sqe::read(1, 0, 1).prp(page, 0));
    rig.wait(&mut pair);
    rig.write32(0x20, 0x4e56_4d65);
    std::thread::scope(|scope| {
        let reset = scope.spawn(|| rig.nvme.reset());
        // Time for the request to arrive while the other signal is pending; without it the test would pass
        // vacuously.
        std::thread::sleep(SHORT);
        drop(held);
        reset.join().expect("the reset does not panic");
    });
    // The device's thread has handled all signals when it has handled one more request.
    rig.nvme.set_temperature(300);
    assert_eq!(rig.read32(0x1c), 0, "the subsystem reset came after the function level reset");
    rig.nvme.set_bus_master(true);
    rig.restart();
}

#[test]
fn enable_may_be_toggled_without_waiting() {
    let mut rig = Rig::new("");
    for _ in 0..50 {
        rig.write32(0x14, 0);
        rig.start();
    }
    rig.disable();
    rig.restart();
    assert_eq!(rig.admin(Sqe::new(10).d10(7)).code, 0);
}

#[test]
fn a_shutdown_flushes_the_cache() {
    let disk = Arc::new(MemoryDisk::new(1 << 20));
    let mut rig = Rig::with_disk("", disk.clone());
    let mut pair = rig.pair(1, 8);
    rig.write_block(&mut pair, 0, 9, 0);
    rig.write32(0x14, 4 << 20 | 6 << 16 | 1 << 14 | 1);
    assert!(rig.wait_status(0xc, 0x8, LIMIT), "SHST complete");
    assert_eq!(disk.contents()[0], 9);
    rig.disable();
    assert_eq!(rig.read32(0x1c) & 0xc, 0);
    rig.restart();
}

#[test]
fn wrong_doorbells_are_reported_as_events_and_change_nothing() {
    let mut rig = Rig::new("");
    let mut pair = rig.pair(1, 8);
    let mut admin = rig.admin.clone();
    for (offset, value, event) in [(0x1008, 8, 0x01_0100), (0x100c, 99, 0x01_0100), (0x1010, 1, 0x01_0000)] {
        let waiting = rig.submit(&mut admin, Sqe::new(0x0c));
        rig.write32(offset, value);
        let done = rig.wait(&mut admin);
        assert_eq!((done.id, done.code, done.dword0), (waiting, 0, event), "{offset:#x}");
        // Reading the log unmasks the next event.
        rig.admin = admin;
        rig.log(1, 64).expect("error log");
        admin = rig.admin.clone();
    }
    rig.write32(0x1fff0, 1);
    rig.write32(0x1009, 1);
    rig.nvme.write(0, 0x1008, 2, 5);
    assert_eq!(rig.write_block(&mut pair, 0, 1, 0).code, 0);
}

#[test]
fn a_full_completion_queue_holds_completions_back() {
    let mut rig = Rig::new("");
    // 16 entries of submission queue, 4 of completion queue: 3 fit.
    let mut pair = Pair::new(&rig.host, 1, 16);
    let completion = rig.host.allocate(PAGE);
    assert_eq!(rig.admin(Sqe::new(5).prp(completion, 0).d10(3 << 16 | 1).d11(3 | 1 << 16)).code, 0);
    assert_eq!(rig.admin(Sqe::new(1).prp(pair.submission, 0).d10(15 << 16 | 1).d11(1 | 1 << 16)).code, 0);
    pair.completion = completion;
    let ids: Vec<u16> = (0..15).map(|_| rig.put(&mut pair, Sqe::new(0).nsid(1))).collect();
    rig.ring(&pair);
    pair.entries = 4;
    std::thread::sleep(SHORT);
    let written: Vec<u32> =
        (0..4).map(|slot| rig.host.peek_u32(completion + 16 * slot + 12) >> 16 & 1).collect();
    assert_eq!(written, [1, 1, 1, 0], "the last entry stays free");
    let answered: Vec<u16> = (0..15).map(|_| rig.wait(&mut pair).id).collect();
    assert_eq!(answered, ids, "none is lost, and the phase changes at each pass");
}

#[test]
fn interrupts_come_per_queue_and_respect_masks() {
    let mut rig = Rig::new("");
    let before = rig.host.interrupts(0);
    let mut one = rig.pair(1, 8);
    let mut two = rig.pair(2, 8);
    let after = rig.host.wait_interrupt(0, before + 3, LIMIT);
    assert_eq!(after, Some(before + 4), "one for each admin command");
    rig.call(&mut one, Sqe::new(0).nsid(1));
    assert_eq!(rig.host.wait_interrupt(1, 0, LIMIT), Some(1));
    assert_eq!(rig.host.interrupts(2), 0);
    rig.write32(0x0c, 1 << 2);
    assert_eq!((rig.read32(0x0c), rig.read32(0x10)), (4, 4));
    rig.call(&mut two, Sqe::new(0).nsid(1));
    assert_eq!(rig.host.wait_interrupt(2, 0, SHORT), None, "masked by INTMS");
    rig.write32(0x10, 1 << 2);
    assert_eq!(rig.host.wait_interrupt(2, 0, LIMIT), Some(1), "INTMC unmasks it");
}

#[test]
fn coalescing_waits_for_the_threshold_or_the_time() {
    let mut rig = Rig::new("");
    let mut pair = rig.pair(1, 32);
    // Four completions or 20 ms.
    assert_eq!(rig.admin(Sqe::new(9).d10(8).d11(200 << 8 | 3)).code, 0);
    assert_eq!(rig.admin(Sqe::new(10).d10(8)).dword0, 200 << 8 | 3);
    let begun = Instant::now();
    for _ in 0..3 {
        rig.call(&mut pair, Sqe::new(0).nsid(1));
    }
    let early = rig.host.interrupts(1);
    assert!(early == 0 || begun.elapsed() >= Duration::from_millis(20));
    rig.call(&mut pair, Sqe::new(0).nsid(1));
    let seen = rig.host.wait_interrupt(1, early, LIMIT).expect("the fourth completion, or the time");
    let begun = Instant::now();
    rig.call(&mut pair, Sqe::new(0).nsid(1));
    let seen = rig.host.wait_interrupt(1, seen, LIMIT).expect("the time");
    assert!(begun.elapsed() >= Duration::from_millis(15), "{:?}", begun.elapsed());
    assert_eq!(rig.admin(Sqe::new(9).d10(9).d11(1 << 16 | 1)).code, 0);
    rig.call(&mut pair, Sqe::new(0).nsid(1));
    assert!(rig.host.wait_interrupt(1, seen, LIMIT).is_some(), "disabled for this vector");
}

#[test]
fn without_bus_mastering_no_memory_is_accessed() {
    let mut rig = Rig::new("latency=1s");
    let mut pair = rig.pair(1, 8);
    let page = rig.host.allocate(PAGE);
    rig.submit(&mut pair, Sqe::read(1, 0, 1).prp(page, 0));
    std::thread::sleep(Duration::from_millis(1));
    rig.nvme.set_bus_master(false);
    rig.host.poke(page, &[0xee; 512]);
    let interrupts = rig.host.interrupts(1);
    rig.submit(&mut pair, Sqe::read(1, 0, 1).prp(page, 0));
    assert_eq!(rig.wait_for(&mut pair, 4 * SHORT), None);
    assert_eq!(rig.host.peek(page, 512), [0xee; 512]);
    assert_eq!(rig.host.interrupts(1), interrupts);
    rig.nvme.set_bus_master(true);
    assert_eq!((rig.wait(&mut pair).code, rig.wait(&mut pair).code), (0, 0), "it continues");
    assert_eq!(rig.host.peek(page, 512), [0; 512]);
}

#[test]
fn a_queue_in_memory_that_does_not_exist_is_fatal_until_a_reset() {
    let mut rig = Rig::off("");
    rig.start();
    rig.disable();
    rig.nvme.write(0, 0x28, 8, 1 << 40);
    rig.write32(0x14, 4 << 20 | 6 << 16 | 1);
    assert!(rig.wait_status(3, 1, LIMIT));
    rig.write32(0x1000, 1);
    assert!(rig.wait_status(2, 2, LIMIT), "CFS");
    rig.disable();
    rig.restart();
    assert_eq!(rig.admin(Sqe::new(10).d10(7)).code, 0);
}

#[test]
fn an_idle_device_sleeps() {
    let rig = Rig::new("");
    std::thread::sleep(Duration::from_millis(20));
    let before = cpu_time();
    std::thread::sleep(Duration::from_millis(200));
    let used = cpu_time() - before;
    drop(rig);
    // Other tests run at the same time, so the process's time would not do: the threads are found by name.
    assert!(used < 2, "{used} clock ticks of {:?}", Duration::from_millis(200));
}

/// The clock ticks used by the least busy device thread of this process.
fn cpu_time() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let times = tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        let (name, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        name.ends_with("nvme-model")
            .then(|| Some(fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?))?
    });
    times.min().unwrap_or(0)
}

#[test]
fn the_model_works_as_a_pci_function() {
    let host = Arc::new(TestHost::new(1 << 20, 16));
    let nvme = Nvme::new(NvmeConfig::memory(1 << 20)).expect("the device is valid");
    let function = Function::new(nvme, host.clone()).expect("a new device");
    assert_eq!(function.config_read(8, 4) >> 8, 0x01_0802);
    function.config_write(4, 2, 6);
    function.config_write(0x72, 2, 1 << 15);
    let mut pair = Pair::new(&host, 0, 16);
    function.write(0, 0x24, 4, 0x000f_000f);
    function.write(0, 0x28, 8, pair.submission);
    function.write(0, 0x30, 8, pair.completion);
    function.write(0, 0x14, 4, 4 << 20 | 6 << 16 | 1);
    let deadline = Instant::now() + LIMIT;
    while function.read(0, 0x1c, 4) != 1 {
        assert!(Instant::now() < deadline);
    }
    host.poke(pair.submission, &[10, 0, 7, 0]);
    host.poke(pair.submission + 40, &[7]);
    pair.tail = 1;
    function.write(0, 0x1000, 4, 1);
    assert_eq!(host.wait_interrupt(0, 0, SHORT), None, "masked");
    assert_eq!(function.read(4, 0x1000, 8), 1, "and pending");
    function.write(4, 12, 4, 0);
    assert_eq!(host.wait_interrupt(0, 0, LIMIT), Some(1));
    assert_eq!(host.peek_u32(pair.completion + 12), 0x1_0007);
    function.config_write(0xa9, 1, 0x80);
    assert_eq!(function.config_read(4, 2), 0);
    function.model().unplug();
    assert_eq!((function.config_read(0, 4), function.config_read(0, 2)), (0xffff_ffff, 0xffff), "unplugged");
    function.model().replug();
    assert_eq!(function.config_read(0, 4), 0x4e56_1234);
}
