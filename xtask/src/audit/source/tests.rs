//! Each way around the audit is tried here, one line each.

use std::path::PathBuf;

use super::*;

const FORBID: &str = "#![forbid(unsafe_code)]\n";

fn permitted() -> Permitted {
    let usable: BTreeSet<String> =
        BUILT_IN.iter().copied().chain(["info", "interface", "Shareable"]).map(str::to_owned).collect();
    let reserved = usable.iter().cloned().chain(["elsewhere".to_owned()]).collect();
    let attributes = usable.clone();
    let foreign = ["raw".to_owned()].into();
    Permitted { usable, attributes, reserved, foreign }
}

fn findings_of_file(text: &str) -> Vec<String> {
    let syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{error} in {text}"));
    let files = [SourceFile { path: PathBuf::new(), syntax }];
    let findings = audit_library(&files, &["lib.rs".to_owned()], &permitted());
    findings.iter().map(ToString::to_string).collect()
}

fn findings(body: &str) -> Vec<String> {
    findings_of_file(&format!("{FORBID}{body}"))
}

#[track_caller]
fn assert_caught(body: &str, what: &str) {
    let findings = findings(body);
    assert!(findings.iter().any(|finding| finding.contains(what)), "{body}\ngave {findings:?}");
}

#[track_caller]
fn assert_clean(body: &str) {
    assert_eq!(findings(body), [] as [String; 0], "{body}");
}

#[test]
fn forbid_must_be_there_and_unconditional() {
    for text in [
        "",
        "#![deny(unsafe_code)]",
        "#![cfg_attr(test, forbid(unsafe_code))]",
        "#[forbid(unsafe_code)] mod a {}",
    ] {
        let findings = findings_of_file(text);
        assert!(findings.iter().any(|finding| finding.contains("lacks")), "{text}\ngave {findings:?}");
    }
    assert_eq!(findings_of_file("#![no_std]\n#![forbid(unsafe_code, missing_docs)]"), [] as [String; 0]);
}

#[test]
fn ordinary_domain_code_is_clean() {
    assert_clean(
        r#"
        //! Docs.
        #![cfg_attr(not(test), no_std)]
        extern crate alloc;
        use alloc::{vec, vec::Vec};
        use core::fmt::{self, Write as _};
        #[derive(Clone, Copy, core::fmt::Debug, Shareable)]
        #[repr(C)]
        pub struct Counter(u32);
        #[interface]
        trait Count { fn count(&self) -> u32; }
        #[cfg_attr(test, derive(PartialEq), allow(dead_code))]
        #[rustfmt::skip]
        fn f(x: &[u32]) -> bool {
            log::info!("{} of {:?}", x.len(), vec![1, 2, 3]);
            if !(x.is_empty()) && x.len() != 3 { return !(x.len() == 1); }
            matches!(x, [1, ..]) || match !x.is_empty() { true => !{ false }, false => !!(true) }
        }
        #[inline]
        fn hidden() -> impl Iterator<Item = u32> + use<> { core::iter::empty() }
        macro_rules! register { ($name:ident, $offset:expr) => { pub const $name: u32 = $offset; } }
        register!(RDT, 0x1018);
        "#,
    );
}

#[test]
fn test_code_is_not_audited() {
    assert_clean("#[cfg(test)] mod tests { use super::*; proptest! { fn f() { unsafe { g() } } } }");
    assert_clean("mod a { #[cfg(test)] fn f() { println!() } }");
    assert_caught("#[cfg(any(test, feature = \"x\"))] mod tests { fn f() { proptest!() } }", "proptest");
}

#[test]
fn unsafe_is_caught_in_macros_and_attributes_too() {
    assert_caught("fn f() { unsafe { g() } }", "`unsafe`");
    assert_caught("fn f() { log::info!(\"{}\", unsafe { g() }) }", "`unsafe`");
    assert_caught("macro_rules! m { () => { unsafe { g() } } }", "`unsafe`");
    assert_caught("#[unsafe(no_mangle)] pub fn f() {}", "`unsafe`");
    assert_caught("#[cfg_attr(all(), unsafe(no_mangle))] pub fn f() {}", "`unsafe`");
}

#[test]
fn imports_and_exports_of_symbols_are_caught() {
    assert_caught("extern \"C\" { fn f(); }", "`extern`");
    assert_caught("pub extern \"C\" fn f() {}", "`extern`");
    assert_caught("#[no_mangle] pub fn f() {}", "`no_mangle`");
    assert_caught("#[export_name = \"memcpy\"] pub fn f() {}", "`export_name`");
    assert_caught("#[link_section = \".note.coppice\"] pub static X: u32 = 1;", "`link_section`");
    assert_caught("#[global_allocator] static A: B = B;", "`global_allocator`");
}

#[test]
fn code_from_other_files_is_caught() {
    assert_caught("#[path = \"../../evil.rs\"] mod evil;", "`path`");
    assert_caught("#[cfg_attr(all(), path = \"../evil.rs\")] mod evil;", "`path`");
    assert_caught("include!(\"evil.rs\");", "`include!`");
    assert_caught("#[macro_use] extern crate evil;", "`macro_use`");
    assert_caught("macro_rules! m { () => { mod evil; } }", "`mod` inside a macro");
}

#[test]
fn assembly_is_caught_under_every_path() {
    assert_caught("fn f() { asm!(\"hlt\") }", "`asm!`");
    assert_caught("core::arch::global_asm! { \"hlt\" }", "`global_asm!`");
    assert_caught("fn f() { core::arch::r#asm!(\"hlt\") }", "asm!`");
}

#[test]
fn macros_that_are_not_permitted_are_caught() {
    assert_caught("evil::wrap!(x);", "`wrap!`");
    assert_caught("fn f() { log::info!(\"{}\", wrap!(x)) }", "`wrap!`");
    assert_caught("fn f() { r#return!(x) }", "return!`");
    assert_caught("#[derive(Clone, evil::Sneak)] struct S;", "the derive `Sneak`");
    assert_caught("#[cfg_attr(all(), derive(Sneak))] struct S;", "the derive `Sneak`");
    assert_caught("#[evil::sneak] fn f() {}", "the attribute `sneak`");
    assert_caught("struct S { #[sneak] field: u32 }", "the attribute `sneak`");
    assert_caught("#![sneak]", "the attribute `sneak`");
    assert_caught("#[doc = wrap!(x)] fn f() {}", "`wrap!`");
    assert_caught("mod inner { #![sneak] fn f() {} }", "the attribute `sneak`");
}

#[test]
fn a_permitted_name_cannot_be_assumed() {
    assert_caught("use evil::wrap as info;", "takes the name");
    assert_caught("use evil::{other, wrap as vec};", "takes the name");
    assert_caught("pub use evil::wrap as elsewhere;", "takes the name");
    assert_caught("fn f() { use evil::wrap as info; }", "takes the name");
    assert_caught("mod a { use evil as interface; }", "takes the name");
    assert_caught("macro_rules! m { ($a:ident) => { use evil::wrap as $a; } }", "`use` inside a macro");
    assert_caught("m!(use evil::wrap as info);", "`use` inside a macro");
}

#[test]
fn a_macro_that_assembles_an_invocation_is_caught() {
    assert_caught("macro_rules! m { ($a:ident) => { $a!(\"hlt\") } }", "`$a`");
    assert_caught("macro_rules! m { ($info:ident) => { $info!(\"hlt\") } }", "`$info`");
    assert_caught("macro_rules! m { ($p:path) => { $p! { } } }", "`$p`");
    assert_caught("macro_rules! m { ($($t:tt)*) => { $($t)* } }", "`tt`");
    assert_caught("macro_rules! m { ($($a:ident)?) => { $($a)? !(\"hlt\") } }", "repeated parameter");
    assert_caught("macro_rules! m { ($m:meta) => { #[$m] fn f() {} } }", "a macro's parameter");
    assert_caught(
        "macro_rules! m { ($m:meta) => { #[cfg_attr(all(), $m)] fn f() {} } }",
        "a macro's parameter",
    );
    assert_caught("macro_rules! m { ($d:ident) => { #[derive($d)] struct S; } }", "a macro's parameter");
    assert_caught("macro_rules! m { ($d:ident) => { #[inline::$d] fn f() {} } }", "a macro's parameter");
    assert_caught(
        "macro_rules! m { ($k:ident) => { macro_rules! n { ($a:$k) => { $a } } } }",
        "defines a macro",
    );
}

#[test]
fn own_macros_vouch_for_no_others() {
    const OWN: &str = "macro_rules! mine { () => {} }";
    assert_clean(&format!(
        "{OWN} fn f() {{ mine!(); crate::mine!(); }} macro_rules! m {{ () => {{ $crate::m::mine!() }} }}"
    ));
    // A name of the language, of another crate in reach, or below another crate's path.
    assert_caught("macro_rules! global_asm { () => {} }", "the name of another crate's macro");
    assert_caught("macro_rules! include { () => {} }", "the name of another crate's macro");
    assert_caught("macro_rules! raw { () => {} }", "the name of another crate's macro");
    assert_caught("outer! { macro_rules! asm { () => {} } }", "the name of another crate's macro");
    for path in
        ["core::arch::mine", "::elsewhere::mine", "other::crate::mine", "self::mine", "super::m::mine"]
    {
        assert_caught(&format!("{OWN} fn f() {{ {path}!() }}"), "the macro `mine!`");
    }
    // Neither an attribute nor a derive is a macro_rules.
    assert_caught("macro_rules! no_mangle { () => {} } #[no_mangle] fn f() {}", "the attribute `no_mangle`");
    assert_caught(&format!("{OWN} #[mine] fn f() {{}}"), "the attribute `mine`");
    assert_caught(&format!("{OWN} #[derive(mine)] struct S;"), "the derive `mine`");
    // An import of another macro under the own one's name.
    for import in
        ["elsewhere::mine", "elsewhere::{self, mine}", "elsewhere::raw as mine", "::elsewhere::m::mine"]
    {
        assert_caught(&format!("{OWN} mod m {{ use {import}; fn f() {{ mine!() }} }}"), "mine");
    }
    assert_clean(&format!("{OWN} mod m {{ use crate::mine; fn f() {{ mine!() }} }}"));
}

#[test]
fn findings_name_their_line() {
    let findings = findings("\n\nfn f() {\n    evil!();\n}\n");
    assert_eq!(findings, ["lib.rs:5: the macro `evil!`, which xtask/trusted.toml does not permit"]);
}

fn findings_of_main(text: &str) -> Vec<Finding> {
    audit_binary(&syn::parse_file(text).unwrap_or_else(|error| panic!("{error} in {text}")), "main.rs")
}

#[test]
fn main_is_the_entry_macro_and_nothing_else() {
    let good =
        "//! Docs.\n#![no_std]\n#![no_main]\n#![forbid(unsafe_code)]\ncoppice_runtime::entry!(echo::start);";
    assert_eq!(findings_of_main(good), []);
    for bad in [
        "",
        "fn main() {}",
        "coppice_runtime::entry!(a::b); fn f() {}",
        "evil::entry!(a::b);",
        "entry!(a::b);",
        "coppice_runtime::entry!({ unsafe { f() } });",
        "coppice_runtime::entry!(a::b());",
        "#![feature(x)] coppice_runtime::entry!(a::b);",
        "#[sneak] coppice_runtime::entry!(a::b);",
        "macro_rules! entry { () => {} }",
    ] {
        assert_ne!(findings_of_main(bad), [], "{bad}");
    }
}
