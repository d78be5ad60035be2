//! Systems in which a driver is crashed under load.
//!
//! Such a system prints [`Line`](coppice_run_protocol::trial::Line)s on its console. A [`RunLog`] collects
//! them; [`display`] shows them live; [`verdict`] checks the log against the guarantees; [`page`] draws it,
//! and [`figures`] lists its figures. This module does not depend on the kind of driver: all counts are
//! meters that the system names.

pub mod display;
pub mod figures;
pub mod page;
pub mod run_log;
mod sample;
pub mod verdict;

pub use run_log::RunLog;
pub use sample::sample_log;
