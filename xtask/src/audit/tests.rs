//! The audit of whole trees: small workspaces with one fault each.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;

mod built;
mod forgery;
mod manifests;

/// A workspace with a trusted runtime, a macro crate, and one domain without findings.
struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().expect("there is room for a few files"));
        tree.write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"domains/*\", \"macros\"]\n");
        tree.package("macros", "macros", "[lib]\nproc-macro = true\n");
        tree.write(
            "macros/src/lib.rs",
            "#[proc_macro_attribute] pub fn interface(_: P, i: P) -> P { i }
             #[proc_macro] pub fn raw(i: P) -> P { i }",
        );
        tree.package(
            "domains/runtime",
            "coppice-runtime",
            "[dependencies]\nmacros = { path = \"../../macros\" }\n",
        );
        tree.write(
            "domains/runtime/src/lib.rs",
            "#[macro_export] macro_rules! entry { ($e:path) => { unsafe { $e() } } }
             #[macro_export] macro_rules! say { ($e:expr) => { let _ = $e; } }",
        );
        tree.package("domains/echo", "coppice-domain-echo", &Self::image("echo", ""));
        tree.write(
            "domains/echo/src/lib.rs",
            "#![forbid(unsafe_code)]\nmod deep;\n#[macros::interface] trait T {}",
        );
        tree.write("domains/echo/src/deep.rs", "pub fn f() { coppice_runtime::say!(1) }");
        tree.write("domains/echo/src/main.rs", "coppice_runtime::entry!(echo::start);");
        tree.trust("coppice-runtime", "domains/runtime", "macros = [\"say\"]");
        tree.trust("macros", "macros", "macros = [\"interface\"]");
        tree
    }

    fn image(name: &str, dependencies: &str) -> String {
        format!(
            "[package.metadata.coppice]\nimage = true\n[[bin]]\nname = \"{name}\"\npath = \"src/main.rs\"\n\
             [dependencies]\ncoppice-runtime = {{ path = \"../runtime\" }}\n{dependencies}"
        )
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("files lie in folders"))
            .expect("there is room for a few files");
        fs::write(path, text).expect("there is room for a few files");
    }

    fn append(&self, path: &str, text: &str) {
        let old = fs::read_to_string(self.0.path().join(path)).unwrap_or_default();
        self.write(path, &(old + text));
    }

    fn package(&self, folder: &str, name: &str, rest: &str) {
        let head = format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
        self.write(&format!("{folder}/Cargo.toml"), &(head + rest));
        self.write(&format!("{folder}/src/lib.rs"), "");
    }

    fn trust(&self, name: &str, path: &str, rest: &str) {
        let entry =
            format!("[[crate]]\nname = \"{name}\"\npath = \"{path}\"\nreason = \"Needed.\"\n{rest}\n");
        self.append("xtask/trusted.toml", &entry);
    }

    fn replace(&self, path: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.0.path().join(path)).expect("the tree has it");
        assert!(text.contains(old), "{path} has no {old}: {text}");
        self.write(path, &text.replace(old, new));
    }

    /// The workspace, with a lock file.
    fn workspace(&self) -> Workspace {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut lock = std::process::Command::new(cargo);
        lock.args(["generate-lockfile", "--offline", "--quiet"]).current_dir(self.path());
        assert!(lock.status().expect("cargo starts").success());
        let mut workspace = Workspace::load_at(self.path()).expect("the tree is a workspace");
        // `cargo xtask test` sets CARGO_TARGET_DIR to the folder of its own workspace.
        workspace.target = self.path().join("target");
        workspace
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn findings(&self) -> Vec<String> {
        let audit = audit(&self.workspace()).expect("the tree can be audited");
        audit.findings.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn assert_caught(&self, message: &str) {
        let findings = self.findings();
        assert!(findings.iter().any(|finding| finding.contains(message)), "{findings:?}");
    }
}

#[test]
fn a_sound_tree_has_no_findings() {
    assert_eq!(Tree::new().findings(), [] as [String; 0]);
}

#[test]
fn modules_below_the_root_are_read() {
    let tree = Tree::new();
    tree.write("domains/echo/src/deep.rs", "mod er;");
    tree.write("domains/echo/src/deep/er.rs", "fn f() { macros::raw!(1) }");
    tree.assert_caught("domains/echo/src/deep/er.rs:1: the macro `raw!`");
}

#[test]
fn a_build_script_is_caught() {
    let tree = Tree::new();
    tree.write("domains/echo/build.rs", "fn main() {}");
    tree.assert_caught("domains/echo/Cargo.toml: has a build script");
}

#[test]
fn an_unlisted_dependency_is_caught() {
    let tree = Tree::new();
    tree.package("domains/evil", "evil", "");
    tree.write("domains/echo/Cargo.toml", "");
    tree.package(
        "domains/echo",
        "coppice-domain-echo",
        &Tree::image("echo", "evil = { path = \"../evil\" }\n"),
    );
    tree.write("domains/echo/src/lib.rs", "#![forbid(unsafe_code)]");
    // A crate of the workspace has to pass the audit itself, and this one does not forbid unsafe code.
    tree.assert_caught("domains/evil/src/lib.rs: lacks `#![forbid(unsafe_code)]`");
}

#[test]
fn a_dependency_outside_the_workspace_must_be_listed() {
    let tree = Tree::new();
    let outside = tempfile::tempdir().expect("there is room for a few files");
    fs::create_dir(outside.path().join("src")).expect("there is room for a few files");
    fs::write(outside.path().join("src/lib.rs"), "#![forbid(unsafe_code)]").expect("there is room");
    let manifest = "[package]\nname = \"foreign\"\nversion = \"2.0.0\"\nedition = \"2024\"\n[workspace]\n";
    fs::write(outside.path().join("Cargo.toml"), manifest).expect("there is room for a few files");
    let path = outside.path().display();
    tree.append("domains/runtime/Cargo.toml", &format!("foreign = {{ path = \"{path}\" }}\n"));
    tree.assert_caught("is outside of the workspace");

    // No entry names such a crate: a name, a version and a checksum are of the registry.
    let entry =
        "[[crate]]\nname = \"foreign\"\nversion = \"2.0.0\"\nchecksum = \"0\"\nreason = \"Needed.\"\n";
    tree.append("xtask/trusted.toml", entry);
    tree.assert_caught("is outside of the workspace");
    tree.assert_caught("foreign 2.0.0 is listed, but no domain is built with it");
}

#[test]
fn a_stale_entry_is_caught() {
    let tree = Tree::new();
    tree.trust("gone", "domains/gone", "");
    tree.assert_caught("gone in domains/gone is listed, but no domain is built with it");
}

#[test]
fn a_stale_macro_is_caught() {
    let tree = Tree::new();
    let list = fs::read_to_string(tree.path().join("xtask/trusted.toml")).expect("the tree has one");
    tree.write("xtask/trusted.toml", &list.replace("\"say\"", "\"say\", \"shout\""));
    tree.assert_caught("coppice-runtime is listed with the macro \"shout\"");
}

#[test]
fn an_entry_without_a_reason_is_caught() {
    let tree = Tree::new();
    let list = fs::read_to_string(tree.path().join("xtask/trusted.toml")).expect("the tree has one");
    tree.write("xtask/trusted.toml", &list.replacen("Needed.", "", 1));
    tree.assert_caught("without a reason that is a sentence");
}

#[test]
fn a_crate_built_by_a_package_outside_its_users_is_caught() {
    let tree = Tree::new();
    tree.package("domains/faults", "coppice-faults", "");
    let faults = "coppice-faults = { path = \"../faults\" }\n";
    tree.package("domains/echo", "coppice-domain-echo", &Tree::image("echo", faults));
    tree.write(
        "domains/echo/src/lib.rs",
        "#![forbid(unsafe_code)]\nmod deep;\n#[macros::interface] trait T {}",
    );
    tree.trust("coppice-faults", "domains/faults", "users = [\"coppice-domain-subject\"]");
    tree.assert_caught("coppice-domain-echo is built with coppice-faults, but is not among its users");
}

#[test]
fn an_image_cannot_be_trusted() {
    let tree = Tree::new();
    tree.trust("coppice-domain-echo", "domains/echo", "");
    tree.assert_caught("a domain image cannot be on the trusted list");
}

#[test]
fn an_ambiguous_macro_is_caught() {
    let tree = Tree::new();
    tree.append("domains/runtime/src/lib.rs", "#[macro_export] macro_rules! interface { () => {} }");
    tree.assert_caught("\"interface\" may mean the macro of coppice-runtime 0.1.0");
}

#[test]
fn an_unlisted_macro_crate_is_caught() {
    let tree = Tree::new();
    let list = fs::read_to_string(tree.path().join("xtask/trusted.toml")).expect("the tree has one");
    let cut = list.rfind("[[crate]]").expect("it has two entries");
    tree.write("xtask/trusted.toml", &list[..cut]);
    tree.assert_caught("macros/Cargo.toml: is a macro crate");
}

/// A tree with a contract crate in the folder of the class, used by the domain.
fn with_contract(dependencies: &str) -> Tree {
    let tree = Tree::new();
    tree.write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"domains/*\", \"interfaces/*\", \"libs/*\", \"macros\"]\n",
    );
    tree.package("interfaces/disk", "disk", dependencies);
    tree.write(
        "interfaces/disk/src/lib.rs",
        "#![forbid(unsafe_code)]\n#[macros::interface] pub trait Disk { #[retry] fn read(&self); }",
    );
    tree.package("libs/parts", "parts", "");
    tree.write("libs/parts/src/lib.rs", "#![forbid(unsafe_code)]");
    let disk = "disk = { path = \"../../interfaces/disk\" }\n";
    tree.package("domains/echo", "coppice-domain-echo", &Tree::image("echo", disk));
    tree.write(
        "domains/echo/src/lib.rs",
        "#![forbid(unsafe_code)]\nmod deep;\n#[macros::interface] trait T {}",
    );
    tree.append(
        "xtask/trusted.toml",
        "[contracts]\nfolder = \"interfaces\"\ncrates = [\"disk\"]\nreason = \"Needed.\"\n",
    );
    tree
}

#[test]
fn a_contract_built_with_trusted_crates_has_no_findings() {
    let tree = with_contract("[dependencies]\nmacros = { path = \"../../macros\" }\n");
    assert_eq!(tree.findings(), Vec::<String>::new());
}

#[test]
fn a_contract_built_with_another_library_is_caught() {
    let tree = with_contract(
        "[dependencies]\nmacros = { path = \"../../macros\" }\nparts = { path = \"../../libs/parts\" }\n",
    );
    tree.assert_caught("interfaces/disk/Cargo.toml: is a contract, but depends on parts");
}

#[test]
fn a_contract_with_unsafe_code_is_caught() {
    let tree = with_contract("[dependencies]\nmacros = { path = \"../../macros\" }\n");
    tree.write("interfaces/disk/src/lib.rs", "#[macros::interface] pub trait Disk {}");
    tree.assert_caught("interfaces/disk/src/lib.rs");
}

#[test]
fn a_product_package_built_with_verification_code_is_caught() {
    let tree = Tree::new();
    tree.write(
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"domains/*\", \"macros\", \"verification/*\"]\n",
    );
    tree.package("verification/rig", "rig", "");
    tree.write("verification/rig/src/lib.rs", "#![forbid(unsafe_code)]");
    let rig = "rig = { path = \"../../verification/rig\" }\n";
    tree.package("domains/echo", "coppice-domain-echo", &Tree::image("echo", rig));
    tree.assert_caught("domains/echo/Cargo.toml: depends on rig, which is verification code");

    // A feature may enable it, unless it is a default feature.
    let optional = "rig = { path = \"../../verification/rig\", optional = true }\n[features]\n";
    let image = |default| Tree::image("echo", &format!("{optional}{default}testing = [\"dep:rig\"]\n"));
    tree.package("domains/echo", "coppice-domain-echo", &image("default = [\"testing\"]\n"));
    tree.assert_caught("domains/echo/Cargo.toml: depends on rig, which is verification code");
    tree.package("domains/echo", "coppice-domain-echo", &image(""));
    tree.write(
        "domains/echo/src/lib.rs",
        "#![forbid(unsafe_code)]\nmod deep;\n#[macros::interface] trait T {}",
    );
    assert_eq!(tree.findings(), [] as [String; 0]);

    // Tests may use it.
    let rig = format!("[dev-dependencies]\n{rig}");
    tree.package("domains/echo", "coppice-domain-echo", &Tree::image("echo", &rig));
    tree.write(
        "domains/echo/src/lib.rs",
        "#![forbid(unsafe_code)]\nmod deep;\n#[macros::interface] trait T {}",
    );
    assert_eq!(tree.findings(), [] as [String; 0]);
}

/// A tree whose domain builds two images.
fn with_two_images() -> Tree {
    let tree = Tree::new();
    let more = "[[bin]]\nname = \"echo-slow\"\npath = \"src/bin/echo-slow.rs\"\n";
    tree.append("domains/echo/Cargo.toml", more);
    tree.write("domains/echo/src/bin/echo-slow.rs", "coppice_runtime::entry!(echo::start_slowly);");
    tree
}

#[test]
fn a_package_builds_several_images() {
    let tree = with_two_images();
    assert_eq!(tree.findings(), [] as [String; 0]);
    let workspace = Workspace::load_at(tree.path()).expect("the tree is a workspace");
    let images = workspace.images().expect("each binary has the name of its file");
    let expected = ["echo", "echo-slow"].map(|image| (image.to_owned(), "coppice-domain-echo".to_owned()));
    assert_eq!(images, expected.into());
}

#[test]
fn a_binary_with_code_of_its_own_is_caught() {
    for file in ["domains/echo/src/main.rs", "domains/echo/src/bin/echo-slow.rs"] {
        let tree = with_two_images();
        tree.append(file, "fn f() {}");
        tree.assert_caught(&format!("{file}: is more than one line"));
    }
}

#[test]
fn a_binary_that_cargo_finds_by_itself_is_audited() {
    let tree = Tree::new();
    tree.write("domains/echo/src/bin/extra.rs", "fn main() {}");
    tree.assert_caught("domains/echo/src/bin/extra.rs: is more than one line of the runtime's entry macro");
}

#[test]
fn a_binary_outside_of_its_place_is_caught() {
    let names = ["echo2", "deep", "echo-slow"];
    for (name, file) in names.into_iter().zip(["src/main2.rs", "src/bin/deep/main.rs", "src/bin/quick.rs"]) {
        let tree = Tree::new();
        let more = format!("[[bin]]\nname = \"{name}\"\npath = \"{file}\"\n");
        tree.append("domains/echo/Cargo.toml", &more);
        tree.write(&format!("domains/echo/{file}"), "coppice_runtime::entry!(echo::start);");
        tree.assert_caught(&format!("has a binary \"{name}\" that is neither"));
        let workspace = Workspace::load_at(tree.path()).expect("the tree is a workspace");
        assert!(workspace.images().is_err(), "{file}");
    }
}

#[test]
fn a_binary_of_a_package_without_images_is_caught() {
    let tree = Tree::new();
    tree.package("domains/tool", "tool", "");
    tree.write("domains/tool/src/lib.rs", "#![forbid(unsafe_code)]");
    tree.write("domains/tool/src/main.rs", "fn main() {}");
    tree.assert_caught("domains/tool/Cargo.toml: has a binary \"tool\", but does not say `image = true`");
}

#[test]
fn images_of_one_name_are_refused() {
    let tree = with_two_images();
    let slow = Tree::image("echo-slow", "");
    tree.package("domains/echo-slow", "coppice-domain-slow", &slow);
    let workspace = Workspace::load_at(tree.path()).expect("the tree is a workspace");
    let error = workspace.images().expect_err("two packages build echo-slow").to_string();
    assert!(error.contains("both build an image \"echo-slow\""), "{error}");
}
