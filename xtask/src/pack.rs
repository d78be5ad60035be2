//! Boot archives: one system's manifest and the images that it uses, as a plain ustar file.
//!
//! The manifest is parsed and validated here, where errors can point at a line, and is stored in postcard
//! encoding, so the kernel needs no TOML parser. The last entry is the seal: the kernel refuses an archive
//! that differs from it, and an image that has not passed the isolation audit. An archive depends on the
//! signing key, and not on its time or place of creation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use coppice_manifest::{TomlError, TomlManifest};
use tar::{Builder, EntryType, Header};

use crate::audit::verdict::Verdicts;
use crate::devices::{self, Device};
use crate::image::{self, symbols_of, write_if_changed};
use crate::seal;
use crate::workspace::Workspace;

/// A system's manifest, as read from `systems/`.
pub(crate) struct SystemManifest {
    system: String,
    content: TomlManifest,
}

impl SystemManifest {
    /// The devices that the manifest requests, with `disks` in place of its own disks.
    pub(crate) fn devices(&self, disks: &[PathBuf]) -> Result<Vec<Device>> {
        devices::of_system(self.content.devices(), disks)
            .with_context(|| format!("the devices of systems/{}.toml", self.system))
    }

    /// The images of its domains.
    pub(crate) fn images(&self) -> BTreeSet<&str> {
        self.content.manifest().domains.iter().map(|domain| domain.image.as_str()).collect()
    }
}

/// Reads and validates a system's manifest.
pub(crate) fn read_manifest(workspace: &Workspace, system: &str) -> Result<SystemManifest> {
    let path = workspace.system(system)?;
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let content = TomlManifest::parse(&text).map_err(|error| at(system, &error))?;
    let name = &content.manifest().name;
    ensure!(name == system, "systems/{system}.toml calls its system \"{name}\": both names must be the same");
    Ok(SystemManifest { system: system.to_owned(), content })
}

fn at(system: &str, error: &TomlError) -> anyhow::Error {
    anyhow!("systems/{system}.toml, {error}")
}

/// Builds a system's images, packs it, and returns its archive.
///
/// # Errors
/// When an image cannot be built, or the isolation audit has findings in one.
pub(crate) fn pack(workspace: &Workspace, manifest: &SystemManifest) -> Result<PathBuf> {
    let (archive, findings) = pack_unaudited(workspace, manifest)?;
    ensure!(
        findings.is_empty(),
        "the isolation audit has findings in the images of {}:\n{}\n`cargo xtask run --unaudited` boots it all the same",
        manifest.system,
        findings.join("\n")
    );
    Ok(archive)
}

/// As [`pack`], but returns the findings of the audit instead of failing. The kernel refuses such an archive,
/// unless its command line has `accept=unaudited`.
pub(crate) fn pack_unaudited(
    workspace: &Workspace,
    manifest: &SystemManifest,
) -> Result<(PathBuf, Vec<String>)> {
    check_images(workspace, manifest)?;
    let images = image::build(workspace, &manifest.images())?;
    let verdicts = Verdicts::of(workspace, &manifest.images())?;
    let findings: BTreeSet<String> =
        manifest.images().into_iter().flat_map(|image| verdicts.findings(image)).cloned().collect();
    let archive = write(workspace, manifest, &images, &verdicts)?;
    Ok((archive, findings.into_iter().collect()))
}

/// Refuses a manifest with an image that no package builds.
fn check_images(workspace: &Workspace, SystemManifest { system, content }: &SystemManifest) -> Result<()> {
    let packages = workspace.images()?;
    let known: Vec<&str> = packages.keys().map(String::as_str).collect();
    content.manifest().check_images(&known).map_err(|error| {
        at(system, &content.locate(error))
            .context(format!("the workspace's packages build the images {}", known.join(", ")))
    })
}

fn write(
    workspace: &Workspace,
    manifest: &SystemManifest,
    images: &BTreeMap<String, PathBuf>,
    verdicts: &Verdicts,
) -> Result<PathBuf> {
    let SystemManifest { system, content } = manifest;
    let mut entries = vec![("manifest".to_owned(), content.manifest().encode())];
    for name in manifest.images() {
        let path = &images[name];
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        entries.push((format!("images/{name}"), bytes));
        let path = symbols_of(path);
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        entries.push((format!("symbols/{name}"), bytes));
    }
    let seal = seal::seal(&seal::signing_key(workspace)?, &entries, verdicts);
    entries.push((coppice_seal::ENTRY.to_owned(), seal));

    let folder = workspace.target.join("systems");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let path = folder.join(format!("{system}.tar"));
    write_if_changed(&path, &archive(&entries)?)?;
    Ok(path)
}

/// Packs the systems that `wanted` accepts into `target/systems`, with one cargo for all their images, and
/// returns that folder. A system in whose images the audit has findings is packed too; the kernel refuses it.
pub(crate) fn pack_all(workspace: &Workspace, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let systems = workspace.systems()?.into_keys().filter(|system| wanted(system));
    let manifests: Vec<_> = systems.map(|system| read_manifest(workspace, &system)).collect::<Result<_>>()?;
    for manifest in &manifests {
        check_images(workspace, manifest)?;
    }
    let wanted = manifests.iter().flat_map(SystemManifest::images).collect();
    let images = image::build(workspace, &wanted)?;
    let verdicts = Verdicts::of(workspace, &wanted)?;
    for manifest in &manifests {
        write(workspace, manifest, &images, &verdicts)?;
    }
    Ok(workspace.target.join("systems"))
}

fn archive(entries: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o444);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        builder
            .append_data(&mut header, name, bytes.as_slice())
            .with_context(|| format!("packing {name}"))?;
    }
    builder.into_inner().context("finishing the archive")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_depends_only_on_its_contents() {
        let entries = [("manifest".to_owned(), vec![1, 2, 3]), ("images/echo".to_owned(), vec![0; 700])];
        let bytes = archive(&entries).expect("two entries fit");
        assert_eq!(bytes, archive(&entries).expect("two entries fit"));
        assert_eq!(&bytes[257..263], b"ustar\0");

        let mut reader = tar::Archive::new(bytes.as_slice());
        let mut names = Vec::new();
        for entry in reader.entries().expect("the archive was just made") {
            let entry = entry.expect("the archive was just made");
            assert_eq!((entry.header().mtime().ok(), entry.header().uid().ok()), (Some(0), Some(0)));
            names.push(entry.path().expect("names are UTF-8").display().to_string());
        }
        assert_eq!(names, ["manifest", "images/echo"]);
    }
}
