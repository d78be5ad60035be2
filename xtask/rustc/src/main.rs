//! The compiler of the audited builds, which cargo starts in rustc's place for each package of the workspace.
//!
//! It adds `-Funsafe_code` for each package that is not on the trusted list. Unlike the attribute, this flag
//! is out of reach of sources and manifests: no lint level, condition or macro of a crate weakens it. A
//! package is identified by its folder, which cargo determines.
//!
//! For each crate it leaves a record of the command line and of each file that rustc read, with its SHA-256,
//! for the audit (`xtask/src/audit/units.rs`). A record is text: one line per fact, a word and its value.
//!
//! `xtask` starts it by a link `target/audit/PLAN/rustc`. The file `trusted` beside the link lists the
//! folders of the trusted packages, and the records lie in `records`. `PLAN` is a hash of that list and of
//! this program: cargo takes the wrapper's path into account, so a change of either compiles everything
//! again.

#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use sha2::{Digest, Sha256};

/// The flag for each audited package.
const FORBID: &str = "-Funsafe_code";

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {}: {error}", env!("CARGO_PKG_NAME"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<u8, Box<dyn Error>> {
    let mut words = env::args_os();
    let own = PathBuf::from(words.next().ok_or("no program name")?);
    let rustc = words.next().ok_or("cargo starts this program with the compiler and its arguments")?;
    let arguments: Vec<OsString> = words.collect();
    let plan = own.parent().ok_or("not started by its path")?;

    let mut command = Command::new(&rustc);
    command.args(&arguments);
    // Without a package cargo asks the compiler for its version and its targets.
    let Some(package) = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from) else {
        return status(&mut command);
    };
    let arguments = arguments.into_iter().map(OsString::into_string).collect::<Result<Vec<_>, _>>();
    let mut arguments = arguments.map_err(|word| format!("{} is not UTF-8", word.to_string_lossy()))?;
    let trusted = fs::read_to_string(plan.join("trusted"))?;
    if !trusted.lines().any(|folder| Path::new(folder) == package) {
        command.arg(FORBID);
        arguments.push(FORBID.to_owned());
    }
    let code = status(&mut command)?;
    if code == 0
        && let Some(unit) = Unit::new(&arguments)
    {
        unit.record(&package, &arguments, &plan.join("records"))?;
    }
    Ok(code)
}

fn status(command: &mut Command) -> Result<u8, Box<dyn Error>> {
    let status = command.status()?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// The names of a compilation's output.
struct Unit {
    folder: PathBuf,
    /// The crate's name and cargo's hash.
    stem: String,
}

impl Unit {
    /// Returns `None` for a command line that does not compile a crate of cargo's.
    fn new(arguments: &[String]) -> Option<Self> {
        let after = |name: &str| {
            let at = arguments.iter().position(|word| word == name)?;
            arguments.get(at + 1)
        };
        let extra =
            arguments.iter().find_map(|word| word.strip_prefix("extra-filename=")).unwrap_or_default();
        let stem = format!("{}{extra}", after("--crate-name")?);
        Some(Self { folder: PathBuf::from(after("--out-dir")?), stem })
    }

    fn record(&self, package: &Path, arguments: &[String], records: &Path) -> Result<(), Box<dyn Error>> {
        let mut text = String::new();
        let mut line = |word: &str, value: &str| {
            if value.contains('\n') {
                return Err(format!("{value:?} has a line break"));
            }
            writeln!(text, "{word} {value}").map_err(|error| error.to_string())
        };
        line("package", &package.display().to_string())?;
        for argument in arguments {
            line("argument", argument)?;
        }
        let dep_info = fs::read_to_string(self.folder.join(format!("{}.d", self.stem)))?;
        for input in inputs(&dep_info) {
            line("input", &format!("{} {input}", hash(Path::new(&input))?))?;
        }
        for variable in dep_info.lines().filter_map(|line| line.strip_prefix("# env-dep:")) {
            line("variable", variable)?;
        }
        let names = [format!("lib{}.rlib", self.stem), format!("lib{}.so", self.stem), self.stem.clone()];
        for output in names.map(|name| self.folder.join(name)) {
            if output.is_file() {
                line("output", &format!("{} {}", hash(&output)?, output.display()))?;
            }
        }
        fs::create_dir_all(records)?;
        // A record that is cut short by the end of this process must not look complete.
        let (path, new) = (records.join(&self.stem), records.join(format!("{}.new", self.stem)));
        fs::write(&new, text)?;
        fs::rename(&new, &path)?;
        Ok(())
    }
}

/// The files that dep-info names as read: each has a rule of its own without prerequisites.
fn inputs(dep_info: &str) -> Vec<String> {
    let rules = dep_info.lines().filter(|line| !line.starts_with('#'));
    let files = rules.filter_map(|line| line.strip_suffix(':'));
    files.map(|file| file.replace("\\ ", " ")).collect()
}

fn hash(path: &Path) -> Result<String, Box<dyn Error>> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dep_info_names_each_input_once() {
        let text = "/t/x.d: src/lib.rs src/my\\ file.rs\n\n/t/libx.rlib: src/lib.rs\n\nsrc/lib.rs:\n\
                    src/my\\ file.rs:\n\n# env-dep:A=b:\n";
        assert_eq!(inputs(text), ["src/lib.rs", "src/my file.rs"]);
    }

    #[test]
    fn a_unit_is_named_by_cargo() {
        let words = ["--crate-name", "x", "src/lib.rs", "-C", "extra-filename=-12", "--out-dir", "/t"];
        let unit = Unit::new(&words.map(str::to_owned)).expect("it is a compilation");
        assert_eq!((unit.stem.as_str(), unit.folder.as_path()), ("x-12", Path::new("/t")));
        assert!(Unit::new(&["-".to_owned()]).is_none());
    }
}
