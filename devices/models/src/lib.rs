//! All device models, by name: what a command line means by `nvme,memory=64M`.
//!
//! Whoever hosts models takes them from here: the hosted machine, and the process that hosts them for other machines. So a new
//! model is one line in one place.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use device_bus::Model;
use edu_model::{Edu, EduConfig};
use ixgbe_model::{Ixgbe, IxgbeConfig};
use nvme_model::{Nvme, NvmeConfig};

/// Makes a model of its options.
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

/// A device that is asked for: `MODEL` or `MODEL,OPTIONS`. It is not made yet.
#[derive(Clone, Debug)]
pub struct DeviceOption {
    name: &'static str,
    make: Maker,
    options: String,
}

/// Why there is no such device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeviceError {
    /// No model has this name.
    NoModel {
        /// As asked for.
        name: String,
    },
    /// A model does not understand its options, or cannot have what they ask for.
    Refused {
        /// The model.
        model: &'static str,
        /// What it says.
        why: String,
    },
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoModel { name } => {
                let known: Vec<_> = MODELS.iter().map(|(known, _)| *known).collect();
                write!(f, "`{name}` is no device model; there are: {}", known.join(", "))
            }
            Self::Refused { model, why } => write!(f, "{model}: {why}"),
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
    /// What model it is.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Makes it. Its threads may run where the calling one may.
    ///
    /// # Errors
    /// [`DeviceError::Refused`].
    pub fn make(&self) -> Result<Arc<dyn Model>, DeviceError> {
        (self.make)(&self.options).map_err(|why| DeviceError::Refused { model: self.name, why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Why a device is refused.
    fn refusal(text: &str) -> String {
        let made = text.parse::<DeviceOption>().and_then(|device| device.make());
        made.err().expect("it makes no sense").to_string()
    }

    #[test]
    fn a_device_that_makes_no_sense_is_refused_with_what_would() {
        assert!(refusal("floppy").starts_with("`floppy` is no device model; there are: edu, ixgbe, nvme"));
        assert_eq!(refusal("edu,speed=2"), "edu: `speed=2` is no option of edu, which has only delay=TIME");
        assert!(refusal("nvme,memory=64X").contains("64X"));
        assert!(refusal("nvme,file=/nowhere/at/all").contains("/nowhere/at/all"));
    }

    #[test]
    fn a_device_is_made_by_its_model_with_its_options() {
        let option: DeviceOption = "nvme,memory=1M,queues=2".parse().expect("it is well-formed");
        assert_eq!(option.name(), "nvme");
        let identity = option.make().expect("it can be made").identity();
        assert_eq!((identity.class.base, identity.msix.vectors), (0x01, 3));
    }
}
