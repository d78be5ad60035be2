//! The encoding of commands in the submission queue, and the commands that are refused before they reach it.

mod scripted;

use coppice_hardware::{Device, DmaBuffer, DmaMemory};
use device_harness::Bench;
use nvme_driver::{Command, CommandError, Controller, IoQueue, Meaning, Operation, SubmitError};
use proptest::prelude::*;
use scripted::{PostedCompletion, Scripted, namespace};
use std::sync::Arc;

struct Rig {
    model: Arc<Scripted>,
    bench: Bench,
    _controller: Controller,
    queue: IoQueue<DmaMemory>,
    memory: Device,
}

/// Creates a rig whose namespace has blocks of 2^`exponent` bytes.
fn rig(exponent: u8, depth: u16) -> Rig {
    let model = Scripted::new();
    model.script().namespaces = [(1, namespace(1 << 20, exponent))].into();
    let (bench, controller) = model.start().expect("the controller works");
    let queue = Scripted::queue(&controller, depth);
    let memory = bench.device();
    Rig { model, bench, _controller: controller, queue, memory }
}

/// Returns the memory that a command's PRPs describe, as contiguous runs, by the rules of Base 4.1.1: PRP1
/// may begin anywhere in a page; the rest are whole pages. PRP2 is the second page or a list, whose last
/// entry in a page is a pointer to the next list if there are more.
fn oracle(bench: &Bench, prp1: u64, prp2: u64, mut len: u64) -> Vec<(u64, u64)> {
    let mut runs = Vec::new();
    let mut add = |address: u64, bytes: u64| match runs.last_mut() {
        Some((start, run)) if *start + *run == address => *run += bytes,
        _ => runs.push((address, bytes)),
    };
    assert_eq!(prp1 % 4, 0);
    let first = len.min(4096 - prp1 % 4096);
    add(prp1, first);
    len -= first;
    if len == 0 {
        assert_eq!(prp2, 0, "PRP2 is reserved when it is not needed");
    } else if len <= 4096 {
        assert_eq!(prp2 % 4096, 0);
        add(prp2, len);
    } else {
        assert_eq!(prp2 % 8, 0);
        let mut at = prp2;
        while len > 0 {
            let mut entry = [0; 8];
            bench.read(at, &mut entry);
            let entry = u64::from_le_bytes(entry);
            assert_eq!(entry % 4096, 0, "only the first entry may have an offset");
            if at % 4096 == 4088 && len > 4096 {
                at = entry;
                continue;
            }
            add(entry, len.min(4096));
            len -= len.min(4096);
            at += 8;
        }
    }
    runs
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn prps_describe_exactly_the_bytes_of_the_buffer(
        shapes in prop::collection::vec((1_u32..=256, 0_u32..3000), 1..12),
        exponent in 9_u8..=12,
    ) {
        let mut rig = rig(exponent, 16);
        let mut expected = Vec::new();
        for (token, (blocks, dwords)) in shapes.into_iter().enumerate() {
            let blocks = blocks.min(rig.queue.most_blocks(Operation::Write));
            let bytes = blocks as usize * rig.queue.namespace().block_bytes() as usize;
            let offset = 4 * dwords;
            let buffer = rig.memory.dma(bytes + offset as usize).expect("memory");
            expected.push((buffer.addr(offset as usize).to_bits(), bytes as u64));
            let command = Command { offset, ..Command::write(7, blocks) };
            rig.queue.submit(command, Some(buffer), token as u64).expect("the command is valid");
        }
        rig.queue.ring();
        let fetched = rig.model.take();
        prop_assert_eq!(fetched.len(), expected.len());
        for (command, run) in fetched.iter().zip(expected) {
            let runs = oracle(&rig.bench, command.qword(6), command.qword(8), run.1);
            prop_assert_eq!(runs, vec![run]);
            rig.model.complete(PostedCompletion::to(command));
        }
        let count = fetched.len();
        prop_assert_eq!(rig.queue.poll(usize::MAX, |done| assert!(done.outcome.is_ok())), Ok(count));
    }
}

#[test]
fn each_operation_is_encoded_as_specified() {
    let mut rig = rig(9, 8);
    let mut submit = |command, with_data: bool| {
        let buffer = with_data.then(|| rig.memory.dma(4096).expect("memory"));
        rig.queue.submit(command, buffer, 0).expect("the command is valid");
        rig.queue.ring();
        let fetched = rig.model.take();
        rig.model.complete(PostedCompletion::to(&fetched[0]));
        assert_eq!(rig.queue.poll(1, |_| ()), Ok(1));
        let mut dwords = fetched[0].dwords;
        assert_eq!(dwords[1], 1, "the namespace");
        dwords[0] &= 0xFFFF;
        (dwords[0], dwords[10], dwords[11], dwords[12], fetched[0].qword(6))
    };
    let far = 1 << 19;
    let (opcode, low, high, blocks, _) = submit(Command::read(far, 8), true);
    assert_eq!((opcode, low, high, blocks), (2, far as u32, 0, 7));
    let (opcode, _, _, blocks, _) = submit(Command::write(0, 1), true);
    assert_eq!((opcode, blocks), (1, 0));
    let fua = Command { force_unit_access: true, ..Command::write(0, 2) };
    assert_eq!(submit(fua, true).3, 1 | 1 << 30);
    let (opcode, low, _, blocks, prp) = submit(Command::flush(), false);
    assert_eq!((opcode, low, blocks, prp), (0, 0, 0, 0));
    let (opcode, low, _, blocks, prp) = submit(Command::write_zeroes(5, 65536), false);
    assert_eq!((opcode, low, blocks, prp), (8, 5, 65535, 0));
    let compare = Command { operation: Operation::Compare, ..Command::read(1, 1) };
    assert_eq!(submit(compare, true).0, 5);
    let (opcode, ranges, attributes, _, prp) = submit(Command::deallocate(9, 100_000), false);
    assert_eq!((opcode, ranges, attributes), (9, 0, 4));
    let mut range = [0; 16];
    rig.bench.read(prp, &mut range);
    assert_eq!(range[4..8], 100_000_u32.to_le_bytes());
    assert_eq!(range[8..], 9_u64.to_le_bytes());
}

#[test]
fn an_invalid_command_is_refused_with_its_buffer_and_never_submitted() {
    let mut rig = rig(12, 4);
    let capacity = rig.queue.namespace().blocks();
    let most = rig.queue.most_blocks(Operation::Read);
    assert_eq!(most, 32);
    let mut refused = |command, bytes: Option<usize>| {
        let buffer = bytes.map(|bytes| rig.memory.dma(bytes).expect("memory"));
        let had = buffer.is_some();
        let refused = rig.queue.submit(command, buffer, 0).expect_err("the command is invalid");
        assert_eq!(refused.buffer.is_some(), had);
        refused.error
    };
    let out = |lba, blocks| SubmitError::LbaOutOfRange { lba, blocks, capacity };
    assert_eq!(refused(Command::read(capacity, 1), Some(4096)), out(capacity, 1));
    assert_eq!(refused(Command::read(capacity - 1, 2), Some(8192)), out(capacity - 1, 2));
    assert_eq!(refused(Command::write(u64::MAX, 1), Some(4096)), out(u64::MAX, 1));
    assert_eq!(refused(Command::deallocate(1, u32::MAX), None), out(1, u32::MAX));
    assert_eq!(refused(Command::read(0, 0), Some(4096)), SubmitError::NoBlocks);
    let large = SubmitError::TooLarge { blocks: most + 1, limit: most };
    assert_eq!(refused(Command::read(0, most + 1), Some(1 << 20)), large);
    let large = SubmitError::TooLarge { blocks: 65537, limit: 65536 };
    assert_eq!(refused(Command::write_zeroes(0, 65537), None), large);
    assert_eq!(refused(Command::read(0, 1), None), SubmitError::NoBuffer);
    let short = SubmitError::ShortBuffer { bytes: 4096, needed: 8192 };
    assert_eq!(refused(Command::read(0, 2), Some(4096)), short);
    let short = SubmitError::ShortBuffer { bytes: 4096, needed: 4100 };
    assert_eq!(refused(Command { offset: 4, ..Command::read(0, 1) }, Some(4096)), short);
    let odd = refused(Command { offset: 2, ..Command::read(0, 1) }, Some(8192));
    assert!(matches!(odd, SubmitError::Misaligned { address } if address % 4 == 2), "{odd}");
    rig.queue.ring();
    assert_eq!(rig.bench.writes(0x1008), 0);
    assert_eq!(rig.queue.in_flight(), 0);
}

#[test]
fn operations_that_the_controller_lacks_are_refused() {
    let model = Scripted::new();
    model.script().controller[520] = 0;
    let (_bench, controller) = model.start().expect("the controller works");
    let mut queue = Scripted::queue::<DmaMemory>(&controller, 4);
    let compare = Command { operation: Operation::Compare, ..Command::read(1, 1) };
    for command in [Command::write_zeroes(0, 1), Command::deallocate(0, 1), compare] {
        let refused = queue.submit(command, None, 0).expect_err("the operation is not supported");
        assert_eq!(refused.error, SubmitError::NotSupported);
    }
}

#[test]
fn a_batch_takes_at_most_one_doorbell_write_in_each_direction() {
    let mut rig = rig(9, 32);
    let (mut submitted, mut acknowledged) = (0, 0);
    // Both rings wrap many times, with completions in reverse order.
    for batch in 0..100_u64 {
        for token in 0..32 {
            let token = batch * 32 + token;
            rig.queue.submit(Command::write_zeroes(token, 1), None, token).expect("there is room");
        }
        let full = rig.queue.submit(Command::flush(), None, 0).expect_err("the queue is full");
        assert_eq!(full.error, SubmitError::QueueFull { depth: 32 });
        rig.queue.ring();
        rig.queue.ring();
        submitted += 1;
        assert_eq!(rig.bench.writes(0x1008), submitted);
        let fetched = rig.model.take();
        assert_eq!(fetched.len(), 32);
        fetched.iter().rev().for_each(|command| rig.model.complete(PostedCompletion::to(command)));
        let mut tokens = Vec::new();
        assert_eq!(rig.queue.poll(20, |done| tokens.push(done.token)), Ok(20));
        assert_eq!(rig.queue.poll(20, |done| tokens.push(done.token)), Ok(12));
        assert!(tokens.iter().copied().eq((batch * 32..batch * 32 + 32).rev()));
        acknowledged += 2;
        assert!(rig.bench.writes(0x100C) <= acknowledged);
    }
    assert!(rig.bench.writes(0x100C) > 0, "the controller has to be notified at last");
}

#[test]
fn a_failed_command_returns_its_status_and_its_buffer() {
    let mut rig = rig(9, 4);
    let buffer = rig.memory.dma(512).expect("memory");
    let range = buffer.dma_range(rig.memory.dma_space());
    rig.queue.submit(Command::read(3, 1), Some(buffer), 77).expect("there is room");
    rig.queue.ring();
    let command = rig.model.take()[0];
    rig.model.complete(PostedCompletion { status: 0x281 | 1 << 14, ..PostedCompletion::to(&command) });
    let mut ended = None;
    assert_eq!(rig.queue.poll(9, |done| ended = Some(done)), Ok(1));
    let ended = ended.expect("one");
    assert_eq!(ended.token, 77);
    assert_eq!(ended.buffer.map(|buffer| buffer.dma_range(rig.memory.dma_space())), Some(range));
    let Err(CommandError::Status(status)) = ended.outcome else { panic!("{:?}", ended.outcome) };
    assert!(status.meaning() == Meaning::UnrecoveredRead && status.do_not_retry());
}
