//! Loading: turns an image of the boot archive into an instance that has run its entry function.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use coppice_abi::{DomainId, EntryArguments, Fingerprint, UpcallEntry};
use coppice_interfaces::RpcResult;
use coppice_manifest::KERNEL;

use crate::device;
use crate::domain::environment::environment;
use crate::domain::image::{Image, WireInfo};
use crate::domain::interfaces;
use crate::domain::proxy::{self, ExportProxy};
use crate::domain::start_error::StartError;
use crate::domain::{self, Domain, enter};
use crate::memory::frames::{self, FrameOwner};
use crate::memory::heap::{self, Charge, Purpose};
use crate::platform::machine::{PAGE_SIZE, Protection, machine};

/// A domain's image in memory: relocated, protected, and reset for the next instance.
pub(crate) struct Program {
    /// The memory: a guard page, the image, a guard page.
    block: NonNull<u8>,
    span: usize,
    entry: usize,
    imports: Vec<Wire>,
    /// The initial content of the writable ranges.
    pristine: Vec<(Range<usize>, Vec<u8>)>,
}

// SAFETY: a `Program` owns its block.
unsafe impl Send for Program {}

/// An import of an image.
struct Wire {
    name: RecordedText,
    interface: RecordedText,
    fingerprint: Fingerprint,
}

/// A text of an image, charged to its domain.
struct RecordedText(Vec<u8>);

impl RecordedText {
    fn copy(charge: Charge, text: &str) -> Option<Self> {
        heap::try_copy(charge, text.as_bytes()).map(Self)
    }
}

impl core::ops::Deref for RecordedText {
    type Target = str;
    fn deref(&self) -> &str {
        core::str::from_utf8(&self.0).expect("it is the copy of a text")
    }
}

impl Program {
    /// Loads `domain`'s image from the boot archive.
    fn load(domain: &Domain) -> Result<Self, StartError> {
        let file = environment().image(&domain.manifest.image).ok_or(StartError::NoImage)?;
        let image = Image::parse(file).map_err(StartError::Image)?;
        check_interfaces(&image)?;
        let pages = image.span_pages();
        let span = pages * PAGE_SIZE;
        let block = frames::take(pages + 2, FrameOwner::domain(domain.slot)).ok_or(StartError::NoMemory)?;
        // SAFETY: the page after the guard lies within the block.
        let base = unsafe { block.add(PAGE_SIZE) };
        // SAFETY: the block is ours, and the image of `span` bytes with its trailing guard lies within it.
        let memory = unsafe { core::slice::from_raw_parts_mut(base.as_ptr(), span) };
        let address = base.as_ptr() as usize;
        if let Err(error) = image.load_into(memory, address) {
            frames::give(block);
            return Err(StartError::Image(error));
        }
        let charge = Charge::to_slot(domain.slot, Purpose::Image);
        let Some((imports, pristine)) = record(charge, &image, memory) else {
            frames::give(block);
            return Err(StartError::NoMemory);
        };
        machine().protect(address - PAGE_SIZE, PAGE_SIZE, Protection::None);
        for region in image.layout() {
            let (start, end) = (region.pages.start * PAGE_SIZE, region.pages.end * PAGE_SIZE);
            machine().protect(address + start, end - start, region.protection);
        }
        machine().protect(address + span, PAGE_SIZE, Protection::None);
        Ok(Self { block, span, entry: address + image.entry_offset(), imports, pristine })
    }

    fn base(&self) -> *mut u8 {
        self.block.as_ptr().wrapping_add(PAGE_SIZE)
    }

    /// Restores the writable ranges to their initial content.
    fn restore(&self) {
        for (range, bytes) in &self.pristine {
            // SAFETY: the range lies in the image.
            let start = unsafe { self.base().add(range.start) };
            // SAFETY: the range is writable, and the instance that used it is over.
            unsafe { start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        }
    }

    /// The frames of the image, with its guard pages.
    pub(crate) fn frames(&self) -> usize {
        self.span / PAGE_SIZE + 2
    }

    /// The bytes that the loaded image and its pristine copy take.
    pub(crate) fn bytes(&self) -> usize {
        self.span + 2 * PAGE_SIZE + self.pristine.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
    }
}

/// The imports of a loaded image, and the initial content of its writable ranges.
type Records = (Vec<Wire>, Vec<(Range<usize>, Vec<u8>)>);

/// Records what a restart needs of `image`, which is loaded at `memory`. Returns `None` if the domain may not
/// use that much of the kernel's heap, or there is no memory.
fn record(charge: Charge, image: &Image<'_>, memory: &[u8]) -> Option<Records> {
    let (mut imports, mut pristine) = (Vec::new(), Vec::new());
    for info in image.imports() {
        heap::try_reserve(charge, &mut imports, 1).then_some(())?;
        imports.push(Wire::copy(charge, &info)?);
    }
    for range in image.writable_ranges() {
        heap::try_reserve(charge, &mut pristine, 1).then_some(())?;
        pristine.push((range.clone(), heap::try_copy(charge, &memory[range])?));
    }
    Some((imports, pristine))
}

/// Refuses an image that was built with another version of an interface than the kernel: it may receive
/// handles of any interface, also of one that it does not import.
fn check_interfaces(image: &Image<'_>) -> Result<(), StartError> {
    let registry = interfaces::registry();
    for wire in image.imports().chain(image.export()) {
        let interface = || wire.interface.into();
        if registry.by_name(wire.interface).is_none() {
            return Err(StartError::NoInterface { interface: interface() });
        }
        if image.interfaces().all(|info| info.interface != wire.interface) {
            return Err(StartError::NoNote { interface: interface() });
        }
    }
    for info in image.interfaces() {
        let kernel_entry = registry.by_name(info.interface);
        if let Some(known) = kernel_entry.filter(|known| known.fingerprint() != info.fingerprint) {
            return Err(StartError::Interface {
                interface: info.interface.into(),
                image: info.fingerprint,
                kernel: known.fingerprint(),
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

impl Wire {
    fn copy(charge: Charge, info: &WireInfo<'_>) -> Option<Self> {
        let text = |text| RecordedText::copy(charge, text);
        Some(Self { name: text(info.name)?, interface: text(info.interface)?, fingerprint: info.fingerprint })
    }
}

/// Drops a dead domain's loaded image, so that its next instance is loaded from the archive.
pub(crate) fn unload(domain: &Domain) {
    *domain.program.lock() = None;
}

/// An instance that is ready to run.
pub(crate) struct Prepared {
    /// The entry function's address.
    entry: usize,
    /// A handle for each import, in the image's order.
    handles: Vec<NonNull<u8>>,
}

/// Prepares memory and handles for the instance `id`.
pub(crate) fn prepare(domain: &Domain, id: DomainId) -> Result<Prepared, StartError> {
    if let Some(device) = device::missing(domain.slot) {
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
    let is_imported = |name: &String| program.imports.iter().any(|import| *import.name == **name);
    if let Some(name) = wires.keys().find(|name| !is_imported(name)) {
        return Err(StartError::NotImported { import: name.clone() });
    }
    let handles = program.imports.iter().map(|import| {
        let from = wires
            .get(&*import.name)
            .ok_or_else(|| StartError::Unwired { import: import.name.to_string() })?;
        wire(import, from, id)
    });
    Ok(Prepared { entry: program.entry, handles: handles.collect::<Result<_, _>>()? })
}

/// Makes a handle for `id` to the export of `from`.
fn wire(import: &Wire, from: &str, id: DomainId) -> Result<NonNull<u8>, StartError> {
    let handle = |export: &ExportProxy| {
        if export.interface() != import.fingerprint {
            let wanted = (import.interface.to_string(), import.fingerprint);
            return Err(StartError::Mismatch {
                import: import.name.to_string(),
                wanted,
                found: export.interface(),
            });
        }
        export.handle(id).map_err(StartError::NoHandle)
    };
    let export = if from == KERNEL {
        Some(environment().kernel_export)
    } else {
        domain::find(from).map(|domain| &domain.export)
    };
    match export.map(|export| export.lock()).as_deref() {
        Some(Some(export)) => handle(export),
        _ => Err(StartError::NoExport { import: import.name.to_string(), from: from.into() }),
    }
}

/// The result of an entry function.
pub(crate) struct Entered {
    upcall: Option<UpcallEntry>,
    export: *mut u8,
    /// The error that it returned instead.
    failure: Option<String>,
}

/// Runs the entry function on this thread. In the outermost section.
pub(crate) fn run_entry(domain: &'static Domain, id: DomainId, prepared: Prepared) -> RpcResult<Entered> {
    let Prepared { entry, handles } = prepared;
    let handles: Vec<*mut u8> = handles.into_iter().map(NonNull::as_ptr).collect();
    let args: Vec<&str> = domain.manifest.args.iter().map(|word| &**word).collect();
    // SAFETY: `prepare` made the handles in the order of the image's import notes. They and the words outlive
    // the call.
    let mut arguments =
        unsafe { EntryArguments::new(environment().services, id, &handles, &args, machine().phys_offset()) };
    let arguments_ptr = &raw mut arguments;
    enter::call(id, move || {
        // SAFETY: the loader checked that the address is the image's entry, whose type the ABI note vouches
        // for.
        let entry =
            unsafe { core::mem::transmute::<usize, unsafe extern "C" fn(*mut EntryArguments)>(entry) };
        // SAFETY: `arguments` outlives the call: a crash returns to this frame too.
        unsafe { entry(arguments_ptr) };
    })?;
    let failure = arguments.failure().map(|failure| failure.as_str().into());
    Ok(Entered { upcall: arguments.upcall(), export: arguments.export(), failure })
}

/// Makes a new instance reachable: for upcalls, and through the handles of its clients. The caller is in the
/// section in which it found the instance alive after its entry function.
pub(crate) fn adopt(domain: &Domain, id: DomainId, entered: Entered) -> Result<(), StartError> {
    if let Some(reason) = entered.failure {
        return Err(StartError::Refused { reason });
    }
    domain.upcall.store(entered.upcall.map_or(0, |entry| entry as usize), Ordering::SeqCst);
    let handle = NonNull::new(entered.export);
    // SAFETY: the entry function returned this handle and gave it up.
    if handle.is_some_and(|cell| !unsafe { proxy::is_of(cell, id) }) {
        return Err(StartError::ForeignExport);
    }
    let mut export = domain.export.lock();
    match (handle, &*export) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(StartError::ExportChanged),
        (Some(cell), None) => {
            // SAFETY: the entry function returned this handle and gave it up.
            *export = Some(unsafe { ExportProxy::new(cell) });
            Ok(())
        }
        (Some(cell), Some(export)) => {
            // SAFETY: as above, and the previous instance is over.
            let follows = unsafe { export.follow(cell, id) };
            if follows { Ok(()) } else { Err(StartError::ExportChanged) }
        }
    }
}
