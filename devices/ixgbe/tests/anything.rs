//! Arbitrary register accesses and descriptors.

mod rig;

use device_bus::{Model, PAGE_BYTES};
use proptest::prelude::*;
use rig::{MAC, Rig, frame};

/// An offset: registers with a function are more frequent.
fn offset() -> impl Strategy<Value = u64> {
    let interesting = prop::sample::select(vec![
        0x0_u64, 0x18, 0x28, 0x800, 0x808, 0x820, 0x880, 0x888, 0x898, 0x900, 0xa00, 0xaa0, 0x1000, 0x1008,
        0x1010, 0x1014, 0x1018, 0x1028, 0x2f00, 0x3000, 0x3c00, 0x4240, 0x4268, 0x42a0, 0x4900, 0x4a80,
        0x5080, 0x5088, 0x6000, 0x6008, 0x6010, 0x6018, 0x6028, 0x6038, 0xa200, 0xa204, 0xec80, 0x10010,
        0x10014, 0x10018, 0x10140,
    ]);
    prop_oneof![3 => interesting, 1 => (0_u64..0x2_0100).prop_map(|offset| offset & !3), 1 => any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_accesses_leave_a_device_that_a_reset_revives(
        accesses in prop::collection::vec((offset(), any::<u32>(), prop::sample::select(vec![1_u8, 2, 4, 4, 4, 8]), any::<bool>()), 1..200),
    ) {
        let rig = Rig::new("rate=unlimited");
        let _ = rig.receive_queue(0, 64);
        let mut send = rig.send_queue(0, 64);
        rig.send(&mut send, &frame(MAC, 60, 1));
        for (offset, value, size, is_write) in accesses {
            if is_write {
                rig.ixgbe.write(0, offset, size, u64::from(value));
            } else {
                rig.ixgbe.read(0, offset, size);
            }
        }
        rig.ixgbe.reset();
        rig.ixgbe.set_bus_master(true);
        let mut rig = rig;
        rig.set_up();
        let mut receive = rig.receive_queue(0, 64);
        let mut send = rig.send_queue(0, 64);
        rig.send(&mut send, &frame(MAC, 60, 7));
        prop_assert_eq!(rig.receive(&mut receive).bytes, frame(MAC, 60, 7));
    }

    #[test]
    fn any_descriptors_do_no_more_than_fail(
        sent in prop::collection::vec(any::<[u64; 2]>(), 1..63),
        near in any::<bool>(),
        types in prop::collection::vec(0_u64..4, 63),
        received in prop::collection::vec(any::<u64>(), 63),
    ) {
        let rig = Rig::new("rate=unlimited");
        rig.set(0x5080, 1 << 10 | 1 << 9 | 1 << 8);
        let mut receive = rig.empty_receive_queue(0, 64);
        let mut send = rig.send_queue(0, 64);
        for address in received {
            // Either in memory that this test does not use, or anywhere.
            rig.put(&mut receive, [if near { (1 << 23) + address % (1 << 22) } else { address }, address]);
        }
        rig.ring_tail(&receive);
        for ([address, word], kind) in sent.iter().zip(types) {
            let address = if near { rig.buffer(&send, 0) + address % (2 * PAGE_BYTES) } else { *address };
            // Data, context and legacy descriptors and random ones, all of them reported.
            let kind = [3 << 20 | 1 << 29, 2 << 20 | 1 << 29, 0, *word & (0xf << 20 | 1 << 29)][kind as usize];
            rig.put(&mut send, [address, word & !(0xf << 20 | 1 << 29) | kind | 1 << 27]);
        }
        rig.ring_tail(&send);
        let count = sent.len() as u32;
        rig.until(|| rig.get(0x6010) == count, "the head");
        rig.ixgbe.reset();
        prop_assert_eq!(rig.get(0x6010), 0);
    }
}
