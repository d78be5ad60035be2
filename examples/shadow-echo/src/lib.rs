//! A shadow of [`Echo`]: calls survive crashes of the domain behind it, each as its method's attribute in the
//! interface states.

#![no_std]
#![forbid(unsafe_code)]

use coppice_example_interfaces::Echo;
use coppice_runtime::ShadowDomain;

/// The domain.
pub type ShadowEchoDomain = ShadowDomain<dyn Echo>;
