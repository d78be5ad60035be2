//! The domain table: a slot for each domain of the manifest, with the state and resources of its present
//! instance.

use alloc::boxed::Box;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use coppice_abi::DomainId;
use coppice_control::DomainState;
use coppice_manifest::{Manifest, Symbols};
use coppice_rref::Payer;
use spin::Once;

use crate::device::{self, console};
use crate::domain::environment::{self, Environment};
use crate::domain::load::Program;
use crate::domain::private_heap::PrivateHeap;
use crate::domain::proxy::ExportProxy;
use crate::domain::quota::Account;
use crate::domain::start_error::StartError;
use crate::domain::supervision_tree::{self, SupervisionNode};
use crate::domain::threads::ThreadCounts;
use crate::memory::heap;
use crate::platform::machine::machine;
use crate::platform::sync::Lock;
use crate::sched::cpu::cpus;
use crate::sched::cpu_time;
use crate::sched::liveness::{self, FIRST_SLOT};

/// One domain of the manifest.
pub(crate) struct Domain {
    /// The slot in the table, and in [`DomainId`]s.
    pub(crate) slot: usize,
    /// The entry of the manifest.
    pub(crate) manifest: coppice_manifest::Domain,
    /// The node in the supervision tree.
    pub(crate) supervision: SupervisionNode,
    /// The address of the upcall function of its present or last instance; 0 while it starts, or without
    /// upcalls.
    pub(crate) upcall: AtomicUsize,
    /// The id of the present or last instance.
    last: AtomicU64,
    state: AtomicU32,
    /// Bits of the ancestor's instance that the last instance has ended with, until its resources are
    /// reclaimed.
    pub(crate) ended_with: AtomicU64,
    /// Crossings into earlier instances.
    earlier_calls: AtomicU64,
    /// Its threads, those of ended instances included.
    pub(super) thread_counts: ThreadCounts,
    /// The start and end of its image, for backtraces; kept over a restart.
    code: [AtomicUsize; 2],
    /// The symbol tables of its image, for backtraces, if the boot archive has them.
    pub(crate) symbols: Option<Symbols<'static>>,
    /// The private heap: blocks of frames.
    pub(super) heap: Lock<PrivateHeap>,
    /// The unused part of its shared-heap quota.
    pub(crate) account: Lock<Account>,
    /// The loaded image; kept over a restart.
    pub(crate) program: Lock<Option<Program>>,
    /// The export proxy that the manifest wires clients to.
    pub(crate) export: Lock<Option<ExportProxy>>,
}

static TABLE: Once<Box<[Domain]>> = Once::new();

/// Makes the table and grants devices. Called once.
pub(crate) fn init(manifest: Manifest, environment: Environment) {
    let environment = environment::install(environment);
    let nodes = supervision_tree::build(&manifest);
    device::init(&manifest);
    let members = manifest.domains.into_iter().zip(nodes).enumerate();
    let domains = members.map(|(index, (manifest, supervision))| Domain {
        slot: index + FIRST_SLOT,
        code: [const { AtomicUsize::new(0) }; 2],
        symbols: environment.symbols(&manifest.image),
        manifest,
        supervision,
        upcall: AtomicUsize::new(0),
        last: AtomicU64::new(DomainId::NONE.to_bits()),
        state: AtomicU32::new(DomainState::Absent as u32),
        earlier_calls: AtomicU64::new(0),
        thread_counts: ThreadCounts::default(),
        ended_with: AtomicU64::new(DomainId::NONE.to_bits()),
        heap: Lock::new(PrivateHeap::default()),
        account: Lock::new(Account::default()),
        program: Lock::new(None),
        export: Lock::new(None),
    });
    for domain in TABLE.call_once(|| domains.collect()) {
        heap::set_quota(domain.slot, domain.manifest.kernel_heap_bytes);
        console::set_rate(domain.slot, &domain.manifest.name, domain.manifest.log_rate);
    }
}

/// All domains, in the manifest's order.
pub(crate) fn all() -> &'static [Domain] {
    TABLE.get().map_or(&[], |table| table)
}

/// Returns the domain in `slot`; `None` for slot 0 (no domain) and the kernel's.
pub(crate) fn get(slot: usize) -> Option<&'static Domain> {
    all().get(slot.checked_sub(FIRST_SLOT)?)
}

/// Returns the domain called `name`.
pub(crate) fn find(name: &str) -> Option<&'static Domain> {
    all().iter().find(|domain| domain.manifest.name == name)
}

/// Returns the name of a domain for messages.
pub(crate) fn name(id: DomainId) -> &'static str {
    match get(id.slot()) {
        Some(domain) => &domain.manifest.name,
        None if id == DomainId::KERNEL => "kernel",
        None => "none",
    }
}

impl Domain {
    /// The present instance, if it is alive.
    pub(crate) fn instance(&self) -> Option<DomainId> {
        let id = DomainId::from_bits(liveness::word(self.slot).load(Ordering::SeqCst));
        (id != DomainId::NONE).then_some(id)
    }

    /// The present or last instance.
    pub(crate) fn last_instance(&self) -> DomainId {
        DomainId::from_bits(self.last.load(Ordering::SeqCst))
    }

    /// Begins a new instance, if the domain has none. Of several concurrent callers, one succeeds.
    ///
    /// # Errors
    /// When the domain is neither dead nor absent, or has had as many instances as there are generations.
    pub(crate) fn begin_instance(&self) -> Result<DomainId, StartError> {
        let begin = |from: DomainState| {
            let to = DomainState::Starting as u32;
            self.state.compare_exchange(from as u32, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        if !begin(DomainState::Dead) && !begin(DomainState::Absent) {
            return Err(StartError::State(self.state()));
        }
        let last = self.last_instance();
        let generation = match last {
            DomainId::NONE => Some(self.first_generation()),
            last => last.generation().checked_add(1).filter(|&next| next <= DomainId::LAST_GENERATION),
        };
        let Some(generation) = generation else {
            self.set_state(DomainState::Dead);
            return Err(StartError::NoGeneration);
        };
        let id = DomainId::new(self.slot as u32, generation);
        self.thread_counts.begin(generation);
        self.upcall.store(0, Ordering::SeqCst);
        self.earlier_calls.store(self.calls(), Ordering::Relaxed);
        self.account.lock().open(Payer::of(id), self.allowance().shared_bytes, machine().cpu_count());
        self.last.store(id.to_bits(), Ordering::SeqCst);
        liveness::word(self.slot).store(id.to_bits(), Ordering::SeqCst);
        Ok(id)
    }

    /// The generation of the first instance: 0. A kernel for tests can begin near the last one, by the
    /// domain's argument `first-generation`.
    fn first_generation(&self) -> u32 {
        let chosen = self.manifest.args.iter().find_map(|word| word.strip_prefix("first-generation="));
        chosen.filter(|_| cfg!(feature = "testing")).and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// Makes the present instance dead for all observers. The world is stopped.
    pub(crate) fn end_instance(&self) {
        liveness::word(self.slot).store(DomainId::NONE.to_bits(), Ordering::SeqCst);
    }

    pub(crate) fn state(&self) -> DomainState {
        let state = self.state.load(Ordering::SeqCst);
        [DomainState::Absent, DomainState::Starting, DomainState::Running, DomainState::Dead]
            .into_iter()
            .find(|&known| known as u32 == state)
            .expect("only states are stored")
    }

    /// Returns true if the present instance has started and not ended.
    pub(crate) fn is_running(&self) -> bool {
        self.state() == DomainState::Running && self.instance().is_some()
    }

    pub(crate) fn set_state(&self, state: DomainState) {
        self.state.store(state as u32, Ordering::SeqCst);
    }

    /// Marks the domain as running after its entry function has returned, unless it has died since.
    pub(crate) fn mark_started(&self) {
        let (from, to) = (DomainState::Starting as u32, DomainState::Running as u32);
        let _ = self.state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// The address range of its image. Takes no lock, for traps.
    pub(crate) fn code(&self) -> Range<usize> {
        let [start, end] = &self.code;
        start.load(Ordering::Relaxed)..end.load(Ordering::Relaxed)
    }

    /// Sets the address range of the image, before its first instruction runs.
    pub(crate) fn set_code(&self, code: Range<usize>) {
        let [start, end] = &self.code;
        start.store(code.start, Ordering::Relaxed);
        end.store(code.end, Ordering::Relaxed);
    }

    /// The number of crossings into the domain, on all CPUs.
    pub(crate) fn calls(&self) -> u64 {
        cpus().map(|cpu| cpu.calls(self.slot)).sum()
    }

    /// Crossings into its present instance: of its entry function, of calls, and of its own threads.
    pub(crate) fn calls_of_instance(&self) -> u64 {
        self.calls() - self.earlier_calls.load(Ordering::Relaxed)
    }

    /// CPU time spent in its code, on all CPUs.
    pub(crate) fn cpu_ns(&self) -> u64 {
        cpu_time::in_code_ns(self.slot)
    }

    /// CPU time of the threads that it spawned, on all CPUs and in any code.
    pub(crate) fn own_cpu_ns(&self) -> u64 {
        cpu_time::of_threads_ns(self.slot)
    }
}
