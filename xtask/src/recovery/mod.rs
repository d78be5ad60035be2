//! Systems in which a driver is crashed under load: their reports of themselves, the live display, and the
//! final report.
//!
//! A system prints [`Line`](coppice_run_protocol::trial::Line)s on its console. [`RunLog`](course::RunLog) collects them;
//! [`watch`](watch::watch) boots a system and reads its lines, with a live display ([`display`]) on a
//! terminal; [`verdict`] checks the run log against the guarantees; [`page`] draws it. This module does not
//! depend on the kind of driver: all counts are meters that the system names.

pub(crate) mod course;
mod display;
pub(crate) mod page;
pub(crate) mod verdict;
pub(crate) mod watch;

pub(crate) use course::RunLog;
