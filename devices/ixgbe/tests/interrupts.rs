//! Vectors, masks and intervals.

mod rig;

use std::time::{Duration, Instant};

use rig::{LIMIT, MAC, Rig, Ring, frame};

/// A device with MSI-X and vector 2 for receive queue 0, 3 for transmit queue 0, 5 for all other causes.
fn rig(text: &str) -> (Rig, Ring, Ring) {
    let rig = Rig::new(text);
    // GPIE: MSI-X, PBA support, OCD, EIAME.
    rig.set(0x898, 1 << 4 | 1 << 31 | 1 << 5 | 1 << 30);
    rig.set(0x900, 0x82 | 0x83 << 8);
    rig.set(0xa00, 0x85 << 8);
    rig.set(0x810, 0xffff);
    let receive = rig.receive_queue(0, 64);
    let send = rig.send_queue(0, 64);
    rig.wait(0x42a4, 1 << 30, 1 << 30);
    (rig, receive, send)
}

#[test]
fn a_vector_is_sent_when_unmasked_and_masks_itself() {
    let (rig, mut receive, mut send) = rig("rate=unlimited");
    // EIAM: both vectors; EIMS: the receive queue's alone.
    rig.set(0xad0, 1 << 2 | 1 << 3);
    rig.set(0x880, 1 << 2);
    rig.send(&mut send, &frame(MAC, 60, 1));
    assert_eq!(rig.bench.wait_interrupt(2, 0, LIMIT), Some(1));
    rig.receive(&mut receive);
    assert_eq!(rig.get(0x880), 0, "it has masked itself");
    assert_eq!(rig.bench.interrupts(3), 0, "it was masked");
    rig.send(&mut send, &frame(MAC, 60, 2));
    rig.receive(&mut receive);
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(rig.bench.interrupts(2), 1);
    // The events since then are pending. This time through the wide registers.
    rig.set(0xaa0, 1 << 2 | 1 << 3);
    assert_eq!(rig.bench.wait_interrupt(2, 1, LIMIT), Some(2));
    assert_eq!(rig.bench.wait_interrupt(3, 0, LIMIT), Some(1));
}

#[test]
fn a_vector_keeps_its_interval() {
    let (rig, mut receive, mut send) = rig("rate=unlimited");
    // EITR(2): 500 units of 2 us.
    rig.set(0x828, 500 << 3);
    rig.set(0x880, 1 << 2);
    let start = Instant::now();
    for number in 0..3 {
        rig.send(&mut send, &frame(MAC, 60, number));
        rig.receive(&mut receive);
        assert!(rig.bench.wait_interrupt(2, u64::from(number), LIMIT).is_some());
    }
    assert!(start.elapsed() >= Duration::from_millis(2), "{:?} for three", start.elapsed());
    assert_eq!(rig.bench.interrupts(2), 3);
}

#[test]
fn software_can_trigger_any_vector_and_the_link_has_its_own() {
    let (rig, ..) = rig("rate=unlimited");
    // EIMS: link; its cause is set since the link came up.
    rig.set(0x880, 1 << 20);
    assert_eq!(rig.bench.wait_interrupt(5, 0, LIMIT), Some(1));
    assert_eq!(rig.get(0x800) >> 20 & 1, 1, "EICR");
    assert_eq!(rig.get(0x800) >> 20 & 1, 0, "a read clears");
    // EICS_EX(1): vector 40.
    rig.set(0xaa4, 1 << 8);
    rig.set(0xa94, 1 << 8);
    assert_eq!(rig.bench.wait_interrupt(40, 0, LIMIT), Some(1));
}

#[test]
fn without_msi_x_all_causes_use_vector_0() {
    let (rig, mut receive, mut send) = rig("rate=unlimited");
    rig.set(0x898, 0);
    rig.get(0x800);
    rig.set(0x880, 1 << 2);
    rig.send(&mut send, &frame(MAC, 60, 1));
    rig.receive(&mut receive);
    assert_eq!(rig.bench.wait_interrupt(0, 0, LIMIT), Some(1));
    assert_eq!(rig.get(0x800) & 0xf, 1 << 2 | 1 << 3);
}
