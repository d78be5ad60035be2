//! The start of an instance, from the reservation of its parent's quotas until it can be called.

use coppice_abi::crossing::RpcError;
use coppice_abi::{CrashKind, DomainId};
use coppice_interfaces::Text;

use crate::domain::start_error::StartError;
use crate::domain::{Domain, load, supervision_tree};
use crate::fault::{crash_log, terminate};
use crate::policy::restart;
use crate::sched::{trace, wait};

/// Starts an instance of `domain`: loads its image if necessary, wires it, and runs its entry function on
/// this thread.
///
/// In the outermost section. If it fails, nothing of the instance remains.
pub(crate) fn start(domain: &'static Domain) -> Result<DomainId, StartError> {
    // The parent cannot end before this section does, and then ends this instance too.
    if let Some(parent) = domain.supervision.parent().filter(|parent| !parent.is_running()) {
        return Err(StartError::NoParent { parent: parent.manifest.name.clone() });
    }
    let id = domain.begin_instance()?;
    restart::forget_plan(domain);
    match run(domain, id) {
        Ok(()) => {
            domain.mark_started();
            wait::wake(wait::Key::Instance(domain.slot), u32::MAX);
            trace::record(trace::Kind::Restart, id, 0);
            Ok(id)
        }
        Err(error) => {
            // A crash in the entry function has a crash record already, which is more detailed and stays.
            let text = Text::format(format_args!("{error}"));
            terminate::terminate_because(id, CrashKind::StartFailed, text);
            Err(error)
        }
    }
}

/// Prepares instance `id`, runs its entry function, and adopts its exported object.
fn run(domain: &'static Domain, id: DomainId) -> Result<(), StartError> {
    supervision_tree::reserve(domain)?;
    let prepared = load::prepare(domain, id)?;
    let entered = load::run_entry(domain, id, prepared).map_err(StartError::Crashed)?;
    // From here to the end of the section the instance cannot end; but if it has ended, the sweep freed its
    // export.
    if domain.instance() != Some(id) {
        // SAFETY: the error is true: the instance has ended.
        return Err(StartError::Crashed(unsafe { RpcError::new(id, crash_log::cause(id)) }));
    }
    load::adopt(domain, id, entered)
}
