//! What a domain is linked with.
//!
//! A domain is a library with `#![forbid(unsafe_code)]` in which some type implements [`Domain`], and a `main.rs` with the
//! one line [`entry!`]. This crate, part of the trusted set, is what stands between that and the kernel's
//! [`coppice_abi::Services`]: the private [`heap`], [`thread`]s, [`time`], [`sync`], the `log` crate's records, and panics.
//!
//! Nothing here gives authority over anything outside the domain; that comes as [`Domain::Imports`].

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

/// A domain: what it needs, what it gives, and how it begins.
pub trait Domain {
    /// Handles that the manifest wires; `()` for none.
    type Imports: Imports;
    /// The handle that others are wired to; `()` for none.
    type Export: Exports;

    /// Runs when a instance of the domain begins. Others can call the export once this has returned. A panic here means that
    /// the domain does not start.
    fn start(environment: &Environment<'_>, imports: Self::Imports) -> Self::Export;

    /// Runs on a thread of the kernel's when a child of this domain has crashed too often in a row. The child stays dead
    /// until this returns, which it has to by the manifest's `upcall-deadline`: else this domain is ended.
    fn child_failing(child: &ChildFailing) -> Verdict {
        let _ = child;
        Verdict::Retry
    }

    /// Runs on a thread of the kernel's when this domain has more of something than it may have. If that is still so at
    /// the demand's deadline, or this has not returned, the domain is ended.
    fn revoke(demand: &Revocation) {
        let _ = demand;
    }
}

/// What the manifest says to a domain besides its wires.
pub struct Environment<'a> {
    args: &'a [&'static str],
}

impl Environment<'_> {
    /// The manifest's `args`.
    pub fn args(&self) -> &[&'static str] {
        self.args
    }

    /// Device number `number` of the manifest's `devices`, from 0 on; each once in a instance of the domain.
    pub fn device(&self, number: usize) -> Option<Device> {
        device::take(number)
    }

    /// How many lives the domain had before this one.
    pub fn generation(&self) -> u32 {
        coppice_abi::me().generation()
    }

    /// The value of the last `name=value` word among the `args`.
    pub fn option(&self, name: &str) -> Option<&'static str> {
        let mut latest_first = self.args.iter().rev().filter_map(|word| word.split_once('='));
        latest_first.find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

/// Makes a binary of a domain: `entry!(my_crate::MyDomain);` is all of `main.rs` after its attributes.
///
/// It lays down the entry function, the notes that the loader reads, the allocator, the panic handler, and the functions
/// that compiled code expects of a C library.
#[macro_export]
macro_rules! entry {
    ($domain:ty) => {
        $crate::abi::freestanding!();

        #[global_allocator]
        static HEAP: $crate::heap::Heap = $crate::heap::Heap::new();

        #[used]
        #[unsafe(link_section = ".note.coppice")]
        static NOTES: $crate::entry::Notes<$domain> = $crate::entry::Notes::NEW;

        /// Where the kernel enters the image.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn coppice_entry(arguments: *mut $crate::abi::EntryArguments) {
            // SAFETY: the kernel calls this as `EntryArguments` says.
            unsafe { $crate::entry::enter::<$domain>(arguments) }
        }

        #[panic_handler]
        fn panic(info: &::core::panic::PanicInfo<'_>) -> ! {
            $crate::entry::panicked(info)
        }
    };
}
