//! What a domain says is not believed: values on which unsafe code relies cannot be made by safe code, and a
//! domain cannot define what crosses.
//!
//! The cases are compiled as a package outside of the contract crates, like a domain's, with all crates that
//! a domain's author could name. The compiler's messages are in the `.stderr` files;
//! `interfaces/core/tests/isolation.rs` says how to regenerate them.

#[test]
fn values_that_trusted_code_believes_cannot_be_forged() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
