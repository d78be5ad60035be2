//! All device models by name, for command lines such as `nvme,memory=64M`.
//!
//! All hosts of models use this list: the hosted machine, and the process that hosts models for other
//! machines. So a new model is one entry in one place.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use device_bus::Model;
use edu_model::{Edu, EduConfig};
use ixgbe_model::{Ixgbe, IxgbeConfig};
use nvme_model::{Nvme, NvmeConfig};

/// A model by its name on command lines.
struct Entry {
    name: &'static str,
    /// Parses the options and creates nothing.
    check: fn(&str) -> Result<(), String>,
    /// Creates a model from its options.
    make: fn(&str) -> Result<Arc<dyn Model>, String>,
}

static MODELS: [Entry; 3] = [
    Entry {
        name: "edu",
        check: |options| EduConfig::parse(options).map(drop).map_err(|error| error.to_string()),
        make: |options| {
            let config = EduConfig::parse(options).map_err(|error| error.to_string())?;
            Ok(Arc::new(Edu::new(config)))
        },
    },
    Entry {
        name: "ixgbe",
        check: |options| IxgbeConfig::parse(options).map(drop).map_err(|error| error.to_string()),
        make: |options| {
            let config = IxgbeConfig::parse(options).map_err(|error| error.to_string())?;
            Ok(Arc::new(Ixgbe::new(config).map_err(|error| error.to_string())?))
        },
    },
    Entry {
        name: "nvme",
        check: |options| NvmeConfig::parse(options).map(drop).map_err(|error| error.to_string()),
        make: |options| {
            let config = NvmeConfig::parse(options).map_err(|error| error.to_string())?;
            Ok(Arc::new(Nvme::new(config).map_err(|error| error.to_string())?))
        },
    },
];

/// A device option of a command line, `MODEL` or `MODEL,OPTIONS`, of which [`make`](Self::make) creates the
/// device.
#[derive(Clone)]
pub struct DeviceOption {
    entry: &'static Entry,
    options: String,
}

impl fmt::Debug for DeviceOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.entry.name, self.options)
    }
}

/// The error for a device that cannot be created.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeviceError {
    /// No model has this name.
    NoModel {
        /// The requested name.
        name: String,
    },
    /// The options are malformed, or the model cannot be created with them.
    Refused {
        /// The name of the model.
        model: &'static str,
        /// The message of the model.
        reason: String,
    },
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoModel { name } => {
                let known: Vec<_> = MODELS.iter().map(|known| known.name).collect();
                write!(f, "`{name}` is no device model; the models are: {}", known.join(", "))
            }
            Self::Refused { model, reason } => write!(f, "{model}: {reason}"),
        }
    }
}

impl std::error::Error for DeviceError {}

impl FromStr for DeviceOption {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let (name, options) = text.split_once(',').unwrap_or((text, ""));
        let entry = MODELS.iter().find(|known| known.name == name);
        let entry = entry.ok_or_else(|| DeviceError::NoModel { name: name.into() })?;
        Ok(Self { entry, options: options.into() })
    }
}

impl DeviceOption {
    /// Returns the name of the model.
    pub fn name(&self) -> &'static str {
        self.entry.name
    }

    /// Parses the options, but creates no device: it opens no file and no socket.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] if the options are malformed.
    pub fn check(&self) -> Result<(), DeviceError> {
        (self.entry.check)(&self.options).map_err(|reason| self.refused(reason))
    }

    /// Creates the device. Its threads inherit the CPU affinity of the calling thread.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] if the options are malformed, or the model cannot be created with them.
    pub fn make(&self) -> Result<Arc<dyn Model>, DeviceError> {
        (self.entry.make)(&self.options).map_err(|reason| self.refused(reason))
    }

    fn refused(&self, reason: String) -> DeviceError {
        DeviceError::Refused { model: self.entry.name, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message for a refused device.
    fn refusal(text: &str) -> String {
        let made = text.parse::<DeviceOption>().and_then(|device| device.make());
        made.err().expect("the device is invalid").to_string()
    }

    #[test]
    fn an_invalid_device_is_refused_with_the_reason() {
        assert!(
            refusal("floppy").starts_with("`floppy` is no device model; the models are: edu, ixgbe, nvme")
        );
        assert_eq!(refusal("edu,speed=2"), "edu: `speed=2` is no option of edu, which has only delay=TIME");
        assert!(refusal("nvme,memory=64X").contains("64X"));
        assert!(refusal("nvme,file=/nowhere/at/all").contains("/nowhere/at/all"));
    }

    #[test]
    fn malformed_options_are_refused_without_creating_the_device() {
        let check = |text: &str| text.parse::<DeviceOption>().and_then(|device| device.check());
        // This file is opened only by `make`.
        assert_eq!(check("nvme,file=/nowhere/at/all"), Ok(()));
        let unknown = check("ixgbe,faults=explode:1/2").expect_err("there is no such fault").to_string();
        assert!(unknown.contains("`explode` is no kind of fault"), "{unknown}");
        for text in ["nvme,memory=64X", "edu,speed=2", "ixgbe,peer=nobody"] {
            assert!(check(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_device_is_created_by_its_model_with_its_options() {
        let option: DeviceOption = "nvme,memory=1M,queues=2".parse().expect("the option is well-formed");
        assert_eq!(option.name(), "nvme");
        let identity = option.make().expect("the device is valid").identity();
        assert_eq!((identity.class.base, identity.msix.vectors), (0x01, 3));
    }
}
