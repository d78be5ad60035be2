//! Installation of software from the distribution's packages, if permitted.
//!
//! It is permitted for root, or if `sudo` works without a password. This tool never asks for a password,
//! since it may run unattended.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::ui::Step;
use crate::workspace::find_program;

/// Software that packages provide, by package manager.
pub(crate) struct Software {
    /// Its name in messages.
    pub(crate) name: &'static str,
    /// Package names for [`MANAGERS`], in their order; empty where unknown.
    packages: [&'static str; 5],
    /// True if the distribution's backports take precedence.
    backported: bool,
}

/// QEMU's x86_64 system emulator. Debian's stable release may have one that is too old for some devices (igb
/// needs 8.0), and a newer one among its backports.
pub(crate) const QEMU: Software = Software {
    name: "QEMU",
    backported: true,
    packages: [
        "qemu-system-x86",
        "qemu-system-x86-core",
        "qemu-system-x86",
        "qemu-system-x86_64",
        "qemu-x86",
    ],
};

/// `mke2fs`, which makes file systems.
pub(crate) const E2FSPROGS: Software = Software {
    name: "e2fsprogs",
    backported: false,
    packages: ["e2fsprogs", "e2fsprogs", "e2fsprogs", "e2fsprogs", "e2fsprogs"],
};

/// The programs by which `grub-mkrescue` makes an image that boots by BIOS and by UEFI.
pub(crate) const ISO_TOOLS: Software = Software {
    name: "GRUB, xorriso and mtools",
    backported: false,
    packages: [
        "grub-common grub-pc-bin grub-efi-amd64-bin xorriso mtools",
        "grub2-tools-extra grub2-pc-modules grub2-efi-x64-modules xorriso mtools",
        "grub libisoburn mtools",
        "grub grub-bios grub-efi xorriso mtools",
        "grub2 grub2-i386-pc grub2-x86_64-efi xorriso mtools",
    ],
};

struct Manager {
    program: &'static str,
    /// Updates package lists; a fresh container has none.
    refresh: &'static [&'static str],
    install: &'static [&'static str],
}

const MANAGERS: [Manager; 5] = [
    Manager {
        program: "apt-get",
        refresh: &["update"],
        install: &["install", "-y", "--no-install-recommends"],
    },
    Manager { program: "dnf", refresh: &[], install: &["install", "-y", "--setopt=install_weak_deps=False"] },
    Manager { program: "pacman", refresh: &["-Sy"], install: &["-S", "--noconfirm", "--needed"] },
    Manager { program: "apk", refresh: &["update"], install: &["add"] },
    Manager {
        program: "zypper",
        refresh: &[],
        install: &["--non-interactive", "install", "--no-recommends"],
    },
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Privilege {
    Root,
    Sudo,
    None,
}

/// The commands that would install `software` here, as argument lists.
fn plan(
    software: &Software,
    privilege: Privilege,
    has: impl Fn(&str) -> bool,
) -> Result<Vec<Vec<&'static str>>> {
    let Some(index) = MANAGERS.iter().position(|manager| has(manager.program)) else {
        bail!("{} is missing, and no known package manager was found", software.name);
    };
    if privilege == Privilege::None {
        bail!("{}", advice(software, index));
    }
    let manager = &MANAGERS[index];
    let line = |arguments: &[&'static str], packages: &'static str| {
        let sudo: &[&str] = if privilege == Privilege::Sudo { &["sudo", "-n"] } else { &[] };
        let words = sudo.iter().chain([&manager.program]).chain(arguments);
        words.copied().chain(packages.split_whitespace()).collect::<Vec<_>>()
    };
    let mut lines = Vec::new();
    if !manager.refresh.is_empty() {
        lines.push(line(manager.refresh, ""));
    }
    lines.push(line(manager.install, software.packages[index]));
    Ok(lines)
}

fn advice(software: &Software, manager: usize) -> String {
    let Manager { program, install, .. } = &MANAGERS[manager];
    // This command is typed by a person, who can confirm it.
    let verb = install.iter().find(|word| !word.starts_with("--")).unwrap_or(&"install");
    format!("install {} with `sudo {program} {verb} {}`", software.name, software.packages[manager])
}

impl Software {
    /// The manual installation command for this host.
    pub(crate) fn advice(&self) -> String {
        match MANAGERS.iter().position(|manager| find_program(manager.program).is_some()) {
            Some(manager) => advice(self, manager),
            None => format!("install {} from your distribution's packages", self.name),
        }
    }
}

/// Installs `software`.
///
/// # Errors
/// If that is not possible; the message advises how to install it by hand.
pub(crate) fn install(software: &Software) -> Result<()> {
    let lines = plan(software, privilege(), |program| find_program(program).is_some())?;
    let step = Step::start(format!("installing {}", software.name));
    let backports = if software.backported { backports() } else { None };
    let mut from = "";
    for line in lines {
        let command = |words: &[&str]| {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive");
            command
        };
        if let Some(suite) = &backports
            && let Some(line) = from_suite(&line, suite)
        {
            let line: Vec<&str> = line.iter().map(String::as_str).collect();
            match step.run(&mut command(&line)) {
                Ok(_) => {
                    from = "from backports";
                    continue;
                }
                // The release's own package works, too.
                Err(error) => eprintln!("{} has no newer {}: {error:#}", suite, software.name),
            }
        }
        step.run(&mut command(&line))?;
    }
    step.done(from);
    Ok(())
}

/// The backports of a Debian release, if its package sources already list them: `bookworm-backports`. Package
/// sources are not changed.
fn backports() -> Option<String> {
    let release = fs::read_to_string("/etc/os-release").ok()?;
    let suite = format!("{}-backports", codename(&release)?);
    let policy = Command::new("apt-cache").arg("policy").stderr(Stdio::null()).output().ok()?;
    String::from_utf8_lossy(&policy.stdout).contains(&format!("n={suite},")).then_some(suite)
}

/// The name of a Debian release, by its /etc/os-release.
fn codename(release: &str) -> Option<&str> {
    let value = |key: &str| release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    if value("ID")? != "debian" {
        return None;
    }
    value("VERSION_CODENAME").map(|name| name.trim_matches('"')).filter(|name| !name.is_empty())
}

/// The same installation with packages of `suite`; `None` if the line is no installation by `apt-get`.
fn from_suite(line: &[&str], suite: &str) -> Option<Vec<String>> {
    let at = line.iter().position(|word| *word == "install")?;
    if at == 0 || line[at - 1] != "apt-get" {
        return None;
    }
    let words = [&line[..=at], &["-t", suite], &line[at + 1..]].concat();
    Some(words.into_iter().map(str::to_owned).collect())
}

fn privilege() -> Privilege {
    if rustix::process::geteuid().is_root() {
        return Privilege::Root;
    }
    let sudo = Command::new("sudo")
        .args(["-n", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if sudo.is_ok_and(|status| status.success()) { Privilege::Sudo } else { Privilege::None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_installs_after_a_refresh_of_the_lists() {
        let lines = plan(&QEMU, Privilege::Root, |program| program == "apt-get").expect("apt-get is there");
        assert_eq!(lines[0], ["apt-get", "update"]);
        assert_eq!(lines[1], ["apt-get", "install", "-y", "--no-install-recommends", "qemu-system-x86"]);
    }

    #[test]
    fn only_debians_backports_are_tried_for_a_newer_package() {
        let debian = "PRETTY_NAME=\"Debian\"\nID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(codename(debian), Some("bookworm"));
        assert_eq!(codename("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
        assert_eq!(codename("ID=debian\n"), None, "unstable has no codename");
        let lines = plan(&QEMU, Privilege::Sudo, |program| program == "apt-get").expect("apt-get is there");
        assert_eq!(from_suite(&lines[0], "bookworm-backports"), None, "the update of the lists is unchanged");
        let words = from_suite(&lines[1], "bookworm-backports").expect("it installs").join(" ");
        let wanted =
            "sudo -n apt-get install -t bookworm-backports -y --no-install-recommends qemu-system-x86";
        assert_eq!(words, wanted);
        let fedora = plan(&QEMU, Privilege::Root, |program| program == "dnf").expect("dnf is there");
        assert_eq!(from_suite(&fedora[0], "bookworm-backports"), None);
    }

    #[test]
    fn sudo_never_asks_for_a_password() {
        let lines = plan(&QEMU, Privilege::Sudo, |program| program == "dnf").expect("dnf is there");
        assert!(lines.iter().all(|line| line.starts_with(&["sudo", "-n"])), "{lines:?}");
    }

    #[test]
    fn without_privilege_the_error_is_the_command_to_type() {
        let error = plan(&QEMU, Privilege::None, |program| program == "apk").unwrap_err();
        assert_eq!(error.to_string(), "install QEMU with `sudo apk add qemu-system-x86_64`");
    }

    #[test]
    fn an_unknown_package_manager_is_an_error_that_names_the_software() {
        let error = plan(&ISO_TOOLS, Privilege::Root, |_| false).unwrap_err();
        assert!(error.to_string().contains("GRUB"), "{error}");
    }
}
