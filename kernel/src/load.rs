//! From an image in the boot archive to a running domain, and to the next instance of one.

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::fmt;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use coppice_abi::crossing::{ProxyCore, RpcError};
use coppice_abi::{
    CrashKind, DomainId, EntryArguments, Fingerprint, RawObject, Refusal, Upcall, UpcallEntry, Verdict,
};
use coppice_interfaces::{DomainState, Interface, RpcResult, crossing, registry};
use coppice_manifest::{DeviceSelector, KERNEL};
use coppice_rref::TypeEntry;

use crate::domain::{self, Domain};
use crate::frames::{self, FrameOwner};
use crate::image::{Image, ImageError, WireInfo};
use crate::machine::{PAGE_SIZE, Protection, machine};
use crate::proxy::Port;
use crate::sync::Section;
use crate::{
    boot, control, crash_log, family, proxy, services, supervisor, terminate, trace, wait, watchdog,
};

/// A domain's image in memory: relocated, protected, ready for the next instance.
pub(crate) struct Program {
    /// A guard page, the image, a guard page.
    block: NonNull<u8>,
    span: usize,
    entry: usize,
    imports: Vec<Wire>,
    /// What the writable parts held before the first instruction ran.
    pristine: Vec<(Range<usize>, Vec<u8>)>,
}

// SAFETY: it owns its block.
unsafe impl Send for Program {}

/// One interface that an image wants or gives.
#[derive(Clone, Debug)]
struct Wire {
    name: String,
    interface: String,
    fingerprint: Fingerprint,
}

/// Why a domain did not start.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The archive has no such image.
    NoImage,
    /// The image is not sound.
    Image(ImageError),
    /// The image was built with another version of an interface than the kernel.
    Interface { interface: String, image: Fingerprint, kernel: Fingerprint },
    /// No memory for the image, its pristine copy or its first thread.
    NoMemory,
    /// There is no handle for one of its imports.
    NoHandle(Refusal),
    /// It lives already, or is starting.
    State(DomainState),
    /// The image wants an import that the manifest does not wire.
    Unwired { import: String },
    /// The manifest wires an import that the image does not want.
    NotWanted { import: String },
    /// The domain that an import is wired to exports nothing (yet).
    NothingExported { import: String, from: String },
    /// The two ends of a wire are different interfaces, or different versions of one.
    Mismatch { import: String, wanted: (String, Fingerprint), found: Fingerprint },
    /// After a restart the domain exported another interface, or nothing.
    ExportChanged,
    /// The domain exported an object of another domain, which the wires of its clients would not follow.
    ForeignExport,
    /// The domain that answers for it does not run.
    NoParent { parent: String },
    /// What the domain that answers for it has itself leaves too little of its quotas.
    NoShare { parent: String, quota: String, used: u64, left: u64 },
    /// It is granted a device that the machine does not have, or has not as often.
    NoDevice { device: DeviceSelector },
    /// The entry function did not come back.
    Crashed(RpcError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoImage => f.write_str("the boot archive has no such image"),
            Self::Image(error) => write!(f, "the image is refused: {error}"),
            Self::Interface { interface, image, kernel } => write!(
                f,
                "the image is refused: it was built with interface {interface} as {image}, but this kernel has {kernel}"
            ),
            Self::NoMemory => f.write_str("there is not enough memory for it"),
            Self::NoHandle(refusal) => write!(f, "it gets no handle for an import: {}", refusal.text()),
            Self::State(state) => write!(f, "it is {state:?} already"),
            Self::Unwired { import } => write!(f, "the manifest wires nothing to its import `{import}`"),
            Self::NotWanted { import } => {
                write!(f, "the manifest wires `{import}`, which the image does not import")
            }
            Self::NothingExported { import, from } => {
                write!(f, "its import `{import}` is wired to `{from}`, which exports nothing")
            }
            Self::Mismatch { import, wanted: (interface, fingerprint), found } => write!(
                f,
                "its import `{import}` is interface {interface} ({fingerprint}), but what it is wired to has {found}"
            ),
            Self::ExportChanged => f.write_str("it exported another interface than in its first instance"),
            Self::ForeignExport => {
                f.write_str("it exported another domain's object instead of one of its own")
            }
            Self::NoParent { parent } => write!(f, "its parent `{parent}` does not run"),
            Self::NoShare { parent, quota, used, left } => write!(
                f,
                "its parent `{parent}` has {used} {quota} itself, but would have only {left} left beside its children"
            ),
            Self::NoDevice { device } => {
                write!(f, "the machine has no device `{device}` that is not another domain's")
            }
            Self::Crashed(error) => write!(f, "its entry function did not come back: {error}"),
        }
    }
}

impl Program {
    /// Loads `domain`'s image.
    fn load(domain: &Domain) -> Result<Self, StartError> {
        let file = boot::image(&domain.manifest.image).ok_or(StartError::NoImage)?;
        let image = Image::parse(file).map_err(StartError::Image)?;
        check_interfaces(&image)?;
        let pages = image.span_pages();
        let span = pages * PAGE_SIZE;
        let block = frames::take(pages + 2, FrameOwner::domain(domain.slot)).ok_or(StartError::NoMemory)?;
        // SAFETY: within the block: the page after the guard.
        let base = unsafe { block.add(PAGE_SIZE) };
        // SAFETY: ours, as long as the image and the guard behind it.
        let memory = unsafe { core::slice::from_raw_parts_mut(base.as_ptr(), span) };
        let address = base.as_ptr() as usize;
        if let Err(error) = image.load_into(memory, address) {
            frames::give(block);
            return Err(StartError::Image(error));
        }
        let pristine = image.writable_ranges().map(|range| (range.clone(), memory[range].to_vec())).collect();
        machine().protect(address - PAGE_SIZE, PAGE_SIZE, Protection::None);
        for region in image.layout() {
            let (start, end) = (region.pages.start * PAGE_SIZE, region.pages.end * PAGE_SIZE);
            machine().protect(address + start, end - start, region.protection);
        }
        machine().protect(address + span, PAGE_SIZE, Protection::None);
        Ok(Self {
            block,
            span,
            entry: address + image.entry_offset(),
            imports: image.imports().map(Wire::from).collect(),
            pristine,
        })
    }

    fn base(&self) -> *mut u8 {
        self.block.as_ptr().wrapping_add(PAGE_SIZE)
    }

    /// Puts the writable parts back to what they were.
    fn restore(&self) {
        for (range, bytes) in &self.pristine {
            // SAFETY: the range lies in the image.
            let place = unsafe { self.base().add(range.start) };
            // SAFETY: it is writable, and the instance that used it is over.
            unsafe { place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        }
    }

    /// Frames that it takes, its guard pages included.
    pub(crate) fn frames(&self) -> usize {
        self.span / PAGE_SIZE + 2
    }

    /// Bytes of memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.span + 2 * PAGE_SIZE + self.pristine.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
    }
}

/// Refuses an image that knows some interface in another form than we do: handles of any interface may reach it.
fn check_interfaces(image: &Image<'_>) -> Result<(), StartError> {
    for info in image.interfaces() {
        let own = registry().iter().find(|entry| entry.name == info.interface);
        if let Some(own) = own.filter(|own| own.fingerprint != info.fingerprint) {
            return Err(StartError::Interface {
                interface: info.interface.into(),
                image: info.fingerprint,
                kernel: own.fingerprint,
            });
        }
    }
    Ok(())
}

impl Drop for Program {
    fn drop(&mut self) {
        machine().protect(self.block.as_ptr() as usize, self.span + 2 * PAGE_SIZE, Protection::ReadWrite);
        frames::give(self.block);
    }
}

impl From<WireInfo<'_>> for Wire {
    fn from(info: WireInfo<'_>) -> Self {
        Self { name: info.name.into(), interface: info.interface.into(), fingerprint: info.fingerprint }
    }
}

/// Starts a instance of `domain`: loads its image if need be, wires it, and runs its entry function on this thread.
///
/// In the outermost section. When it fails, nothing of the instance is left.
pub(crate) fn start(domain: &'static Domain) -> Result<DomainId, StartError> {
    // The parent does not end until this section does, and then ends this instance too.
    if let Some(parent) = domain.family.parent().filter(|parent| !parent.is_running()) {
        return Err(StartError::NoParent { parent: parent.manifest.name.clone() });
    }
    let id = domain.begin_instance().map_err(StartError::State)?;
    supervisor::forget_plan(domain);
    let prepared = family::lend(domain).and_then(|()| prepare(domain, id));
    match prepared.and_then(|(entry, handles)| enter(domain, id, entry, handles)) {
        Ok(()) => {
            domain.started();
            wait::wake(wait::Key::Instance(domain.slot), u32::MAX);
            trace::record(trace::Kind::Restart, id, 0);
            Ok(id)
        }
        Err(error) => {
            terminate::terminate(id, CrashKind::Abort);
            Err(error)
        }
    }
}

/// Throws a dead domain's loaded image away, so that its next instance begins from the archive.
pub(crate) fn unload(domain: &Domain) {
    *domain.program.lock() = None;
}

/// Makes memory and wires ready. Answers with the entry function's address and its handles.
fn prepare(domain: &Domain, id: DomainId) -> Result<(usize, Vec<NonNull<u8>>), StartError> {
    if let Some(&device) = domain.devices.iter().find_map(|grant| grant.as_ref().err()) {
        return Err(StartError::NoDevice { device });
    }
    let mut program = domain.program.lock();
    let program = match &mut *program {
        Some(program) => {
            program.restore();
            program
        }
        none => none.insert(Program::load(domain)?),
    };
    let base = program.base().addr();
    domain.set_code(base..base + program.span);
    let wires = &domain.manifest.wires;
    if let Some(name) = wires.keys().find(|name| program.imports.iter().all(|import| import.name != **name)) {
        return Err(StartError::NotWanted { import: name.clone() });
    }
    let handles = program.imports.iter().map(|import| {
        let from =
            wires.get(&import.name).ok_or_else(|| StartError::Unwired { import: import.name.clone() })?;
        wire(import, from, id)
    });
    Ok((program.entry, handles.collect::<Result<_, _>>()?))
}

/// A handle for `id` to what `from` exports.
fn wire(import: &Wire, from: &str, id: DomainId) -> Result<NonNull<u8>, StartError> {
    let take = |port: &Port| {
        if port.interface() != import.fingerprint {
            let wanted = (import.interface.clone(), import.fingerprint);
            return Err(StartError::Mismatch {
                import: import.name.clone(),
                wanted,
                found: port.interface(),
            });
        }
        port.handle(id).map_err(StartError::NoHandle)
    };
    let port =
        if from == KERNEL { Some(control::port()) } else { domain::find(from).map(|domain| &domain.port) };
    match port.map(|port| port.lock()).as_deref() {
        Some(Some(port)) => take(port),
        _ => Err(StartError::NothingExported { import: import.name.clone(), from: from.into() }),
    }
}

/// Runs the entry function and takes what it exports.
fn enter(
    domain: &'static Domain,
    id: DomainId,
    entry: usize,
    handles: Vec<NonNull<u8>>,
) -> Result<(), StartError> {
    let handles: Vec<*mut u8> = handles.into_iter().map(NonNull::as_ptr).collect();
    let args: Vec<&str> = domain.manifest.args.iter().map(|word| &**word).collect();
    let mut arguments = EntryArguments {
        services: services::table(),
        domain: id,
        handles: handles.as_ptr(),
        handle_count: handles.len(),
        args: args.as_ptr(),
        arg_count: args.len(),
        physical_offset: machine().phys_offset(),
        export: core::ptr::null_mut(),
        upcall: None,
    };
    let place = &raw mut arguments;
    let core = core_of(id);
    let entered = outside_section(|| {
        inside(&core, move || {
            // SAFETY: the loader checked that the address is the image's entry, whose type the ABI note vouches for.
            let entry =
                unsafe { core::mem::transmute::<usize, unsafe extern "C" fn(*mut EntryArguments)>(entry) };
            // SAFETY: `arguments` outlives the call: a crash comes back to this frame too.
            unsafe { entry(place) };
        })
    });
    entered.map_err(StartError::Crashed)?;
    // From here to the end of the section it cannot die; but if it has, the sweep took what it exported.
    if domain.instance() != Some(id) {
        // SAFETY: it is true.
        return Err(StartError::Crashed(unsafe { RpcError::new(id, crash_log::cause(id)) }));
    }
    domain.upcall.store(arguments.upcall.map_or(0, |entry| entry as usize), Ordering::SeqCst);
    adopt(domain, id, arguments.export)
}

/// Tells that instance of a domain something, on this thread, and waits for its answer. In the outermost section.
pub(crate) fn upcall(instance: DomainId, message: Upcall) -> RpcResult<Verdict> {
    // Of a domain that has not started or that takes no upcalls; or that has died, which the crossing finds out.
    let mut verdict = Verdict::Retry;
    let entry = domain::get(instance.slot()).map_or(0, |domain| domain.upcall.load(Ordering::SeqCst));
    let (message, place) = (&raw const message, &raw mut verdict);
    let core = core_of(instance);
    let called = outside_section(|| {
        inside(&core, move || {
            if entry != 0 {
                // SAFETY: we are inside `instance`, so it has not ended since it began; the address was read after that, and
                // so is what the entry function of its image gave, of the type that the ABI note vouches for.
                let entry = unsafe { core::mem::transmute::<usize, UpcallEntry>(entry) };
                // SAFETY: `message` outlives the call: a crash comes back to this frame too.
                let answer = unsafe { entry(message) };
                // SAFETY: as above, and nobody else looks at it meanwhile.
                unsafe { place.write(answer) };
            }
        })
    });
    called.map(|()| verdict)
}

/// Makes what a new instance exports reachable for those that are wired to it.
fn adopt(domain: &Domain, id: DomainId, export: *mut u8) -> Result<(), StartError> {
    let export = NonNull::new(export);
    // SAFETY: the entry function gave us its handle.
    if export.is_some_and(|cell| !unsafe { proxy::is_of(cell, id) }) {
        return Err(StartError::ForeignExport);
    }
    let mut port = domain.port.lock();
    match (export, &*port) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(StartError::ExportChanged),
        (Some(cell), None) => {
            // SAFETY: the entry function gave us its handle.
            *port = Some(unsafe { Port::new(cell) });
            Ok(())
        }
        (Some(cell), Some(port)) => {
            // SAFETY: as above, and the instance before is over.
            let follows = unsafe { port.follow(cell, id) };
            if follows { Ok(()) } else { Err(StartError::ExportChanged) }
        }
    }
}

/// A core whose calls go into that instance of that domain.
fn core_of(id: DomainId) -> ProxyCore {
    ProxyCore {
        domain: AtomicU64::new(id.to_bits()),
        alive: domain::liveness(id),
        target: UnsafeCell::new(RawObject { data: NonNull::dangling().as_ptr(), vtable: core::ptr::null() }),
    }
}

/// Runs `body` inside the domain that `core` names, as a crossing from the kernel; if that takes too long, the domain
/// ends. Outside any section.
pub(crate) fn inside(core: &ProxyCore, body: impl FnOnce()) -> RpcResult<()> {
    let callee = DomainId::from_bits(core.domain.load(Ordering::Acquire));
    watchdog::watched(callee, || cross(core, body))
}

fn cross(core: &ProxyCore, body: impl FnOnce()) -> RpcResult<()> {
    // SAFETY: `Bare` does not look at the target. `body` owns nothing to drop: the callers' closures are `move`s of
    // plain addresses.
    unsafe {
        crossing::call::<Bare, (), (), _>(core, (), &[], |_, ()| {
            body();
            Ok(())
        })
    }
}

/// As [`inside`], for a thread that `id` spawned, which may take its time.
pub(crate) fn run_thread(id: DomainId, body: impl FnOnce()) {
    let core = core_of(id);
    // If the domain dies, so does its thread: nobody is there to hear why.
    let _ = outside_section(|| cross(&core, body));
}

/// Runs `body` outside the caller's section, which is the outermost one.
pub(crate) fn outside_section<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: pairs with the caller's `enter`; the one below pairs with the caller's end.
    unsafe { coppice_abi::crossing::leave() };
    let result = body();
    core::mem::forget(Section::enter());
    result
}

/// The interface of code that has no object: an entry function, a thread, a destructor.
struct Bare;

// SAFETY: nothing is called through it: [`inside`]'s closure has its own address.
unsafe impl Interface for Bare {
    const NAME: &'static str = "";
    const PATH: &'static str = "";
    const FINGERPRINT: Fingerprint = Fingerprint(0);
    fn proxy(_: *const ProxyCore) -> *const Self {
        NonNull::dangling().as_ptr()
    }
    fn from_raw(_: RawObject) -> *const Self {
        NonNull::dangling().as_ptr()
    }
    fn as_raw(_: *const Self) -> RawObject {
        RawObject { data: NonNull::dangling().as_ptr(), vtable: core::ptr::null() }
    }
    fn for_each_type(_: &mut dyn FnMut(TypeEntry)) {}
}
