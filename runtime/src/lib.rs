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
pub mod sync;
pub mod thread;
pub mod time;

#[doc(hidden)]
pub use coppice_abi as abi;
pub use coppice_abi::{ChildFailing, Excess, Revocation, Verdict};
use coppice_hardware::Device;
use coppice_interfaces::{Exports, Imports};
pub use shadow::ShadowDomain;

/// A domain: its imports, its export, and its entry points.
pub trait Domain {
    /// Handles that the manifest connects; `()` for none.
    type Imports: Imports;
    /// The handle that importers of this domain are connected to; `()` for none.
    type Export: Exports;

    /// Starts an instance of the domain. The export can be called after this has returned. A panic here means
    /// that the domain does not start.
    fn start(environment: &Environment<'_>, imports: Self::Imports) -> Self::Export;

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
        $crate::abi::freestanding!();

        #[global_allocator]
        static HEAP: $crate::heap::Heap = $crate::heap::Heap::new();

        #[used]
        #[unsafe(link_section = ".note.coppice")]
        static NOTES: $crate::entry::Notes<$domain> = $crate::entry::Notes::NEW;

        /// The kernel's entry point of the image.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn coppice_entry(arguments: *mut $crate::abi::EntryArguments) {
            // SAFETY: the kernel calls this with valid `EntryArguments`.
            unsafe { $crate::entry::enter::<$domain>(arguments) }
        }

        #[panic_handler]
        fn panic(info: &::core::panic::PanicInfo<'_>) -> ! {
            $crate::entry::panicked(info)
        }
    };
}
