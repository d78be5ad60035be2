//! The size of a crate, as far as it is compiled.
//!
//! Crates carry code for other platforms and features (the `libc` crate: ten times the code of one platform),
//! so only the files that the compiler read are counted, as the audit of the builds found them. Counts are
//! kept by the hash of a file's contents, so that a file is parsed once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use cargo_metadata::{Package, PackageId};

use super::syntax::code_lines;
use super::units::{Built, hash};
use crate::workspace::Workspace;

/// The counting method, in a sentence for reports.
pub(crate) const METHOD: &str = "lines that hold code (not blank, no comment, not under #[cfg(test)]) in the source files \
     that the compiler read for these builds; its own core and alloc are not counted";

/// Lines of code by crate.
pub(crate) struct Lines {
    files: BTreeMap<PackageId, BTreeSet<PathBuf>>,
    counted: HashMap<PackageId, usize>,
    cache: Cache,
}

/// Lines of code by the hash of a file, in a file below `target/`.
struct Cache {
    path: PathBuf,
    lines: BTreeMap<String, usize>,
    is_changed: bool,
}

impl Cache {
    /// Reads the cache. One that is missing or damaged is empty.
    fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap_or_default();
        Self { path, lines: serde_json::from_str(&text).unwrap_or_default(), is_changed: false }
    }

    fn write(&self) -> Result<()> {
        if self.is_changed {
            let text = serde_json::to_string(&self.lines)?;
            fs::write(&self.path, text).with_context(|| format!("writing {}", self.path.display()))?;
        }
        Ok(())
    }
}

impl Lines {
    /// Takes the files that the compiler read for each crate.
    pub(crate) fn new(workspace: &Workspace, built: Built) -> Self {
        let cache = Cache::read(workspace.target.join("audit/lines.json"));
        Self { files: built.files, counted: HashMap::new(), cache }
    }

    /// Lines of code of a crate; 0 for one that is in none of the builds.
    pub(crate) fn of(&mut self, package: &Package) -> Result<usize> {
        if let Some(&lines) = self.counted.get(&package.id) {
            return Ok(lines);
        }
        let mut lines = 0;
        for path in self.files.get(&package.id).into_iter().flatten() {
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let hash = hash(path)?;
            lines += match self.cache.lines.get(&hash) {
                Some(&lines) => lines,
                None => {
                    let text =
                        fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
                    let lines = code_lines(&text);
                    self.cache.lines.insert(hash, lines);
                    self.cache.is_changed = true;
                    lines
                }
            };
        }
        self.counted.insert(package.id.clone(), lines);
        Ok(lines)
    }

    /// Keeps the counts for the next time.
    pub(crate) fn keep(&self) -> Result<()> {
        self.cache.write()
    }
}
