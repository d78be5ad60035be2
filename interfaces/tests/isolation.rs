//! Isolation is type errors: what must not cross does not compile, and what may cross does.
//!
//! Each file in `compile_fail/` and `build_fail/` is one mistake, named after it; the compiler's words are in the `.stderr`
//! beside it. After a change of ours or of the compiler's that only changes words,
//! `TRYBUILD=overwrite cargo test -p coppice-interfaces` overwrites them: read the difference.
//!
//! The cases are two sets because of their cost. A set without a program to run is checked by one cargo; in a set with
//! one, each case has two runs of cargo of its own. Mistakes that only code generation finds, which `cargo check`
//! does not reach, are in the second set.

#[test]
fn what_must_not_cross_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}

#[test]
fn what_may_cross_compiles_and_what_code_generation_refuses_does_not() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/build_fail/*.rs");
    cases.pass("tests/compile_pass/*.rs");
}
