//! Operations that a driver must not perform. Each is refused, or ends the driver's domain.

use coppice_example_interfaces::Misuse;
use coppice_hardware::{Device, DeviceRefusal, STOP_LIMIT, StopStep};

/// A step outside the device's registers, which are 1 MiB.
const OUT_OF_RANGE: StopStep = StopStep::Update { bar: 0, offset: 1 << 20, clear: 0, set: 0 };

/// A valid step without effect.
const HARMLESS: StopStep = StopStep::Await { bar: 0, offset: 0, mask: 0, value: 0, timeout_ns: 0 };

/// Attempts the operation. Returns true if it was refused with the expected error.
pub(crate) fn is_refused(device: &Device, how: Misuse) -> bool {
    let registers = || device.window(0).unwrap_or_else(|refusal| panic!("{refusal}"));
    match how {
        Misuse::OtherBar => [1, 3, 5, 6, 255]
            .into_iter()
            .all(|bar| device.window(bar).err() == Some(DeviceRefusal::NoBar { bar })),
        Misuse::OtherVector => [1, 7, u16::MAX]
            .into_iter()
            .all(|vector| device.interrupt(vector).err() == Some(DeviceRefusal::NoVector { vector })),
        Misuse::BadStep => {
            let unaligned = StopStep::Await { bar: 0, offset: 2, mask: 0, value: 0, timeout_ns: 0 };
            let other_bar = StopStep::Update { bar: 6, offset: 0, clear: 0, set: 0 };
            [OUT_OF_RANGE, unaligned, other_bar]
                .into_iter()
                .all(|step| device.enable_dma(&[HARMLESS, step]) == Err(DeviceRefusal::BadStep { step: 1 }))
        }
        Misuse::LongOrder => {
            device.enable_dma(&[HARMLESS; STOP_LIMIT + 1]) == Err(DeviceRefusal::BadStep { step: STOP_LIMIT })
        }
        Misuse::TooMuchMemory => [1 << 30, usize::MAX - 4095]
            .into_iter()
            .all(|bytes: usize| matches!(device.dma(bytes).err(), Some(DeviceRefusal::NoMemory { .. }))),
        Misuse::OtherRegister => {
            registers().read32(1 << 20);
            false
        }
        Misuse::OddRegister => {
            registers().read32(2);
            false
        }
        Misuse::BehindMemory => {
            let memory = device.dma(4096).unwrap_or_else(|refusal| panic!("{refusal}"));
            memory.read::<u32>(4096);
            false
        }
        Misuse::OtherDevice | Misuse::SameDevice => unreachable!("the service handles these itself"),
    }
}
