//! Each kind of fault has its documented effect at its rate, and none after fault injection is stopped.

mod rig;

use std::sync::Arc;
use std::time::{Duration, Instant};

use device_bus::Model;
use nvme_model::{Kind, MemoryDisk, Nvme, NvmeConfig, Rate, Rule};
use rig::{LIMIT, PAGE, Pair, Rig, Sqe};

const SHORT: Duration = Duration::from_millis(30);

fn ready() -> (Rig, Pair) {
    let mut rig = Rig::new("");
    let pair = rig.pair(1, 64);
    (rig, pair)
}

fn once(rig: &Rig, kind: Kind) {
    rig.nvme.faults().set_rate(kind, Rate::Once(1));
}

fn flush() -> Sqe {
    Sqe::new(0).nsid(1)
}

#[test]
fn delay_holds_one_command_back_and_no_other() {
    let (rig, mut pair) = ready();
    let duration_ns = Some(40_000_000);
    rig.nvme.faults().set(Rule { kind: Kind::Delay, rate: Rate::Once(1), duration_ns });
    let begun = Instant::now();
    let late = rig.put(&mut pair, flush());
    let prompt = rig.put(&mut pair, flush());
    rig.ring(&pair);
    assert_eq!(rig.wait(&mut pair).id, prompt);
    assert_eq!(rig.wait(&mut pair).id, late);
    assert!(begun.elapsed() >= Duration::from_millis(40));
    assert_eq!(rig.nvme.faults().injections(Kind::Delay), 1);
}

#[test]
fn reorder_changes_the_order_and_loses_none() {
    let (rig, mut pair) = ready();
    let duration_ns = Some(5_000_000);
    let rate = Rate::Probability { times: 1, of: 2 };
    rig.nvme.faults().set(Rule { kind: Kind::Reorder, rate, duration_ns });
    let ids: Vec<u16> = (0..60).map(|_| rig.put(&mut pair, flush())).collect();
    rig.ring(&pair);
    let mut completed: Vec<u16> = (0..60).map(|_| rig.wait(&mut pair).id).collect();
    assert_ne!(completed, ids);
    completed.sort_unstable();
    assert_eq!(completed, ids);
}

#[test]
fn drop_executes_and_does_not_complete() {
    let disk = Arc::new(MemoryDisk::new(1 << 20));
    let mut rig = Rig::with_disk("cache=0", disk.clone());
    let mut pair = rig.pair(1, 8);
    let page = rig.host.allocate(PAGE);
    rig.host.poke(page, &[9; 512]);
    once(&rig, Kind::Drop);
    rig.submit(&mut pair, Sqe::write(1, 0, 1).prp(page, 0));
    assert_eq!(rig.wait_for(&mut pair, SHORT), None);
    assert_eq!(disk.contents()[0], 9);
    assert_eq!(rig.call(&mut pair, flush()).code, 0, "the next command is completed");
}

#[test]
fn wrong_id_names_another_command() {
    let (rig, mut pair) = ready();
    once(&rig, Kind::WrongId);
    let id = rig.submit(&mut pair, flush());
    assert_ne!(rig.wait(&mut pair).id, id);
    rig.call(&mut pair, flush());
}

#[test]
fn wrong_status_turns_success_into_an_error_and_errors_into_success() {
    let (rig, mut pair) = ready();
    once(&rig, Kind::WrongStatus);
    assert_ne!(rig.call(&mut pair, flush()).code, 0);
    once(&rig, Kind::WrongStatus);
    assert_eq!(rig.call(&mut pair, flush().nsid(9)).code, 0);
    assert_eq!(rig.call(&mut pair, flush()).code, 0);
}

#[test]
fn duplicate_completes_twice() {
    let (rig, mut pair) = ready();
    once(&rig, Kind::Duplicate);
    let first = rig.call(&mut pair, flush());
    assert_eq!(rig.wait(&mut pair), first);
    rig.call(&mut pair, flush());
    assert_eq!(rig.wait_for(&mut pair, SHORT), None);
}

#[test]
fn wrong_head_misreports_the_submission_queue_once() {
    let (rig, mut pair) = ready();
    once(&rig, Kind::WrongHead);
    assert_ne!(u32::from(rig.call(&mut pair, flush()).head), pair.tail);
    assert_eq!(u32::from(rig.call(&mut pair, flush()).head), pair.tail);
}

#[test]
fn short_transfers_less_and_reports_success() {
    let (rig, mut pair) = ready();
    rig.write_block(&mut pair, 0, 7, 0);
    let page = rig.host.allocate(PAGE);
    rig.host.poke(page, &[0xee; 512]);
    once(&rig, Kind::Short);
    assert_eq!(rig.call(&mut pair, Sqe::read(1, 0, 1).prp(page, 0)).code, 0);
    let found = rig.host.peek(page, 512);
    let arrived = found.iter().take_while(|byte| **byte == 7).count();
    assert!(arrived < 512 && found[arrived..].iter().all(|byte| *byte == 0xee), "{arrived} bytes");
    // A short write leaves zeros after the data that arrived.
    once(&rig, Kind::Short);
    rig.host.poke(page, &[8; 512]);
    assert_eq!(rig.call(&mut pair, Sqe::write(1, 0, 1).prp(page, 0)).code, 0);
    let found = rig.read_block(&mut pair, 0);
    let arrived = found.iter().take_while(|byte| **byte == 8).count();
    assert!(arrived < 512 && found[arrived..].iter().all(|byte| *byte == 0), "{arrived} bytes");
    rig.disable();
}

#[test]
fn long_writes_to_the_end_of_the_page_and_not_beyond() {
    let (rig, mut pair) = ready();
    let memory = rig.host.allocate(3 * PAGE);
    rig.host.poke(memory, &[0xee; 3 * PAGE as usize]);
    once(&rig, Kind::Long);
    assert_eq!(rig.call(&mut pair, Sqe::read(1, 0, 1).prp(memory + PAGE + 1024, 0)).code, 0);
    let found = rig.host.peek(memory, 3 * PAGE as usize);
    let page = PAGE as usize;
    assert!(found[..page + 1024].iter().chain(&found[2 * page..]).all(|byte| *byte == 0xee));
    assert_eq!(found[page + 1024..page + 1536], [0; 512]);
    assert!(found[page + 1536..2 * page].iter().all(|byte| *byte == 0xa5));
}

#[test]
fn stuck_ready_holds_in_both_directions() {
    let mut rig = Rig::off("faults=stuck-ready:#1");
    rig.start();
    assert!(!rig.wait_status(1, 1, SHORT), "never ready");
    rig.write32(0x14, 0);
    rig.restart();
    once(&rig, Kind::StuckReady);
    rig.write32(0x14, 0);
    assert!(!rig.wait_status(1, 0, SHORT), "always ready");
    rig.nvme.reset();
    rig.nvme.set_bus_master(true);
    assert_eq!(rig.read32(0x1c), 0, "a function level reset ends it");
    rig.restart();
}

#[test]
fn fatal_stops_everything_until_a_reset() {
    let (mut rig, mut pair) = ready();
    rig.nvme.faults().set_rate(Kind::Fatal, Rate::Once(3));
    for _ in 0..4 {
        rig.put(&mut pair, flush());
    }
    rig.ring(&pair);
    assert!(rig.wait_status(3, 3, LIMIT), "CFS, and still RDY");
    assert!(rig.wait_for(&mut pair, SHORT).is_some() && rig.wait_for(&mut pair, SHORT).is_some());
    assert_eq!(rig.wait_for(&mut pair, SHORT), None);
    rig.disable();
    rig.restart();
    let mut pair = rig.pair(1, 8);
    rig.call(&mut pair, flush());
}

#[test]
fn an_unplugged_device_is_absent_until_it_is_plugged_in() {
    let (mut rig, mut pair) = ready();
    rig.write_block(&mut pair, 1, 6, 0);
    once(&rig, Kind::Unplug);
    rig.submit(&mut pair, flush());
    assert!(rig.wait_status(u32::MAX, u32::MAX, LIMIT), "registers read as ones");
    assert_eq!(rig.nvme.read(0, 0, 8), u64::MAX);
    assert_eq!(rig.wait_for(&mut pair, SHORT), None);
    rig.write32(0x14, 0);
    rig.nvme.replug();
    assert_eq!((rig.read32(0x14), rig.read32(0x1c)), (0, 0), "as after a reset");
    rig.nvme.set_bus_master(true);
    rig.restart();
    let mut pair = rig.pair(1, 8);
    assert_eq!(rig.read_block(&mut pair, 1), [6; 512], "the device kept power");

    // It comes back without a call after its duration.
    let rule = Rule { kind: Kind::Unplug, rate: Rate::Never, duration_ns: Some(30_000_000) };
    rig.nvme.faults().set(rule);
    rig.nvme.unplug();
    assert_eq!(rig.read32(0x1c), u32::MAX);
    assert!(rig.wait_status(u32::MAX, 0, LIMIT));
    rig.nvme.set_bus_master(true);
    rig.restart();
}

#[test]
fn register_writes_of_a_driver_that_first_sees_the_replugged_device_stay() {
    // With many queues a reset takes longer.
    let rig = Rig::off("queues=128,faults=unplug:never");
    for round in 1..=500_u64 {
        // ASQ and CC, with the controller disabled.
        rig.nvme.write(0, 0x28, 8, u64::MAX << 12);
        rig.write32(0x14, 6 << 16);
        rig.nvme.unplug();
        std::thread::scope(|scope| {
            let driver = scope.spawn(|| {
                let deadline = Instant::now() + LIMIT;
                while rig.read32(0x1c) == u32::MAX {
                    assert!(Instant::now() < deadline, "the device does not come back");
                    std::hint::spin_loop();
                }
                let found = (rig.nvme.read(0, 0x28, 8), rig.read32(0x14), rig.nvme.is_present());
                rig.nvme.write(0, 0x28, 8, round << 12);
                found
            });
            rig.nvme.replug();
            assert_eq!(
                driver.join().expect("the driver does not panic"),
                (0, 0, true),
                "as after power-on, round {round}"
            );
        });
        rig.nvme.replug();
        assert_eq!(rig.nvme.read(0, 0x28, 8), round << 12, "round {round}");
    }
}

#[test]
fn interrupts_are_lost_or_spurious() {
    let (rig, mut pair) = ready();
    once(&rig, Kind::Lost);
    rig.call(&mut pair, flush());
    assert_eq!(rig.host.wait_interrupt(1, 0, SHORT), None);
    rig.nvme.faults().set_rate(Kind::Spurious, Rate::Every(1));
    let sum = |rig: &Rig| (0..9).map(|vector| rig.host.interrupts(vector)).sum::<u64>();
    let before = sum(&rig);
    for _ in 0..20 {
        rig.call(&mut pair, flush());
    }
    std::thread::sleep(SHORT);
    assert_eq!(sum(&rig) - before, 40, "20 regular interrupts, and 20 spurious ones");
}

#[test]
fn rates_count_occasions_and_equal_seeds_give_equal_faults() {
    let failing = |text: &str| -> Vec<usize> {
        let mut rig = Rig::new(text);
        let mut pair = rig.pair(1, 64);
        let faults = rig.nvme.faults();
        let quarter = Rate::Probability { times: 1, of: 4 };
        faults.set_rate(Kind::WrongStatus, if text.contains("seed") { quarter } else { Rate::Every(3) });
        let codes: Vec<u16> = (0..60).map(|_| rig.call(&mut pair, flush()).code).collect();
        rig.nvme.faults().stop();
        assert_eq!(rig.call(&mut pair, flush()).code, 0, "stopped");
        codes.iter().enumerate().filter(|(_, code)| **code != 0).map(|(index, _)| index).collect()
    };
    assert_eq!(failing(""), (0..60).filter(|index| index % 3 == 2).collect::<Vec<usize>>());
    let seven = failing("seed=7");
    assert_eq!(seven, failing("seed=7"));
    assert_ne!(seven, failing("seed=8"));
    assert!((5..28).contains(&seven.len()), "a quarter of 60 is {}", seven.len());
}

#[test]
fn admin_commands_can_be_exempted() {
    let mut rig = Rig::new("spare-admin=yes,faults=wrong-status:always+delay:always:1ms+fatal:#3");
    let mut pair = rig.pair(1, 8);
    assert!(rig.identify(1, 0).is_ok());
    assert_ne!(rig.call(&mut pair, flush()).code, 0);
    rig.nvme.faults().spare_admin(false);
    assert!(rig.identify(1, 0).is_err());
    assert_eq!(rig.nvme.faults().injections(Kind::Delay), 2);
}

#[test]
fn a_reset_ends_the_effects_of_faults_of_all_kinds() {
    let text = "memory=1M,seed=3,faults=delay:1/5:1ms+reorder:1/5+drop:1/9+wrong-id:1/9+wrong-status:1/9+\
                duplicate:1/9+wrong-head:1/5+short:1/5+long:1/5+spurious:1/3+lost:1/3";
    let config = NvmeConfig::parse(text).expect("the description is valid");
    let mut rig = Rig::off("");
    rig.nvme = Nvme::new(config).expect("the device is valid");
    rig.nvme.attach(rig.host.clone()).expect("the device has no host");
    rig.nvme.set_bus_master(true);
    rig.nvme.faults().stop();
    rig.enable();
    let mut pair = rig.pair(1, 64);
    let rules = NvmeConfig::parse(text).expect("the description is valid").faults;
    rules.iter().for_each(|rule| rig.nvme.faults().set(*rule));
    let page = rig.host.allocate(PAGE);
    for lba in 0..50 {
        rig.put(&mut pair, Sqe::read(1, lba, 1).prp(page, 0));
    }
    rig.ring(&pair);
    std::thread::sleep(SHORT);
    rig.nvme.reset();
    rig.nvme.faults().stop();
    rig.nvme.set_bus_master(true);
    rig.restart();
    let mut pair = rig.pair(1, 64);
    assert_eq!(rig.call(&mut pair, flush()).code, 0);
}
