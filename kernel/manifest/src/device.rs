//! [`DeviceSelector`]: a manifest's name of a PCI function that it grants, and [`MachineDevice`], a device
//! that it requests of the machine.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// The selection of a PCI function that a domain is granted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum DeviceSelector {
    /// The function at this address: `"at 00:04.0"`. Segments other than 0 cannot be selected.
    At {
        /// Bus.
        bus: u8,
        /// Device.
        device: u8,
        /// Function.
        function: u8,
    },
    /// The first free function of this vendor and device id: `"id 8086:10fb"`.
    Id {
        /// Vendor id.
        vendor: u16,
        /// Device id.
        device: u16,
    },
    /// The first free function of this class, subclass and programming interface: `"class 010802"`.
    Class(u32),
}

/// The reason why a text is no selector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SelectorError {
    /// It starts with none of the three words.
    Kind,
    /// A class is not six hexadecimal digits.
    Class,
    /// An id is not two times four hexadecimal digits.
    Id,
    /// An address is not `bus:device.function` in hexadecimal digits.
    Address,
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kind => {
                "a device is `class 010802`, `id 8086:10fb` or `at 00:04.0`, each with a number of its own"
            }
            Self::Class => "a class is six hexadecimal digits, such as 010802 for NVMe",
            Self::Id => "an id is that of the vendor and that of the device, such as 8086:10fb",
            Self::Address => "an address is bus, device (up to 1f) and function (up to 7), such as 00:04.0",
        })
    }
}

impl core::error::Error for SelectorError {}

impl DeviceSelector {
    /// Returns true if it selects the function at `address` with these ids. `address` is as in PCI: bus from
    /// bit 8 on, device from bit 3 on, function below; segment from bit 16 on.
    pub fn matches(&self, address: u32, vendor: u16, device: u16, class: u32) -> bool {
        match *self {
            Self::At { bus, device, function } => {
                address == u32::from(bus) << 8 | u32::from(device) << 3 | u32::from(function)
            }
            Self::Id { vendor: wanted, device: model } => (wanted, model) == (vendor, device),
            Self::Class(wanted) => wanted == class,
        }
    }
}

impl FromStr for DeviceSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let (kind, value) = text.split_once(' ').ok_or(SelectorError::Kind)?;
        match kind {
            "class" => hexadecimal(value, 6).map(Self::Class).ok_or(SelectorError::Class),
            "id" => {
                let (vendor, device) = value.split_once(':').ok_or(SelectorError::Id)?;
                let part = |text| hexadecimal(text, 4).map(|number| number as u16).ok_or(SelectorError::Id);
                Ok(Self::Id { vendor: part(vendor)?, device: part(device)? })
            }
            "at" => {
                let (bus, rest) = value.split_once(':').ok_or(SelectorError::Address)?;
                let (device, function) = rest.split_once('.').ok_or(SelectorError::Address)?;
                let part = |text, digits, most| {
                    let number = hexadecimal(text, digits).filter(|&number| number <= most);
                    number.map(|number| number as u8).ok_or(SelectorError::Address)
                };
                Ok(Self::At {
                    bus: part(bus, 2, 0xff)?,
                    device: part(device, 2, 0x1f)?,
                    function: part(function, 1, 7)?,
                })
            }
            _ => Err(SelectorError::Kind),
        }
    }
}

/// Parses a hexadecimal number of exactly `digits` digits.
fn hexadecimal(text: &str, digits: usize) -> Option<u32> {
    let valid = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if valid { u32::from_str_radix(text, 16).ok() } else { None }
}

impl fmt::Display for DeviceSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At { bus, device, function } => write!(f, "at {bus:02x}:{device:02x}.{function}"),
            Self::Id { vendor, device } => write!(f, "id {vendor:04x}:{device:04x}"),
            Self::Class(class) => write!(f, "class {class:06x}"),
        }
    }
}

/// A device that a system requests for its machine. The launcher creates it; the kernel never sees this
/// entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MachineDevice {
    /// The device model.
    pub model: String,
    /// Options of the model.
    pub options: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_selector_is_displayed_as_it_is_parsed() {
        for text in ["class 010802", "id 8086:10fb", "at 00:04.0", "at ff:1f.7"] {
            let selector: DeviceSelector = text.parse().expect("it is well-formed");
            assert_eq!(selector.to_string(), text);
        }
    }

    #[test]
    fn a_malformed_selector_is_refused_with_the_expected_form() {
        let refusal = |text: &str| text.parse::<DeviceSelector>().expect_err("it is malformed");
        for text in ["", "010802", "nvme 010802", "class"] {
            assert_eq!(refusal(text), SelectorError::Kind, "{text}");
        }
        for text in ["class ", "class 0108", "class 0x0108", "class 01080g", "class +10802"] {
            assert_eq!(refusal(text), SelectorError::Class, "{text}");
        }
        for text in ["id 8086", "id 8086:", "id 8086:10fbb", "id :10fb"] {
            assert_eq!(refusal(text), SelectorError::Id, "{text}");
        }
        for text in ["at 00:04", "at 0:04.0", "at 00:20.0", "at 00:04.8", "at 00.04:0"] {
            assert_eq!(refusal(text), SelectorError::Address, "{text}");
        }
    }

    #[test]
    fn a_selector_matches_by_class_id_or_address() {
        let is_nvme = |text: &str| {
            let selector: DeviceSelector = text.parse().expect("it is well-formed");
            selector.matches(4 << 3, 0x1b36, 0x10, 0x01_0802)
        };
        assert!(["class 010802", "id 1b36:0010", "at 00:04.0"].into_iter().all(is_nvme));
        assert!(!["class 010801", "id 1b36:0011", "at 00:04.1", "at 01:04.0"].into_iter().any(is_nvme));
    }
}
