//! What does isolation cost?
#![no_std]
#![forbid(unsafe_code)]
use coppice_runtime::{Domain, Environment};
/// The domain.
pub struct CrossingBench;
impl Domain for CrossingBench {
    type Imports = ();
    type Export = ();
    fn start(_: &Environment<'_>, (): ()) {}
}
