//! The audit of builds: each back door is opened in a small workspace that the compiler really builds.

use std::sync::OnceLock;
use std::time::SystemTime;

use super::super::units::audit_builds;
use super::*;
use crate::ui::Step;
use crate::wrapper::{self, Plan};

/// The wrapper, built once for all tests.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let workspace = Workspace::load().expect("the tests run in a checkout");
        wrapper::build(&workspace).expect("the wrapper can be built")
    })
}

impl Tree {
    /// A tree that compiles, with a domain without findings.
    fn buildable() -> Self {
        let tree = Self::new();
        tree.write(
            "domains/runtime/src/lib.rs",
            "#[macro_export] macro_rules! entry { ($e:path) => {{ unsafe { $e() } }} }
             #[macro_export] macro_rules! say { ($e:expr) => {{ let _ = $e; }} }",
        );
        tree.write(
            "macros/src/lib.rs",
            "use proc_macro::TokenStream as P;
             #[proc_macro_attribute] pub fn interface(_: P, i: P) -> P { i }",
        );
        let macros = "macros = { path = \"../../macros\" }\n";
        tree.package("domains/echo", "coppice-domain-echo", &Self::image("echo", macros));
        tree.write(
            "domains/echo/src/lib.rs",
            "#![forbid(unsafe_code)]\nmod deep;\n#[macros::interface] pub trait T {}\npub fn g() { deep::f() }",
        );
        tree
    }

    fn built(&self) -> Vec<String> {
        let workspace = self.workspace();
        let mut audit = audit(&workspace).expect("the tree can be audited");
        let folders = trusted_folders(&workspace).expect("the list was read before");
        let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
        let plan = Plan::new(&workspace, program(), &folders).expect("there is room for the wrapper");
        let mut build = workspace.cargo("build");
        build.args(["--offline", "--lib", "-p", "coppice-domain-echo"]);
        let step = Step::start("building a tree");
        audit_builds(&workspace, &plan, vec![build], &mut audit, &step).expect("cargo runs");
        step.done("");
        audit.findings.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn assert_built(&self, messages: &[&str]) {
        let findings = self.built();
        for message in messages {
            assert!(findings.iter().any(|finding| finding.contains(message)), "no {message}: {findings:#?}");
        }
    }
}

#[test]
fn a_sound_tree_is_built_as_it_was_audited() {
    assert_eq!(Tree::buildable().built(), [] as [String; 0]);
}

#[test]
fn the_compiler_forbids_unsafe_code_in_spite_of_the_source() {
    // Neither a missing attribute, nor the text of a macro, nor a lint level of the manifest matters to it.
    let tree = Tree::buildable();
    tree.write(
        "domains/echo/src/lib.rs",
        "#![allow(unsafe_code)]\npub fn f(p: *const u8) -> u8 {\n    unsafe { *p }\n}",
    );
    tree.append("domains/echo/Cargo.toml", "[lints.rust]\nunsafe_code = \"allow\"\n");
    tree.assert_built(&[
        "domains/echo/src/lib.rs:3: the compiler refuses it: usage of an `unsafe` block",
        "sets the lint unsafe_code to \"allow\"",
        "lacks `#![forbid(unsafe_code)]`",
    ]);
}

#[test]
fn a_file_that_only_the_compiler_reads_is_caught() {
    let tree = Tree::buildable();
    tree.write("outside/evil.rs", "pub fn f() {}");
    tree.write("domains/echo/src/deep.rs", "include!(\"../../../outside/evil.rs\");");
    tree.assert_built(&[
        "the compiler read domains/echo/src/../../../outside/evil.rs, which the audit did not",
    ]);

    // Together with an own macro of that name, which does not vouch for the language's.
    tree.write(
        "domains/echo/src/deep.rs",
        "macro_rules! include { ($e:expr) => {} }\ncore::include!(\"../../../outside/evil.rs\");",
    );
    tree.assert_built(&["which the audit did not", "defines a macro `include`"]);

    // A module under a condition, which the audit does not follow.
    tree.write("domains/echo/src/other.rs", "pub fn f() {}");
    tree.write(
        "domains/echo/src/lib.rs",
        "#![forbid(unsafe_code)]\n#[cfg_attr(all(), path = \"other.rs\")]\nmod deep;\npub fn g() { deep::f() }",
    );
    tree.assert_built(&[
        "the compiler read domains/echo/src/other.rs, which the audit did not",
        "the audit read domains/echo/src/deep.rs, which the compiler did not",
    ]);

    // Data are read too, and may be anything.
    tree.write("domains/echo/src/lib.rs", "#![forbid(unsafe_code)]\n#![doc = include_str!(\"deep.txt\")]");
    tree.write("domains/echo/src/deep.txt", "text");
    tree.assert_built(&["the compiler read domains/echo/src/deep.txt, which the audit did not"]);
}

#[test]
fn a_source_that_cargo_takes_for_unchanged_is_caught() {
    let tree = Tree::buildable();
    let path = tree.path().join("domains/echo/src/deep.rs");
    let old = SystemTime::now() - std::time::Duration::from_secs(60);
    let age =
        |path: &Path| fs::File::options().append(true).open(path).and_then(|file| file.set_modified(old));
    age(&path).expect("the file is ours");
    assert_eq!(tree.built(), [] as [String; 0]);
    tree.append("domains/echo/src/deep.rs", "pub fn other() {}");
    age(&path).expect("the file is ours");
    tree.assert_built(&["domains/echo/src/deep.rs has changed since it was compiled"]);
}

#[test]
fn a_crate_without_a_record_is_caught() {
    let tree = Tree::buildable();
    assert_eq!(tree.built(), [] as [String; 0]);
    let plans = tree.path().join("target/audit");
    for plan in fs::read_dir(plans).expect("the build made it") {
        fs::remove_dir_all(plan.expect("it is readable").path().join("records")).expect("the build made it");
    }
    tree.assert_built(&["the compiler's wrapper did not record how coppice_domain_echo was compiled"]);
}

#[test]
fn the_environment_of_the_build_is_no_input() {
    let tree = Tree::buildable();
    tree.write(
        "domains/echo/src/deep.rs",
        "pub fn f() { let _ = (env!(\"CARGO_PKG_NAME\"), option_env!(\"HOME\")); }",
    );
    tree.assert_built(&["reads the environment variable HOME while it is compiled"]);
}

/// A tree whose runtime has a permitted macro with this text, which the domain invokes.
fn with_macro(text: &str) -> Tree {
    let tree = Tree::buildable();
    let say = format!("#[macro_export] macro_rules! say {{ ($e:expr) => {{{{ {text} }}}} }}");
    tree.write("domains/runtime/src/lib.rs", &say);
    tree
}

#[test]
fn symbols_in_object_code_are_caught() {
    // The compiler's lint is silent about other crates' macros, and the list permits this one by mistake.
    let tree = with_macro("#[unsafe(no_mangle)] pub extern \"C\" fn strcpy() {} let _ = $e;");
    tree.assert_built(&["coppice-domain-echo: its object code defines the symbol strcpy"]);
    let tree = with_macro("#[unsafe(export_name = \"memcpy\")] pub extern \"C\" fn f() {} let _ = $e;");
    tree.assert_built(&["coppice-domain-echo: its object code defines the symbol memcpy"]);
    let tree = with_macro("unsafe extern \"C\" { fn getpid() -> i32; } unsafe { getpid(); } let _ = $e;");
    tree.assert_built(&["coppice-domain-echo: its object code refers to the symbol getpid"]);
    let tree = with_macro(
        "#[used] #[unsafe(link_section = \".init_array\")] static F: extern \"C\" fn() = f; \
         extern \"C\" fn f() {} let _ = $e;",
    );
    tree.assert_built(&["coppice-domain-echo: its object code has a section .init_array"]);
    let tree = with_macro(
        "#[used] #[unsafe(link_section = \".text.x\")] static F: [u8; 2] = [0x0f, 0x0b]; let _ = $e;",
    );
    tree.assert_built(&["coppice-domain-echo: its object code has data among code"]);
}

#[test]
fn assembly_outside_of_functions_is_caught() {
    let tree = Tree::buildable();
    tree.append("domains/echo/src/lib.rs", "core::arch::global_asm!(\".globl planted\", \"planted: ret\");");
    tree.assert_built(&[
        "the compiler refuses it: usage of `core::arch::global_asm`",
        "the macro `global_asm!`",
    ]);
    let tree = Tree::buildable();
    tree.append(
        "domains/runtime/src/lib.rs",
        "#[macro_export] macro_rules! plant { () => { ::core::arch::global_asm!(\".globl planted\", \"planted: ret\"); } }",
    );
    tree.append("domains/echo/src/lib.rs", "coppice_runtime::plant!();");
    tree.assert_built(&["its object code defines the symbol planted", "the macro `plant!`"]);
}

/// Name, version and checksum of a crate of the registry that this program is built with: no download is
/// needed.
fn registered() -> (String, String, String) {
    let workspace = Workspace::load().expect("the tests run in a checkout");
    let text = fs::read_to_string(workspace.root.join("xtask/trusted.toml")).expect("the checkout has it");
    let list: toml::Table = toml::from_str(&text).expect("the list is valid");
    let crates = ["crate", "confined"].iter().flat_map(|class| list[*class].as_array().into_iter().flatten());
    let found = crates.filter_map(toml::Value::as_table).find(|entry| entry["name"].as_str() == Some("log"));
    let found = found.expect("domains log");
    let field = |name: &str| found[name].as_str().expect("it is a text").to_owned();
    (field("name"), field("version"), field("checksum"))
}

/// A tree with a confined crate, and its entry with the `fields`.
fn with_confined(version: &str, checksum: &str, features: &str, unsafe_lines: usize) -> Tree {
    let (name, real, _) = registered();
    let tree = Tree::buildable();
    let dependency = format!("macros = {{ path = \"../../macros\" }}\n{name} = \"={real}\"\n");
    let source = fs::read_to_string(tree.path().join("domains/echo/src/lib.rs")).expect("the tree has it");
    tree.package("domains/echo", "coppice-domain-echo", &Tree::image("echo", &dependency));
    tree.write("domains/echo/src/lib.rs", &source);
    tree.append(
        "xtask/trusted.toml",
        &format!(
            "[[confined]]\nname = \"{name}\"\nversion = \"{version}\"\nchecksum = \"{checksum}\"\n\
             features = [{features}]\nunsafe_lines = {unsafe_lines}\nmacros = [\"warn\"]\nreason = \"One pointer was reviewed.\"\n"
        ),
    );
    tree
}

#[test]
fn a_confined_crate_is_accepted_as_it_was_reviewed_and_no_other() {
    let (_, version, checksum) = registered();
    // The finding names the number; an entry with that number has no finding.
    let findings = with_confined(&version, &checksum, "", 1000).built();
    let [finding] = findings.as_slice() else { panic!("{findings:#?}") };
    let number = finding.split(" has ").nth(1).and_then(|rest| rest.split(' ').next());
    let number: usize = number.and_then(|number| number.parse().ok()).expect("it names the number");
    assert!(number > 0 && finding.contains("but 1000 were reviewed: src/lib.rs:"), "{finding}");
    assert_eq!(with_confined(&version, &checksum, "", number).built(), [] as [String; 0]);

    let changed = checksum.replace(char::is_numeric, "0");
    with_confined(&version, &changed, "", number).assert_caught("not listed with the checksum");
    with_confined("0.4.0", &checksum, "", number).assert_caught("but only log 0.4.0 is listed");
    with_confined(&version, &checksum, "\"std\"", number)
        .assert_caught("with the features [], but listed with [std]");
    let tree = with_confined(&version, &checksum, "", number);
    tree.replace(
        "domains/echo/Cargo.toml",
        &format!("log = \"={version}\""),
        &format!("log = {{ version = \"={version}\", features = [\"std\"] }}"),
    );
    tree.assert_caught("with the features [alloc, std], but listed with []");
}

#[test]
fn a_member_with_the_name_of_a_listed_crate_is_audited() {
    let (name, version, checksum) = registered();
    let tree = with_confined(&version, &checksum, "", 0);
    tree.package("domains/log", &name, "");
    tree.replace("domains/log/Cargo.toml", "0.1.0", &version);
    tree.write("domains/log/src/lib.rs", "pub fn f(p: *const u8) -> u8 { unsafe { *p } }");
    tree.replace("domains/echo/Cargo.toml", &format!("log = \"={version}\""), "log = { path = \"../log\" }");
    tree.assert_caught("domains/log/src/lib.rs: lacks `#![forbid(unsafe_code)]`");
    tree.assert_built(&["domains/log/src/lib.rs:1: the compiler refuses it"]);
}
