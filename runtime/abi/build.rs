//! Records which compiler builds this tree: trait objects cross the image boundary, so a domain image that
//! another compiler built must be refused (see `note::COMPILER`).

use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").expect("cargo sets RUSTC for build scripts");
    let version = Command::new(rustc).arg("-vV").output().expect("rustc runs: cargo has just run it");
    let text = String::from_utf8(version.stdout).expect("rustc prints UTF-8");
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or("unknown").to_owned()
    };
    println!("cargo:rustc-env=COPPICE_RUSTC={} {}", field("release:"), field("commit-hash:"));
    println!("cargo:rerun-if-changed=build.rs");
}
