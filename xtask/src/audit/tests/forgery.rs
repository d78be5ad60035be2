//! Domains that define what crosses, or that make a trusted name stand for another crate.

use super::*;

/// A domain that reads any memory through a proxy that it has made by hand.
const FORGERY: &str = include_str!("../../../../runtime/tests/compile_fail/memory_read_by_a_forged_proxy.rs");

/// A tree whose macros are for contracts, with one contract that the domain uses.
fn tree() -> Tree {
    let tree = with_contract("[dependencies]\nmacros = { path = \"../../macros\" }\n");
    tree.write(
        "macros/src/lib.rs",
        "#[proc_macro_attribute] pub fn interface(_: P, i: P) -> P { i }
         #[proc_macro_derive(Shareable)] pub fn shareable(i: P) -> P { i }
         #[proc_macro_derive(Imports)] pub fn imports(i: P) -> P { i }",
    );
    let list = fs::read_to_string(tree.path().join("xtask/trusted.toml")).expect("the tree has one");
    let macros = "macros = [\"Imports\"]\ncontract_macros = [\"Shareable\", \"interface\"]";
    tree.write("xtask/trusted.toml", &list.replace("macros = [\"interface\"]", macros));
    domain(&tree, "#[derive(macros::Imports)] struct Wires;");
    tree
}

/// Replaces the domain's library.
fn domain(tree: &Tree, text: &str) {
    tree.write("domains/echo/src/lib.rs", &format!("#![forbid(unsafe_code)]\n{text}"));
    tree.write("domains/echo/src/deep.rs", "");
}

/// Replaces the domain's manifest below `[dependencies]`, which names the runtime already.
fn manifest(tree: &Tree, dependencies: &str) {
    tree.write("domains/echo/Cargo.toml", "");
    let disk = format!("disk = {{ path = \"../../interfaces/disk\" }}\n{dependencies}");
    tree.write(
        "domains/echo/Cargo.toml",
        &format!(
            "[package]\nname = \"coppice-domain-echo\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{}",
            Tree::image("echo", &disk)
        ),
    );
}

#[test]
fn contracts_define_what_crosses_and_domains_import_it() {
    assert_eq!(tree().findings(), [] as [String; 0]);
}

#[test]
fn a_domain_that_forges_a_proxy_is_caught() {
    let tree = tree();
    tree.package("domains/abi", "coppice-abi", "");
    tree.trust("coppice-abi", "0.1", "internal = true");
    manifest(&tree, "coppice-abi = { path = \"../abi\" }\n");
    tree.write("domains/echo/src/lib.rs", FORGERY);
    tree.assert_caught("domains/echo/Cargo.toml: depends on coppice-abi, which is internal");
    tree.assert_caught("`interface` defines what crosses, which only contract crates may do");
    tree.assert_caught("the attribute `interface`, which xtask/trusted.toml does not permit");
}

#[test]
fn a_domain_that_defines_a_type_that_crosses_is_caught() {
    let tree = tree();
    domain(&tree, "#[derive(Clone, macros::Shareable)] struct S;");
    tree.assert_caught("domains/echo/src/lib.rs:2: `Shareable` defines what crosses");
    // A macro of the domain's own does not hide it, nor does another name for the macro.
    domain(&tree, "macro_rules! m { () => { #[derive(Shareable)] struct S; } }\nm!();");
    tree.assert_caught("domains/echo/src/lib.rs:2: `Shareable` defines what crosses");
    domain(&tree, "use macros::interface as Imports;\n#[Imports] trait T {}");
    tree.assert_caught("`use .. as Imports` takes the name of a permitted macro");
    domain(&tree, "use macros::interface as doc;\n#[doc] trait T {}");
    tree.assert_caught("`use .. as doc` takes the name of a permitted macro");
}

#[test]
fn a_package_among_the_contracts_must_be_named() {
    let tree = tree();
    tree.package("interfaces/mine", "mine", "");
    tree.write("interfaces/mine/src/lib.rs", "#![forbid(unsafe_code)]");
    tree.assert_caught("interfaces/mine/Cargo.toml: lies among the contracts, but `crates`");
}

#[test]
fn a_contract_that_is_gone_is_caught() {
    let tree = tree();
    let list = fs::read_to_string(tree.path().join("xtask/trusted.toml")).expect("the tree has one");
    tree.write("xtask/trusted.toml", &list.replace("[\"disk\"]", "[\"disk\", \"gone\"]"));
    tree.assert_caught("gone is listed as a contract, but there is no such package");
}

#[test]
fn an_own_crate_under_a_trusted_name_is_caught() {
    let tree = tree();
    domain(&tree, "extern crate self as coppice_runtime;");
    tree.assert_caught("domains/echo/src/lib.rs:2: `extern crate` with another name");
    domain(&tree, "macro_rules! m { ($a:ident) => { extern crate self as $a; } }\nm!(coppice_runtime);");
    tree.assert_caught("domains/echo/src/lib.rs:2: `extern crate` with another name");
}

#[test]
fn a_renamed_dependency_is_caught() {
    let tree = tree();
    tree.package("domains/evil", "evil", "");
    tree.write("domains/evil/src/lib.rs", "#![forbid(unsafe_code)]");
    manifest(&tree, "coppice-interfaces = { package = \"evil\", path = \"../evil\" }\n");
    tree.assert_caught("domains/echo/Cargo.toml: renames the dependency evil to coppice-interfaces");
    // A name of the sysroot is no exception, nor is a dependency that the workspace renames.
    manifest(&tree, "core = { package = \"evil\", path = \"../evil\" }\n");
    tree.assert_caught("domains/echo/Cargo.toml: renames the dependency evil to core");
    let root = fs::read_to_string(tree.path().join("Cargo.toml")).expect("the tree has one");
    let shared = "[workspace.dependencies]\ncore = { package = \"evil\", path = \"domains/evil\" }\n";
    tree.write("Cargo.toml", &format!("{root}{shared}"));
    manifest(&tree, "core.workspace = true\n");
    tree.assert_caught("domains/echo/Cargo.toml: renames the dependency evil to core");
}

#[test]
fn a_library_with_the_name_of_another_is_caught() {
    let tree = tree();
    tree.package("domains/evil", "evil", "[lib]\nname = \"coppice_runtime\"\n");
    tree.write("domains/evil/src/lib.rs", "#![forbid(unsafe_code)]");
    manifest(&tree, "evil = { path = \"../evil\" }\n");
    tree.assert_caught("domains/evil/Cargo.toml: calls its library coppice_runtime");
    tree.assert_caught("its library is called coppice_runtime, like that of");
    // A package whose name differs in a hyphen only has the same library.
    tree.package("domains/evil", "coppice_runtime", "");
    tree.write("domains/evil/src/lib.rs", "#![forbid(unsafe_code)]");
    manifest(&tree, "coppice_runtime = { path = \"../evil\" }\n");
    tree.assert_caught("its library is called coppice_runtime, like that of");
}

#[test]
fn a_library_with_the_name_of_the_sysroots_is_caught() {
    let tree = tree();
    tree.package("domains/evil", "core", "");
    tree.write("domains/evil/src/lib.rs", "#![forbid(unsafe_code)]");
    manifest(&tree, "core = { path = \"../evil\" }\n");
    tree.assert_caught("its library has the name of Rust's core");
}

#[test]
fn another_edition_is_caught() {
    for edition in ["2015", "2018", "2021"] {
        let tree = tree();
        let text = fs::read_to_string(tree.path().join("domains/echo/Cargo.toml")).expect("the tree has one");
        let text = text.replace("edition = \"2024\"", &format!("edition = \"{edition}\""));
        tree.write("domains/echo/Cargo.toml", &text);
        tree.assert_caught(&format!("domains/echo/Cargo.toml: has the edition {edition}"));
    }
}

#[test]
fn a_safe_constructor_of_a_trusted_type_is_caught() {
    let tree = tree();
    tree.append("domains/runtime/src/lib.rs", "pub struct Core { target: *mut () }\nimpl Core {}");
    assert_eq!(tree.findings(), [] as [String; 0]);
    let constructor = "impl Core { pub fn new(target: *mut ()) -> Self { Self { target } } }";
    tree.append("domains/runtime/src/lib.rs", constructor);
    tree.assert_caught("unsafe code relies on coppice_runtime::Core, and `Core::new` makes one");
    let entry =
        "[[type]]\nname = \"coppice_runtime::Core\"\nconstructors = [\"Core::new\"]\nreason = \"Null.\"\n";
    tree.write("xtask/constructors.toml", entry);
    assert_eq!(tree.findings(), [] as [String; 0]);
}

#[test]
fn safe_constructors_of_this_workspace_are_listed() {
    let workspace = Workspace::load().expect("the tests run in the workspace");
    let trusted = Trusted::read(&workspace).expect("the list is valid");
    let images = workspace.images().expect("the workspace has images");
    let names = images.into_values().collect();
    let closures = Closures::read(&workspace, &names).expect("cargo describes them");
    let findings = constructors::findings(&workspace, &trusted, &closures).expect("the sources are read");
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

#[test]
fn macros_and_audit_agree_on_the_folder_of_contracts() {
    let workspace = Workspace::load().expect("the tests run in the workspace");
    let macros = fs::read_to_string(workspace.root.join("interfaces/macros/src/package.rs"));
    let folders = "const DEFINING_FOLDERS: [&str; 2] = [\"interfaces\", \"rref\"];";
    assert!(macros.expect("the crate has the file").contains(folders));
    let trusted = Trusted::read(&workspace).expect("the list is valid");
    assert!(trusted.is_contract_folder(Path::new("interfaces/block")));
    assert!(
        !trusted.is_contract_folder(Path::new("rref")) && trusted.lists_path(&workspace.root.join("rref"))
    );
}
