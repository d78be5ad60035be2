//! Each kind acts as documented, in its direction only, and no more once it is stopped.

use std::sync::Arc;

use device_bus::Rate as Times;

use super::*;
use crate::{Damage, Loopback, Losses, Rate, Wire};

fn wire(inward: &str, outward: &str) -> (Wire, Arc<Impairment>) {
    let rules = |text: &str| match text {
        "" => Vec::new(),
        text => ImpairmentRule::parse_all(text).expect("rules"),
    };
    let impairment = Arc::new(Impairment::new(3, &rules(inward), &rules(outward)));
    let wire = Wire::new(Rate::Unlimited, Box::new(Loopback::new(100)));
    (wire.with_impairment(impairment.clone()), impairment)
}

fn frame(number: u8) -> [u8; 60] {
    [number; 60]
}

/// Returns all frames that have arrived by `now_ns`.
fn arrived(wire: &mut Wire, now_ns: u64) -> Vec<(Vec<u8>, Option<Damage>)> {
    std::iter::from_fn(|| wire.receive(now_ns).map(|frame| (frame.bytes.to_vec(), frame.damage))).collect()
}

fn numbers(frames: &[(Vec<u8>, Option<Damage>)]) -> Vec<u8> {
    frames.iter().map(|(bytes, _)| bytes[0]).collect()
}

#[test]
fn dropped_frames_are_lost_in_either_direction() {
    for (inward, outward) in [("drop:@3", ""), ("", "drop:@3")] {
        let (mut wire, impairment) = wire(inward, outward);
        (0..9).for_each(|number| wire.send(&frame(number), 5));
        assert_eq!(numbers(&arrived(&mut wire, 5)), [0, 1, 3, 4, 6, 7]);
        assert_eq!(
            impairment.inward.injections(ImpairmentKind::Drop)
                + impairment.outward.injections(ImpairmentKind::Drop),
            3
        );
        impairment.inward.stop();
        impairment.outward.stop();
        (0..3).for_each(|number| wire.send(&frame(number), 6));
        assert_eq!(numbers(&arrived(&mut wire, 6)), [0, 1, 2]);
    }
}

#[test]
fn a_dropped_frame_occupies_the_wire() {
    let impairment = Impairment::new(1, &ImpairmentRule::parse_all("drop:always").expect("a rule"), &[]);
    let peer = Box::new(Loopback::new(1000));
    let mut wire = Wire::new(Rate::TEN_GIGABIT, peer).with_impairment(Arc::new(impairment));
    for _ in 0..1000 {
        wire.send(&frame(0), 1_000_000);
    }
    assert!(wire.receive(1_000_000).is_none());
    // 32 per call, and at line rate in the long run.
    for now in (1_000_000..1_010_000).step_by(100) {
        assert!(wire.receive(now).is_none());
    }
    assert!(wire.receive_due_ns().is_some(), "a thousand take 67 us, of which 60 are over");
}

#[test]
fn a_delayed_frame_arrives_at_its_time_and_others_overtake_it() {
    for (inward, outward) in [("delay:#1:1us", ""), ("", "delay:#1:1us")] {
        let (mut wire, _) = wire(inward, outward);
        (0..3).for_each(|number| wire.send(&frame(number), 100));
        assert_eq!(numbers(&arrived(&mut wire, 100)), [1, 2]);
        assert_eq!(wire.receive_due_ns(), Some(1100));
        assert_eq!(numbers(&arrived(&mut wire, 1099)), []);
        assert_eq!(numbers(&arrived(&mut wire, 1100)), [0]);
        assert_eq!(wire.receive_due_ns(), None);
    }
}

#[test]
fn reordered_frames_all_arrive() {
    let (mut wire, _) = wire("reorder:1/2:1us", "");
    (0..50).for_each(|number| wire.send(&frame(number), 100));
    let mut found = numbers(&arrived(&mut wire, 100));
    found.extend((101..=1100).flat_map(|now| numbers(&arrived(&mut wire, now))));
    assert!(!found.is_sorted());
    found.sort_unstable();
    assert_eq!(found, (0..50).collect::<Vec<u8>>());
}

#[test]
fn a_duplicate_equals_its_frame() {
    for (inward, outward) in [("duplicate:#2", ""), ("", "duplicate:#2")] {
        let (mut wire, _) = wire(inward, outward);
        (0..3).for_each(|number| wire.send(&frame(number), 1));
        let mut found = numbers(&arrived(&mut wire, 1));
        found.extend(numbers(&arrived(&mut wire, 2)));
        found.sort_unstable();
        assert_eq!(found, [0, 1, 1, 2]);
    }
}

#[test]
fn the_fcs_shows_only_damage_of_the_link() {
    for (kind, damage, fewest, most) in [
        ("corrupt", Some(Damage::Fcs), 60, 60),
        ("garble", None, 60, 60),
        ("truncate", Some(Damage::Fcs), 1, 59),
        ("cut", None, 1, 59),
        ("extend", None, 61, 60 + (16 << 10)),
    ] {
        let (mut wire, _) = wire(&format!("{kind}:always"), "");
        (0..20).for_each(|number| wire.send(&frame(number), 1));
        let found = arrived(&mut wire, 1);
        assert_eq!(found.len(), 20);
        for (number, (bytes, found_damage)) in found.iter().enumerate() {
            assert_eq!(*found_damage, damage, "{kind}");
            assert!((fewest..=most).contains(&bytes.len()), "{kind}: {} bytes", bytes.len());
            assert_ne!(bytes[..], frame(number as u8)[..], "{kind}");
        }
        // The peer drops a frame with a wrong FCS.
        let (mut wire, _) = self::wire("", &format!("{kind}:always"));
        wire.send(&frame(0), 1);
        assert_eq!(arrived(&mut wire, 1).is_empty(), damage.is_some(), "{kind}");
    }
}

#[test]
fn a_flap_loses_the_frames_on_the_link() {
    let (mut wire, impairment) = wire("flap:#3:1us+delay:#1:500ns", "");
    assert!(wire.is_up(100));
    (0..4).for_each(|number| wire.send(&frame(number), 100));
    assert_eq!(numbers(&arrived(&mut wire, 100)), [1]);
    assert!(!wire.is_up(100));
    assert_eq!(wire.receive_due_ns(), Some(1100));
    wire.send(&frame(9), 600);
    assert_eq!(numbers(&arrived(&mut wire, 1099)), []);
    assert!(!wire.is_up(1099) && wire.is_up(1100));
    assert_eq!(numbers(&arrived(&mut wire, 1100)), []);
    wire.send(&frame(9), 1100);
    assert_eq!(numbers(&arrived(&mut wire, 1100)), [9]);
    // A cut cable, of which the device is notified.
    let woken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = woken.clone();
    wire.attach(Arc::new(move || {
        seen.fetch_add(1, Ordering::Relaxed);
    }));
    impairment.set_cut(true);
    assert!(!wire.is_up(1200) && woken.load(Ordering::Relaxed) == 1);
    wire.send(&frame(9), 1200);
    assert_eq!(numbers(&arrived(&mut wire, 1200)), []);
    assert_eq!(wire.receive_due_ns(), None);
    impairment.set_cut(false);
    assert!(wire.is_up(1200));
}

#[test]
fn each_lost_frame_is_counted_by_its_cause() {
    for (inward, outward, expected) in [
        ("drop:@3", "", Losses { dropped: 3, ..Losses::default() }),
        ("", "drop:@3", Losses { dropped: 3, ..Losses::default() }),
        ("", "corrupt:@3", Losses { damaged: 3, ..Losses::default() }),
        ("", "truncate:@3", Losses { damaged: 3, ..Losses::default() }),
        // These arrive, and the receiving device has to detect them.
        ("corrupt:@3", "garble:@3", Losses::default()),
    ] {
        let (mut wire, _) = wire(inward, outward);
        (0..9).for_each(|number| wire.send(&frame(number), 5));
        let arrived = arrived(&mut wire, 5).len() as u64;
        let losses = wire.losses().read();
        assert_eq!(losses, expected, "in {inward}, out {outward}");
        assert_eq!(arrived + losses.sum(), 9, "in {inward}, out {outward}");
    }
    // The first is delayed, the third takes the link down, and the fourth finds it down.
    let (mut wire, impairment) = wire("flap:#3:1us+delay:#1:500ns", "");
    (0..4).for_each(|number| wire.send(&frame(number), 100));
    assert_eq!(numbers(&arrived(&mut wire, 100)), [1]);
    assert_eq!(wire.losses().read(), Losses { flapped: 1, link_down: 2, ..Losses::default() });
    impairment.set_cut(true);
    wire.send(&frame(9), 2000);
    assert_eq!(wire.losses().read(), Losses { flapped: 1, link_down: 3, ..Losses::default() });
}

#[test]
fn delayed_frames_beyond_the_limit_or_never_delivered_are_counted() {
    for (inward, outward) in [("delay:always:1s", ""), ("", "delay:always:1s")] {
        let (wire, _) = wire(inward, outward);
        // This loopback has room for all of them.
        let peer = Box::new(Loopback::new(layer::DELAY_LIMIT + 10));
        let impairment = wire.impairment().expect("it has an impairment").clone();
        let mut wire = Wire::new(Rate::Unlimited, peer).with_impairment(impairment);
        (0..layer::DELAY_LIMIT + 5).for_each(|_| wire.send(&frame(1), 1));
        while wire.receive_due_ns() == Some(0) {
            assert!(wire.receive(1).is_none());
        }
        let losses = wire.losses().clone();
        assert_eq!(losses.read(), Losses { delay_full: 5, ..Losses::default() });
        drop(wire);
        let abandoned = layer::DELAY_LIMIT as u64;
        assert_eq!(losses.read(), Losses { delay_full: 5, abandoned, ..Losses::default() });
    }
}

#[test]
fn the_same_seed_impairs_the_same_frames() {
    let run = || {
        let (mut wire, impairment) = wire("", "");
        impairment.inward.set_rate(ImpairmentKind::Drop, Times::Probability { times: 1, of: 4 });
        (0..60).for_each(|number| wire.send(&frame(number), 1));
        let mut found = numbers(&arrived(&mut wire, 1));
        found.extend(numbers(&arrived(&mut wire, 1)));
        found
    };
    let found = run();
    assert_eq!(found, run());
    assert!((30..56).contains(&found.len()), "{} of 60", found.len());
}
