//! Isolation is type errors: what must not cross does not compile, and what may cross does.
//!
//! Each file in `compile_fail/` is one mistake, named after it; the compiler's words are in the `.stderr` beside it. After
//! a change of ours or of the compiler's that only changes words, `TRYBUILD=overwrite cargo test -p coppice-interfaces`
//! writes them anew: read the difference.

#[test]
fn what_must_not_cross_does_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/compile_fail/*.rs");
    cases.pass("tests/compile_pass/*.rs");
}
