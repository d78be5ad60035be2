//! The isolation audit, as a suite: `cargo xtask check` without its list of trusted crates.

use anyhow::Result;

use super::changed::Scope;
use super::output::Counts;
use super::suite::Suite;
use crate::audit;
use crate::ui::Step;
use crate::workspace::Workspace;

pub(super) fn run(workspace: &Workspace, scope: &Scope) -> Result<Vec<Suite>> {
    if !scope.audits() {
        return Ok(Vec::new());
    }
    let step = Step::start("auditing isolation");
    let mut audit = audit::audit(workspace)?;
    if audit.findings.is_empty() {
        audit::audit_builds(workspace, &mut audit)?;
    }
    for finding in &audit.findings {
        step.line(&format!("FINDING {finding}"));
    }
    let failed = audit.findings.len();
    let counts = Counts { passed: usize::from(failed == 0), failed, ignored: 0 };
    let mut suite = Suite::new("isolation audit", counts, step.elapsed());
    if audit.audited.is_empty() {
        suite.counts.passed = 0;
        suite.failure = Some("there was no domain to audit".to_owned());
    }
    step.done(&format!("{} packages, {failed} findings", audit.audited.len()));
    Ok(vec![suite])
}
