//! Lets calls of [`Echo`] survive the crashes of the domain behind it: what each method's attribute says in the
//! interface.

#![no_std]
#![forbid(unsafe_code)]

use coppice_example_interfaces::Echo;
use coppice_runtime::ShadowDomain;

/// The domain.
pub type ShadowEchoDomain = ShadowDomain<dyn Echo>;
