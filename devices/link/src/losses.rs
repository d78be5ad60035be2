//! [`Losses`]: frames that a wire or its end did not deliver, by cause.

device_bus::losses! {
    /// Frames that a wire or its end did not deliver, in both directions, since the wire was made.
    ///
    /// A duplicated frame counts as another frame: `Trouble::inward` and `outward` know how many there were.
    pub struct Losses;
    /// The counters behind [`Losses`]. The wire, its end and the end's threads add to them.
    pub struct LossCounters;
    /// Dropped by a `drop` rule.
    dropped,
    /// Damaged on their way from the device, and discarded by the receiver at the other end for that.
    damaged,
    /// Sent, or given by the end, while the link was down.
    link_down,
    /// Delayed or reordered, and on their way when the link went down.
    flapped,
    /// To be delayed or reordered, with too many others on their way.
    delay_full,
    /// Without room in a queue of the end: a loopback, a mailbox, a backlog of a stream, the answers of a tester.
    end_full,
    /// Sent while no peer was connected to the end.
    no_peer,
    /// Refused by the host: by a socket, a TAP interface or the file of a capture.
    refused,
    /// Taken by an end that has no use for them: a tester that cannot read them, a player without a file for output.
    ignored,
    /// Still queued in an end when it was taken down.
    abandoned,
}
