//! [`KnownDevice`]: the identity of a device, as its first driver has described it.

use core::fmt;

/// The description of a device by its first driver. A restarted driver has the same device if its description
/// is equal.
#[derive(Clone, Copy, Debug)]
pub struct KnownDevice<T>(Option<T>);

/// The error of [`KnownDevice::check`]: a restarted driver describes another device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OtherDevice;

impl<T> Default for KnownDevice<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Copy + PartialEq + fmt::Debug> KnownDevice<T> {
    /// The first description, if a driver has given one.
    pub fn get(&self) -> Option<T> {
        self.0
    }

    /// Records the first description, and returns it; later ones are ignored.
    pub fn record(&mut self, info: T) -> T {
        *self.0.get_or_insert(info)
    }

    /// Compares a driver's description with the first one, or records it if it is the first.
    ///
    /// # Errors
    /// When they differ. Both are logged.
    pub fn check(&mut self, info: T) -> Result<(), OtherDevice> {
        let known = self.record(info);
        if info == known {
            return Ok(());
        }
        log::error!("the restarted driver has another device: {info:?}");
        log::error!("expected: {known:?}");
        Err(OtherDevice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_description_is_the_one_to_match() {
        let mut known = KnownDevice::default();
        assert_eq!(known.get(), None);
        assert_eq!(known.check(1), Ok(()));
        assert_eq!(known.check(2), Err(OtherDevice));
        // The refused one did not replace it.
        assert_eq!((known.check(1), known.record(3), known.get()), (Ok(()), 1, Some(1)));
    }
}
