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

/// Creates a model from its options.
type Maker = fn(&str) -> Result<Arc<dyn Model>, String>;

const MODELS: [(&str, Maker); 3] = [
    ("edu", |options| {
        let config = EduConfig::parse(options).map_err(|error| error.to_string())?;
        Ok(Arc::new(Edu::new(config)))
    }),
    ("ixgbe", |options| {
        let config = IxgbeConfig::parse(options).map_err(|error| error.to_string())?;
        Ok(Arc::new(Ixgbe::new(config).map_err(|error| error.to_string())?))
    }),
    ("nvme", |options| {
        let config = NvmeConfig::parse(options).map_err(|error| error.to_string())?;
        Ok(Arc::new(Nvme::new(config).map_err(|error| error.to_string())?))
    }),
];

/// A device option of a command line, `MODEL` or `MODEL,OPTIONS`, of which [`make`](Self::make) creates the
/// device.
#[derive(Clone, Debug)]
pub struct DeviceOption {
    name: &'static str,
    make: Maker,
    options: String,
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
                let known: Vec<_> = MODELS.iter().map(|(known, _)| *known).collect();
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
        let known = MODELS.iter().find(|(known, _)| *known == name);
        let &(name, make) = known.ok_or_else(|| DeviceError::NoModel { name: name.into() })?;
        Ok(Self { name, make, options: options.into() })
    }
}

impl DeviceOption {
    /// Returns the name of the model.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Creates the device. Its threads inherit the CPU affinity of the calling thread.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] if the options are malformed, or the model cannot be created with them.
    pub fn make(&self) -> Result<Arc<dyn Model>, DeviceError> {
        (self.make)(&self.options).map_err(|reason| DeviceError::Refused { model: self.name, reason })
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
    fn a_device_is_created_by_its_model_with_its_options() {
        let option: DeviceOption = "nvme,memory=1M,queues=2".parse().expect("the option is well-formed");
        assert_eq!(option.name(), "nvme");
        let identity = option.make().expect("the device is valid").identity();
        assert_eq!((identity.class.base, identity.msix.vectors), (0x01, 3));
    }
}
