//! The driver against the model of `devices/nvme`, which was written independently.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use coppice_hardware::{Device, DmaBuffer, DmaMemory};
use device_harness::Bench;
use nvme_driver::{Command, CommandError, Controller, Fault, IoQueue, Meaning, Operation, Options};
use nvme_model::{Nvme, NvmeConfig};
use proptest::prelude::*;

struct Rig {
    model: Arc<Nvme>,
    bench: Bench,
    controller: Controller,
    memory: Device,
}

fn rig(text: &str) -> Rig {
    rig_with(text, Options::default())
}

fn rig_with(text: &str, options: Options) -> Rig {
    let config = NvmeConfig::parse(text).expect("a device");
    let model = Arc::new(Nvme::new(config).expect("a valid configuration"));
    let bench = Bench::new(model.clone(), 2048);
    let controller = Controller::new(bench.device(), options).expect("the controller works");
    let memory = bench.device();
    Rig { model, bench, controller, memory }
}

impl Rig {
    fn queue(&self, depth: u16) -> IoQueue<DmaMemory> {
        self.controller.open_queue(&self.controller.namespaces()[0], depth).expect("a queue")
    }

    /// Returns a buffer filled with `data`.
    fn filled(&self, data: &[u8]) -> DmaMemory {
        let mut buffer = self.memory.dma(data.len()).expect("memory");
        buffer.write_bytes(0, data);
        buffer
    }

    /// Executes one command. Returns its outcome and the content of the buffer.
    fn one(
        &self,
        queue: &mut IoQueue<DmaMemory>,
        command: Command,
        buffer: Option<DmaMemory>,
    ) -> (Result<(), CommandError>, Vec<u8>) {
        queue.submit(command, buffer, 1).expect("the command is valid");
        assert_eq!(queue.wait(self.bench.now_ns() + 5_000_000_000), Ok(true));
        let mut ended = None;
        assert_eq!(queue.poll(1, |done| ended = Some((done.outcome, contents(done.buffer)))), Ok(1));
        ended.expect("one")
    }

    fn write(&self, queue: &mut IoQueue<DmaMemory>, lba: u64, data: &[u8]) {
        let blocks = (data.len() / queue.namespace().block_bytes() as usize) as u32;
        let (outcome, _) = self.one(queue, Command::write(lba, blocks), Some(self.filled(data)));
        assert_eq!(outcome, Ok(()));
    }

    fn read(&self, queue: &mut IoQueue<DmaMemory>, lba: u64, blocks: u32) -> Vec<u8> {
        let bytes = blocks as usize * queue.namespace().block_bytes() as usize;
        let buffer = self.memory.dma(bytes).expect("memory");
        let (outcome, mut data) = self.one(queue, Command::read(lba, blocks), Some(buffer));
        assert_eq!(outcome, Ok(()));
        data.truncate(bytes);
        data
    }
}

fn contents(buffer: Option<DmaMemory>) -> Vec<u8> {
    buffer.map_or_else(Vec::new, |buffer| {
        let mut data = vec![0; buffer.len()];
        buffer.read_bytes(0, &mut data);
        data
    })
}

fn pattern(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..bytes)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

#[test]
fn controllers_of_many_configurations_come_up() {
    for text in [
        "memory=1M",
        "memory=1M,mqes=1",
        "memory=1M,mqes=7,stride=3,queues=1",
        "memory=1M,mqes=4095,mdts=0",
        "memory=1M,mdts=1,lba=4096,cache=0",
        "memory=1M,ready=30ms,queues=128",
    ] {
        let rig = rig(text);
        let mut queue = rig.queue(64);
        let block = queue.namespace().block_bytes() as usize;
        let data = pattern(1, block);
        rig.write(&mut queue, 3, &data);
        assert_eq!(rig.read(&mut queue, 3, 1), data, "{text}");
        assert!(rig.controller.health().is_ok(), "{text}");
        assert!(rig.controller.errors(4).is_ok(), "{text}");
        assert_eq!(rig.controller.info().volatile_write_cache, !text.contains("cache=0"), "{text}");
    }
}

#[test]
fn all_block_and_transfer_sizes_are_written_and_read_back() {
    for lba in [512_usize, 4096] {
        let rig = rig(&format!("memory=4M,lba={lba},mdts=5"));
        let mut queue = rig.queue(8);
        assert_eq!(queue.namespace().block_bytes() as usize, lba);
        let most = queue.most_blocks(Operation::Read);
        assert_eq!(most as usize * lba, 128 << 10);
        for blocks in [1, 2, 3, 7, 8, 9, 16, 17, most - 1, most] {
            let data = pattern(blocks.into(), blocks as usize * lba);
            rig.write(&mut queue, 5, &data);
            assert_eq!(rig.read(&mut queue, 5, blocks), data, "{blocks} blocks of {lba}");
        }
    }
}

#[test]
fn zeroes_deallocation_compare_flush_and_fua_have_their_effects() {
    let rig = rig("memory=4M");
    let mut queue = rig.queue(8);
    let data = pattern(1, 64 * 512);
    rig.write(&mut queue, 0, &data);
    let compare = Command { operation: Operation::Compare, ..Command::read(0, 64) };
    assert!(rig.controller.info().compare);
    assert_eq!(rig.one(&mut queue, compare, Some(rig.filled(&data))).0, Ok(()));
    assert_eq!(rig.one(&mut queue, Command::write_zeroes(8, 8), None).0, Ok(()));
    assert_eq!(rig.one(&mut queue, Command::deallocate(40, 8), None).0, Ok(()));
    assert_eq!(rig.one(&mut queue, Command::flush(), None).0, Ok(()));
    let read = rig.read(&mut queue, 0, 64);
    assert_eq!(read[..8 * 512], data[..8 * 512]);
    assert!(read[8 * 512..16 * 512].iter().all(|&byte| byte == 0));
    assert_eq!(read[16 * 512..40 * 512], data[16 * 512..40 * 512]);
    assert_eq!(read[48 * 512..], data[48 * 512..]);
    let (outcome, _) = rig.one(&mut queue, compare, Some(rig.filled(&data)));
    let Err(CommandError::Status(status)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(status.meaning(), Meaning::CompareFailure);
    let fua = Command { force_unit_access: true, ..Command::write(100, 1) };
    assert_eq!(rig.one(&mut queue, fua, Some(rig.filled(&pattern(2, 512)))).0, Ok(()));
}

#[test]
fn flushed_and_fua_writes_survive_a_loss_of_power() {
    let rig = rig("memory=1M,cache=1M");
    let mut queue = rig.queue(8);
    let (flushed, forced, lost) = (pattern(1, 512), pattern(2, 512), pattern(3, 512));
    rig.write(&mut queue, 1, &flushed);
    assert_eq!(rig.one(&mut queue, Command::flush(), None).0, Ok(()));
    let fua = Command { force_unit_access: true, ..Command::write(2, 1) };
    assert_eq!(rig.one(&mut queue, fua, Some(rig.filled(&forced))).0, Ok(()));
    rig.write(&mut queue, 3, &lost);
    rig.model.lose_power(nvme_model::PowerLoss::DropAll);
    drop(queue);
    drop(rig.controller);
    let controller =
        Controller::new(rig.bench.device(), Options::default()).expect("the controller works again");
    let rig = Rig { controller, ..rig };
    let mut queue = rig.queue(8);
    assert_eq!(rig.read(&mut queue, 1, 1), flushed);
    assert_eq!(rig.read(&mut queue, 2, 1), forced);
    assert_ne!(rig.read(&mut queue, 3, 1), lost, "an unflushed write is lost, or this test shows nothing");
}

#[test]
fn a_reset_loses_no_completed_write() {
    let rig = rig("memory=1M,cache=1M");
    let mut queue = rig.queue(8);
    let data = pattern(1, 512);
    for round in 0..20 {
        rig.write(&mut queue, round, &data);
        assert_eq!(rig.controller.reset(rig.controller.resets()), Ok(()));
        assert_eq!(queue.poll(1, |_| ()), Err(Fault::WasReset));
        assert_eq!(queue.reset(|_| panic!("nothing is in flight")), Ok(()));
        assert_eq!(rig.read(&mut queue, round, 1), data);
    }
}

#[test]
fn concurrent_queues_do_not_interfere() {
    let rig = rig("memory=16M,queues=4,latency=20us");
    thread::scope(|scope| {
        for number in 0..4_u64 {
            let rig = &rig;
            scope.spawn(move || {
                let mut queue = rig.queue(32);
                let first = number * 1000;
                for round in 0..30 {
                    for block in 0..32 {
                        let data = pattern(number << 32 | round << 16 | block, 512);
                        let command = Command::write(first + block, 1);
                        queue.submit(command, Some(rig.filled(&data)), block).expect("there is room");
                    }
                    finish(rig, &mut queue, |_, _| ());
                    for block in 0..32 {
                        let buffer = rig.memory.dma(512).expect("memory");
                        queue.submit(Command::read(first + block, 1), Some(buffer), block).expect("room");
                    }
                    finish(rig, &mut queue, |block, data| {
                        assert!(data[..512] == pattern(number << 32 | round << 16 | block, 512));
                    });
                }
            });
        }
    });
}

/// Waits until no command is in flight; all of them must succeed.
fn finish(rig: &Rig, queue: &mut IoQueue<DmaMemory>, mut done: impl FnMut(u64, Vec<u8>)) {
    queue.ring();
    while queue.in_flight() > 0 {
        assert_eq!(queue.wait(rig.bench.now_ns() + 5_000_000_000), Ok(true));
        let polled = queue.poll(usize::MAX, |ended| {
            assert_eq!(ended.outcome, Ok(()));
            done(ended.token, contents(ended.buffer));
        });
        assert!(polled.is_ok_and(|count| count > 0));
    }
}

#[test]
fn events_of_the_model_are_reported() {
    let rig = rig("memory=1M");
    rig.model.set_temperature(400);
    let event = rig.controller.wait_event(rig.bench.now_ns() + 2_000_000_000);
    assert!(matches!(event, Ok(Some(nvme_driver::Event::Health { .. }))), "{event:?}");
    let health = rig.controller.health().expect("the controller works");
    assert_eq!(health.temperature, 400);
    assert_ne!(health.critical_warning & 2, 0);
    rig.model.announce_change(1);
    let event = rig.controller.wait_event(rig.bench.now_ns() + 2_000_000_000);
    assert_eq!(event, Ok(Some(nvme_driver::Event::NamespacesChanged)));
    rig.model.announce_change(1);
    let event = rig.controller.wait_event(rig.bench.now_ns() + 2_000_000_000);
    assert_eq!(
        event,
        Ok(Some(nvme_driver::Event::NamespacesChanged)),
        "the event was cleared and requested again"
    );
}

#[test]
fn the_stop_order_ends_memory_accesses() {
    let rig = rig("memory=4M,latency=2ms");
    let mut queue = rig.queue(32);
    let mut ranges = Vec::new();
    for token in 0..32 {
        let buffer = rig.memory.dma(4096).expect("memory");
        ranges.push(buffer.dma_range(rig.memory.dma_space()));
        queue.submit(Command::read(token * 8, 8), Some(buffer), token).expect("there is room");
    }
    queue.ring();
    // The driver dies here, with 32 reads in flight.
    assert!(rig.bench.quiesce(), "the stop order completes in time");
    for range in ranges {
        rig.bench.forbid(range);
    }
    thread::sleep(std::time::Duration::from_millis(10));
    assert_eq!(rig.bench.forbidden_accesses(), []);
    std::mem::forget(queue);
    std::mem::forget(rig.controller);
    assert!(
        Controller::new(rig.bench.device(), Options::default()).is_ok(),
        "the next driver instance brings it up"
    );
}

/// One step of a sequence of commands.
#[derive(Clone, Debug)]
enum Step {
    Write { lba: u64, blocks: u32, offset: u32 },
    Read { lba: u64, blocks: u32, offset: u32 },
    Zero { lba: u64, blocks: u32 },
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let data = (0_u64..200, 1_u32..=32, 0_u32..1100);
    prop_oneof![
        data.clone().prop_map(|(lba, blocks, dwords)| Step::Write { lba, blocks, offset: 4 * dwords }),
        data.prop_map(|(lba, blocks, dwords)| Step::Read { lba, blocks, offset: 4 * dwords }),
        (0_u64..200, 1_u32..40).prop_map(|(lba, blocks)| Step::Zero { lba, blocks }),
        Just(Step::Flush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_sequence_of_commands_has_the_same_effect_as_on_an_array(
        steps in prop::collection::vec(step(), 1..60),
        faults in prop::sample::select(vec!["", ",faults=delay:1/5:50us+reorder:1/4:50us+lost:1/20+spurious:1/4"]),
    ) {
        let rig = rig(&format!("memory=1M,seed=7{faults}"));
        let mut queue = rig.queue(16);
        let mut oracle = vec![0_u8; 300 * 512];
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Write { lba, blocks, offset } => {
                    let data = pattern(number as u64, blocks as usize * 512);
                    let mut whole = vec![0xEE; offset as usize];
                    whole.extend(&data);
                    let command = Command { offset, ..Command::write(lba, blocks) };
                    prop_assert_eq!(rig.one(&mut queue, command, Some(rig.filled(&whole))).0, Ok(()));
                    oracle[lba as usize * 512..][..data.len()].copy_from_slice(&data);
                }
                Step::Read { lba, blocks, offset } => {
                    let bytes = blocks as usize * 512;
                    let before = vec![0xAB; offset as usize + bytes];
                    let command = Command { offset, ..Command::read(lba, blocks) };
                    let (outcome, data) = rig.one(&mut queue, command, Some(rig.filled(&before)));
                    prop_assert_eq!(outcome, Ok(()));
                    let (front, rest) = data.split_at(offset as usize);
                    prop_assert!(front.iter().all(|&byte| byte == 0xAB), "memory before the data is unchanged");
                    prop_assert!(rest[..bytes] == oracle[lba as usize * 512..][..bytes]);
                    prop_assert!(rest[bytes..].iter().all(|&byte| byte == 0), "and so is memory behind it");
                }
                Step::Zero { lba, blocks } => {
                    prop_assert_eq!(rig.one(&mut queue, Command::write_zeroes(lba, blocks), None).0, Ok(()));
                    oracle[lba as usize * 512..][..blocks as usize * 512].fill(0);
                }
                Step::Flush => {
                    prop_assert_eq!(rig.one(&mut queue, Command::flush(), None).0, Ok(()));
                }
            }
        }
    }
}

/// Runs a load that verifies all data. Each block has one writer at a time and its last written content is
/// recorded. A command that failed or was returned by a reset leaves the content unknown until the block is
/// written again. Returns the numbers of commands that succeeded, failed, and were returned by a reset.
/// `on_fault` runs before each reset.
fn verify_under(rig: &Rig, commands: usize, mut on_fault: impl FnMut()) -> Result<[u64; 3], Fault> {
    const BLOCKS: u64 = 64;
    let mut queue = rig.queue(24);
    let mut known: BTreeMap<u64, u64> = BTreeMap::new();
    let mut counts = [0; 3];
    let (mut busy, mut sequence, mut begun) = (BTreeMap::new(), 1_u64, 0);
    let mut random = 0x1234_5678_9ABC_DEF1_u64;
    while begun < commands || queue.in_flight() > 0 {
        while begun < commands && queue.room() > 0 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let lba = (random >> 40) % BLOCKS;
            if busy.contains_key(&lba) {
                break;
            }
            let is_write = random >> 33 & 1 == 0 || !known.contains_key(&lba);
            let (command, buffer) = if is_write {
                sequence += 1;
                (Command::write(lba * 8, 8), rig.filled(&pattern(sequence, 4096)))
            } else {
                (Command::read(lba * 8, 8), rig.memory.dma(4096).expect("memory"))
            };
            match queue.submit(command, Some(buffer), lba) {
                Ok(()) => {}
                Err(refused) if matches!(refused.error, nvme_driver::SubmitError::Faulted(_)) => break,
                Err(refused) => panic!("{}", refused.error),
            }
            busy.insert(lba, is_write.then_some(sequence));
            begun += 1;
        }
        let mut done = |ended: nvme_driver::Completion<DmaMemory>| {
            let lba = ended.token;
            let written = busy.remove(&lba).expect("each command ends once");
            match (ended.outcome, written) {
                (Ok(()), Some(sequence)) => {
                    known.insert(lba, sequence);
                    counts[0] += 1;
                }
                (Ok(()), None) => {
                    let sequence = known[&lba];
                    assert!(
                        contents(ended.buffer) == pattern(sequence, 4096),
                        "wrong data with status success"
                    );
                    counts[0] += 1;
                }
                (Err(error), written) => {
                    if written.is_some() {
                        known.remove(&lba);
                    }
                    counts[if error == CommandError::Reset { 2 } else { 1 }] += 1;
                }
            }
        };
        let deadline = rig.bench.now_ns() + 20_000_000_000;
        let waited = queue.wait(deadline);
        assert!(rig.bench.now_ns() < deadline, "the wait slept until its deadline");
        let polled = waited.and_then(|_| queue.poll(usize::MAX, &mut done));
        if let Err(fault) = polled {
            on_fault();
            if queue.reset(&mut done).is_err() {
                // The controller was not stopped: the memory in flight is never returned.
                return Err(fault);
            }
        }
    }
    Ok(counts)
}

fn quick(text: &str) -> Rig {
    let options =
        Options { command_timeout_ns: 30_000_000, admin_timeout_ns: 60_000_000, ..Options::default() };
    rig_with(text, options)
}

#[test]
fn reordering_delay_and_lost_interrupts_cause_no_errors() {
    // No command is lost, so no timeout may end one, however busy the test machine is.
    let options = Options { command_timeout_ns: 600_000_000_000, ..Options::default() };
    let rig =
        rig_with("memory=1M,seed=3,faults=delay:1/50:2ms+reorder:1/3:100us+spurious:1/5+lost:1/10", options);
    assert_eq!(verify_under(&rig, 3000, || ()), Ok([3000, 0, 0]));
    assert_eq!(rig.controller.resets(), 0);
}

#[test]
fn commands_with_dropped_completions_are_aborted_or_returned() {
    let rig = quick("memory=1M,seed=3,faults=drop:#500");
    let counts = verify_under(&rig, 1500, || ()).expect("a reset repairs it");
    assert_eq!(counts.iter().sum::<u64>(), 1500);
    assert!(counts[1] + counts[2] > 0, "{counts:?}");
}

#[test]
fn duplicates_wrong_heads_and_fatal_errors_end_in_a_reset_and_not_in_wrong_data() {
    for kind in ["duplicate", "wrong-head", "fatal"] {
        let rig = quick(&format!("memory=1M,seed=5,faults={kind}:#400"));
        let counts = verify_under(&rig, 1500, || ()).unwrap_or_else(|fault| panic!("{kind}: {fault}"));
        assert_eq!(counts.iter().sum::<u64>(), 1500, "{kind}");
        assert_eq!(rig.controller.resets(), 1, "{kind}");
    }
}

#[test]
fn wrong_identifiers_end_in_a_reset_and_not_in_wrong_data() {
    for seed in 1..20 {
        let rig = quick(&format!("memory=1M,seed={seed},faults=wrong-id:#300"));
        let counts = verify_under(&rig, 1000, || ()).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        assert_eq!(counts.iter().sum::<u64>(), 1000);
        assert_eq!(rig.controller.resets(), 1, "seed {seed}");
    }
}

#[test]
fn wrong_statuses_are_reported() {
    let rig = quick("memory=1M,seed=3,faults=wrong-status:1/50");
    let counts = verify_under(&rig, 1500, || ()).expect("no fault");
    assert!(counts[1] > 0 && counts[2] == 0, "{counts:?}");
}

#[test]
fn an_unplugged_controller_is_detected_and_keeps_its_buffers() {
    let rig = quick("memory=1M,seed=3,faults=unplug:#300");
    let fault = verify_under(&rig, 1500, || ()).expect_err("a reset does not help");
    assert_eq!(fault, Fault::Gone);
}

#[test]
fn a_stuck_controller_is_given_up() {
    let rig = quick("memory=1M,seed=3,faults=drop:#300");
    let stuck = nvme_model::Rule {
        kind: nvme_model::Kind::StuckReady,
        rate: nvme_model::Rate::Every(1),
        duration_ns: None,
    };
    let model = rig.model.clone();
    let fault = verify_under(&rig, 1000, || model.faults().set(stuck)).expect_err("a reset does not help");
    assert!(matches!(fault, Fault::CommandLost { .. }), "{fault}");
}

/// A limit of NVMe: a completion does not report the number of bytes transferred. A short transfer is found
/// only by a check of the data itself. (A long one overwrites other memory, which only an IOMMU could
/// prevent.) docs/drivers/nvme.md states this limit, and this test pins it.
#[test]
fn a_short_transfer_completed_with_success_cannot_be_detected() {
    let rig = quick("memory=1M,seed=3");
    let mut queue = rig.queue(8);
    rig.write(&mut queue, 0, &pattern(1, 4096));
    let short = nvme_model::Rule {
        kind: nvme_model::Kind::Short,
        rate: nvme_model::Rate::Every(1),
        duration_ns: None,
    };
    rig.model.faults().set(short);
    let buffer = rig.filled(&pattern(9, 4096));
    let (outcome, data) = rig.one(&mut queue, Command::read(0, 8), Some(buffer));
    assert_eq!(outcome, Ok(()), "the controller reports success");
    assert_ne!(data, pattern(1, 4096));
}
