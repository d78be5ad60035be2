//! Installation of software from the distribution's packages, if permitted.
//!
//! It is permitted for root, or if `sudo` works without a password. This tool never asks for a password,
//! since it may run unattended.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

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
    let mut host = Host { step: &step };
    let mut from = "";
    for line in lines {
        if let Some(suite) = &backports
            && let Some(line) = from_suite(&line, suite)
        {
            match run_and_repair(&mut host, &line) {
                Ok(()) => {
                    from = "from backports";
                    continue;
                }
                // The release's own package works, too.
                Err(error) => eprintln!("{} has no newer {}: {error:#}", suite, software.name),
            }
        }
        run_and_repair(&mut host, &line)?;
    }
    step.done(from);
    Ok(())
}

/// The commands of an installation, as this host runs them; tests replace it.
trait Commands {
    fn run(&mut self, line: &[&str]) -> Result<()>;

    /// Returns true if dpkg lists packages that are not completely installed.
    fn has_unfinished_packages(&mut self) -> bool;

    fn say(&mut self, text: &str);
}

struct Host<'a> {
    step: &'a Step,
}

impl Commands for Host<'_> {
    fn run(&mut self, line: &[&str]) -> Result<()> {
        let mut command = Command::new(line[0]);
        // The messages are compared below, so they must not be translated.
        command.args(&line[1..]).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        self.step.run(&mut command).map(drop)
    }

    fn has_unfinished_packages(&mut self) -> bool {
        let audit = Command::new("dpkg").arg("--audit").stdin(Stdio::null()).stderr(Stdio::null()).output();
        audit.is_ok_and(|output| !output.stdout.is_empty())
    }

    fn say(&mut self, text: &str) {
        self.step.line(text);
    }
}

/// Runs a command of [`plan`]. If it fails because an earlier installation was interrupted and has left
/// dpkg's packages half configured, completes that installation with the same privilege and tries once more.
fn run_and_repair(commands: &mut impl Commands, line: &[&str]) -> Result<()> {
    let Err(error) = commands.run(line) else { return Ok(()) };
    let Some(repair) = repair_of(line) else { return Err(error) };
    let is_interrupted =
        format!("{error:#}").contains("dpkg was interrupted") || commands.has_unfinished_packages();
    if !is_interrupted {
        return Err(error);
    }
    let shown = repair.join(" ");
    commands
        .say(&format!("an earlier installation was interrupted: running `{shown}`, then trying once more"));
    commands.run(&repair).with_context(|| format!("completing an interrupted installation by `{shown}`"))?;
    commands.run(line)
}

/// The command that completes an interrupted installation; `None` if the line is no installation by
/// `apt-get`.
fn repair_of<'a>(line: &[&'a str]) -> Option<Vec<&'a str>> {
    let at = line.iter().position(|word| *word == "apt-get")?;
    let is_installation = line.get(at + 1) == Some(&"install");
    is_installation.then(|| [&line[..at], &["dpkg", "--configure", "-a"]].concat())
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
fn from_suite<'a>(line: &[&'a str], suite: &'a str) -> Option<Vec<&'a str>> {
    let at = line.iter().position(|word| *word == "install")?;
    if at == 0 || line[at - 1] != "apt-get" {
        return None;
    }
    Some([&line[..=at], &["-t", suite], &line[at + 1..]].concat())
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

    const INTERRUPTED: &str =
        "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem.";

    /// A host whose dpkg was interrupted.
    #[derive(Default)]
    struct BrokenHost {
        /// The message of `apt-get install`; none once dpkg is repaired.
        message: &'static str,
        has_unfinished: bool,
        /// The number of repairs until one succeeds.
        failing_repairs: usize,
        /// `apt-get install` fails even after a repair.
        is_hopeless: bool,
        is_repaired: bool,
        lines: Vec<String>,
        said: Vec<String>,
    }

    impl Commands for BrokenHost {
        fn run(&mut self, line: &[&str]) -> Result<()> {
            self.lines.push(line.join(" "));
            if line.contains(&"dpkg") {
                anyhow::ensure!(self.failing_repairs == 0, "a package cannot be configured");
                self.is_repaired = true;
            } else if line.contains(&"install") && (!self.is_repaired || self.is_hopeless) {
                bail!("{}", self.message);
            }
            Ok(())
        }

        fn has_unfinished_packages(&mut self) -> bool {
            self.has_unfinished && !self.is_repaired
        }

        fn say(&mut self, text: &str) {
            self.said.push(text.to_owned());
        }
    }

    fn apt_get(privilege: Privilege) -> Vec<&'static str> {
        let lines = plan(&QEMU, privilege, |program| program == "apt-get").expect("apt-get is there");
        lines.into_iter().last().expect("it installs")
    }

    #[test]
    fn an_interrupted_installation_is_completed_and_tried_once_more() {
        for (message, has_unfinished) in [(INTERRUPTED, false), ("E: Sub-process failed", true)] {
            let mut host = BrokenHost { message, has_unfinished, ..BrokenHost::default() };
            run_and_repair(&mut host, &apt_get(Privilege::Sudo)).expect("it is repaired");
            let install = apt_get(Privilege::Sudo).join(" ");
            assert_eq!(host.lines, [&install, "sudo -n dpkg --configure -a", &install]);
            assert!(host.said[0].contains("`sudo -n dpkg --configure -a`"), "{:?}", host.said);
        }
        let mut host = BrokenHost { message: INTERRUPTED, ..BrokenHost::default() };
        run_and_repair(&mut host, &apt_get(Privilege::Root)).expect("it is repaired");
        assert_eq!(host.lines[1], "dpkg --configure -a");
    }

    #[test]
    fn an_interrupted_installation_is_completed_at_most_once() {
        let mut host = BrokenHost { message: INTERRUPTED, is_hopeless: true, ..BrokenHost::default() };
        assert!(run_and_repair(&mut host, &apt_get(Privilege::Root)).is_err());
        assert_eq!(host.lines.len(), 3);
        let mut host = BrokenHost { message: INTERRUPTED, failing_repairs: 1, ..BrokenHost::default() };
        let error = run_and_repair(&mut host, &apt_get(Privilege::Root)).expect_err("it cannot be repaired");
        assert!(format!("{error:#}").contains("a package cannot be configured"), "{error:#}");
        assert_eq!(host.lines.len(), 2);
    }

    #[test]
    fn other_failures_are_not_repaired() {
        let mut host = BrokenHost { message: "E: Unable to locate package", ..BrokenHost::default() };
        assert!(run_and_repair(&mut host, &apt_get(Privilege::Root)).is_err());
        assert_eq!((host.lines.len(), host.said.len()), (1, 0));
        let dnf = plan(&QEMU, Privilege::Root, |program| program == "dnf").expect("dnf is there");
        let mut host = BrokenHost { message: INTERRUPTED, has_unfinished: true, ..BrokenHost::default() };
        assert!(run_and_repair(&mut host, &dnf[0]).is_err());
        assert_eq!(host.lines.len(), 1, "only apt-get uses dpkg");
        assert_eq!(repair_of(&["apt-get", "update"]), None, "an update of the lists configures nothing");
    }
}
