//! Damaged boot archives, made from a good one.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use coppice_manifest::{Domain, Manifest};
use coppice_seal::{Seal, SigningKey, Verdict};

/// The entries of an archive, for modification.
#[derive(Clone)]
pub(crate) struct Archive {
    pub(crate) manifest: Option<Manifest>,
    /// Images and other entries, by name.
    pub(crate) entries: BTreeMap<String, Vec<u8>>,
}

impl Archive {
    /// Reads a good archive.
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut entries = BTreeMap::new();
        let mut reader = tar::Archive::new(bytes.as_slice());
        for entry in reader.entries().expect("a good archive") {
            let mut entry = entry.expect("a good archive");
            let name = entry.path().expect("a good archive").to_str().expect("names are UTF-8").to_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("a good archive");
            entries.insert(name, content);
        }
        let manifest = entries.remove("manifest").expect("a good archive has a manifest");
        Self { manifest: Some(Manifest::decode(&manifest).expect("a good manifest")), entries }
    }

    /// The domain called `name`, for modification.
    pub(crate) fn domain(&mut self, name: &str) -> &mut Domain {
        let manifest = self.manifest.as_mut().expect("the manifest is changed before it is taken out");
        let found = manifest.domains.iter_mut().find(|domain| domain.name == name);
        found.unwrap_or_else(|| panic!("no domain {name}"))
    }

    /// Adds a domain whose image is a copy of `image`.
    pub(crate) fn add(&mut self, name: &str, image: &str) -> &mut Domain {
        let copy = self.image(image).clone();
        self.entries.insert(format!("images/{name}"), copy);
        let mut domain = self.domain("echo").clone();
        name.clone_into(&mut domain.name);
        name.clone_into(&mut domain.image);
        let domains = &mut self.manifest.as_mut().expect("as above").domains;
        domains.push(domain);
        domains.last_mut().expect("just added")
    }

    /// The image called `name`, for modification.
    pub(crate) fn image(&mut self, name: &str) -> &mut Vec<u8> {
        self.entry(&format!("images/{name}"))
    }

    /// The entry called `name`, for modification.
    pub(crate) fn entry(&mut self, name: &str) -> &mut Vec<u8> {
        self.entries.get_mut(name).unwrap_or_else(|| panic!("no entry {name}"))
    }

    /// Seals the archive with `key`, with the same verdict on each image.
    pub(crate) fn seal(&mut self, key: &SigningKey, verdict: Option<Verdict>) {
        let mut seal = Seal::default();
        self.entries.remove(coppice_seal::ENTRY);
        let manifest = self.manifest.as_ref().expect("the manifest is changed before it is taken out");
        seal.add("manifest", &manifest.encode(), None);
        for (name, content) in &self.entries {
            seal.add(name, content, verdict.filter(|_| name.starts_with(coppice_seal::IMAGES)));
        }
        self.entries.insert(coppice_seal::ENTRY.into(), seal.sign(key));
    }

    /// Serialises the archive.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let manifest = self.manifest.as_ref().map(|manifest| ("manifest".to_owned(), manifest.encode()));
        for (name, content) in manifest.iter().map(|(name, content)| (name, content)).chain(&self.entries) {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o444);
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, name, content.as_slice()).expect("names are short");
        }
        builder.into_inner().expect("a vector grows")
    }
}

/// Writes an archive to a file of its own.
pub(crate) fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.tar"));
    fs::write(&path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}
