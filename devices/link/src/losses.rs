//! [`Losses`]: frames that a wire or its peer did not deliver, by cause.

device_bus::losses! {
    /// Frames that a wire or its peer did not deliver, in both directions, since the wire was made.
    ///
    /// A duplicate counts as a frame of its own: `Impairment::inward` and `outward` count the duplicates.
    pub struct Losses;
    /// The counters behind [`Losses`]. The wire, its peer and the peer's threads add to them.
    pub struct LossCounters;
    /// Frames that a `drop` rule dropped.
    dropped,
    /// Frames from the device that were damaged on their way, and that the receiver discarded.
    damaged,
    /// Frames that the device or the peer sent while the link was down.
    link_down,
    /// Delayed frames that were on their way when the link went down.
    flapped,
    /// Frames to be delayed while too many others were.
    delay_full,
    /// Frames without room in a queue of the peer: a loopback, a mailbox, the backlog of a stream, the
    /// reports of a tester.
    peer_full,
    /// Frames that the device sent while the other side was not connected.
    not_connected,
    /// Frames that the host refused, by a socket, a TAP interface or the file of a capture.
    refused,
    /// Frames that the peer cannot use: a tester that cannot decode them, a player without a file for output.
    ignored,
    /// Frames still queued in the peer when it was dropped.
    abandoned,
}
