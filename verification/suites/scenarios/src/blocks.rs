//! Block devices, and the requests in flight when a driver, a shadow or a client dies.
//!
//! The disk itself is a domain that no scenario ends. Its drivers are other domains, so the effects of their
//! requests outlive them.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use coppice_block::{Batch, BlockDevice, BlockError, OpenError, Operation, Request, RequestHead};
use coppice_block_client::{Disk, DiskError};
use coppice_fixtures_block::Entry;
use coppice_interfaces::{CrashKind, Handle};
use coppice_rref::RRef;
use coppice_runtime::thread::Builder;
use coppice_runtime::time;

use crate::context::{
    Context, Failure, Outcome, SHORT_RECOVERY_TIMEOUT, SOON, ensure, ensure_eq, spawn_with_result,
};
use crate::queue_client::{QueueClient, pattern, request, write};
use crate::shadows::while_it_crashes;

/// The LBA at which the disk's record of operations begins.
const RECORD: u64 = (4 << 20) / 512 - 64;

/// Opens `disk`. If its queues are taken, waits until a thread of the kernel has closed a queue that was
/// dropped a moment ago.
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

/// Fails unless all requests have succeeded.
fn all_done(requests: &[RRef<Request>]) -> Outcome {
    for request in requests {
        ensure_eq!(request.result(), Ok(()), format!("{:?}", request.head()));
    }
    Ok(())
}

/// Fails unless the disk, read directly, holds `version` in these blocks.
fn holds(context: &Context, blocks: impl Iterator<Item = u64>, version: u64) -> Outcome {
    let mut disk = open(&context.memory_disk, 4, 64 * 1024)?;
    for lba in blocks {
        let mut bytes = [0; 512];
        disk.read(lba, &mut bytes)?;
        ensure!(bytes == pattern(lba, version), "block {lba} does not hold version {version}");
    }
    Ok(())
}

/// Returns the disk's record of operations, oldest first.
fn record(context: &Context) -> Outcome<Vec<Entry>> {
    let mut bytes = vec![0; 64 * 512];
    open(&context.memory_disk, 4, 64 * 1024)?.read(RECORD, &mut bytes)?;
    let mut entries: Vec<_> = Entry::all(&bytes).collect();
    entries.sort_by_key(|entry| entry.sequence);
    Ok(entries)
}

pub(crate) fn blocks_read_back_as_written(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(4, |round| {
        let (direct, behind): (&Handle<dyn BlockDevice>, _) = (&context.memory_disk, &context.disk);
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
            ensure!(
                back == bytes,
                "depth {depth}, pieces of {piece}: the data read differ from the data written"
            );
            // The read is split at other blocks than the write was.
            disk.read(first + 7, &mut back[..33 * 512])?;
            ensure!(
                back[..33 * 512] == bytes[7 * 512..40 * 512],
                "depth {depth}: a part differs from the whole"
            );
            ensure_eq!(
                disk.read(0, &mut back[..700]),
                Err(DiskError::Unaligned { bytes: 700, block_bytes: 512 }),
                "half a block"
            );
            let beyond = BlockError::LbaOutOfRange { lba: 8192, blocks: 1, capacity: 8192 };
            let refused = disk.write(8191, &back[..1024]);
            // The disk is written in pieces of one block, so the first block is on it.
            ensure!(
                matches!(refused, Err(DiskError::Block { error: BlockError::LbaOutOfRange { .. }, .. })),
                "beyond the end: {refused:?} instead of {beyond:?}"
            );
        }
        Ok(())
    })
}

pub(crate) fn a_disk_refuses_unsupported_requests(context: &Arc<Context>) -> Outcome {
    for disk in [&context.memory_disk, &context.disk] {
        let info = disk.info()?;
        ensure_eq!((info.blocks, info.block_bytes), (8192, 512), "blocks");
        for depth in [0, info.queue_depth + 1] {
            let error = OpenError::Depth { depth, most: info.queue_depth };
            ensure_eq!(disk.open(depth)?.err(), Some(error), "a queue of unsupported depth");
        }
        let mut client = QueueClient::open(disk, 16)?;
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
            // A request that the disk supports.
            request(Operation::Read, 5, 1),
        ];
        let mut answers = client.submit(wrong)?;
        answers.append(&mut client.collect()?);
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
        ensure!(disk.health()?.is_ok(), "a disk in memory is unhealthy");
    }
    Ok(())
}

pub(crate) fn a_full_queue_refuses_the_rest(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(4, |_| {
        let mut client = QueueClient::open(&context.disk, 4)?;
        let refused = client.submit((0..10).map(|lba| write(lba, 1)).collect())?;
        let full = refused.iter().all(|request| request.result() == Err(BlockError::QueueFull { depth: 4 }));
        ensure!(full && refused.len() == 6, "a queue of 4 refused {} of 10 requests", refused.len());
        // The refusal loses none of the four requests, and the queue has room again.
        all_done(&client.collect()?)?;
        let answers = client.submit(refused.into_iter().take(4).map(resubmittable).collect())?;
        ensure_eq!(answers.len(), 0, "answers to requests that are held");
        all_done(&client.collect()?)
    })
}

/// Returns the same request with its result cleared, ready for another submission.
fn resubmittable(mut request: RRef<Request>) -> RRef<Request> {
    let (lba, blocks) = (request.lba(), request.blocks());
    request.set(Operation::Write, lba, blocks);
    request
}

pub(crate) fn a_queue_belongs_to_one_thread(context: &Arc<Context>) -> Outcome {
    for disk in [&context.memory_disk, &context.disk] {
        let queue = QueueClient::open(disk, 4)?.queue;
        ensure!(queue.exchange(RRef::new(Batch::new()), 0)?.is_ok(), "the queue's own thread is refused");
        let theirs = queue.clone();
        let refused = spawn_with_result(Builder::new(), move || -> Outcome<bool> {
            let mut batch = RRef::new(Batch::new());
            let (loan, lent) = write(0, 1).lend();
            ensure!(batch.push_back(lent).is_ok(), "it has room");
            let Err(mut busy) = theirs.exchange(batch, 0)? else { return Ok(false) };
            let lent = busy.batch.pop_front().ok_or_else(|| Failure("the batch is empty".into()))?;
            ensure!(loan.settle(lent).is_ok_and(|request| request.is_pending()), "the request has changed");
            Ok(true)
        })?;
        ensure!(refused.join()?, "a second thread is not refused");
        ensure!(
            queue.exchange(RRef::new(Batch::new()), 0)?.is_ok(),
            "the queue's own thread is refused afterwards"
        );
    }
    Ok(())
}

pub(crate) fn requests_survive_the_crash_of_their_driver(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(60, 15), |round| {
        let mut client = QueueClient::open(&context.disk, 32)?;
        let version = u64::from(round) + 10;
        let mut early = client.submit((0..20).map(|lba| write(lba, version)).collect())?;
        ensure!(early.len() <= 8, "{} answers from a driver that holds 12 of 20 requests", early.len());
        context.restart("disk")?;
        // These are submitted while the driver is dead, or already restarted.
        early.append(&mut client.submit((20..26).map(|lba| write(lba, version)).collect())?);
        early.append(&mut client.collect()?);
        ensure_eq!(early.len(), 26, "answers");
        all_done(&early)?;
        holds(context, 0..26, version)?;
        // The reaper closes the queue. Only then do both domains have its memory for the next one.
        drop(client);
        context.eventually("the queue is closed", || Ok(context.control.in_use()?.kernel_work == 0))
    })
}

pub(crate) fn two_queues_of_a_disk_recover_independently(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(20, 5), |round| {
        let version = u64::from(round) + 200;
        let mut desks = [QueueClient::open(&context.disk, 16)?, QueueClient::open(&context.disk, 8)?];
        for (client, first) in desks.iter_mut().zip([0, 100]) {
            ensure_eq!(
                client.submit((first..first + 8).map(|lba| write(lba, version)).collect())?.len(),
                0,
                "answers"
            );
        }
        context.restart("disk")?;
        let [mut one, two] = desks;
        all_done(&one.collect()?)?;
        // The other queue has not noticed the crash yet when another instance ends.
        context.restart("disk")?;
        let mut two = two;
        all_done(&two.collect()?)?;
        ensure_eq!(one.submit(Vec::new())?.len(), 0, "answers without requests");
        all_done(&{
            let mut answers = one.submit(vec![write(50, version)])?;
            answers.append(&mut one.collect()?);
            answers
        })?;
        holds(context, (0..8).chain(100..108).chain(50..51), version)
    })
}

pub(crate) fn requests_made_during_an_outage_complete_after_it(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(3, |round| {
        let version = u64::from(round) + 300;
        let mut client = QueueClient::open(&context.disk_never_restarts, 16)?;
        ensure_eq!(client.submit((0..4).map(|lba| write(lba, version)).collect())?.len(), 0, "answers");
        // The timeout starts when the shadow notices the crash.
        context.kill("disk-never-restarts")?;
        let before = time::now();
        ensure_eq!(
            client.submit((4..8).map(|lba| write(lba, version)).collect())?.len(),
            0,
            "answers from a dead driver"
        );
        ensure!(time::now() - before < SHORT_RECOVERY_TIMEOUT, "a call that must not wait has waited");
        let answers = client.collect()?;
        ensure_eq!(answers.len(), 8, "requests returned");
        let gone = |request: &RRef<Request>| matches!(request.result(), Err(BlockError::Gone { .. }));
        ensure!(answers.iter().all(gone), "answers from a driver that stays dead");
        context.restart("disk-never-restarts")?;
        context.restart("shadow-disk-never-restarts")
    })
}

pub(crate) fn a_flush_waits_for_earlier_writes_also_after_a_crash(context: &Arc<Context>) -> Outcome {
    for round in 0..u64::from(context.rounds(30, 8)) {
        let version = round + 400;
        let mut client = QueueClient::open(&context.disk, 16)?;
        let begin = record(context)?.last().map_or(0, |entry| entry.sequence + 1);
        let mut requests: Vec<_> = (100..106).map(|lba| write(lba, version)).collect();
        let head = *requests[2].head();
        *requests[2].head_mut() = head.with_fua();
        let mut flush = RRef::with_capacity(RequestHead::flush().with_tag(999), 0);
        flush.set_tag(999);
        requests.push(flush);
        requests.extend((106..108).map(|lba| write(lba, version)));
        ensure_eq!(client.submit(requests)?.len(), 0, "answers");
        context.restart("disk")?;
        let answers = client.collect()?;
        ensure_eq!(answers.len(), 9, "answers");
        all_done(&answers)?;
        let entries = record(context)?;
        let done = || entries.iter().filter(|entry| entry.sequence >= begin);
        let flushed = done().rfind(|entry| entry.operation == Operation::Flush);
        let flushed = flushed.ok_or_else(|| Failure("the flush did not reach the disk".into()))?.sequence;
        for lba in 100..106 {
            let last = done().rfind(|entry| entry.lba == lba && entry.operation == Operation::Write);
            ensure!(
                last.is_some_and(|entry| entry.sequence < flushed),
                "block {lba} was written at {:?}, after the flush at {flushed}",
                last.map(|entry| entry.sequence)
            );
        }
        let through = |entry: &&Entry| entry.operation == Operation::Write && entry.fua != (entry.lba == 102);
        ensure_eq!(
            done().filter(through).count(),
            0,
            "writes through the cache instead of around it, or the reverse"
        );
        holds(context, 100..108, version)?;
    }
    Ok(())
}

pub(crate) fn a_crash_at_any_step_of_a_recovery_restarts_the_recovery(context: &Arc<Context>) -> Outcome {
    // The driver crashes in its identity call, in `open` and in the first exchange. The fourth instance
    // works.
    while !context.info("disk-crash-in-recovery")?.id.generation().is_multiple_of(4) {
        context.restart("disk-crash-in-recovery")?;
    }
    for round in 0..2 {
        let version = round + 500;
        let before = context.info("disk-crash-in-recovery")?.id.generation();
        let mut client = QueueClient::open(&context.disk_crash_in_recovery, 16)?;
        ensure_eq!(client.submit((0..4).map(|lba| write(lba, version)).collect())?.len(), 0, "answers");
        context.restart("disk-crash-in-recovery")?;
        let answers = client.collect()?;
        ensure_eq!(answers.len(), 4, "answers");
        all_done(&answers)?;
        let instances = context.info("disk-crash-in-recovery")?.id.generation() - before;
        ensure_eq!(instances, 4, "instances used");
        holds(context, 0..4, version)?;
    }
    Ok(())
}

pub(crate) fn an_unanswered_request_is_submitted_again(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(10, 4), |round| {
        let version = u64::from(round) + 600;
        let mut client = QueueClient::open(&context.disk_drops_answers, 32)?;
        let mut answers = client.submit((0..24).map(|lba| write(lba, version)).collect())?;
        answers.append(&mut client.collect()?);
        ensure_eq!(answers.len(), 24, "answers");
        all_done(&answers)?;
        holds(context, 0..24, version)
    })
}

pub(crate) fn a_missing_disk_is_reported_after_the_timeout(context: &Arc<Context>) -> Outcome {
    let mut client = QueueClient::open(&context.disk_never_restarts, 16)?;
    all_done(&{
        let mut answers = client.submit(vec![write(0, 700)])?;
        answers.append(&mut client.collect()?);
        answers
    })?;
    ensure_eq!(client.submit(vec![write(1, 700), write(2, 700)])?.len(), 0, "answers");
    context.kill("disk-never-restarts")?;
    let before = time::now();
    let gone = client.collect()?;
    let took = time::now() - before;
    let is_gone = |request: &RRef<Request>| matches!(request.result(), Err(BlockError::Gone { .. }));
    ensure!(gone.len() == 2 && gone.iter().all(is_gone), "answers to requests to a dead disk: {gone:?}");
    ensure!(took >= SHORT_RECOVERY_TIMEOUT, "given up after {took:?}");
    // From now on the shadow does not wait for the driver again.
    let before = time::now();
    let answers = client.exchange(vec![write(3, 700)], Duration::from_secs(5))??;
    ensure!(answers.len() == 1 && answers.iter().all(is_gone), "the answer to a request to a missing disk");
    ensure!(time::now() - before < SHORT_RECOVERY_TIMEOUT, "the shadow waited again");
    // The next instance reports another disk.
    context.restart("disk-never-restarts")?;
    let answers = client.exchange(vec![write(4, 700)], Duration::from_secs(5))??;
    ensure!(answers.len() == 1 && answers.iter().all(is_gone), "the answer to a request to another disk");
    let refused = context.disk_never_restarts.open(4)?.err();
    ensure!(matches!(refused, Some(OpenError::Device(BlockError::Gone { .. }))), "another disk: {refused:?}");
    // A new shadow does not know the first disk.
    context.restart("shadow-disk-never-restarts")?;
    let mut client = QueueClient::open(&context.disk_never_restarts, 16)?;
    let mut answers = client.submit(vec![write(5, 700)])?;
    answers.append(&mut client.collect()?);
    all_done(&answers)
}

pub(crate) fn requests_come_back_when_their_shadow_dies(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(30, 10), |round| {
        let version = u64::from(round) + 800;
        let instance = context.info("shadow-disk")?.id;
        let mut client = QueueClient::open(&context.disk, 32)?;
        ensure_eq!(client.submit((0..12).map(|lba| write(lba, version)).collect())?.len(), 0, "answers");
        if round % 2 == 0 {
            context.kill("shadow-disk")?;
            context.restart("shadow-disk")?;
        } else {
            // Both crash, in either order.
            context.restart(if round % 4 == 1 { "disk" } else { "shadow-disk" })?;
            context.restart(if round % 4 == 1 { "shadow-disk" } else { "disk" })?;
        }
        let answer = client.exchange(vec![write(12, version)], Duration::from_millis(100))?;
        let error = answer.err().ok_or_else(|| Failure("a dead shadow answers".into()))?;
        ensure_eq!((error.domain(), error.kind()), (instance, CrashKind::NotRunning), "the dead domain");
        wait_for_requests(context, &mut client, version)?;
        let mut client = QueueClient::open(&context.disk, 32)?;
        let mut answers = client.submit((0..12).map(|lba| write(lba, version)).collect())?;
        answers.append(&mut client.collect()?);
        all_done(&answers)
    })
}

pub(crate) fn a_client_that_dies_with_requests_in_flight_leaks_nothing(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(3, |_| {
        while_it_crashes(context, "relay-disk", context.rounds(60, 15), |context, number, is_over| {
            let first = 1000 + u64::from(number) * 100;
            while !is_over.load(Ordering::Relaxed) {
                // The client crashes at random, and its open queues end with it.
                let Ok(Ok(queue)) = context.relayed_disk.open(8) else { continue };
                let mut client = QueueClient::new(queue);
                while let Ok(answers) =
                    client.exchange((first..first + 4).map(|lba| write(lba, 1)).collect(), Duration::ZERO)?
                {
                    all_done(&answers)?;
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }
            Ok(())
        })
    })
}

/// Writes, flushes and reads blocks of its own through `disk` and verifies every byte, until `is_over`.
fn verify_each_byte(
    context: &Context,
    disk: &Handle<dyn BlockDevice>,
    number: u32,
    is_over: &AtomicBool,
) -> Outcome {
    const BLOCKS: u64 = 64;
    let mut random = context.random(number);
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
    // The disk itself is read too, independent of its driver.
    let mut memory_disk = open(&context.memory_disk, 4, 64 * 1024)?;
    memory_disk.read(first, &mut bytes)?;
    for (block, lba) in bytes.chunks_exact(512).zip(0..) {
        let version = versions[lba as usize];
        let expected = if version == 0 { [0; 512] } else { pattern(first + lba, version) };
        ensure!(*block == expected, "block {} of the disk does not hold version {version}", first + lba);
    }
    Ok(())
}

pub(crate) fn clients_of_a_disk_notice_no_crash_of_its_driver(context: &Arc<Context>) -> Outcome {
    while_it_crashes(context, "disk", context.rounds(400, 40), |context, number, is_over| {
        verify_each_byte(context, &context.disk, number, is_over)
    })
}

pub(crate) fn a_simultaneous_crash_of_driver_and_shadow_loses_nothing(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(20, 5), |round| {
        let version = u64::from(round) + 900;
        let under_way = Arc::new(AtomicBool::new(false));
        let client = {
            let (context, under_way) = (context.clone(), under_way.clone());
            spawn_with_result(Builder::new(), move || {
                let mut client = QueueClient::open(&context.disk, 32)?;
                let begun = client.submit((0..12).map(|lba| write(lba, version)).collect());
                under_way.store(true, Ordering::Relaxed);
                ensure_eq!(begun?.len(), 0, "answers");
                // Until the shadow is dead. Its driver may be restarted before that.
                while let Ok(answers) = client.exchange(Vec::new(), Duration::from_millis(5))? {
                    all_done(&answers)?;
                }
                wait_for_requests(&context, &mut client, version)
            })?
        };
        context.eventually("requests are in flight", || Ok(under_way.load(Ordering::Relaxed)))?;
        // The shadow dies during its recovery, which lasts as long as the driver is dead.
        context.restart("disk")?;
        context.restart("shadow-disk")?;
        context.restart("disk")?;
        client.join()
    })
}

/// Waits until all requests of a dead shadow are back with the client, unchanged.
fn wait_for_requests(context: &Context, client: &mut QueueClient, version: u64) -> Outcome {
    let in_flight = &mut client.in_flight;
    // The driver releases the requests when its queue is dropped.
    context.eventually("all requests are back", || Ok(in_flight.redeem()))?;
    let numbers: Vec<u32> = in_flight.held().map(|(number, _)| number).collect();
    for (request, tag) in numbers.into_iter().filter_map(|number| in_flight.take_held(number)) {
        ensure_eq!(
            (request.tag(), request.lba(), request.blocks()),
            (tag, tag, 1),
            "a request that came back"
        );
        ensure!(request.bytes() == pattern(tag, version), "the data of request {tag} have changed");
    }
    Ok(())
}
