//! Boot: turns a machine that has just started into a running system.

use alloc::vec::Vec;

use coppice_abi::DomainId;
use coppice_interfaces::Registry;
use coppice_manifest::{Manifest, Restart, parse_duration};
use spin::Once;

use crate::device::console;
use crate::domain::environment::Environment;
use crate::domain::start_error::StartError;
use crate::domain::{self, interfaces, reaper, shared_heap, shared_types};
use crate::entry::{checkpoint, control, seal, services};
use crate::fault::{crash_log, terminate};
use crate::memory::stack::Stack;
use crate::memory::{frames, heap};
use crate::platform::archive::Archive;
use crate::platform::machine::{self, CPU_LIMIT, CpuStart, ExitStatus, Machine, PAGE_SIZE};
use crate::platform::sync::PerCpu;
use crate::platform::{latency, options, xstate};
use crate::policy::{deferred_work, restart, revoke, start, watchdog};
use crate::sched::cpu::Cpu;
use crate::sched::hooks::{self, Hooks};
use crate::sched::thread::{LOG, NoMemory, RECOVERY, Thread, Work};

/// Stack size of each CPU's idle thread, and of the thread that starts the system.
const STACK_BYTES: usize = 128 * 1024;

static ARCHIVE: Once<Archive<'static>> = Once::new();

/// Starts the system on the machine `on`, from its boot CPU, with the interfaces of `registry`. Never
/// returns. The caller's stack becomes that of the boot CPU's idle thread.
///
/// # Panics
/// When the machine has too little memory for the kernel itself, or the registry lists a name or fingerprint
/// twice.
pub fn boot(on: &'static dyn Machine, registry: Registry) -> ! {
    machine::install(on);
    xstate::init();
    hooks::install(Hooks {
        checkpoint: checkpoint::pending,
        pause: checkpoint::pause,
        abandon: terminate::abandon,
        unwind: terminate::unwind,
    });
    terminate::install_policy(terminate::Policy {
        note_end: restart::note_end,
        after_death: restart::after_death,
    });
    // From here on, sections use the block of the boot CPU. There is no heap yet, so the first block is
    // static.
    first_section();
    frames::init(on);
    heap::check_is_global();
    let cpu = create_cpu(0);
    on.set_cpu_block(cpu.block().cast());
    latency::init(on.tsc_hz());
    console::init(options::option("log"));
    latency::set_limit(lockup_limit_ns());
    // SAFETY: this is the kernel's own table, and no code has used the services yet.
    unsafe { coppice_abi::attach(services::table(), DomainId::KERNEL) };
    let count = frames::count();
    log::info!(
        "Coppice on {}: {} CPUs, {} MiB of memory",
        on.name(),
        on.cpu_count(),
        count.total * PAGE_SIZE / (1024 * 1024)
    );
    interfaces::init(registry);
    shared_types::init();
    control::init();
    for number in 1..on.cpu_count().min(CPU_LIMIT) {
        start_cpu(number);
    }
    start_threads().expect("there is memory for the kernel's own threads");
    checkpoint::idle()
}

/// Returns the option `lockup`: the time after which a CPU that does not react is recorded.
fn lockup_limit_ns() -> u64 {
    /// Longer than a busy host keeps a CPU of its guest from running.
    const DEFAULT_NS: u64 = 5_000_000_000;
    match options::option("lockup") {
        None => DEFAULT_NS,
        Some("none") => u64::MAX,
        Some(limit) => parse_duration(limit).unwrap_or_else(|error| {
            log::warn!("option lockup={limit}: {error}");
            DEFAULT_NS
        }),
    }
}

/// Starts the kernel's own threads, one of which starts the system.
fn start_threads() -> Result<(), NoMemory> {
    watchdog::start()?;
    deferred_work::start()?;
    reaper::start()?;
    let threads: [(u8, fn()); 3] =
        [(LOG, console::writer), (LOG, crash_log::log_writer), (RECOVERY, start_system)];
    threads.into_iter().try_for_each(|(priority, work)| {
        Thread::spawn(DomainId::KERNEL, priority, u64::MAX, STACK_BYTES, Work::Kernel(work)).map(drop)
    })
}

/// Gives the boot CPU a static block that puts it inside a section.
fn first_section() {
    use coppice_abi::crossing::CpuBlock;
    // SAFETY: the boot CPU makes no crossing with this block.
    static BLOCK: PerCpu<BootBlock> =
        PerCpu::new(BootBlock(unsafe { CpuBlock::new(core::ptr::null_mut(), 1, 0) }));
    struct BootBlock(CpuBlock);
    // SAFETY: only the boot CPU uses it.
    unsafe impl Send for BootBlock {}
    // SAFETY: no other CPU runs.
    let block = unsafe { BLOCK.get() };
    machine::machine().set_cpu_block((&raw mut block.0).cast());
}

/// Creates the data of CPU `number`, whose current code becomes its idle thread.
fn create_cpu(number: usize) -> &'static Cpu {
    shared_heap::init_cpu(number);
    Cpu::create(number, Thread::new_idle(number).into())
}

fn start_cpu(number: usize) {
    let Some(stack) = Stack::take(STACK_BYTES) else {
        return log::error!("CPU {number} stays off: not enough memory for its stack");
    };
    let stack_top = stack.give_to_cpu();
    let cpu = create_cpu(number);
    machine::machine().start_cpu(CpuStart {
        cpu: number,
        stack_top,
        block: cpu.block().cast(),
        enter: cpu_main,
    });
}

extern "C" fn cpu_main() -> ! {
    checkpoint::idle()
}

/// Loads and starts the domains of the boot archive. The body of the first thread.
fn start_system() {
    if let Err(message) = read_archive() {
        log::error!("{message}");
        crash_log::end_system(ExitStatus::Failure);
    }
    let mut failed = false;
    for domain in start_order() {
        match start::start(domain) {
            Ok(_) => {}
            // Its parent has died since it started, and the restart of the parent has started or will start
            // this domain.
            Err(StartError::State(_)) => {}
            Err(StartError::NoParent { parent }) if restarts(&parent) => {}
            Err(error) => {
                log::error!("{}: {error}", domain.manifest.name);
                failed = true;
            }
        }
    }
    if failed && options::option("keep-going").is_none() {
        log::error!("not all domains started; option keep-going continues without them");
        crash_log::end_system(ExitStatus::Failure);
    }
}

fn restarts(domain: &str) -> bool {
    domain::find(domain).is_some_and(|domain| domain.manifest.restart == Restart::Always)
}

fn read_archive() -> Result<(), alloc::string::String> {
    let archive = Archive::new(machine::machine().archive())
        .map_err(|error| alloc::format!("boot archive: {error}"))?;
    seal::check(&archive).map_err(|error| alloc::format!("boot archive: {error}"))?;
    let archive = ARCHIVE.call_once(|| archive);
    let manifest = archive.find("manifest").ok_or("boot archive: no entry `manifest`")?;
    let manifest = Manifest::decode(manifest).map_err(|error| alloc::format!("manifest: {error}"))?;
    let images: Vec<&str> = archive.names().filter_map(|name| name.strip_prefix("images/")).collect();
    manifest.check_images(&images).map_err(|error| alloc::format!("manifest: {error}"))?;
    let memory = frames::count().total * PAGE_SIZE;
    manifest.validate_against(memory as u64).map_err(|error| alloc::format!("manifest: {error}"))?;
    log::info!("system {}: {}", manifest.name, manifest.description);
    START_ORDER.call_once(|| manifest.start_order());
    let environment = Environment { archive, services: services::table(), kernel_export: control::export() };
    let domains = manifest.domains.len();
    domain::init(manifest, environment);
    deferred_work::init(domains);
    revoke::init(domains);
    watchdog::init();
    Ok(())
}

static START_ORDER: Once<Vec<usize>> = Once::new();

fn start_order() -> impl Iterator<Item = &'static domain::Domain> {
    START_ORDER.get().into_iter().flatten().filter_map(|&index| domain::all().get(index))
}
