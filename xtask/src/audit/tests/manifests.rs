//! Settings of manifests and of cargo's configuration that steer the compiler past the audit.

use super::*;

#[track_caller]
fn assert_root_caught(text: &str, message: &str) {
    let tree = Tree::new();
    tree.append("Cargo.toml", text);
    tree.assert_caught(message);
}

#[test]
fn settings_of_the_root_that_change_crates_or_flags_are_caught() {
    let tree = Tree::new();
    tree.package("domains/evil", "evil", "");
    tree.append("Cargo.toml", "[patch.crates-io]\nevil = { path = \"domains/evil\" }\n");
    tree.assert_caught("Cargo.toml: has `patch`");
    assert_root_caught(
        "[profile.release.package.\"*\"]\nopt-level = 1\n",
        "the profile release sets `package`",
    );
    assert_root_caught(
        "[profile.dev.build-override]\nopt-level = 1\n",
        "the profile dev sets `build-override`",
    );
    assert_root_caught(
        "[workspace.lints.rust]\nunsafe_code = \"warn\"\n",
        "sets the lint unsafe_code to \"warn\"",
    );
    let lint = "[workspace.lints.rust]\nunsafe_code = { level = \"allow\", priority = 1 }\n";
    assert_root_caught(lint, "sets the lint unsafe_code to \"allow\"");
}

#[test]
fn configuration_of_cargo_in_the_checkout_is_caught() {
    for (path, text, message) in [
        (".cargo/config.toml", "[build]\nincremental = false\n", "config.toml: configures `build`"),
        (".cargo/config", "[env]\nA = \"b\"\n", ".cargo/config: configures `env`"),
        (".cargo/config.toml", "[profile.dev]\nopt-level = 1\n", "configures `profile`"),
        (".cargo/config.toml", "[target.x86_64-unknown-linux-gnu]\nrustflags = []\n", "configures `target`"),
        ("domains/echo/.cargo/config.toml", "[alias]\n", "configures cargo below the workspace's root"),
        ("domains/echo/rust-toolchain.toml", "", "chooses a compiler"),
    ] {
        let tree = Tree::new();
        tree.write(path, text);
        tree.assert_caught(message);
    }
    let tree = Tree::new();
    tree.write(".cargo/config.toml", "[alias]\nx = \"run\"\n");
    assert_eq!(tree.findings(), [] as [String; 0]);
}

#[test]
fn settings_of_an_audited_package_are_caught() {
    for (old, new, message) in [
        ("edition = \"2024\"", "edition = \"2024\"\nbuild = \"src/deep.rs\"", "sets `package.build`"),
        ("edition = \"2024\"", "edition = \"2024\"\nbuild = \"src/deep.rs\"", "has a build script"),
        ("[[bin]]", "[lib]\npath = \"src/deep.rs\"\n[[bin]]", "its library is not in src/lib.rs"),
        ("[[bin]]", "[lib]\ncrate-type = [\"cdylib\"]\n[[bin]]", "sets `crate-type` of a target"),
        ("[[bin]]", "[lib]\nproc-macro = true\n[[bin]]", "is a macro crate"),
        ("[[bin]]", "[[bin]]\nname = \"x\"\npath = \"src/deep.rs\"\n[[bin]]", "has a binary \"x\""),
        ("[[bin]]", "[build-dependencies]\n[[bin]]", "has `build-dependencies`"),
        ("[[bin]]", "[profile.release]\nopt-level = 1\n[[bin]]", "has `profile`"),
        ("[[bin]]", "[patch.crates-io]\n[[bin]]", "has `patch`"),
        ("[[bin]]", "[lints.rust]\nunsafe_code = \"warn\"\n[[bin]]", "sets the lint unsafe_code to \"warn\""),
    ] {
        let tree = Tree::new();
        tree.replace("domains/echo/Cargo.toml", old, new);
        tree.assert_caught(message);
    }
    let tree = Tree::new();
    tree.append("Cargo.toml", "[workspace.package]\nedition = \"2024\"\n");
    tree.replace("domains/echo/Cargo.toml", "2024", "2018");
    tree.assert_caught("is of edition 2018, unlike the workspace");
    // A name of a native library needs a build script.
    let tree = Tree::new();
    tree.replace("domains/echo/Cargo.toml", "edition", "links = \"c\"\nbuild = \"build.rs\"\nedition");
    tree.write("domains/echo/build.rs", "fn main() {}");
    tree.assert_caught("sets `package.links`");
}

#[test]
fn a_build_script_that_writes_a_source_is_caught() {
    let tree = Tree::new();
    tree.write("domains/echo/build.rs", "fn main() { /* writes $OUT_DIR/evil.rs */ }");
    tree.write(
        "domains/echo/src/deep.rs",
        "include!(concat!(env!(\"OUT_DIR\"), \"/evil.rs\")); pub fn f() {}",
    );
    tree.assert_caught("has a build script");
    tree.assert_caught("the macro `include!`");
}

#[test]
fn a_feature_of_a_trusted_crate_is_caught() {
    let tree = Tree::new();
    tree.append("domains/runtime/Cargo.toml", "[features]\nraw = []\n");
    assert_eq!(tree.findings(), [] as [String; 0]);
    tree.replace(
        "domains/echo/Cargo.toml",
        "path = \"../runtime\"",
        "path = \"../runtime\", features = [\"raw\"]",
    );
    tree.assert_caught("is built with the features [raw], but listed with []");
    // By way of another audited package, and only for this target.
    let tree = Tree::new();
    tree.append("domains/runtime/Cargo.toml", "[features]\nraw = []\n");
    tree.package(
        "domains/other",
        "other",
        "[target.'cfg(unix)'.dependencies]\ncoppice-runtime = { path = \"../runtime\", features = [\"raw\"] }\n",
    );
    tree.write("domains/other/src/lib.rs", "#![forbid(unsafe_code)]");
    tree.assert_caught("is built with the features [raw], but listed with []");
    tree.trust("unused", "domains/unused", "");
    tree.replace("xtask/trusted.toml", "macros = [\"say\"]", "macros = [\"say\"]\nfeatures = [\"raw\"]");
    assert_eq!(
        tree.findings(),
        ["xtask/trusted.toml: unused in domains/unused is listed, but no domain is built with it: remove it"]
    );
}

#[test]
fn own_macros_of_one_package_do_not_vouch_in_another() {
    // One package re-exports a macro that is not listed, under the name of its own one.
    let tree = Tree::new();
    tree.package("domains/way", "way", "[dependencies]\ncoppice-runtime = { path = \"../runtime\" }\n");
    tree.write(
        "domains/way/src/lib.rs",
        "#![forbid(unsafe_code)]\npub use coppice_runtime::entry as innocent;",
    );
    tree.package("domains/vouch", "vouch", "");
    tree.write(
        "domains/vouch/src/lib.rs",
        "#![forbid(unsafe_code)]\n#[macro_export] macro_rules! innocent { () => {} }",
    );
    let both = "way = { path = \"../way\" }\nvouch = { path = \"../vouch\" }\n";
    tree.replace("domains/echo/Cargo.toml", "[dependencies]\n", &format!("[dependencies]\n{both}"));
    tree.write("domains/echo/src/deep.rs", "fn f() { way::innocent!(g) }");
    tree.assert_caught("domains/way/src/lib.rs:2: `use .. as innocent` takes the name of a permitted macro");

    // A renamed dependency, and an own macro with the name of one that is not listed.
    let tree = Tree::new();
    let renamed = "[dependencies]\nrt = { package = \"coppice-runtime\", path = \"../runtime\" }\n";
    tree.replace("domains/echo/Cargo.toml", "[dependencies]\n", renamed);
    tree.replace("domains/echo/Cargo.toml", "coppice-runtime = { path = \"../runtime\" }\n", "");
    tree.write("domains/echo/src/deep.rs", "macro_rules! entry { () => {} } fn f() { rt::entry!(g) }");
    tree.assert_caught("defines a macro `entry`, which is the name of another crate's macro");
    tree.assert_caught("the macro `entry!`");
}
