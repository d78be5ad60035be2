//! Isolation is type errors: types that must not cross do not compile, and types that may cross do.
//!
//! Each file in `compile_fail/` and `build_fail/` is one mistake, named after it; the compiler's message is
//! in the `.stderr` beside it. After a change here or of the compiler that only changes messages,
//! `TRYBUILD=overwrite cargo test -p coppice-interfaces` regenerates them: read the difference.
//!
//! The cases are two sets because of their cost. One run of cargo checks a set without a program to run; in a
//! set with one, each case takes two runs of cargo. Mistakes that only code generation finds, which `cargo
//! check` does not reach, are in the second set.

#[test]
fn types_that_must_not_cross_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}

#[test]
fn types_that_may_cross_compile_and_code_generation_refuses_the_rest() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/build_fail/*.rs");
    cases.pass("tests/compile_pass/*.rs");
}
