//! The benchmarks: [`bars`] for any of them; [`nvme`] and [`net`], whose figures are of one load on several
//! configurations ([`loads`], drawn by [`curves`]); [`faults`], the table of faults on all machines.

pub mod bars;
pub mod curves;
pub mod faults;
pub mod loads;
pub mod net;
pub mod nvme;
