//! Lets calls of [`Filter`] survive the crashes of the domain behind it: what each method's attribute says in the
//! interface.

#![no_std]
#![forbid(unsafe_code)]

use coppice_example_interfaces::Filter;
use coppice_runtime::ShadowDomain;

/// The domain.
pub type ShadowFilterDomain = ShadowDomain<dyn Filter>;
