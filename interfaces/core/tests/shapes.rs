//! Shapes and fingerprints, which the loader and the kernel's registry compare: types and interfaces of one
//! name are not the same.

use coppice_example_interfaces::Counter;
use coppice_interfaces::{Handle, Interface, RpcResult, Text, interface};
use coppice_rref::{Bytes, Fingerprint, RRef, Shareable};

/// The same names, fields and signatures as the real ones.
mod lookalike {
    use super::{RpcResult, Shareable, interface};

    #[interface]
    pub(crate) trait Counter {
        fn next(&self) -> RpcResult<u64>;
    }

    #[derive(Shareable)]
    pub(crate) struct Text<const N: usize> {
        bytes: [u8; N],
        len: usize,
    }
}

#[test]
fn a_lookalike_is_another_type() {
    let _same_signature: [fn(&'static dyn lookalike::Counter) -> RpcResult<u64>; 1] =
        [|counter| counter.next()];
    assert_ne!(lookalike::Text::<8>::SHAPE, Text::<8>::SHAPE);
    assert_ne!(<dyn lookalike::Counter>::FINGERPRINT, <dyn Counter>::FINGERPRINT);
    assert_ne!(Handle::<dyn lookalike::Counter>::SHAPE, Handle::<dyn Counter>::SHAPE);
}

#[test]
fn parameters_are_part_of_a_shape() {
    assert_ne!(Bytes::<8>::SHAPE, Bytes::<16>::SHAPE);
    assert_ne!(RRef::<u64>::SHAPE, u64::SHAPE);
    assert_ne!(RRef::<u64>::SHAPE, RRef::<i64>::SHAPE);
    assert_ne!(<(u8, u16)>::SHAPE, <(u16, u8)>::SHAPE);
}

#[test]
fn recovery_attributes_are_no_part_of_a_fingerprint() {
    // Two interfaces with the same path, as before and after the attributes are added.
    fn without() -> Fingerprint {
        #[interface]
        trait Service {
            fn call(&self, number: u64) -> RpcResult<()>;
        }
        let _callable: [fn(&'static dyn Service) -> RpcResult<()>; 1] = [|service| service.call(1)];
        <dyn Service>::FINGERPRINT
    }
    fn with() -> Fingerprint {
        #[interface]
        trait Service {
            #[replay(last)]
            fn call(&self, number: u64) -> RpcResult<()>;
        }
        let _callable: [fn(&'static dyn Service) -> RpcResult<()>; 1] = [|service| service.call(1)];
        <dyn Service>::FINGERPRINT
    }
    assert_eq!(without(), with());
}

#[test]
fn text_is_cut_at_a_character_boundary() {
    assert_eq!(&*Text::<5>::new("abcdé"), "abcd");
    assert_eq!(&*Text::<6>::new("abcdé"), "abcdé");
    assert_eq!(&*Text::<4>::format(format_args!("{}-{}", 12, 34)), "12-3");
    assert_eq!(format!("[{:>6}]", Text::<8>::new("é")), "[     é]");
}
