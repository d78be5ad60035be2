//! Reports of test runs and benchmarks: figures, tables, drawings, pages, and the live display of a run.
//!
//! `cargo xtask` boots systems and passes their console lines to this library, which collects, checks and
//! draws them. The library builds nothing, boots nothing and knows no command line.
//!
//! - [`measurement`]: one figure, and the report of figures with their machine and commit.
//! - [`bench`]: tables, aims and drawings of the benchmarks.
//! - [`recovery`]: systems whose driver is crashed under load.
//! - [`soak`]: domains that are ended and restarted for a long time.
//! - [`table`], [`axes`], [`markup`]: text tables, SVG frames with axes, escapes.
//!
//! Everything is drawn by hand: a chart is lines, rectangles and text, and a plotting crate would add more
//! code than this library has.

#![forbid(unsafe_code)]

pub mod axes;
pub mod bench;
mod json;
pub mod markup;
pub mod measurement;
pub mod recovery;
pub mod soak;
pub mod table;
