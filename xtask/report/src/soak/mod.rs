//! The soak: its [`run_log`], the [`times`] of its restarts, and its [`page`].

pub mod page;
pub mod run_log;
pub mod times;

pub use run_log::RunLog;
