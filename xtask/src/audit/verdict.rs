//! [`Verdicts`]: the audit's verdict on each image, for the seal of a boot archive.
//!
//! The audit takes seconds, so its findings are kept for the files that it and the compiler read: those that
//! the compiler's dependency lists name for the images, the workspace's manifests and lists, and this
//! program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use coppice_seal::Verdict;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{audit, units};
use crate::ui::Step;
use crate::workspace::{TARGET, Workspace};
use crate::{image, wrapper};

/// Findings by image; an image without any has an empty list.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Verdicts(BTreeMap<String, Vec<String>>);

impl Verdicts {
    /// Returns the verdicts on the images `built`, which have been built. Audits them, or reads the findings
    /// of an earlier audit of the same files.
    pub(crate) fn of(workspace: &Workspace, built: &BTreeSet<&str>) -> Result<Arc<Self>> {
        let mut known = workspace.verdicts.lock().expect("no thread panics with it");
        if let Some(verdicts) = known.as_ref()
            && built.iter().all(|image| verdicts.0.contains_key(*image))
        {
            return Ok(verdicts.clone());
        }
        Ok(known.insert(Arc::new(Self::read(workspace, built)?)).clone())
    }

    fn read(workspace: &Workspace, built: &BTreeSet<&str>) -> Result<Self> {
        let kept = workspace.target.join("audit").join(format!("{}.json", digest(workspace, built)?));
        if let Ok(text) = fs::read(&kept)
            && let Ok(verdicts) = serde_json::from_slice(&text)
        {
            return Ok(verdicts);
        }
        let verdicts = Self::audit(workspace, built)?;
        let folder = kept.parent().context("the file lies in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        // Written at once: another process may read it.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut file, &verdicts)?;
        file.persist(&kept).with_context(|| format!("writing {}", kept.display()))?;
        Ok(verdicts)
    }

    fn audit(workspace: &Workspace, built: &BTreeSet<&str>) -> Result<Self> {
        let step = Step::start("auditing the images");
        let mut images = workspace.images()?;
        images.retain(|image, _| built.contains(&**image));
        let mut audit = audit(workspace)?;
        if audit.findings.is_empty() {
            let build = image::cargo(workspace, "build", &images);
            units::audit_builds(workspace, wrapper::plan(workspace)?, vec![build], &mut audit, &step)?;
        }
        let mut folders: Vec<&Path> = workspace
            .metadata
            .workspace_packages()
            .into_iter()
            .map(|package| workspace.folder(package))
            .collect();
        folders.retain(|folder| !folder.as_os_str().is_empty());
        // The innermost folder comes first.
        folders.sort_by_key(|folder| std::cmp::Reverse(folder.components().count()));
        let folder_of = |place: &str| folders.iter().find(|folder| Path::new(place).starts_with(folder));
        let mut verdicts = BTreeMap::new();
        for (image, package) in images {
            let closure = audit.closures.of(&package);
            let folders: BTreeSet<&Path> = closure.iter().map(|part| workspace.folder(part)).collect();
            // A finding outside of all packages, such as one in the trusted list, concerns each image.
            let concerns = |place: &str| folder_of(place).is_none_or(|folder| folders.contains(*folder));
            let findings = audit.findings.iter().filter(|finding| concerns(&finding.place));
            verdicts.insert(image, findings.map(ToString::to_string).collect());
        }
        step.done(&format!("{} images, {} findings", verdicts.len(), audit.findings.len()));
        Ok(Self(verdicts))
    }

    /// The verdict on an image; `None` if the audit does not know it.
    pub(crate) fn on(&self, image: &str) -> Option<Verdict> {
        let findings = self.0.get(image)?;
        Some(match findings.len() {
            0 => Verdict::Passed,
            count => Verdict::Failed { findings: count as u32 },
        })
    }

    /// The findings in an image.
    pub(crate) fn findings(&self, image: &str) -> &[String] {
        self.0.get(image).map_or(&[], Vec::as_slice)
    }
}

/// The digest of all files on which the audit's result depends.
fn digest(workspace: &Workspace, built: &BTreeSet<&str>) -> Result<String> {
    let mut files = BTreeSet::new();
    for image in built {
        let list = workspace.target.join(TARGET).join("release").join(format!("{image}.d"));
        let text = fs::read_to_string(&list).with_context(|| format!("reading {}", list.display()))?;
        files.extend(dependencies(&text));
    }
    for package in workspace.metadata.workspace_packages() {
        files.insert(package.manifest_path.clone().into_std_path_buf());
    }
    for file in
        ["Cargo.toml", "Cargo.lock", ".cargo/config.toml", "xtask/trusted.toml", "xtask/constructors.toml"]
    {
        files.insert(workspace.root.join(file));
    }
    // This program. Its path is of no use here: a cargo that this program runs may have replaced the file.
    files.insert(PathBuf::from("/proc/self/exe"));
    let mut digest = Sha256::new();
    for image in built {
        digest.update(image);
        digest.update([0]);
    }
    for file in files {
        let content = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        for part in [file.as_os_str().as_encoded_bytes(), content.as_slice()] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The files of a dependency list in the format of make, in which a backslash precedes a space of a name.
fn dependencies(text: &str) -> Vec<PathBuf> {
    let Some((_, list)) = text.trim_end().split_once(": ") else { return Vec::new() };
    let marked = list.replace("\\ ", "\0");
    marked.split(' ').filter(|name| !name.is_empty()).map(|name| name.replace('\0', " ").into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_list_is_split_at_its_spaces() {
        let list = "/t/echo: /a/Cargo.toml /my\\ tree/lib.rs /b.rs\n";
        let files: Vec<PathBuf> = ["/a/Cargo.toml", "/my tree/lib.rs", "/b.rs"].map(PathBuf::from).into();
        assert_eq!(dependencies(list), files);
        assert_eq!(dependencies("/t/echo:"), Vec::<PathBuf>::new());
    }
}
