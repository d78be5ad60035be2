//! Follows docs/adding-a-domain.md word for word, in a copy of the checkout.
//!
//! The meaning of the page's fenced blocks:
//! - `sh`: commands, run at the top of the checkout. The first that fails ends the test.
//! - `text`: lines that the commands above have printed, in this order; `...` matches any text.
//! - `rust`, `toml`: text for a file. The line before the block is the operation: ``Replace `FILE` by:``,
//!   ``Create `FILE`:``, ``Append to `FILE`:`` or ``In `FILE`, below `LINE`:``.
//!
//! Any other block is an error, so that no part of the page goes unchecked.
//!
//! The copy has a fixed folder in the build directory, so a second run compiles only the page's changes. The
//! copy's programs and images are its own, but it shares the build directory for dependencies: crates from
//! the registry are the same in both checkouts, and are compiled once. Packages of the workspace differ, but
//! cargo tells them apart only by name, version and path in the workspace. So the copy has another version
//! number.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The version of the workspace, and that of the copy.
const VERSIONS: [&str; 2] = ["version = \"0.1.0\"\n", "version = \"0.1.0+copy\"\n"];

/// The time limit of commands. The first run compiles everything.
const TIMEOUT: Duration = Duration::from_secs(600);

#[test]
fn docs_adding_a_domain_works_word_for_word() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the checkout");
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let build = temporary.parent().expect("cargo makes it in the build directory");
    let folder = temporary.join("adding-a-domain");
    let checkout = folder.join("checkout");
    fs::create_dir_all(&checkout).expect("the build directory is ours");
    let lock = fs::File::create(folder.join("lock")).expect("the build directory is ours");
    lock.lock().expect("two runs take turns");
    copy_checkout(root, &checkout);

    let page = fs::read_to_string(root.join("docs/adding-a-domain.md")).expect("the page exists");
    let steps = parse(&page);
    assert!(steps.iter().any(|step| matches!(step.action, Action::Run(_))), "the page has no commands");
    let mut output = String::new();
    for Step { line, action } in &steps {
        let place = format!("docs/adding-a-domain.md:{line}");
        match action {
            Action::Run(script) => match run(&checkout, &folder.join("target"), build, script) {
                Ok(printed) => output = printed,
                Err(problem) => panic!("{place}: {problem}\n{script}"),
            },
            Action::Expect(lines) => {
                if let Some(missing) = first_missing(lines, &output) {
                    panic!("{place}: missing output line\n{missing}\nprinted output:\n{output}");
                }
            }
            Action::Write { file, edit, text } => {
                if let Err(problem) = write(&checkout.join(file), edit, text) {
                    panic!("{place}: {file}: {problem}");
                }
            }
        }
    }
}

/// Makes `to` hold the files that git tracks or would track in `from`, and no others. Unchanged files keep
/// their times, by which cargo detects changes.
fn copy_checkout(from: &Path, to: &Path) {
    let mut git = Command::new("git");
    git.current_dir(from).args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]);
    let listed = git.output().expect("git runs");
    assert!(listed.status.success(), "git: {}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).expect("names of files are UTF-8");
    // A file that is deleted but not committed yet is still listed.
    let names: BTreeSet<&str> =
        listed.split_terminator('\0').filter(|name| from.join(name).is_file()).collect();
    remove_all_but(&names, to, to);
    for name in names {
        let (source, copy) = (from.join(name), to.join(name));
        let mut bytes = fs::read(&source).expect("git listed it");
        if name == "Cargo.toml" {
            let text = String::from_utf8(bytes).expect("TOML is UTF-8");
            assert_eq!(text.matches(VERSIONS[0]).count(), 1, "all packages inherit this version");
            bytes = text.replace(VERSIONS[0], VERSIONS[1]).into_bytes();
        }
        if fs::read(&copy).is_ok_and(|old| old == bytes) {
            continue;
        }
        fs::create_dir_all(copy.parent().expect("a file lies in a folder")).expect("the copy is ours");
        fs::write(&copy, bytes).expect("the copy is ours");
    }
}

/// Removes the files below `folder` that are not among `names`, which are relative to `root`, and empty
/// folders: cargo takes each folder in `domains` for a package.
fn remove_all_but(names: &BTreeSet<&str>, root: &Path, folder: &Path) {
    for entry in fs::read_dir(folder).expect("the copy is ours") {
        let path = entry.expect("the copy is ours").path();
        let name = path.strip_prefix(root).expect("it lies there").to_string_lossy().into_owned();
        if path.is_dir() {
            remove_all_but(names, root, &path);
            // This fails while the folder has files.
            let _ = fs::remove_dir(&path);
        } else if !names.contains(name.as_str()) {
            fs::remove_file(&path).expect("the copy is ours");
        }
    }
}

/// A block of the page.
#[derive(Debug)]
struct Step {
    /// The line where the block begins.
    line: usize,
    action: Action,
}

/// The operation of a block.
#[derive(PartialEq, Eq, Debug)]
enum Action {
    Run(String),
    Expect(Vec<String>),
    Write { file: String, edit: Edit, text: String },
}

/// The operation on a file.
#[derive(PartialEq, Eq, Debug)]
enum Edit {
    Create,
    Replace,
    Append,
    /// Inserts below the only line with this text, surrounding blanks ignored.
    Below(String),
}

/// Splits the page into steps.
///
/// # Panics
/// If the page has a block that is not one of those above.
fn parse(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = page.lines().enumerate();
    let mut lead = "";
    while let Some((index, line)) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            if !line.trim().is_empty() {
                lead = line;
            }
            continue;
        };
        let body: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        let text = body.iter().map(|line| format!("{line}\n")).collect();
        let action = match language {
            "sh" => Action::Run(text),
            "text" => Action::Expect(body.iter().map(|&line| line.to_owned()).collect()),
            "rust" | "toml" => {
                let (file, edit) = destination(lead)
                    .unwrap_or_else(|| panic!("line {}: \"{lead}\" names no destination", index + 1));
                Action::Write { file, edit, text }
            }
            other => panic!("line {}: blocks of \"{other}\" have no meaning", index + 1),
        };
        steps.push(Step { line: index + 1, action });
    }
    steps
}

/// The file that the line before a block names, and the operation on it.
fn destination(lead: &str) -> Option<(String, Edit)> {
    let mut parts = lead.strip_suffix(':')?.split('`');
    let (verb, file, rest, anchor) = (parts.next()?, parts.next()?, parts.next()?, parts.next());
    let edit = match (verb, rest, anchor) {
        ("Create ", "", None) => Edit::Create,
        ("Replace ", " by", None) => Edit::Replace,
        ("Append to ", "", None) => Edit::Append,
        ("In ", ", below ", Some(anchor)) => Edit::Below(anchor.to_owned()),
        _ => return None,
    };
    Some((file.to_owned(), edit))
}

fn write(path: &Path, edit: &Edit, text: &str) -> Result<(), String> {
    let old = fs::read_to_string(path).ok();
    let new = match (edit, old) {
        (Edit::Create, Some(_)) => return Err("it exists already".into()),
        (Edit::Create, None) => text.to_owned(),
        (_, None) => return Err("there is no such file".into()),
        (Edit::Replace, Some(_)) => text.to_owned(),
        (Edit::Append, Some(old)) => old + text,
        (Edit::Below(anchor), Some(old)) => {
            let found: Vec<usize> =
                old.lines().enumerate().filter(|(_, line)| line.trim() == anchor).map(|(at, _)| at).collect();
            let [at] = found[..] else {
                return Err(format!("{} lines read `{anchor}`, instead of one", found.len()));
            };
            let mut lines: Vec<String> = old.lines().map(|line| format!("{line}\n")).collect();
            lines.insert(at + 1, text.to_owned());
            lines.concat()
        }
    };
    fs::write(path, new).map_err(|error| error.to_string())
}

/// Runs commands at the top of the copy, and returns their output.
fn run(checkout: &Path, target: &Path, build: &Path, script: &str) -> Result<String, String> {
    let (mut reader, writer) = std::io::pipe().map_err(|error| error.to_string())?;
    let other = writer.try_clone().map_err(|error| error.to_string())?;
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", script]).current_dir(checkout).process_group(0);
    shell.stdin(Stdio::null()).stdout(writer).stderr(other);
    // Variables that cargo and `cargo xtask test` set for this test are not meant for the commands.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if (text.starts_with("CARGO") && text != "CARGO_HOME") || text.starts_with("COPPICE_") {
            shell.env_remove(&name);
        }
    }
    shell.env("CARGO_TARGET_DIR", target).env("CARGO_BUILD_BUILD_DIR", build).env("COPPICE_NO_INSTALL", "1");
    let mut child = shell.spawn().map_err(|error| format!("sh: {error}"))?;
    // The command holds the pipe's writing ends, which would keep the reader waiting.
    drop(shell);
    let listener = thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = reader.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let deadline = Instant::now() + TIMEOUT;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
            _ => break None,
        }
    };
    if status.is_none() {
        let group = rustix::process::Pid::from_child(&child);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = child.wait();
    }
    let printed = listener.join().expect("the listener does not panic");
    match status {
        Some(status) if status.success() => Ok(printed),
        Some(status) => Err(format!("{status} after\n{printed}")),
        None => Err(format!("not over after {} s\n{printed}", TIMEOUT.as_secs())),
    }
}

/// The first of `lines` that does not follow its predecessors in `output`.
fn first_missing<'a>(lines: &'a [String], output: &str) -> Option<&'a str> {
    let mut printed = output.lines();
    lines.iter().find(|line| !printed.any(|printed| matches(line, printed))).map(String::as_str)
}

/// Returns true if `printed` matches `pattern`, in which `...` matches any text.
fn matches(pattern: &str, printed: &str) -> bool {
    let (mut rest, parts) = (printed.trim_end(), pattern.trim_end().split("...").collect::<Vec<_>>());
    for (index, part) in parts.iter().enumerate() {
        let at = if index == 0 {
            rest.starts_with(part).then_some(0)
        } else if index == parts.len() - 1 {
            rest.ends_with(part).then(|| rest.len() - part.len())
        } else {
            rest.find(part)
        };
        let Some(at) = at else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

#[test]
fn a_block_without_a_destination_is_refused() {
    assert_eq!(
        destination("In `a/b.rs`, below `mod x;`:"),
        Some(("a/b.rs".into(), Edit::Below("mod x;".into())))
    );
    assert_eq!(destination("Replace `a/b.rs` by:"), Some(("a/b.rs".into(), Edit::Replace)));
    for bad in ["", "Something like this:", "See `a/b.rs`:", "In `a/b.rs`, near `mod x;`:", "Create `a`"] {
        assert_eq!(destination(bad), None, "{bad}");
    }
}

#[test]
fn an_expected_line_matches_a_whole_printed_line() {
    assert!(matches("up", "up\r"));
    assert!(matches("[...] echo: up", "[   0.1] echo: up"));
    assert!(matches("... says ...", "it says so"));
    assert!(!matches("echo: up", "[   0.1] echo: up"));
    assert!(!matches("up...", "so up"));
    assert_eq!(first_missing(&["b".into(), "a".into()], "a\nb\n"), Some("a"));
}
