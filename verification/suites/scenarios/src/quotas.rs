//! Quotas of the shared heap: each domain gets the quota of its manifest, and objects that it passes on are
//! charged to the receiver.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use coppice_interfaces::{CrashKind, RpcError, RpcResult, Text};
use coppice_runtime::thread::{Builder, JoinHandle};
use coppice_runtime::time;

use crate::context::{Context, Failure, Outcome, SOON, ensure, ensure_eq, message};

/// The quota hog's `shared` in systems/verification/scenarios.toml.
const QUOTA: u64 = 1 << 20;

/// The part of the quota that must be usable, in per cent.
const MIN_USED_PERCENT: u64 = 90;

/// Returns the bytes that the quota hog owns, after checking that they are at its quota.
fn bytes_at_quota(context: &Context) -> Outcome<u64> {
    let info = context.info("quota-hog")?;
    ensure_eq!(info.shared_quota, QUOTA, "the quota that the kernel knows");
    ensure!(info.shared_bytes <= QUOTA, "{} bytes are more than the quota", info.shared_bytes);
    ensure!(
        info.shared_bytes >= QUOTA * MIN_USED_PERCENT / 100,
        "the domain is refused with {} bytes",
        info.shared_bytes
    );
    Ok(info.shared_bytes)
}

/// Makes the quota hog's final call, which crashes it because a necessary allocation is refused.
fn crashes_at_its_quota(context: &Arc<Context>, call: impl FnOnce() -> RpcResult<()>) -> Outcome {
    let instance = context.info("quota-hog")?.id;
    let heard = call().err().map(|error: RpcError| (error.domain(), error.kind()));
    ensure_eq!(heard, Some((instance, CrashKind::OutOfMemory)), "the caller's error");
    let crash_record = context.control.crash_record(instance)?.unwrap_or(Text::new(""));
    ensure!(
        crash_record.contains("the shared heap's quota is exhausted"),
        "the crash record says {crash_record}"
    );
    Ok(())
}

pub(crate) fn a_domain_at_its_quota_is_refused_and_ends_alone(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(20, 3), |_| {
        let instance = context.info("quota-hog")?.id;
        let echo = context.info("echo")?.id;
        let count = context.quota_hog.fill(1, false)?;
        bytes_at_quota(context)?;
        ensure!(count > 500, "the domain got {count} objects of a kilobyte each");
        ensure_eq!(context.quota_hog.fill(1, false)?, 0, "objects beyond the quota");
        ensure_eq!(context.info("quota-hog")?.id, instance, "the instance after a refusal");
        crashes_at_its_quota(context, || context.quota_hog.overfill())?;
        ensure_eq!(context.info("quota-hog")?.shared_objects, 0, "objects that a dead domain owns");
        ensure_eq!(
            (context.info("echo")?.id, context.echo.sum(&message(&[7]))?),
            (echo, 7),
            "another domain"
        );
        context.restart("quota-hog")?;
        // The new instance begins with the whole quota.
        context.quota_hog.fill(1, false)?;
        bytes_at_quota(context)?;
        context.restart("quota-hog")
    })
}

pub(crate) fn freed_quota_is_granted_again(context: &Arc<Context>) -> Outcome {
    for round in 0..context.rounds(50, 5) {
        // Small objects, freed on one CPU or another, make room for large ones, and the reverse.
        let large = round % 2 == 1;
        context.quota_hog.fill(1 + round % context.cpus, large)?;
        let owned = context.info("quota-hog")?.shared_bytes;
        ensure!(owned >= QUOTA * 80 / 100, "round {round}: refused with {owned} bytes");
        ensure!(context.quota_hog.let_go()? > 0, "the quota hog had no object");
    }
    context.restart("quota-hog")
}

pub(crate) fn large_objects_and_handles_are_charged(context: &Arc<Context>) -> Outcome {
    // A large object of 100 KB takes two spans.
    ensure_eq!(context.quota_hog.fill(1, true)?, 8, "large objects that fit its quota");
    context.restart("quota-hog")?;
    crashes_at_its_quota(context, || context.quota_hog.clone_handles())?;
    context.restart("quota-hog")?;
    crashes_at_its_quota(context, || context.quota_hog.export_counters())?;
    context.restart("quota-hog")
}

pub(crate) fn objects_passed_on_and_freed_are_charged_to_no_domain(context: &Arc<Context>) -> Outcome {
    // Each call makes 33 objects of 10 KiB together. Some are freed on another CPU than they were made on.
    let rounds = context.rounds(4000, 300);
    context.on_threads(context.cpus * 2, move |context, number| {
        let mut kept = Vec::new();
        for _ in 0..rounds {
            kept.push(context.quota_hog.make_batch()?);
            if kept.len() > number as usize % 4 {
                kept.clear();
            }
        }
        Ok(())
    })?;
    ensure_eq!(context.quota_hog.fill(1, false)? > 0, true, "whether some of its quota is left");
    bytes_at_quota(context)?;
    context.restart("quota-hog")
}

pub(crate) fn a_hoarding_receiver_does_not_starve_the_maker(context: &Arc<Context>) -> Outcome {
    // Four times the maker's quota, nested and not, belongs to the receiver.
    let mut messages = Vec::new();
    let mut batches = Vec::new();
    let before = context.own()?.shared_bytes;
    while context.own()?.shared_bytes - before < QUOTA {
        for _ in 0..500 {
            messages.push(context.quota_hog.make()?);
        }
    }
    for _ in 0..3 * QUOTA / (32 * 320) {
        batches.push(context.quota_hog.make_batch()?);
    }
    // The maker can still use all of its own quota.
    context.quota_hog.fill(1, false)?;
    bytes_at_quota(context)?;
    ensure!(batches.iter().all(|batch| batch.len() == 32), "a batch has changed");
    context.quota_hog.let_go()?;
    drop((messages, batches));
    context.restart("quota-hog")
}

pub(crate) fn a_domain_given_more_than_its_quota_gets_no_more(context: &Arc<Context>) -> Outcome {
    // The maker is charged for them until an allocation exceeds its remaining quota.
    for _ in 0..2 * QUOTA / 320 {
        context.quota_hog.keep(message(b"a gift"))?;
    }
    // The quota hog still has the credit of uncharged objects. A request beyond it triggers a census of its
    // objects.
    context.quota_hog.fill(1, false)?;
    let owned = context.info("quota-hog")?.shared_bytes;
    ensure!(owned > 2 * QUOTA, "the quota hog has only {owned} of the given bytes");
    ensure_eq!(context.quota_hog.fill(1, false)?, 0, "objects for a domain that owns three times its quota");
    ensure!(context.quota_hog.let_go()? > 0, "the quota hog had no object");
    context.quota_hog.fill(1, false)?;
    bytes_at_quota(context)?;
    context.restart("quota-hog")
}

pub(crate) fn threads_on_all_cpus_can_use_nearly_all_of_a_quota(context: &Arc<Context>) -> Outcome {
    for _ in 0..context.rounds(20, 3) {
        let began = time::now();
        context.quota_hog.fill(context.cpus, false)?;
        bytes_at_quota(context)?;
        // A refusal does not take long, although the kernel counts exactly for it.
        let took = time::now() - began;
        ensure!(took < SOON, "it took {took:?} until all of them were refused");
        context.quota_hog.let_go()?;
    }
    context.restart("quota-hog")
}

pub(crate) fn crashes_do_not_erode_the_quota(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(1000, 60), |round| {
        // The scenario holds these while the quota hog dies, by a crash or by a kill, with objects of both
        // inside.
        let held = (context.quota_hog.make_batch()?, context.quota_hog.make()?);
        context.quota_hog.keep(message(b"ours until now"))?;
        context.quota_hog.keep_counter(context.factory.make(1)?)?;
        if round % 10 == 0 {
            crashes_at_its_quota(context, || context.quota_hog.overfill())?;
        } else {
            context.kill("quota-hog")?;
        }
        context.restart("quota-hog")?;
        ensure_eq!(held.0.len(), 32, "a batch whose maker has died");
        Ok(())
    })?;
    context.quota_hog.fill(1, false)?;
    bytes_at_quota(context)?;
    context.restart("quota-hog")
}

pub(crate) fn objects_that_wait_for_their_destructor_are_charged(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(context.rounds(3, 1), |_| {
        let others = ["echo", "factory"].map(|name| context.info(name).map(|info| info.id));
        let before = context.info("quota-hog")?;
        let proxies = context.kernel_heap("quota-hog", "proxies")?;
        ensure!(before.kernel_bytes < before.kernel_quota / 4, "it uses its quota already: {before:?}");
        // The destructors take longer than the exports: the objects wait, and only their domain pays.
        let heard = context.quota_hog.drop_slow_counters(u32::MAX, 8_000).err();
        let heard = heard.map(|error: RpcError| (error.domain(), error.kind()));
        ensure_eq!(heard, Some((before.id, CrashKind::OutOfMemory)), "the caller's error");
        let crash_record = context.control.crash_record(before.id)?.unwrap_or(Text::new(""));
        ensure!(
            crash_record.contains("the quota of the kernel's heap is exhausted"),
            "the crash record says {crash_record}"
        );
        for (name, id) in ["echo", "factory"].into_iter().zip(others) {
            ensure_eq!(context.info(name)?.id, id?, name);
        }
        ensure_eq!(context.factory.make(1)?.next()?, 1, "an object of another domain");
        // The next instance has the whole quota.
        context.restart("quota-hog")?;
        context.eventually("nothing is left of them", || {
            Ok(context.kernel_heap("quota-hog", "proxies")? == proxies)
        })
    })
}

pub(crate) fn a_domain_that_other_domains_keep_proxies_of_is_charged_for_them(
    context: &Arc<Context>,
) -> Outcome {
    context.leaks_nothing(context.rounds(10, 3), |_| {
        let before = context.kernel_heap("factory", "proxies")?;
        let counters: RpcResult<Vec<_>> = (0..100).map(|number| context.factory.make(number)).collect();
        let counters = counters?;
        let with_counters = context.kernel_heap("factory", "proxies")?;
        ensure_eq!(with_counters.0, before.0 + 100, "proxies");
        // They outlive the instance, and so does the charge.
        context.restart("factory")?;
        ensure_eq!(context.kernel_heap("factory", "proxies")?, with_counters, "proxies after a restart");
        drop(counters);
        context
            .eventually("the proxies are gone", || Ok(context.kernel_heap("factory", "proxies")? == before))
    })
}

/// Restarts a domain, and returns the number of slots of the shared heap that the sweep of its old instance
/// looked at.
fn slots_visited(context: &Context, name: &str) -> Outcome<u64> {
    while context.control.next_trace()?.is_some() {}
    context.control.set_tracing(true)?;
    let domain = context.info(name)?.id;
    context.restart(name)?;
    context.control.set_tracing(false)?;
    let mut visited = None;
    while let Some(record) = context.control.next_trace()? {
        if &*record.kind == "visit" && record.domain == domain {
            visited = Some(record.detail);
        }
    }
    visited.ok_or_else(|| Failure(format!("the trace has no sweep of {name}")))
}

/// The slots of a few spans, in two walks: the objects of a small domain may lie in these.
const SLOTS_OF_A_FEW_SPANS: u64 = 2 * 8 * 507;

pub(crate) fn a_restart_does_not_visit_objects_of_other_domains(context: &Arc<Context>) -> Outcome {
    let alone = slots_visited(context, "echo")?;
    ensure!(alone <= SLOTS_OF_A_FEW_SPANS, "{alone} slots visited for an idle domain");
    let most = if context.is_bare() { 117_000 } else { 1_400_000 };
    for (count, large) in [(117_000, false), (most, false), (800, true)] {
        let before = context.info("quota-hog-247mib")?.shared_objects;
        let leaked = context.quota_hog_247mib.leak(count, large)?;
        ensure_eq!(leaked, count, "objects that another domain has");
        let owned = context.info("quota-hog-247mib")?.shared_objects;
        ensure_eq!(owned, before + u64::from(count), "objects that the kernel counts for it");
        for name in ["echo", "holder", "fault-target"] {
            let visited = slots_visited(context, name)?;
            ensure!(
                visited <= SLOTS_OF_A_FEW_SPANS,
                "{visited} slots visited for {name} beside {count} objects of another domain, {alone} without"
            );
        }
        // Its own sweep visits each of them.
        let own = slots_visited(context, "quota-hog-247mib")?;
        ensure!(own >= 2 * u64::from(count), "{own} slots visited for the domain that owned them");
        ensure_eq!(context.info("quota-hog-247mib")?.shared_objects, before, "objects of the next instance");
    }
    Ok(())
}

pub(crate) fn a_restart_visits_objects_that_the_domain_received(context: &Arc<Context>) -> Outcome {
    context.leaks_nothing(1, |_| {
        let objects = 5000;
        for _ in 0..objects {
            context.quota_hog_247mib.keep(context.echo.echo(message(b"received"))?)?;
        }
        let visited = slots_visited(context, "quota-hog-247mib")?;
        ensure!(visited >= 2 * objects, "{visited} slots visited for {objects} objects");
        Ok(())
    })
}

pub(crate) fn exhausting_the_machines_memory_ends_no_other_domain(context: &Arc<Context>) -> Outcome {
    let survivors = ["echo", "left", "right", "holder"].map(|name| context.info(name).map(|info| info.id));
    context.leaks_nothing(context.rounds(5, 1), |_| {
        context.quota_hog_247mib.fill(1, true)?;
        let memory = context.control.memory()?;
        ensure!(memory.free_bytes < memory.total_bytes / 32, "{} bytes are free", memory.free_bytes);
        // The kernel has the memory that it needs, and a refused domain gets an error or ends alone.
        for number in 0..200 {
            let _ = Builder::new().spawn(|| {}).map(JoinHandle::join);
            ensure_eq!(context.right.ping(number)?, number, "a call at that time");
        }
        let mut counters = Vec::new();
        while counters.len() < 500
            && let Ok(counter) = context.factory.make(7)
        {
            counters.push(counter);
        }
        drop(counters);
        let _ = context.kill("fault-target");
        let _ = context.control.restart(Text::new("fault-target"))?;
        context.restart("quota-hog-247mib")?;
        for name in ["factory", "fault-target"] {
            context.restart(name)?;
        }
        ensure_eq!(context.fault_target.count()?, 1, "a call afterwards");
        Ok(())
    })?;
    for (name, before) in ["echo", "left", "right", "holder"].into_iter().zip(survivors) {
        ensure_eq!(context.info(name)?.id, before?, name);
    }
    Ok(())
}
