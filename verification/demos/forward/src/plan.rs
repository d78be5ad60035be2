//! [`Plan`]: the frames to forward and the queue to forward them with, from the command line.

use alloc::format;

use coppice_control::Control;
use coppice_experiment::Failure;
use coppice_interfaces::Handle;
use coppice_net::{MacAddr, NetInfo, QueueDepth};
use coppice_trial::option;

/// The bytes that a frame occupies on the wire beyond its own: preamble and start delimiter (8), FCS (4),
/// interpacket gap (12) (IEEE 802.3, 3.1.1 and 4.4.2).
const OVERHEAD_BYTES: u32 = 24;
/// The forwarder's MAC address: locally administered, and not the device's permanent one.
pub(crate) const FORWARDER_MAC: MacAddr = MacAddr([0x02, 0xc0, 0, 0, 0x0f, 0x02]);

/// The parameters of the load.
pub(crate) struct Plan {
    /// The length of each frame in bytes, without FCS.
    pub(crate) frame_bytes: u16,
    /// The offered rate in frames per second; 0 lets [`rate::choose`](crate::rate::choose) find one.
    pub(crate) per_second: u64,
    pub(crate) depth: QueueDepth,
    /// The number of packets that circulate.
    pub(crate) packets: usize,
    /// The size of each packet.
    pub(crate) packet_bytes: usize,
}

impl Plan {
    /// Reads the plan from the kernel's options, for the device that `info` describes.
    ///
    /// # Errors
    /// When an option is malformed, or the device does not support its value.
    pub(crate) fn read(control: &Handle<dyn Control>, info: &NetInfo) -> Result<Self, Failure> {
        let frame_bytes = option(control, "frame_bytes", 60_u16)?;
        if u32::from(frame_bytes) > info.longest_frame {
            return Err(Failure(format!(
                "frames of {frame_bytes} bytes: the device supports at most {}",
                info.longest_frame
            )));
        }
        let most = info.max_send_depth.min(info.max_receive_depth);
        let depth = option(control, "depth", most.min(1024))?;
        if depth > most {
            return Err(Failure(format!("rings of {depth} packets: the device supports at most {most}")));
        }
        let depth = QueueDepth { send: depth, receive: depth, ..QueueDepth::default() };
        Ok(Self {
            frame_bytes,
            per_second: option(control, "per_second", 0)?,
            depth,
            // Enough to fill both rings, and two batches that move between them.
            packets: (depth.send + depth.receive) as usize + 2 * coppice_net::BATCH,
            packet_bytes: info.min_packet_bytes.max(frame_bytes.into()) as usize,
        })
    }

    /// Returns the bytes that each frame occupies on the wire, gaps included.
    pub(crate) fn wire_bytes(&self) -> u32 {
        u32::from(self.frame_bytes) + OVERHEAD_BYTES
    }
}
