//! Checks the order of the kernel's storeys, which is the table on the front page of `kernel/src/lib.rs`:
//! code imports downwards only.
//!
//! A path that begins with `crate::` names its storey, in a `use` or anywhere else in code. Comments may
//! point upwards. Relative paths cannot leave a storey: `super` does not occur in the `mod.rs` of a storey,
//! and nowhere twice in a row.

use std::fs;
use std::path::{Path, PathBuf};

/// From the bottom up.
const STOREYS: [&str; 8] = ["platform", "memory", "sched", "device", "domain", "fault", "policy", "entry"];

/// The remaining upward imports: file below `kernel/src`, storey, reason. The list must not grow.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Returns all source files in `folder`, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Returns the position of a storey from the bottom.
fn height(storey: &str) -> Option<usize> {
    STOREYS.iter().position(|known| *known == storey)
}

/// Removes comments and literals, but keeps their line breaks, so that the remaining code is in the same
/// lines.
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            literal_len(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.extend(rest[..len].chars().filter(|char| *char == '\n'));
        rest = &rest[len..];
    }
    code
}

/// Returns the length in bytes of the string literal that `text` begins with.
fn literal_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, char) in text.char_indices().skip(1) {
        match char {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// Returns the paths below `crate::` in `code`, with their lines: one for each member of `crate::{...}`.
fn crate_paths(code: &str) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|char: char| char.is_alphanumeric() || matches!(char, '_' | '$' | ':')) {
            continue;
        }
        let line = 1 + code[..at].matches('\n').count();
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => paths.extend(members(group).into_iter().map(|name| (line, name))),
            None => paths.push((line, name(rest))),
        }
    }
    paths
}

/// Returns the first name of each member of a `use` group. `group` follows the opening brace.
fn members(group: &str) -> Vec<String> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, char) in group.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.push(name(&group[start..at]));
                start = at + 1;
                if char == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

fn name(path: &str) -> String {
    path.trim_start().chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect()
}

/// Returns the names that `lib.rs` re-exports, as `(name, storey)`.
fn reexports(lib: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for item in
        code(lib).split(';').filter_map(|item| item.trim().strip_prefix("pub use ").map(str::to_owned))
    {
        let storey = name(&item);
        let tail = item.rsplit("::").next().unwrap_or_default();
        let names = tail.trim_matches(['{', '}', ' ', '\n']).split(',').map(name);
        found.extend(names.filter(|name| !name.is_empty()).map(|name| (name, storey.clone())));
    }
    found
}

/// Returns the imports of one file that lead upwards or to no storey.
fn wrong_imports(file: &str, text: &str, reexports: &[(String, String)]) -> Vec<String> {
    let own = file.split('/').next().unwrap_or_default();
    let Some(own_height) = height(own) else { return vec![format!("{file}: {own} is not a storey")] };
    let code = code(text);
    let mut wrong = Vec::new();
    for (line, target) in crate_paths(&code) {
        let storey = reexports.iter().find(|(name, _)| *name == target).map_or(&target, |(_, storey)| storey);
        let is_excepted = EXCEPTIONS.iter().any(|(path, above, _)| *path == file && above == storey);
        match height(storey) {
            Some(height) if height <= own_height || is_excepted => {}
            Some(_) => wrong.push(format!("{file}:{line}: storey `{own}` imports from `{storey}` above it")),
            None => wrong.push(format!("{file}:{line}: `crate::{target}` is in no storey")),
        }
    }
    let climb = if file == format!("{own}/mod.rs") { "super::" } else { "super::super::" };
    for (index, _) in code.lines().enumerate().filter(|(_, line)| line.contains(climb)) {
        wrong.push(format!("{file}:{}: `{climb}` may leave the storey `{own}`: write `crate::`", index + 1));
    }
    wrong
}

#[test]
fn imports_lead_downwards_only() {
    let source = source();
    let lib = fs::read_to_string(source.join("lib.rs")).expect("lib.rs can be read");
    let reexports = reexports(&lib);
    assert!(
        reexports.iter().any(|(name, storey)| name == "machine" && storey == "platform"),
        "{reexports:?}"
    );
    let mut wrong = Vec::new();
    let mut imports = 0;
    for path in files(&source).into_iter().filter(|path| *path != source.join("lib.rs")) {
        let text = fs::read_to_string(&path).expect("the file can be read");
        let file =
            path.strip_prefix(&source).expect("it is below").to_str().expect("names are text").to_owned();
        imports += crate_paths(&code(&text)).len();
        wrong.extend(wrong_imports(&file, &text, &reexports));
    }
    assert!(imports > 200, "only {imports} imports were found: the test reads the wrong files");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn front_page_lists_the_storeys_in_order() {
    let lib = fs::read_to_string(source().join("lib.rs")).expect("lib.rs can be read");
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! | `")?.split_once('`'));
    assert!(
        rows.map(|(storey, _)| storey).eq(STOREYS),
        "the table of lib.rs differs from the order in this test"
    );
}

#[test]
fn an_upward_import_is_found_in_each_form() {
    let upwards = [
        "use crate::policy::restart;",
        "use crate::{domain, policy::restart};",
        "use crate::{\n    domain::{self, Domain},\n    entry,\n};",
        "fn f() { crate::fault::terminate::unwind(); }",
        "const TEXT: &str = \"a // comment\"; use crate::entry::boot;",
        "use crate::trap::Fault;",
    ];
    let reexports = [("trap".to_owned(), "entry".to_owned())];
    for text in upwards {
        let wrong = wrong_imports("domain/table.rs", text, &reexports);
        assert_eq!(wrong.len(), 1, "{text}: {wrong:?}");
    }
    let allowed = "//! See [`crate::policy`].\nuse crate::sched::thread; // as crate::entry does\n\
        let text = \"crate::entry\";";
    assert_eq!(wrong_imports("domain/table.rs", allowed, &reexports), [""; 0]);
    assert_eq!(wrong_imports("sched/wait.rs", "use super::super::policy::restart;", &[]).len(), 1);
    assert_eq!(wrong_imports("sched/mod.rs", "use super::policy::restart;", &[]).len(), 1);
    assert_eq!(
        wrong_imports("sched/wait.rs", "\nuse crate::fault::terminate;\n", &[]),
        ["sched/wait.rs:2: storey `sched` imports from `fault` above it"]
    );
}
