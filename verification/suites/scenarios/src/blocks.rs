//! Block devices, and what becomes of requests when a driver, a shadow or a client dies.
//!
//! The disk itself is a domain that nobody ends; its drivers are others, and so what they did outlives them.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use coppice_block::{Batch, BlockDevice, BlockError, OpenError, Operation, Request, RequestHead};
use coppice_block_client::{Disk, DiskError};
use coppice_domain_null_block::Entry;
use coppice_interfaces::{CrashKind, Handle};
use coppice_rref::RRef;
use coppice_runtime::thread::Builder;
use coppice_runtime::time;

use crate::desk::{Desk, pattern, request, write};
use crate::shadows::while_it_crashes;
use crate::stage::{Failure, Outcome, SHORT_PATIENCE, SOON, Stage, ensure, ensure_eq, promise};

/// Blocks of the disk where its record begins.
const RECORD: u64 = (4 << 20) / 512 - 64;

/// Opens `disk`, if need be when a queue that was dropped a moment ago has been closed: that takes a thread of the kernel's.
fn open(disk: &Handle<dyn BlockDevice>, depth: u32, piece: usize) -> Outcome<Disk> {
    let deadline = time::now() + SOON;
    loop {
        match Disk::open(disk, depth, piece) {
            Err(DiskError::Open(OpenError::NoQueue { .. })) if time::now() < deadline => {
                time::sleep(Duration::from_micros(100));
            }
            other => return Ok(other?),
        }
    }
}

/// Whether all have been done.
fn all_done(requests: &[RRef<Request>]) -> Outcome {
    for request in requests {
        ensure_eq!(request.result(), Ok(()), format!("{:?}", request.head()));
    }
    Ok(())
}

/// Whether the disk, asked directly, holds `version` in these blocks.
fn holds(stage: &Stage, blocks: impl Iterator<Item = u64>, version: u64) -> Outcome {
    let mut disk = open(&stage.platter, 4, 64 * 1024)?;
    for lba in blocks {
        let mut bytes = [0; 512];
        disk.read(lba, &mut bytes)?;
        ensure!(bytes == pattern(lba, version), "block {lba} does not hold version {version}");
    }
    Ok(())
}

/// What the disk remembers that was done, oldest first.
fn record(stage: &Stage) -> Outcome<Vec<Entry>> {
    let mut bytes = vec![0; 64 * 512];
    open(&stage.platter, 4, 64 * 1024)?.read(RECORD, &mut bytes)?;
    let mut entries: Vec<_> = Entry::all(&bytes).collect();
    entries.sort_by_key(|entry| entry.sequence);
    Ok(entries)
}

pub(crate) fn blocks_are_read_as_they_were_written(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(4, |round| {
        let (direct, behind): (&Handle<dyn BlockDevice>, _) = (&stage.platter, &stage.disk);
        for (depth, piece, disk) in
            [(1, 512, direct), (4, 4096, direct), (64, 1 << 20, direct), (8, 8192, behind)]
        {
            let mut disk = open(disk, depth, piece)?;
            let count = 300_u64;
            let first = 1000 + u64::from(round);
            let mut bytes: Vec<u8> = Vec::new();
            (first..first + count).for_each(|lba| bytes.extend(pattern(lba, depth.into())));
            disk.write(first, &bytes)?;
            disk.flush()?;
            disk.write_zeroes(first + 10, 20, true)?;
            disk.deallocate(first + 40, 2)?;
            disk.write_through(first + 41, &pattern(1, 2))?;
            for lba in (10..30).chain(40..41) {
                bytes[lba * 512..(lba + 1) * 512].fill(0);
            }
            bytes[41 * 512..42 * 512].copy_from_slice(&pattern(1, 2));
            let mut back = vec![0xff; bytes.len()];
            disk.read(first, &mut back)?;
            ensure!(back == bytes, "depth {depth}, pieces of {piece}: what is read is not what was written");
            // At another place than it was cut when it was written.
            disk.read(first + 7, &mut back[..33 * 512])?;
            ensure!(
                back[..33 * 512] == bytes[7 * 512..40 * 512],
                "depth {depth}: a part is not as the whole"
            );
            ensure_eq!(
                disk.read(0, &mut back[..700]),
                Err(DiskError::Unaligned { bytes: 700, block_bytes: 512 }),
                "half a block"
            );
            let beyond = BlockError::LbaOutOfRange { lba: 8192, blocks: 1, capacity: 8192 };
            let refused = disk.write(8191, &back[..1024]);
            // In pieces of one block the first is on the disk.
            ensure!(
                matches!(refused, Err(DiskError::Block { error: BlockError::LbaOutOfRange { .. }, .. })),
                "beyond the end: {refused:?} instead of {beyond:?}"
            );
        }
        Ok(())
    })
}

pub(crate) fn a_disk_refuses_what_it_cannot_do(stage: &Arc<Stage>) -> Outcome {
    for disk in [&stage.platter, &stage.disk] {
        let info = disk.info()?;
        ensure_eq!((info.blocks, info.block_bytes), (8192, 512), "blocks");
        for depth in [0, info.queue_depth + 1] {
            let error = OpenError::Depth { depth, most: info.queue_depth };
            ensure_eq!(disk.open(depth)?.err(), Some(error), "a queue of impossible depth");
        }
        let mut desk = Desk::open(disk, 16)?;
        let small = RRef::with_capacity(RequestHead::new(Operation::Read, 0, 2).with_tag(4), 1023);
        let mut nonsense = request(Operation::Read, 6, 1);
        nonsense.set(Operation::Read, u64::MAX, 1);
        let wrong = vec![
            request(Operation::Write, 8192, 1),
            request(Operation::Read, 8191, 2),
            request(Operation::Read, 1, 0),
            request(Operation::WriteZeroes, 2, 0),
            request(Operation::Read, 3, info.max_transfer_blocks + 1),
            small,
            nonsense,
            // And one that it can.
            request(Operation::Read, 5, 1),
        ];
        let mut answers = desk.submit(wrong)?;
        answers.append(&mut desk.collect()?);
        answers.sort_by_key(|request| request.tag());
        let results: Vec<_> = answers.iter().map(|request| request.result()).collect();
        let most = info.max_transfer_blocks;
        let out = |lba, blocks| Err(BlockError::LbaOutOfRange { lba, blocks, capacity: 8192 });
        ensure_eq!(
            results,
            vec![
                Err(BlockError::TooLarge { blocks: 0, most }),
                Err(BlockError::TooLarge { blocks: 0, most: info.max_range_blocks }),
                Err(BlockError::TooLarge { blocks: most + 1, most }),
                Err(BlockError::BufferTooSmall { bytes: 1024, capacity: 1023 }),
                Ok(()),
                out(u64::MAX, 1),
                out(8191, 2),
                out(8192, 1),
            ],
            "answers"
        );
        ensure!(disk.health()?.is_ok(), "a disk in memory does not fare well");
    }
    Ok(())
}

pub(crate) fn a_full_queue_refuses_the_rest(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(4, |_| {
        let mut desk = Desk::open(&stage.disk, 4)?;
        let refused = desk.submit((0..10).map(|lba| write(lba, 1)).collect())?;
        let full = refused.iter().all(|request| request.result() == Err(BlockError::QueueFull { depth: 4 }));
        ensure!(full && refused.len() == 6, "{} of 10 requests are refused by a queue of 4", refused.len());
        // None of the four is forgotten for it, and there is room again.
        all_done(&desk.collect()?)?;
        let answers = desk.submit(refused.into_iter().take(4).map(renewed).collect())?;
        ensure_eq!(answers.len(), 0, "answers to requests that are held");
        all_done(&desk.collect()?)
    })
}

/// The same request, to be handed in again.
fn renewed(mut request: RRef<Request>) -> RRef<Request> {
    let (lba, blocks) = (request.lba(), request.blocks());
    request.set(Operation::Write, lba, blocks);
    request
}

pub(crate) fn a_queue_belongs_to_one_thread(stage: &Arc<Stage>) -> Outcome {
    for disk in [&stage.platter, &stage.disk] {
        let queue = Desk::open(disk, 4)?.queue;
        ensure!(queue.exchange(RRef::new(Batch::new()), 0)?.is_ok(), "its thread is refused");
        let theirs = queue.clone();
        let refused = promise(Builder::new(), move || -> Outcome<bool> {
            let mut batch = RRef::new(Batch::new());
            let (loan, lent) = write(0, 1).lend();
            ensure!(batch.push_back(lent).is_ok(), "it has room");
            let Err(mut busy) = theirs.exchange(batch, 0)? else { return Ok(false) };
            let lent = busy.batch.pop_front().ok_or_else(|| Failure("the batch is empty".into()))?;
            ensure!(
                loan.settle(lent).is_ok_and(|request| request.is_pending()),
                "the request is not as it was"
            );
            Ok(true)
        })?;
        ensure!(refused.keep()?, "a second thread is not refused");
        ensure!(queue.exchange(RRef::new(Batch::new()), 0)?.is_ok(), "its thread is refused afterwards");
    }
    Ok(())
}

pub(crate) fn requests_survive_the_crash_of_their_driver(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(60, 15), |round| {
        let mut desk = Desk::open(&stage.disk, 32)?;
        let version = u64::from(round) + 10;
        let mut early = desk.submit((0..20).map(|lba| write(lba, version)).collect())?;
        ensure!(early.len() <= 8, "{} answers of a driver that holds 12 of 20", early.len());
        stage.restart("drive")?;
        // Handed in while the driver is gone, or back.
        early.append(&mut desk.submit((20..26).map(|lba| write(lba, version)).collect())?);
        early.append(&mut desk.collect()?);
        ensure_eq!(early.len(), 26, "answers");
        all_done(&early)?;
        holds(stage, 0..26, version)
    })
}

pub(crate) fn two_queues_of_a_disk_recover_by_themselves(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(20, 5), |round| {
        let version = u64::from(round) + 200;
        let mut desks = [Desk::open(&stage.disk, 16)?, Desk::open(&stage.disk, 8)?];
        for (desk, first) in desks.iter_mut().zip([0, 100]) {
            ensure_eq!(
                desk.submit((first..first + 8).map(|lba| write(lba, version)).collect())?.len(),
                0,
                "answers"
            );
        }
        stage.restart("drive")?;
        let [mut one, two] = desks;
        all_done(&one.collect()?)?;
        // The other one has not noticed yet, and another instance ends meanwhile.
        stage.restart("drive")?;
        let mut two = two;
        all_done(&two.collect()?)?;
        ensure_eq!(one.submit(Vec::new())?.len(), 0, "answers to nothing");
        all_done(&{
            let mut answers = one.submit(vec![write(50, version)])?;
            answers.append(&mut one.collect()?);
            answers
        })?;
        holds(stage, (0..8).chain(100..108).chain(50..51), version)
    })
}

pub(crate) fn what_comes_during_an_outage_is_answered_after_it(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(3, |round| {
        let version = u64::from(round) + 300;
        let mut desk = Desk::open(&stage.mortal_disk, 16)?;
        ensure_eq!(desk.submit((0..4).map(|lba| write(lba, version)).collect())?.len(), 0, "answers");
        // Its patience begins when it notices.
        stage.kill("mortal-drive")?;
        let before = time::now();
        ensure_eq!(
            desk.submit((4..8).map(|lba| write(lba, version)).collect())?.len(),
            0,
            "answers of a dead driver"
        );
        ensure!(time::now() - before < SHORT_PATIENCE, "who does not want to wait is made to");
        let answers = desk.collect()?;
        ensure_eq!(answers.len(), 8, "requests that are given back");
        let gone = |request: &RRef<Request>| matches!(request.result(), Err(BlockError::Gone { .. }));
        ensure!(answers.iter().all(gone), "answers of a driver that stays dead");
        stage.restart("mortal-drive")?;
        stage.restart("shadow-mortal-drive")
    })
}

pub(crate) fn a_flush_waits_for_what_came_before_it_also_after_a_crash(stage: &Arc<Stage>) -> Outcome {
    for round in 0..u64::from(stage.rounds(30, 8)) {
        let version = round + 400;
        let mut desk = Desk::open(&stage.disk, 16)?;
        let begin = record(stage)?.last().map_or(0, |entry| entry.sequence + 1);
        let mut requests: Vec<_> = (100..106).map(|lba| write(lba, version)).collect();
        let head = *requests[2].head();
        *requests[2].head_mut() = head.with_fua();
        let mut flush = RRef::with_capacity(RequestHead::flush().with_tag(999), 0);
        flush.set_tag(999);
        requests.push(flush);
        requests.extend((106..108).map(|lba| write(lba, version)));
        ensure_eq!(desk.submit(requests)?.len(), 0, "answers");
        stage.restart("drive")?;
        let answers = desk.collect()?;
        ensure_eq!(answers.len(), 9, "answers");
        all_done(&answers)?;
        let entries = record(stage)?;
        let done = || entries.iter().filter(|entry| entry.sequence >= begin);
        let flushed = done().rfind(|entry| entry.operation == Operation::Flush);
        let flushed = flushed.ok_or_else(|| Failure("the flush did not reach the disk".into()))?.sequence;
        for lba in 100..106 {
            let last = done().rfind(|entry| entry.lba == lba && entry.operation == Operation::Write);
            ensure!(
                last.is_some_and(|entry| entry.sequence < flushed),
                "block {lba} is written at {:?}, after the flush at {flushed}",
                last.map(|entry| entry.sequence)
            );
        }
        let through = |entry: &&Entry| entry.operation == Operation::Write && entry.fua != (entry.lba == 102);
        ensure_eq!(
            done().filter(through).count(),
            0,
            "writes through the cache that should not be, or the reverse"
        );
        holds(stage, 100..108, version)?;
    }
    Ok(())
}

pub(crate) fn a_crash_at_each_step_of_a_recovery_begins_it_anew(stage: &Arc<Stage>) -> Outcome {
    // It dies when it is asked what it is, at `open`, and at the first exchange; the fourth instance is well again.
    while !stage.info("frail-drive")?.id.generation().is_multiple_of(4) {
        stage.restart("frail-drive")?;
    }
    for round in 0..2 {
        let version = round + 500;
        let before = stage.info("frail-drive")?.id.generation();
        let mut desk = Desk::open(&stage.frail_disk, 16)?;
        ensure_eq!(desk.submit((0..4).map(|lba| write(lba, version)).collect())?.len(), 0, "answers");
        stage.restart("frail-drive")?;
        let answers = desk.collect()?;
        ensure_eq!(answers.len(), 4, "answers");
        all_done(&answers)?;
        let instances = stage.info("frail-drive")?.id.generation() - before;
        ensure_eq!(instances, 4, "lives that it took");
        holds(stage, 0..4, version)?;
    }
    Ok(())
}

pub(crate) fn a_request_without_an_answer_is_asked_for_again(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(10, 4), |round| {
        let version = u64::from(round) + 600;
        let mut desk = Desk::open(&stage.mad_disk, 32)?;
        let mut answers = desk.submit((0..24).map(|lba| write(lba, version)).collect())?;
        answers.append(&mut desk.collect()?);
        ensure_eq!(answers.len(), 24, "answers");
        all_done(&answers)?;
        holds(stage, 0..24, version)
    })
}

pub(crate) fn a_disk_that_is_gone_says_so_in_time(stage: &Arc<Stage>) -> Outcome {
    let mut desk = Desk::open(&stage.mortal_disk, 16)?;
    all_done(&{
        let mut answers = desk.submit(vec![write(0, 700)])?;
        answers.append(&mut desk.collect()?);
        answers
    })?;
    ensure_eq!(desk.submit(vec![write(1, 700), write(2, 700)])?.len(), 0, "answers");
    stage.kill("mortal-drive")?;
    let before = time::now();
    let gone = desk.collect()?;
    let took = time::now() - before;
    let is_gone = |request: &RRef<Request>| matches!(request.result(), Err(BlockError::Gone { .. }));
    ensure!(gone.len() == 2 && gone.iter().all(is_gone), "what becomes of requests to a dead disk: {gone:?}");
    ensure!(took >= SHORT_PATIENCE, "given up after {took:?}");
    // From now on nobody waits for it again.
    let before = time::now();
    let answers = desk.exchange(vec![write(3, 700)], Duration::from_secs(5))??;
    ensure!(answers.len() == 1 && answers.iter().all(is_gone), "a request to a disk that is gone");
    ensure!(time::now() - before < SHORT_PATIENCE, "it is waited for again");
    // Its next instance says that it is another one.
    stage.restart("mortal-drive")?;
    let answers = desk.exchange(vec![write(4, 700)], Duration::from_secs(5))??;
    ensure!(answers.len() == 1 && answers.iter().all(is_gone), "a request to another disk");
    let refused = stage.mortal_disk.open(4)?.err();
    ensure!(matches!(refused, Some(OpenError::Device(BlockError::Gone { .. }))), "another disk: {refused:?}");
    // A new shadow knows no better.
    stage.restart("shadow-mortal-drive")?;
    let mut desk = Desk::open(&stage.mortal_disk, 16)?;
    let mut answers = desk.submit(vec![write(5, 700)])?;
    answers.append(&mut desk.collect()?);
    all_done(&answers)
}

pub(crate) fn requests_come_back_when_their_shadow_dies(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(30, 10), |round| {
        let version = u64::from(round) + 800;
        let instance = stage.info("shadow-drive")?.id;
        let mut desk = Desk::open(&stage.disk, 32)?;
        ensure_eq!(desk.submit((0..12).map(|lba| write(lba, version)).collect())?.len(), 0, "answers");
        if round % 2 == 0 {
            stage.kill("shadow-drive")?;
            stage.restart("shadow-drive")?;
        } else {
            // Both, in either order.
            stage.restart(if round % 4 == 1 { "drive" } else { "shadow-drive" })?;
            stage.restart(if round % 4 == 1 { "shadow-drive" } else { "drive" })?;
        }
        let answer = desk.exchange(vec![write(12, version)], Duration::from_millis(100))?;
        let error = answer.err().ok_or_else(|| Failure("a dead shadow answers".into()))?;
        ensure_eq!((error.domain(), error.kind()), (instance, CrashKind::NotRunning), "who is dead");
        come_back(stage, &mut desk, version)?;
        let mut desk = Desk::open(&stage.disk, 32)?;
        let mut answers = desk.submit((0..12).map(|lba| write(lba, version)).collect())?;
        answers.append(&mut desk.collect()?);
        all_done(&answers)
    })
}

pub(crate) fn a_client_that_dies_with_requests_under_way_leaks_nothing(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(3, |_| {
        while_it_crashes(stage, "guest-drive", stage.rounds(60, 15), |stage, number, is_over| {
            let first = 1000 + u64::from(number) * 100;
            while !is_over.load(Ordering::Relaxed) {
                // It dies at its own pleasure, and with it all that it has opened.
                let Ok(Ok(queue)) = stage.guest_disk.open(8) else { continue };
                let mut desk = Desk { queue, loans: Vec::new() };
                while let Ok(answers) =
                    desk.exchange((first..first + 4).map(|lba| write(lba, 1)).collect(), Duration::ZERO)?
                {
                    all_done(&answers)?;
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                }
                desk.loans.clear();
            }
            Ok(())
        })
    })
}

/// Writes, flushes and reads blocks of its own through `disk`, and looks at every byte, until it `is_over`.
fn look_at_each_byte(
    stage: &Stage,
    disk: &Handle<dyn BlockDevice>,
    number: u32,
    is_over: &AtomicBool,
) -> Outcome {
    const BLOCKS: u64 = 64;
    let mut random = stage.random(number);
    let mut disk = open(disk, 8, 4096)?;
    let first = 2000 + u64::from(number) * BLOCKS;
    let mut versions = [0_u64; BLOCKS as usize];
    disk.write_zeroes(first, BLOCKS, false)?;
    let mut bytes = vec![0; BLOCKS as usize * 512];
    let mut next = 1;
    while !is_over.load(Ordering::Relaxed) {
        let start = random.below(BLOCKS);
        let count = 1 + random.below(BLOCKS - start);
        let part = &mut bytes[..count as usize * 512];
        match random.below(4) {
            0 | 1 => {
                for (block, lba) in part.chunks_exact_mut(512).zip(start..) {
                    block.copy_from_slice(&pattern(first + lba, next));
                    versions[lba as usize] = next;
                }
                if random.below(4) == 0 {
                    disk.write_through(first + start, part)?
                } else {
                    disk.write(first + start, part)?
                }
                next += 1;
            }
            2 => disk.flush()?,
            _ => {
                disk.read(first + start, part)?;
                for (block, lba) in part.chunks_exact(512).zip(start..) {
                    let version = versions[lba as usize];
                    let expected = if version == 0 { [0; 512] } else { pattern(first + lba, version) };
                    ensure!(*block == expected, "block {} does not hold version {version}", first + lba);
                }
            }
        }
    }
    // And the disk itself, whatever its driver says.
    let mut platter = open(&stage.platter, 4, 64 * 1024)?;
    platter.read(first, &mut bytes)?;
    for (block, lba) in bytes.chunks_exact(512).zip(0..) {
        let version = versions[lba as usize];
        let expected = if version == 0 { [0; 512] } else { pattern(first + lba, version) };
        ensure!(*block == expected, "block {} of the disk does not hold version {version}", first + lba);
    }
    Ok(())
}

pub(crate) fn clients_of_a_disk_notice_no_crash_of_its_driver(stage: &Arc<Stage>) -> Outcome {
    while_it_crashes(stage, "drive", stage.rounds(400, 40), |stage, number, is_over| {
        look_at_each_byte(stage, &stage.disk, number, is_over)
    })
}

pub(crate) fn driver_and_shadow_that_die_together_lose_nothing(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(20, 5), |round| {
        let version = u64::from(round) + 900;
        let under_way = Arc::new(AtomicBool::new(false));
        let client = {
            let (stage, under_way) = (stage.clone(), under_way.clone());
            promise(Builder::new(), move || {
                let mut desk = Desk::open(&stage.disk, 32)?;
                let begun = desk.submit((0..12).map(|lba| write(lba, version)).collect());
                under_way.store(true, Ordering::Relaxed);
                ensure_eq!(begun?.len(), 0, "answers");
                // Until the shadow is dead; its driver may be back before that.
                while let Ok(answers) = desk.exchange(Vec::new(), Duration::from_millis(5))? {
                    all_done(&answers)?;
                }
                come_back(&stage, &mut desk, version)
            })?
        };
        stage.eventually("requests are under way", || Ok(under_way.load(Ordering::Relaxed)))?;
        // While the shadow recovers, which takes as long as the driver is gone, it dies too.
        stage.restart("drive")?;
        stage.restart("shadow-drive")?;
        stage.restart("drive")?;
        client.keep()
    })
}

/// Waits until all that a dead shadow had is the client's again, as it was.
fn come_back(stage: &Stage, desk: &mut Desk, version: u64) -> Outcome {
    for (tag, loan) in desk.loans.drain(..) {
        // The driver lets go of it when its queue is dropped.
        let mut claim = Some(loan);
        let mut back = None;
        stage.eventually("a request is back", || {
            match claim.take().map(|claim| claim.redeem()) {
                Some(Ok(request)) => back = Some(request),
                Some(Err(loan)) => claim = Some(loan),
                None => {}
            }
            Ok(back.is_some())
        })?;
        let request = back.ok_or_else(|| Failure("it was there".into()))?;
        ensure_eq!(
            (request.tag(), request.lba(), request.blocks()),
            (tag, tag, 1),
            "a request that came back"
        );
        ensure!(request.bytes() == pattern(tag, version), "the data of request {tag} have changed");
    }
    Ok(())
}
