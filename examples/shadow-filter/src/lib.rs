//! A shadow of [`Filter`]: calls survive crashes of the domain behind it, each as its method's attribute in
//! the interface states.

#![no_std]
#![forbid(unsafe_code)]

use coppice_example_interfaces::Filter;
use coppice_runtime::ShadowDomain;

/// The domain.
pub type ShadowFilterDomain = ShadowDomain<dyn Filter>;
