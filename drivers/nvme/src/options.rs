//! [`Options`]: time limits and sizes of the driver.

/// Options of the driver for one controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// The time after which a command is aborted. After the same time again the controller counts as faulty.
    pub command_timeout_ns: u64,
    /// The time without a completion of an admin command after which the controller counts as faulty.
    pub admin_timeout_ns: u64,
    /// The longest time that a wait spins before it sleeps; 0 disables spinning.
    pub spin_ns: u64,
    /// The largest transfer of one command in bytes, if the controller allows it; at most 2 MiB.
    pub max_transfer_bytes: usize,
    /// The number of I/O queues to request.
    pub queues: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            command_timeout_ns: 5_000_000_000,
            admin_timeout_ns: 5_000_000_000,
            spin_ns: 20_000,
            max_transfer_bytes: 1 << 20,
            queues: 64,
        }
    }
}
