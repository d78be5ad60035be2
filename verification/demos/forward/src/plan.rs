//! [`Plan`]: what is forwarded, from the command line.

use alloc::format;

use coppice_control::Control;
use coppice_experiment::Failure;
use coppice_interfaces::Handle;
use coppice_net::{MacAddr, NetInfo, QueueDepth};
use coppice_trial::option;

/// Bytes of a frame on the wire that are not in it: preamble and start delimiter (8), FCS (4), interpacket gap (12) (IEEE 802.3,
/// 3.1.1 and 4.4.2).
const WIRE_BYTES: u32 = 24;
/// The station's own address: locally administered, and not the one that the device came with.
pub(crate) const STATION: MacAddr = MacAddr([0x02, 0xc0, 0, 0, 0x0f, 0x02]);

/// What is forwarded.
pub(crate) struct Plan {
    /// Bytes of each frame, without FCS.
    pub(crate) frame_bytes: u16,
    /// How many are offered in a second; 0 for as many as the wire carries, or this machine forwards.
    pub(crate) per_second: u64,
    pub(crate) depth: QueueDepth,
    /// How many packets circulate, and how large they are.
    pub(crate) packets: usize,
    pub(crate) packet_bytes: usize,
}

impl Plan {
    /// From the kernel's options, for the device that `info` describes.
    pub(crate) fn read(control: &Handle<dyn Control>, info: &NetInfo) -> Result<Self, Failure> {
        let frame_bytes = option(control, "frame_bytes", 60_u16)?;
        if u32::from(frame_bytes) > info.longest_frame {
            return Err(Failure(format!(
                "frames of {frame_bytes} bytes: the device has at most {}",
                info.longest_frame
            )));
        }
        let most = info.max_send_depth.min(info.max_receive_depth);
        let depth = option(control, "depth", most.min(1024))?;
        if depth > most {
            return Err(Failure(format!("rings of {depth} packets: the device has at most {most}")));
        }
        let depth = QueueDepth { send: depth, receive: depth, ..QueueDepth::default() };
        Ok(Self {
            frame_bytes,
            per_second: option(control, "per_second", 0)?,
            depth,
            // What fills both rings, and two batches on their way.
            packets: (depth.send + depth.receive) as usize + 2 * coppice_net::BATCH,
            packet_bytes: info.min_packet_bytes.max(frame_bytes.into()) as usize,
        })
    }

    /// Bytes that each frame takes on the wire, gaps included.
    pub(crate) fn wire_bytes(&self) -> u32 {
        u32::from(self.frame_bytes) + WIRE_BYTES
    }
}
