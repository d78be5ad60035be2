//! [`Losses`]: frames that the device did not deliver, by cause.

device_bus::losses! {
    /// Frames that the device took from its wire or from a queue and did not deliver, since it was made.
    ///
    /// A reset does not set them back, and a read does not clear them, unlike the statistics registers of section 8.2.3.23. Those
    /// count some of these frames as well. Frames whose descriptors the device has not come to are not among them.
    pub struct Losses;
    /// The counters behind [`Losses`].
    pub struct LossCounters;
    /// Received while RXCTRL.RXEN was off.
    receiver_off,
    /// With a wrong FCS or a broken line code (CRCERRS, ILLERRC, RFC, RJC), and not stored for FCTRL.SBP.
    damaged,
    /// Shorter than 64 bytes with FCS (RUC), and not stored for FCTRL.SBP.
    undersized,
    /// Longer than the device is set up for (ROC).
    oversized,
    /// Not for this station, or for a VLAN that it is not in.
    filtered,
    /// Without room in the packet buffer (RXMPC).
    buffer_full,
    /// For a queue with SRRCTL.DROP_EN that had no descriptors, or too large for its ring (QPRDC).
    no_descriptors,
    /// For a queue whose RXDCTL.ENABLE was off.
    queue_off,
    /// In the packet buffer when the device was reset.
    reset,
    /// Within the device when its loopback (HLREG0.LPBK) ended.
    loop_ended,
    /// In memory with descriptors that were not written back: the ring could not be reached, or a fault was injected.
    write_back,
    /// To be sent, with a descriptor whose buffer could not be read.
    unreadable,
    /// To be sent, and longer than the device takes.
    too_long,
    /// To be sent, without a byte.
    empty,
    /// To be sent, with the last descriptor missing when the queue was switched off or the device reset.
    unfinished,
}
