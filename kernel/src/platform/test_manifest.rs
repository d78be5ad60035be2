//! Domains of a manifest for tests.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use coppice_manifest::{Policy, Restart};

/// A domain with the smallest valid limits.
pub(crate) fn domain(name: &str, parent: &str, wires: &[(&str, &str)]) -> coppice_manifest::Domain {
    coppice_manifest::Domain {
        name: name.into(),
        image: name.into(),
        parent: parent.into(),
        restart: Restart::Never,
        policy: Policy::default(),
        heap_bytes: 4096,
        shared_bytes: 4096,
        threads: 1,
        kernel_heap_bytes: 1 << 20,
        priority: coppice_manifest::NORMAL_PRIORITY,
        stack_bytes: 4096,
        deadline_ns: None,
        start_deadline_ns: 1,
        cpu_percent: None,
        log_rate: None,
        args: Vec::new(),
        devices: Vec::new(),
        wires: wires.iter().map(|(from, to)| ((*from).into(), (*to).into())).collect::<BTreeMap<_, _>>(),
    }
}
