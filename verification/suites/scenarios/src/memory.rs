//! Private and shared heaps at their limits.

use alloc::format;
use alloc::sync::Arc;
use core::time::Duration;

use coppice_control::DomainState;
use coppice_example_interfaces::Message;
use coppice_interfaces::CrashKind;
use coppice_rref::{Bytes, RRef, RRefDeque};
use coppice_runtime::time;

use crate::context::{Context, Failure, Outcome, batch, ensure, ensure_eq, message};

pub(crate) fn a_large_private_allocation_reads_back_as_written(context: &Arc<Context>) -> Outcome {
    for bytes in [8, 4096, 65_536, 1_000_000, 1_500_000] {
        ensure!(context.fault_target.fill_heap(bytes, false)?, "{bytes} bytes read back differ");
        let info = context.info("fault-target")?;
        ensure!(info.heap_bytes <= info.heap_quota, "{} bytes are more than the quota", info.heap_bytes);
        context.restart("fault-target")?;
    }
    Ok(())
}

pub(crate) fn an_exhausted_private_heap_ends_only_its_domain(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(20, 5), |round| {
        let instance = context.info("fault-target")?.id;
        let echo = context.info("echo")?.id;
        let error = if round % 2 == 0 {
            context.fault_target.fill_heap(3 << 20, false).err()
        } else {
            (0..100).find_map(|_| context.fault_target.fill_heap(100_000, true).err())
        };
        let heard = error.map(|error| (error.domain(), error.kind()));
        ensure_eq!(heard, Some((instance, CrashKind::OutOfMemory)), "the caller's error");
        ensure_eq!(context.info("fault-target")?.state, DomainState::Dead, "the domain's state");
        ensure_eq!(context.info("fault-target")?.heap_bytes, 0, "the domain's heap");
        ensure_eq!((context.info("echo")?.id, context.echo.ping(1)?), (echo, 1), "another domain");
        context.restart("fault-target")
    })
}

pub(crate) fn large_shared_objects_are_allocated_and_freed(context: &Arc<Context>) -> Outcome {
    const LARGE: usize = 1 << 20;
    context.leaks_nothing(10, |round| {
        let before = context.control.memory()?.shared_bytes;
        let mut large = Bytes::<LARGE>::new_shared();
        ensure!(
            large.set_len(LARGE).is_ok() && large.iter().all(|&byte| byte == 0),
            "the object is not zeroed"
        );
        large.fill(round as u8);
        let more = RRef::new([round; 10_000]);
        let shared = context.control.memory()?.shared_bytes - before;
        ensure!((LARGE as u64..2 * LARGE as u64).contains(&shared), "the shared heap has grown by {shared}");
        ensure!(large.iter().all(|&byte| byte == round as u8), "the object's bytes have changed");
        ensure!(more.iter().all(|&word| word == round), "a neighbour's words have changed");
        Ok(())
    })
}

pub(crate) fn containers_free_their_contents(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(50, 10), |_| {
        let mut batch = batch(1);
        drop(batch.pop_front());
        let refused =
            batch.push_back(message(b"fits again")).and_then(|()| batch.push_back(message(b"one too many")));
        ensure!(
            refused.is_err_and(|message| message[..] == b"one too many"[..]),
            "a full deque takes another message"
        );
        drop(batch);
        let mut deque = RRef::new(RRefDeque::<Message, 32>::new());
        for round in 0..100 {
            ensure!(deque.push_back(message(&[round])).is_ok(), "a deque with room refuses");
            let message = if round % 2 == 0 { deque.pop_front() } else { deque.pop_back() };
            ensure!(message.is_some_and(|message| message[..] == [round]), "a deque mixes up its messages");
        }
        Ok(())
    })
}

pub(crate) fn every_frame_has_an_owner(context: &Arc<Context>) -> Outcome {
    // The kernel's own memory: the total without the memory of all domains.
    let kernels = || -> Outcome<u64> {
        let memory = context.control.memory()?;
        let mut rest = memory.total_bytes - memory.free_bytes - memory.shared_bytes - memory.stack_bytes;
        for number in 0..context.control.domain_count()? {
            if let Some(info) = context.control.domain(number)? {
                rest -= info.heap_bytes;
            }
        }
        Ok(rest)
    };
    let mut known = 0;
    for round in 0..3 {
        // The kernel already holds the memory that it keeps permanently after the first round.
        context.restart("fault-target")?;
        let before = kernels()?;
        context.fault_target.fill_heap(700_000, true)?;
        context.fault_target.own(500)?;
        context.fault_target.spawn(10)?;
        let large = Bytes::<300_000>::new_shared();
        let after = kernels()?;
        drop(large);
        if round > 0 {
            ensure_eq!(after, before, "bytes of the kernel's own while domains took memory");
            ensure!(before == known || round == 1, "the kernel has {before} bytes instead of {known}");
        }
        known = before;
    }
    context.restart("fault-target")
}

pub(crate) fn the_audit_accounts_for_every_frame(context: &Arc<Context>) -> Outcome {
    let frames_of = |owner: &str, what: &str| -> Outcome<u64> {
        let summary = context.control.audit()?;
        ensure_eq!(summary.findings, 0, "findings");
        let (mut sum, mut found) = (0, None);
        for number in 0..summary.lines {
            let line = context.control.audit_line(number)?;
            let Some(line) = line else { return Err(Failure(format!("line {number} is missing"))) };
            sum += line.frames;
            if (&*line.owner, &*line.what) == (owner, what) {
                found = Some(line.frames);
            }
        }
        ensure!(
            context.control.audit_line(summary.lines)?.is_none(),
            "the audit has more lines than its summary says"
        );
        ensure_eq!(sum * 4096, context.control.memory()?.total_bytes, "bytes in all lines");
        found.ok_or_else(|| Failure(format!("no line for {owner}: {what}")))
    };
    context.restart("fault-target")?;
    // Threads of the previous instance count for its slot until they have left it.
    context
        .eventually("the fault target has no threads", || Ok(frames_of("fault-target", "stacks")? == 0))?;
    let before = [
        ("fault-target", "private heap"),
        ("fault-target", "stacks"),
        ("shared heap", "spans"),
        ("none", "free"),
    ];
    let before = before.map(|(owner, what)| frames_of(owner, what));
    let [heap, stacks, spans, free] = before;
    context.fault_target.fill_heap(700_000, true)?;
    context.fault_target.spawn(5)?;
    let large = Bytes::<300_000>::new_shared();
    let info = context.info("fault-target")?;
    ensure_eq!(frames_of("fault-target", "private heap")?, info.heap_bytes / 4096, "frames of its heap");
    ensure!(info.heap_bytes / 4096 >= heap? + 700_000 / 4096, "its heap has not grown");
    // Stacks of 128 KiB each, with a guard page.
    ensure_eq!(frames_of("fault-target", "stacks")? - stacks?, 5 * 33, "frames of five stacks");
    ensure_eq!(frames_of("fault-target", "image")? > 4, true, "whether it has an image");
    ensure!(frames_of("shared heap", "spans")? >= spans? + 75, "the shared heap has not grown");
    ensure!(frames_of("none", "free")? < free?, "as many frames are free as before");
    drop(large);
    context.restart("fault-target")
}

pub(crate) fn the_kernels_heap_is_counted_by_payer_and_purpose(context: &Arc<Context>) -> Outcome {
    let part_of = |what: &str| context.kernel_heap("fault-target", what);
    let sum_of_parts = || -> Outcome<u64> {
        let mut sum = 0;
        for number in 0.. {
            let Some(line) = context.control.kernel_heap_line(number)? else { break };
            ensure!(line.objects > 0 && line.bytes > 0, "an empty part: {line:?}");
            sum += if &*line.payer == "fault-target" { line.bytes } else { 0 };
        }
        Ok(sum)
    };
    context.restart("fault-target")?;
    context.eventually("the fault target has no threads", || Ok(part_of("threads")?.0 == 0))?;
    ensure_eq!(
        sum_of_parts()?,
        context.info("fault-target")?.kernel_bytes,
        "bytes of the fault target in all parts"
    );
    let (images, proxies) = (part_of("image records")?, part_of("proxies")?);
    ensure!(images.0 > 0 && proxies.0 > 0, "the image {images:?} and the export {proxies:?} have no payer");
    context.fault_target.spawn(5)?;
    ensure_eq!(part_of("threads")?.0, 5, "threads");
    ensure_eq!(part_of("thread bodies")?.0, 5, "thread bodies");
    let counter = context.fault_target.panicking_counter()?;
    ensure_eq!(part_of("proxies")?.0, proxies.0 + 1, "proxies");
    context.fault_target.fill_heap(700_000, true)?;
    ensure!(part_of("heap lists")?.1 > 0, "the list of its private heap has no payer");
    drop(counter);
    context.restart("fault-target")?;
    context.eventually("only the permanent parts are left", || {
        let rest = [part_of("threads")?, part_of("thread bodies")?];
        Ok(rest == [(0, 0); 2] && part_of("proxies")? == proxies && part_of("image records")? == images)
    })
}

pub(crate) fn the_audit_is_clean_under_load(context: &Arc<Context>) -> Outcome {
    let rounds = context.rounds(100, 10);
    context.on_threads(context.cpus + 1, move |context, number| {
        for round in 0..rounds {
            match number {
                // One thread audits, at whatever points the other threads are stopped.
                0 => context.audit_is_clean()?,
                1 if round % 8 == 0 => {
                    context.fault_target.own(10)?;
                    context.fault_target.stress_services(4)?;
                    time::sleep(Duration::from_micros(u64::from(round % 7) * 300));
                    context.kill("fault-target")?;
                    context.holder.give_back()?;
                    context.restart("fault-target")?;
                }
                _ => {
                    for _ in 0..20 {
                        let _ = context.quota_hog.make_batch()?;
                        let _ = context.right.reverse(batch(1))?;
                        let _ = context.factory.make(1)?.next();
                    }
                }
            }
        }
        Ok(())
    })
}
