//! [`MachineArgs`]: the arguments that describe a machine, and the forms of arguments.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::Usage;
use crate::machine::Kind;

/// The machine that a system runs on, and its configuration.
#[derive(Args)]
pub(crate) struct MachineArgs {
    /// The machine to boot on [default: bare if QEMU is present or may be installed, else hosted]
    #[arg(long, value_enum)]
    pub(crate) machine: Option<Kind>,
    /// The number of CPUs
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) cpus: u32,
    /// The size of memory: a number and M or G
    #[arg(long, default_value = "512M", value_parser = parse_memory)]
    pub(crate) memory: String,
    /// An option for the kernel; may be repeated
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = parse_option)]
    pub(crate) options: Vec<String>,
    /// A disk image instead of the next disk of the manifest; may be repeated. The system may write to it;
    /// `demo` uses a copy
    #[arg(long = "disk", value_name = "FILE")]
    pub(crate) disks: Vec<PathBuf>,
    /// Never install anything; COPPICE_NO_INSTALL in the environment has the same effect
    #[arg(long)]
    pub(crate) no_install: bool,
}

/// Returns true if packages may be installed, given `--no-install`.
pub(crate) fn may_install(no_install: bool) -> bool {
    !no_install && std::env::var_os("COPPICE_NO_INSTALL").is_none()
}

fn parse_memory(text: &str) -> Result<String, String> {
    let number = text.strip_suffix(['M', 'G']).ok_or("expected a number followed by M or G, such as 512M")?;
    match number.parse::<u32>() {
        Ok(0) => Err("a machine needs some memory".into()),
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("\"{number}\" is not a number of megabytes or gigabytes: {error}")),
    }
}

/// Parses a word of the kernel's command line, which has no quoting.
pub(crate) fn parse_word(text: &str) -> Result<String, String> {
    let valid = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '"');
    if valid { Ok(text.to_owned()) } else { Err("expected text without spaces or quotes".into()) }
}

/// Parses an option for the kernel.
pub(crate) fn parse_option(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, value)) if parse_word(name).is_ok() && parse_word(value).is_ok() => Ok(text.to_owned()),
        _ => Err("expected NAME=VALUE, neither of them empty or with spaces or quotes".into()),
    }
}

/// Checks that a file can be written at `path`, before the work whose result it is to hold.
///
/// # Errors
/// [`Usage`] if the path is a folder, or its folder does not exist.
pub(crate) fn check_output(path: &Path) -> Result<(), Usage> {
    if path.is_dir() {
        return Err(Usage(format!("{} is a folder", path.display())));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() {
        Ok(())
    } else {
        Err(Usage(format!("{}: there is no folder {}", path.display(), folder.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_a_number_and_a_unit() {
        assert!(parse_memory("64M").is_ok() && parse_memory("8G").is_ok());
        for bad in ["64", "M", "0M", "-1M", "64K", "1.5G"] {
            assert!(parse_memory(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_output_needs_a_folder() {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        assert!(check_output(&folder.path().join("out.pcap")).is_ok());
        assert!(check_output(Path::new("out.pcap")).is_ok());
        assert!(check_output(folder.path()).is_err());
        assert!(check_output(&folder.path().join("missing/out.pcap")).is_err());
    }

    #[test]
    fn an_option_cannot_contain_a_second_one() {
        assert!(parse_option("log=debug").is_ok());
        for bad in ["log", "=x", "log=", "log=a trace=on", "log=\"a\""] {
            assert!(parse_option(bad).is_err(), "{bad}");
        }
    }
}
