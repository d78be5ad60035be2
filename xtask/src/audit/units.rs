//! The compiler's view of the audited crates: the audit of the real build.
//!
//! The kernels and images are built by the compiler's wrapper (`xtask/rustc`), which forbids unsafe code in
//! each audited package and leaves a record for each crate. This module requires, for each audited crate that
//! cargo names as part of these builds, that there is such a record and that
//!
//! - the compiler was told `-Funsafe_code`, and nothing else but what cargo derives from the permitted
//!   settings ([`argument_findings`]);
//! - rustc read the files that the audit read, with the same contents, and no others;
//! - the object code defines and refers to nothing but Rust items ([`objects`]).
//!
//! For a confined crate it counts the lines with unsafe code, in the files that rustc read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_metadata::diagnostic::DiagnosticLevel;
use cargo_metadata::{Artifact, CompilerMessage, Message, Package};
use sha2::{Digest, Sha256};

use super::syntax::{crate_files, unsafe_lines};
use super::trusted::PLACE;
use super::{Audit, Finding, objects};
use crate::ui::Step;
use crate::workspace::{TARGET, Workspace};
use crate::wrapper::Plan;

/// The flag that forbids unsafe code, as the wrapper adds it.
const FORBID: &str = "-Funsafe_code";

/// The wrapper's record of one compilation.
#[derive(Debug, Default)]
struct Record {
    package: PathBuf,
    arguments: Vec<String>,
    /// Contents by path, which may be relative to the workspace's root.
    inputs: BTreeMap<PathBuf, String>,
    /// Environment variables that the source reads, with their values.
    variables: Vec<String>,
    /// Contents by path.
    outputs: BTreeMap<PathBuf, String>,
}

impl Record {
    fn parse(text: &str) -> Option<Self> {
        let mut record = Self::default();
        for line in text.lines() {
            let (word, value) = line.split_once(' ')?;
            let file = || value.split_once(' ').map(|(hash, path)| (PathBuf::from(path), hash.to_owned()));
            match word {
                "package" => record.package = PathBuf::from(value),
                "argument" => record.arguments.push(value.to_owned()),
                "input" => record.inputs.extend([file()?]),
                "variable" => record.variables.push(value.to_owned()),
                "output" => record.outputs.extend([file()?]),
                _ => return None,
            }
        }
        Some(record)
    }
}

/// All records of a plan, by the hash of each output: cargo links or copies outputs to other names.
struct Records(BTreeMap<String, Record>);

impl Records {
    fn read(folder: &Path) -> Result<Self> {
        let mut records = BTreeMap::new();
        // The folder is missing until the first crate is compiled.
        for entry in folder.read_dir().into_iter().flatten() {
            let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let Some(record) = Record::parse(&text) else { continue };
            let hashes: Vec<String> = record.outputs.values().cloned().collect();
            if let [hash] = hashes.as_slice() {
                records.insert(hash.clone(), record);
            }
        }
        Ok(Self(records))
    }
}

/// The crates that one build consists of, with the files of each that rustc read, for the count of lines.
#[derive(Default)]
pub(crate) struct Built {
    /// By package: paths of source files.
    pub(crate) files: BTreeMap<cargo_metadata::PackageId, BTreeSet<PathBuf>>,
}

/// Runs the `builds`, and adds a finding to `audit` for each crate that is not built as it was audited.
pub(crate) fn audit_builds(
    workspace: &Workspace,
    plan: &Plan,
    builds: Vec<Command>,
    audit: &mut Audit,
    step: &Step,
) -> Result<Built> {
    let mut artifacts = Vec::new();
    for mut build in builds {
        let build = plan.apply(build.arg("--message-format=json"));
        let output = step.outcome(build)?;
        let mut refusals = Vec::new();
        for message in Message::parse_stream(output.output.as_bytes()) {
            match message.context("reading cargo's messages")? {
                Message::CompilerArtifact(artifact) => artifacts.push(artifact),
                Message::CompilerMessage(message) => refusals.extend(refusal(workspace, &message)),
                _ => {}
            }
        }
        if !output.status.success() && refusals.is_empty() {
            bail!("the audited build failed ({}):\n{}", output.status, output.noise);
        }
        audit.findings.extend(refusals);
    }
    let records = Records::read(&plan.records())?;
    let mut built = Built::default();
    let mut confined = BTreeMap::new();
    for artifact in &artifacts {
        if artifact.target.is_custom_build() {
            continue;
        }
        let Some(package) = workspace.metadata.packages.iter().find(|p| p.id == artifact.package_id) else {
            continue;
        };
        let is_member = workspace.metadata.workspace_members.contains(&package.id);
        let files = if is_member {
            let unit = Unit { workspace, package, artifact };
            let is_audited = audit.audited.contains(package.name.as_str());
            unit.audit(&records, is_audited, &mut audit.findings)?
        } else {
            dep_info(artifact)?
        };
        built.files.entry(package.id.clone()).or_default().extend(files);
        if audit.trusted.entry(package).is_some_and(super::trusted::Entry::is_confined) {
            confined.insert(&package.id, package);
            if let Some(library) = library(artifact) {
                objects::audit(&library, objects::Kind::Confined, &package.name, &mut audit.findings)?;
            }
        }
    }
    for package in confined.into_values() {
        confined_findings(package, &built, audit)?;
    }
    audit.findings.sort();
    audit.findings.dedup();
    Ok(built)
}

/// The finding for a compiler's error; there is none for a warning.
fn refusal(workspace: &Workspace, message: &CompilerMessage) -> Option<Finding> {
    let diagnostic = &message.message;
    if diagnostic.level != DiagnosticLevel::Error {
        return None;
    }
    let span = diagnostic.spans.iter().find(|span| span.is_primary)?;
    let path = Path::new(&span.file_name);
    let path = path.strip_prefix(&workspace.root).unwrap_or(path);
    let place = format!("{}:{}", path.display(), span.line_start);
    Some(Finding::new(place, format!("the compiler refuses it: {}", diagnostic.message)))
}

fn library(artifact: &Artifact) -> Option<PathBuf> {
    let library = artifact.filenames.iter().find(|path| path.extension() == Some("rlib"))?;
    Some(library.clone().into_std_path_buf())
}

/// The files that rustc read for a crate of the registry, by cargo's dep-info.
fn dep_info(artifact: &Artifact) -> Result<Vec<PathBuf>> {
    let Some(library) = artifact.filenames.first() else { return Ok(Vec::new()) };
    let name = library.file_stem().unwrap_or_default();
    let path = library.with_file_name(format!("{}.d", name.strip_prefix("lib").unwrap_or(name)));
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    // Each file has a rule of its own, without prerequisites.
    let rules = text.lines().filter(|line| !line.starts_with('#'));
    Ok(rules.filter_map(|line| line.strip_suffix(':')).map(|file| file.replace("\\ ", " ").into()).collect())
}

/// Compares the lines with unsafe code of a confined crate with the recorded number.
fn confined_findings(package: &Package, built: &Built, audit: &mut Audit) -> Result<()> {
    let root = package.manifest_path.parent().context("a manifest lies in a folder")?;
    let mut lines = Vec::new();
    for path in built.files.get(&package.id).into_iter().flatten() {
        let shown = path.strip_prefix(root).unwrap_or(path);
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let found = unsafe_lines(&String::from_utf8_lossy(&bytes));
        lines.extend(found.into_iter().map(|line| format!("{}:{line}", shown.display())));
    }
    let entry = audit.trusted.entry(package).context("only listed crates are confined")?;
    let recorded = entry.unsafe_lines.unwrap_or_default();
    if recorded != lines.len() {
        let what = format!(
            "{} {} has {} lines with unsafe code, but {recorded} were reviewed: {}",
            package.name,
            package.version,
            lines.len(),
            lines.join(", ")
        );
        audit.findings.push(Finding::new(PLACE, what));
    }
    audit.confined.insert(format!("{} {}", package.name, package.version), lines);
    Ok(())
}

/// One crate of the workspace in a build.
struct Unit<'a> {
    workspace: &'a Workspace,
    package: &'a Package,
    artifact: &'a Artifact,
}

impl Unit<'_> {
    /// Checks the crate if it is audited, and returns the files that rustc read.
    fn audit(
        &self,
        records: &Records,
        is_audited: bool,
        findings: &mut Vec<Finding>,
    ) -> Result<Vec<PathBuf>> {
        let target = &self.artifact.target;
        let place = self.workspace.folder(self.package).display().to_string();
        let mut record = None;
        for path in &self.artifact.filenames {
            // Cargo also names the metadata that it extracts from a library.
            if path.extension() != Some("rmeta") && path.is_file() {
                let hash = hash(path.as_std_path())?;
                record = record.or(records.0.get(&hash));
            }
        }
        if !is_audited {
            let inputs = record.into_iter().flat_map(|record| record.inputs.keys());
            return Ok(inputs.map(|path| self.workspace.root.join(path)).collect());
        }
        let mut finding = |what: String| findings.push(Finding::new(&place, what));
        let Some(record) = record else {
            finding(format!(
                "the compiler's wrapper did not record how {} was compiled: `cargo clean -p {}` has it \
                 compiled again",
                target.name, self.package.name
            ));
            return Ok(Vec::new());
        };
        if record.package != self.workspace.root.join(self.workspace.folder(self.package)) {
            finding(format!("{} was compiled as {}", target.name, record.package.display()));
        }
        let wrong = argument_findings(&record.arguments);
        wrong.into_iter().for_each(|what| finding(format!("{} was compiled with {what}", target.name)));
        for variable in &record.variables {
            let name = variable.split('=').next().unwrap_or_default();
            if !name.starts_with("CARGO_PKG_") {
                finding(format!("reads the environment variable {name} while it is compiled"));
            }
        }

        let mut audited = BTreeMap::new();
        for file in crate_files(target.src_path.as_std_path())? {
            audited.insert(file.path.clone(), hash(&file.path)?);
        }
        let mut read = BTreeSet::new();
        for (path, contents) in &record.inputs {
            let path = self.workspace.root.join(path);
            let shown = path.strip_prefix(&self.workspace.root).unwrap_or(&path).display().to_string();
            match audited.get(&path) {
                None => finding(format!("the compiler read {shown}, which the audit did not")),
                Some(own) if own != contents => finding(format!("{shown} has changed since it was compiled")),
                Some(_) => {}
            }
            read.insert(path);
        }
        for path in audited.keys().filter(|path| !read.contains(*path)) {
            let shown = path.strip_prefix(&self.workspace.root).unwrap_or(path).display();
            finding(format!("the audit read {shown}, which the compiler did not"));
        }
        if let Some(library) = library(self.artifact) {
            let is_model = self.workspace.folder(self.package).starts_with("devices");
            let kind = if is_model { objects::Kind::Model } else { objects::Kind::Library };
            objects::audit(&library, kind, &self.package.name, findings)?;
        } else if let Some(program) = &self.artifact.executable {
            objects::audit_image(program.as_std_path(), &self.package.name, findings)?;
        }
        Ok(read.into_iter().collect())
    }
}

/// The SHA-256 of a file, in hexadecimal.
pub(crate) fn hash(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Checks what the compiler was told about an audited crate. Every argument has to be known: an unknown one
/// could weaken a lint, add code or libraries, or change the generated code.
fn argument_findings(arguments: &[String]) -> Vec<String> {
    let mut findings = Vec::new();
    if arguments.last().is_none_or(|last| last != FORBID) {
        findings.push(format!("no {FORBID}"));
    }
    let mut sources = 0;
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        // The value of an option is a part of the word, or the next one.
        let (option, value) = match word.split_once('=') {
            Some((option, value)) if word.starts_with("--") => (option, value),
            _ if word.starts_with("-C") && word.len() > 2 => ("-C", &word[2..]),
            _ if [
                "-C",
                "-L",
                "--check-cfg",
                "--cfg",
                "--crate-name",
                "--extern",
                "--out-dir",
                "--target",
            ]
            .contains(&word)
                || ["--crate-type", "--cap-lints", "-A", "--allow", "-l", "-Z", "-O", "--sysroot"]
                    .contains(&word) =>
            {
                (word, words.next().unwrap_or_default())
            }
            _ => (word, ""),
        };
        if !option.starts_with('-') && option.ends_with(".rs") && sources == 0 {
            sources += 1;
        } else if !is_known(option, value) {
            findings.push(if value.is_empty() { option.to_owned() } else { format!("{option} {value}") });
        }
    }
    findings
}

/// Flags of code generation that a profile and the link of an image need.
#[rustfmt::skip]
const CODEGEN: &[&str] = &[
    "codegen-units", "debug-assertions", "debuginfo", "embed-bitcode", "extra-filename", "incremental", "link-arg",
    "lto", "metadata", "opt-level", "overflow-checks", "panic", "relocation-model", "split-debuginfo", "strip",
    "target-feature",
];

fn is_known(option: &str, value: &str) -> bool {
    match option {
        "--crate-name" | "--out-dir" | "--check-cfg" | "--extern" => true,
        "--emit" | "--error-format" | "--json" | "--diagnostic-width" => true,
        "--edition" => value == "2024",
        "--crate-type" => ["lib", "bin", "rlib"].contains(&value),
        "--target" => value == TARGET,
        // Where cargo puts the libraries of dependencies, and nothing by another kind of search.
        "-L" => value.starts_with("dependency="),
        "--cfg" => value.starts_with("feature="),
        "-C" => {
            let name = value.split('=').next().unwrap_or_default();
            // `target-feature` and `relocation-model` are the image's own; a CPU's feature is none of them.
            let is_fixed = match name {
                "target-feature" => value == "target-feature=+crt-static",
                "relocation-model" => value == "relocation-model=pie",
                "link-arg" => !value.contains("link-arg=/") && !value.contains("-T"),
                _ => true,
            };
            CODEGEN.contains(&name) && is_fixed
        }
        FORBID => true,
        // Levels of lints, from `[lints]`. None undoes a `forbid` of the command line.
        _ if ["--warn", "--deny", "--forbid"].contains(&option) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(words: &str) -> Vec<String> {
        argument_findings(&words.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_arguments_of_cargo_are_known() {
        let words = "--crate-name x --edition=2024 src/lib.rs --error-format=json --crate-type lib \
                     --emit=dep-info,metadata,link -C opt-level=3 -Cembed-bitcode=no --cfg feature=\"a\" \
                     --deny=unsafe_op_in_unsafe_fn -C metadata=1 --out-dir /t --target x86_64-unknown-linux-gnu \
                     -L dependency=/t --extern log=/t/liblog.rmeta -Funsafe_code";
        assert_eq!(findings(words), [] as [String; 0]);
    }

    #[test]
    fn other_arguments_are_findings() {
        assert_eq!(findings("src/lib.rs"), ["no -Funsafe_code"]);
        for words in [
            "--cap-lints warn",
            "--cap-lints=allow",
            "-A unsafe_code",
            "--allow=unsafe_code",
            "-Aunsafe_code",
            "-C linker=/evil",
            "-Cllvm-args=x",
            "-C target-cpu=native",
            "-C target-feature=+avx",
            "-C link-arg=/evil.o",
            "-l evil",
            "-levil",
            "-L native=/evil",
            "-L/evil",
            "-Z allow-features=x",
            "-Zunstable-options",
            "--cfg evil",
            "--sysroot /evil",
            "--target evil.json",
            "--edition=2018",
            "--crate-type cdylib",
            "@evil",
        ] {
            let found = findings(&format!("{words} -Funsafe_code"));
            assert_eq!(found.len(), 1, "{words}: {found:?}");
        }
    }

    #[test]
    fn a_record_is_parsed() {
        let text = "package /w/echo\nargument --crate-name\nargument x\ninput 12 src/a b.rs\nvariable A=b\n\
                    output 34 /t/libx.rlib\n";
        let record = Record::parse(text).expect("it is a record");
        assert_eq!(record.package, Path::new("/w/echo"));
        assert_eq!(record.arguments, ["--crate-name", "x"]);
        assert_eq!(record.inputs[Path::new("src/a b.rs")], "12");
        assert_eq!(record.outputs[Path::new("/t/libx.rlib")], "34");
        assert!(Record::parse("rubbish\n").is_none());
    }
}
