//! The library that every domain is linked with.
//!
//! A domain is a library with `#![forbid(unsafe_code)]` in which one type implements [`Domain`], and a
//! `main.rs` that consists of [`entry!`]. This crate is part of the trusted set and connects the domain to
//! the kernel's [`coppice_abi::Services`]: the private [`heap`], [`thread`]s, [`time`], [`sync`], the `log`
//! crate's records, and panics.
//!
//! It grants no authority over anything outside the domain; that comes as [`Domain::Imports`].

#![no_std]
#![warn(missing_docs)]

extern crate alloc;

pub mod crash_log;
mod device;
#[doc(hidden)]
pub mod entry;
pub mod heap;
mod logger;
mod shadow;
mod start_error;
pub mod sync;
pub mod thread;
pub mod time;

use core::time::Duration;

pub use coppice_abi::{ChildFailing, Excess, Revocation, Verdict};
use coppice_hardware::Device;
use coppice_interfaces::{Exports, Imports};
pub use shadow::ShadowDomain;
pub use start_error::StartError;

/// A domain: its imports, its export, and its entry points.
pub trait Domain {
    /// Handles that the manifest connects; `()` for none.
    type Imports: Imports;
    /// The handle that importers of this domain are connected to; `()` for none.
    type Export: Exports;

    /// Starts an instance of the domain. Other domains can call the export when this has returned.
    ///
    /// # Errors
    /// [`StartError`] when an argument of the manifest is bad, or a device is missing or does not work. The
    /// domain does not start then, and its restart policy decides about another try.
    fn start(environment: &Environment<'_>, imports: Self::Imports) -> Result<Self::Export, StartError>;

    /// Runs on a kernel thread when a child of this domain has crashed too often in a row. The child is not
    /// restarted until this returns. If it does not return within the manifest's `upcall-deadline`, this
    /// domain is ended.
    fn child_failing(child: &ChildFailing) -> Verdict {
        let _ = child;
        Verdict::Retry
    }

    /// Runs on a kernel thread when this domain exceeds a quota. The domain is ended if it still does at the
    /// demand's deadline, or if this has not returned by then.
    fn revoke(demand: &Revocation) {
        let _ = demand;
    }
}

/// A domain's manifest entry, except for its imports.
pub struct Environment<'a> {
    args: &'a [&'static str],
}

impl Environment<'_> {
    /// The manifest's `args`.
    pub fn args(&self) -> &[&'static str] {
        self.args
    }

    /// Takes device `number` of the manifest's `devices`, counted from 0. Returns each device once per
    /// instance of the domain.
    pub fn device(&self, number: usize) -> Option<Device> {
        device::take(number)
    }

    /// As [`Self::device`].
    ///
    /// # Errors
    /// [`StartError`] when the manifest grants no such device, or it was taken before.
    pub fn granted_device(&self, number: usize) -> Result<Device, StartError> {
        let error = || StartError::new(format_args!("the manifest grants no device number {number}"));
        self.device(number).ok_or_else(error)
    }

    /// The number in option `name`, or `default` if there is no such option.
    ///
    /// # Errors
    /// [`StartError`] when the option's value is no number of that type.
    pub fn number<N: core::str::FromStr>(&self, name: &str, default: N) -> Result<N, StartError> {
        self.option(name).map_or(Ok(default), |text| {
            text.parse().map_err(|_| StartError::bad_option(name, text, "a number"))
        })
    }

    /// The duration in option `name`, such as `500ms`, or `default` if there is no such option.
    ///
    /// # Errors
    /// [`StartError`] when the option's value is no duration ([`time::parse`]).
    pub fn duration(&self, name: &str, default: Duration) -> Result<Duration, StartError> {
        self.option(name).map_or(Ok(default), |text| {
            time::parse(text).ok_or_else(|| StartError::bad_option(name, text, "a time such as 500ms"))
        })
    }

    /// Returns the number of earlier instances of the domain.
    pub fn generation(&self) -> u32 {
        coppice_abi::me().generation()
    }

    /// Returns the value of the last `name=value` word in the `args`.
    pub fn option(&self, name: &str) -> Option<&'static str> {
        let mut latest_first = self.args.iter().rev().filter_map(|word| word.split_once('='));
        latest_first.find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

/// Makes a binary of a domain: `entry!(my_crate::MyDomain);` is the whole `main.rs` after its attributes.
///
/// It defines the entry function, the notes that the loader reads, the allocator, the panic handler, and the
/// functions that compiled code expects of a C library.
#[macro_export]
macro_rules! entry {
    ($domain:ty) => {
        $crate::entry::freestanding!();

        #[global_allocator]
        static HEAP: $crate::heap::Heap = $crate::heap::Heap::new();

        #[used]
        #[unsafe(link_section = ".note.coppice")]
        static NOTES: $crate::entry::Notes<$domain> = $crate::entry::Notes::NEW;

        /// The kernel's entry point of the image.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn coppice_entry(arguments: *mut $crate::entry::EntryArguments) {
            // SAFETY: the kernel calls this with valid `EntryArguments`.
            unsafe { $crate::entry::enter::<$domain>(arguments) }
        }

        #[panic_handler]
        fn panic(info: &$crate::entry::PanicInfo<'_>) -> ! {
            $crate::entry::panicked(info)
        }
    };
}
