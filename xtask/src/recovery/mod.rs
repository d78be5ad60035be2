//! Systems in which a driver is crashed under load: what they say of themselves, how that is shown while they run, and
//! what is reported of it.
//!
//! A system says each [`Line`](line::Line) on its console. [`Course`](course::Course) is what is known from them;
//! [`watch`](watch::watch) boots a system and listens, with a live display ([`display`]) where there is a terminal;
//! [`verdict`] holds the course against what was promised; [`page`] draws it. Nothing here knows what the driver drives:
//! what is counted is a list of meters that the system names.

pub(crate) mod course;
mod display;
mod line;
pub(crate) mod page;
pub(crate) mod verdict;
pub(crate) mod watch;

pub(crate) use course::Course;
