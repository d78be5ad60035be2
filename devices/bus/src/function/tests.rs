use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;
use crate::dma_port::DmaPort;
use crate::host::DmaError;
use crate::model::{Bar, BarKind, ClassCode, PciIdentity};
use crate::msix::Message;
use crate::presence::Presence;
use crate::test_host::TestHost;

/// A model with one register, at offset 0 of BAR 0.
#[derive(Default)]
struct OneRegister {
    port: DmaPort,
    register: AtomicU32,
    was_reset: AtomicBool,
    presence: Presence,
}

impl Model for OneRegister {
    fn identity(&self) -> PciIdentity {
        PciIdentity {
            vendor: 0x1234,
            device: 0x5678,
            class: ClassCode { base: 1, sub: 8, interface: 2 },
            revision: 3,
            subsystem_vendor: 0x9abc,
            subsystem: 0xdef0,
            bars: vec![Bar { index: 0, bytes: 0x4000, kind: BarKind::Memory64 }],
            msix: MsixLayout { vectors: 70, bar: 4 },
        }
    }

    fn attach(&self, host: Arc<dyn Host>) -> Result<(), AlreadyAttached> {
        self.port.attach(host)
    }

    fn read(&self, _: u8, _: u64, _: u8) -> u64 {
        u64::from(self.register.load(Ordering::Relaxed))
    }

    fn write(&self, _: u8, _: u64, _: u8, value: u64) {
        self.register.store(value as u32, Ordering::Relaxed);
    }

    fn set_bus_master(&self, on: bool) {
        self.port.set_open(on);
    }

    fn reset(&self) {
        self.port.set_open(false);
        self.was_reset.store(true, Ordering::Relaxed);
    }

    fn transactions_pending(&self) -> bool {
        self.port.is_busy()
    }

    fn is_present(&self) -> bool {
        !self.presence.is_unplugged()
    }

    fn insertions(&self) -> u64 {
        self.presence.insertions()
    }
}

fn function() -> (Arc<TestHost>, Function<OneRegister>) {
    let host = Arc::new(TestHost::new(4096, 70));
    let function = Function::new(OneRegister::default(), host.clone()).expect("a new model");
    (host, function)
}

#[test]
fn a_function_can_be_enumerated() {
    let (_, function) = function();
    assert_eq!(function.config_read(0, 4), 0x5678_1234);
    assert_eq!(function.config_read(8, 4), 0x0108_0203);
    assert_eq!(function.config_read(0x2c, 4), 0xdef0_9abc);
    assert_eq!(function.config_read(0x0e, 1), 0, "a type 0 header, one function");
    assert_eq!(function.config_read(0x100, 4), 0, "no extended capabilities");
    // Sizing: software writes all ones and reads back the writable bits.
    for (bar, low, high) in [(0x10, 0xffff_c004, u32::MAX), (0x20, 0xffff_e004, u32::MAX), (0x18, 0, 0)] {
        function.config_write(bar, 4, u32::MAX);
        function.config_write(bar + 4, 4, u32::MAX);
        assert_eq!((function.config_read(bar, 4), function.config_read(bar + 4, 4)), (low, high), "{bar:#x}");
    }
    function.config_write(0x10, 4, 0xfebf_c123);
    assert_eq!(function.config_read(0x10, 4), 0xfebf_c004);
    let ids: Vec<u32> = std::iter::successors(Some(function.config_read(0x34, 1)), |at| {
        Some(function.config_read(*at as usize + 1, 1)).filter(|next| *next != 0)
    })
    .map(|at| function.config_read(at as usize, 1))
    .collect();
    assert_eq!(ids, [0x11, 0x10], "MSI-X and PCI Express");
    assert_eq!(function.config_read(0x72, 2), 69, "vectors, counted from 0");
    assert_eq!((function.config_read(0x74, 4), function.config_read(0x78, 4)), (4, 0x1004));
    assert_ne!(function.config_read(0xa4, 4) & 1 << 28, 0, "function level reset");
}

#[test]
fn the_command_register_enables_registers_and_dma() {
    let (_, function) = function();
    assert_eq!(function.read(0, 0, 4), 0xffff_ffff);
    function.write(0, 0, 4, 5);
    assert_eq!(function.model().register.load(Ordering::Relaxed), 0);
    assert_eq!(function.model().port.write(0x10000, &[1]), Err(DmaError::Disabled));
    function.config_write(4, 2, 6);
    function.write(0, 0, 4, 5);
    assert_eq!(function.read(0, 0, 4), 5);
    assert_eq!(function.model().port.write(0x10000, &[1]), Ok(()));
    function.config_write(4, 1, 2);
    assert_eq!(function.model().port.write(0x10000, &[1]), Err(DmaError::Disabled));
}

#[test]
fn masked_vectors_wait_in_the_pending_bits() {
    let (host, function) = function();
    let raise = |vector| function.model().port.raise(vector).expect("bus mastering is on");
    function.config_write(4, 2, 6);
    raise(1);
    assert_eq!(host.interrupts(1), 0, "MSI-X is off");
    assert_eq!(function.read(4, 0x1000, 8), 0);
    function.config_write(0x72, 2, 1 << 15);
    raise(1);
    raise(66);
    assert_eq!((host.interrupts(1), host.interrupts(66)), (0, 0), "masked, as after reset");
    assert_eq!((function.read(4, 0x1000, 8), function.read(4, 0x1008, 8)), (2, 4));
    function.write(4, 16, 8, 0xfee0_0000);
    function.write(4, 24, 4, 0x41);
    function.write(4, 28, 4, 0);
    assert_eq!(host.interrupts(1), 1, "it arrives once it is unmasked");
    assert_eq!(function.read(4, 0x1000, 8), 0);
    assert_eq!(function.msix().message(1), Some(Message { address: 0xfee0_0000, data: 0x41 }));
    assert_eq!(function.msix().message(70), None);
    raise(1);
    assert_eq!(host.interrupts(1), 2);
    function.config_write(0x73, 1, 0b1100_0000);
    raise(1);
    assert_eq!((host.interrupts(1), function.read(4, 0x1000, 8)), (2, 2), "the whole function is masked");
    function.config_write(0x72, 2, 1 << 15);
    assert_eq!(host.interrupts(1), 3);
}

#[test]
fn a_function_level_reset_restores_the_power_on_state() {
    let (_, function) = function();
    function.config_write(4, 2, 6);
    function.config_write(0x10, 4, 0xfebf_c000);
    function.config_write(0x72, 2, 1 << 15);
    function.write(4, 12, 4, 0);
    function.config_write(0xa9, 1, 0x80);
    assert!(function.model().was_reset.load(Ordering::Relaxed));
    assert_eq!(function.config_read(4, 2), 0);
    assert_eq!(function.config_read(0x10, 4), 4);
    assert_eq!(function.config_read(0x72, 2), 69);
    assert_eq!(function.config_read(0xa8, 2) & 0x8000, 0, "reads as zero");
    assert_eq!(function.config_read(0xaa, 2), 0, "nothing pending");
    assert_eq!(function.model().port.write(0x10000, &[1]), Err(DmaError::Disabled));
    function.config_write(4, 2, 2);
    assert_eq!(function.read(4, 12, 4), 1, "vectors are masked again");
}

#[test]
fn a_replugged_function_is_as_after_power_on() {
    let (_, function) = function();
    function.config_write(4, 2, 6);
    function.config_write(0x10, 4, 0xfebf_c000);
    function.config_write(0x72, 2, 1 << 15);
    function.write(4, 12, 4, 0);
    let model = function.model();
    model.presence.unplug(u64::MAX);
    assert_eq!(function.config_read(4, 2), 0xffff);
    assert_eq!(function.read(4, 12, 4), u64::from(u32::MAX), "no device decodes the access");
    function.config_write(4, 2, 6);
    assert!(model.presence.replug(|| model.port.set_open(false)));
    assert_eq!(function.config_read(4, 2), 0, "the command register shows bus mastering off");
    assert_eq!(function.config_read(0x10, 4), 4);
    assert_eq!(function.config_read(0x72, 2), 69);
    assert_eq!(function.read(0, 0, 4), u64::from(u32::MAX), "memory space is off");
    function.config_write(4, 2, 2);
    assert_eq!(function.read(4, 12, 4), 1, "vectors are masked again");
}
