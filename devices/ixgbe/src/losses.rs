//! [`Losses`]: frames that the device did not deliver, by cause.

device_bus::losses! {
    /// Frames that the device took from its wire or from a queue and did not deliver, since it was created.
    ///
    /// Unlike the statistics registers of section 8.2.3.23, which count some of these frames as well, they
    /// are not reset by a reset and not cleared by a read. Frames whose descriptors the device has not
    /// reached are not included.
    pub struct Losses;
    /// The counters behind [`Losses`].
    pub struct LossCounters;
    /// Frames received while RXCTRL.RXEN was off.
    receiver_off,
    /// Frames with a wrong FCS or a broken line code (CRCERRS, ILLERRC, RFC, RJC), unless FCTRL.SBP stores
    /// them.
    damaged,
    /// Frames shorter than 64 bytes with FCS (RUC), unless FCTRL.SBP stores them.
    undersized,
    /// Frames longer than the device is set up for (ROC).
    oversized,
    /// Frames for another station, or for a VLAN that is filtered out.
    filtered,
    /// Frames without room in the packet buffer (RXMPC).
    buffer_full,
    /// Frames for a queue with SRRCTL.DROP_EN that had no descriptors, or too large for its ring (QPRDC).
    no_descriptors,
    /// Frames for a queue whose RXDCTL.ENABLE was off.
    queue_off,
    /// Frames in the packet buffer when the device was reset.
    reset,
    /// Frames within the device when its loopback (HLREG0.LPBK) ended.
    loop_ended,
    /// Frames in memory whose descriptors were not written back: the ring could not be written, or a fault
    /// was injected.
    write_back,
    /// Frames to be sent, with a descriptor whose buffer could not be read.
    unreadable,
    /// Frames to be sent that are longer than the device takes.
    too_long,
    /// Frames to be sent without a byte.
    empty,
    /// Frames to be sent whose last descriptor was missing when the queue was disabled or the device reset.
    unfinished,
}
