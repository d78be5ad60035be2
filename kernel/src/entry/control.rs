//! The kernel's own object, [`Control`], for domains that the manifest wires to `kernel`.

use alloc::boxed::Box;

use coppice_abi::{CrashKind, DomainId, RawObject};
use coppice_control::{
    AuditLine, AuditSummary, Control, ControlError, DomainInfo, InUse, KernelHeapLine, LATENCY_CLASSES,
    Latency, LatencyKind, MemoryInfo, Resource, TraceRecord,
};
use coppice_interfaces::{Interface, RpcResult, Text};

use crate::device::console;
use crate::domain::proxy::{self, ExportProxy};
use crate::domain::start_error::StartError;
use crate::domain::{self, Domain, load, shared_heap};
use crate::entry::{audit, in_use};
use crate::fault::{crash_log, post_mortem, terminate};
use crate::memory::frames::{self, FrameOwner};
use crate::memory::heap::Purpose;
use crate::memory::{heap, stack};
use crate::platform::latency;
use crate::platform::machine::{CPU_LIMIT, ExitStatus, PAGE_SIZE, machine};
use crate::platform::options;
use crate::platform::sync::{Lock, Section};
use crate::policy::{restart, revoke};
use crate::sched::{thread, trace};

struct Kernel;

static EXPORT: Lock<Option<ExportProxy>> = Lock::new(None);

/// Exports the object. Called once.
///
/// # Panics
/// When there is no memory for a proxy.
pub(crate) fn init() {
    let target: Box<dyn Control> = Box::new(Kernel);
    // SAFETY: the words go to this object's proxy.
    let target = unsafe { <dyn Control as Interface>::as_raw(Box::into_raw(target)) };
    let exported = proxy::export(DomainId::KERNEL, <dyn Control as Interface>::FINGERPRINT, target, keep);
    let cell = exported.expect("there is memory for the first proxy");
    // SAFETY: just made, and owned by the kernel.
    *EXPORT.lock() = Some(unsafe { ExportProxy::new(cell) });
}

/// The destructor of the kernel's object, which is never dropped.
unsafe extern "C" fn keep(_: RawObject) {}

/// The export proxy for imports from `kernel`.
pub(crate) fn export() -> &'static Lock<Option<ExportProxy>> {
    &EXPORT
}

fn find_domain(name: &str) -> Result<&'static Domain, ControlError> {
    domain::find(name).ok_or(ControlError::NoSuchDomain { name: Text::new(name) })
}

fn info(domain: &Domain) -> DomainInfo {
    let id = domain.last_instance();
    let usage = shared_heap::usage(id);
    let allowance = domain.allowance();
    DomainInfo {
        name: Text::new(&domain.manifest.name),
        id,
        state: domain.state(),
        restart_plan: restart::restart_plan(domain),
        parent: Text::new(&domain.manifest.parent),
        calls: domain.calls(),
        cpu_ns: domain.cpu_ns(),
        image_bytes: domain.program.lock().as_ref().map_or(0, |program| program.bytes()) as u64,
        heap_bytes: domain.heap_bytes() as u64,
        heap_quota: allowance.heap_bytes,
        shared_quota: allowance.shared_bytes,
        thread_quota: domain.thread_allowance(),
        shared_objects: usage.objects as u64,
        shared_bytes: usage.bytes as u64,
        threads: domain.threads(),
        threads_abroad: domain.threads_abroad(),
        kept_bytes: domain.account.lock().kept(),
        kernel_bytes: heap::charged(domain.slot) as u64,
        kernel_quota: domain.manifest.kernel_heap_bytes,
        own_cpu_ns: domain.own_cpu_ns(),
        cpu_percent: domain.manifest.cpu_percent.unwrap_or(0),
        deadline_ns: domain.manifest.deadline_ns.unwrap_or(0),
        log_dropped: console::dropped(domain.slot),
    }
}

/// The parts of the kernel's own heap, by payer and purpose.
fn kernel_heap_lines() -> impl Iterator<Item = KernelHeapLine> {
    let slots =
        core::iter::once(DomainId::KERNEL.slot()).chain(domain::all().iter().map(|domain| domain.slot));
    let parts = slots.flat_map(|slot| Purpose::ALL.into_iter().map(move |purpose| (slot, purpose)));
    parts.filter_map(|(slot, purpose)| {
        let count = heap::count(slot, purpose);
        (count.objects > 0).then(|| KernelHeapLine {
            payer: Text::new(domain::name(DomainId::new(slot as u32, 0))),
            what: Text::new(purpose.name()),
            objects: count.objects as u64,
            bytes: count.bytes as u64,
        })
    })
}

/// Returns the caller of the present call to the kernel's object.
fn caller() -> DomainId {
    // SAFETY: a call is under way, so there is a continuation (C1).
    unsafe { (*thread::current().control().top()).caller() }
}

/// Ends the domain `name` if it is running, and starts it; if `reload`, from its image in the boot archive.
fn restart(name: &str, reload: bool) -> Result<(), ControlError> {
    let domain = find_domain(name)?;
    let caller = caller().slot();
    if caller == domain.slot || domain.supervision.descendants().any(|descendant| descendant.slot == caller) {
        return Err(ControlError::Itself);
    }
    if let Some(instance) = domain.instance() {
        terminate::terminate_for_restart(instance);
    }
    if reload {
        load::unload(domain);
    }
    match restart::start_tree(domain) {
        Ok(()) => Ok(()),
        Err(StartError::State(state)) => Err(ControlError::WrongState { state }),
        Err(error) => {
            log::error!("{name} did not start: {error}");
            Err(ControlError::DidNotStart)
        }
    }
}

impl Control for Kernel {
    fn domain_count(&self) -> RpcResult<u32> {
        Ok(domain::all().len() as u32)
    }

    fn domain(&self, number: u32) -> RpcResult<Option<DomainInfo>> {
        let _section = Section::enter();
        Ok(domain::all().get(number as usize).map(info))
    }

    fn find(&self, name: Text<32>) -> RpcResult<Result<DomainInfo, ControlError>> {
        let _section = Section::enter();
        Ok(find_domain(&name).map(info))
    }

    fn wire(&self, from: u32, import: u32) -> RpcResult<Option<(Text<32>, Text<32>)>> {
        let _section = Section::enter();
        let domain = domain::all().get(from as usize);
        let wire = domain.and_then(|domain| domain.manifest.wires.iter().nth(import as usize));
        Ok(wire.map(|(import, target)| (Text::new(target), Text::new(import))))
    }

    fn memory(&self) -> RpcResult<MemoryInfo> {
        let _section = Section::enter();
        shared_heap::flush();
        stack::flush();
        let count = frames::count();
        let owners = [FrameOwner::SHARED, FrameOwner::STACKS, FrameOwner::KERNEL];
        let [shared_bytes, stack_bytes, kernel_bytes] =
            frames::owned_by(owners).map(|frames| (frames * PAGE_SIZE) as u64);
        Ok(MemoryInfo {
            total_bytes: (count.total * PAGE_SIZE) as u64,
            free_bytes: (count.available * PAGE_SIZE) as u64,
            shared_bytes,
            stack_bytes,
            kernel_bytes,
        })
    }

    fn in_use(&self) -> RpcResult<InUse> {
        let _section = Section::enter();
        Ok(in_use::count())
    }

    fn audit(&self) -> RpcResult<AuditSummary> {
        let _section = Section::enter();
        Ok(audit::run())
    }

    fn audit_line(&self, number: u32) -> RpcResult<Option<AuditLine>> {
        let _section = Section::enter();
        Ok(audit::line(number))
    }

    fn audit_finding(&self, number: u32) -> RpcResult<Option<Text<160>>> {
        let _section = Section::enter();
        Ok(audit::finding(number))
    }

    fn kernel_heap_line(&self, number: u32) -> RpcResult<Option<KernelHeapLine>> {
        let _section = Section::enter();
        Ok(kernel_heap_lines().nth(number as usize))
    }

    fn latency(&self, cpu: u32, kind: LatencyKind) -> RpcResult<Option<Latency>> {
        const { assert!(LATENCY_CLASSES == latency::CLASSES) };
        let _section = Section::enter();
        if cpu as usize >= machine().cpu_count().min(CPU_LIMIT) {
            return Ok(None);
        }
        let kind = match kind {
            LatencyKind::Section => latency::Kind::Section,
            LatencyKind::WorldStop => latency::Kind::WorldStop,
            LatencyKind::InterruptsOff => latency::Kind::InterruptsOff,
            LatencyKind::DeferredInterrupt => latency::Kind::DeferredInterrupt,
        };
        let latency::Latencies { counts, longest_ns, place } = latency::latencies(cpu as usize, kind);
        Ok(Some(Latency { counts, longest_ns, place: Text::format(format_args!("{place}")) }))
    }

    fn cpu_count(&self) -> RpcResult<u32> {
        Ok(machine().cpu_count() as u32)
    }

    fn kill(&self, name: Text<32>) -> RpcResult<Result<(), ControlError>> {
        let _section = Section::enter();
        Ok(find_domain(&name).and_then(|domain| {
            let wrong = ControlError::WrongState { state: domain.state() };
            let instance = domain.instance().ok_or(wrong)?;
            if terminate::terminate(instance, CrashKind::Killed) { Ok(()) } else { Err(wrong) }
        }))
    }

    fn restart(&self, name: Text<32>) -> RpcResult<Result<(), ControlError>> {
        let _section = Section::enter();
        Ok(restart(&name, false))
    }

    fn reload(&self, name: Text<32>) -> RpcResult<Result<(), ControlError>> {
        let _section = Section::enter();
        Ok(restart(&name, true))
    }

    fn revoke(
        &self,
        name: Text<32>,
        resource: Resource,
        allowed: u64,
    ) -> RpcResult<Result<bool, ControlError>> {
        let _section = Section::enter();
        Ok(find_domain(&name).and_then(|domain| {
            let instance = domain.instance().filter(|_| domain.is_running());
            let instance = instance.ok_or(ControlError::WrongState { state: domain.state() })?;
            let used = revoke::used(domain, instance, resource);
            // CPU time is only known in the future, so it is always revoked.
            let is_more = resource == Resource::Cpu || used > allowed;
            if is_more {
                revoke::request(instance, resource, used, allowed);
            }
            Ok(is_more)
        }))
    }

    fn crash_record(&self, domain: DomainId) -> RpcResult<Option<Text<256>>> {
        let _section = Section::enter();
        Ok(crash_log::text(domain))
    }

    fn death(&self, back: u32) -> RpcResult<Option<DomainId>> {
        let _section = Section::enter();
        Ok(crash_log::latest(back as usize))
    }

    fn post_mortem(&self, domain: DomainId, line: u32) -> RpcResult<Option<Text<256>>> {
        let _section = Section::enter();
        Ok(post_mortem::line(domain, line as usize))
    }

    fn set_tracing(&self, on: bool) -> RpcResult<()> {
        let _section = Section::enter();
        trace::set(on);
        Ok(())
    }

    fn next_trace(&self) -> RpcResult<Option<TraceRecord>> {
        let _section = Section::enter();
        Ok(trace::next())
    }

    fn tsc_hz(&self) -> RpcResult<u64> {
        Ok(machine().tsc_hz())
    }

    fn machine(&self) -> RpcResult<Text<16>> {
        Ok(Text::new(machine().name()))
    }

    fn option(&self, name: Text<32>) -> RpcResult<Option<Text<128>>> {
        Ok(options::option(&name).map(Text::new))
    }

    fn print(&self, line: Text<256>) -> RpcResult<()> {
        let _section = Section::enter();
        console::print(caller().slot(), &line);
        Ok(())
    }

    fn read_line(&self) -> RpcResult<Text<256>> {
        let _section = Section::enter();
        Ok(Text::new(&console::read_line()))
    }

    fn shut_down(&self, success: bool) -> RpcResult<()> {
        let _section = Section::enter();
        crash_log::end_system(if success { ExitStatus::Success } else { ExitStatus::Failure })
    }
}
