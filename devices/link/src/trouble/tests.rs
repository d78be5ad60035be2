//! Each kind does what it says, in its direction, and nothing once it is stopped.

use std::sync::Arc;

use device_bus::Rate as Times;

use super::*;
use crate::{Damage, Loopback, Losses, Rate, Wire};

fn wire(inward: &str, outward: &str) -> (Wire, Arc<Trouble>) {
    let rules = |text: &str| match text {
        "" => Vec::new(),
        text => TroubleRule::parse_all(text).expect("rules"),
    };
    let trouble = Arc::new(Trouble::new(3, &rules(inward), &rules(outward)));
    let wire = Wire::new(Rate::Unlimited, Box::new(Loopback::new(100)));
    (wire.with_trouble(trouble.clone()), trouble)
}

fn frame(number: u8) -> [u8; 60] {
    [number; 60]
}

/// All that comes by this time.
fn arrived(wire: &mut Wire, now_ns: u64) -> Vec<(Vec<u8>, Option<Damage>)> {
    std::iter::from_fn(|| wire.receive(now_ns).map(|frame| (frame.bytes.to_vec(), frame.damage))).collect()
}

fn numbers(frames: &[(Vec<u8>, Option<Damage>)]) -> Vec<u8> {
    frames.iter().map(|(bytes, _)| bytes[0]).collect()
}

#[test]
fn dropped_frames_are_lost_in_either_direction() {
    for (inward, outward) in [("drop:@3", ""), ("", "drop:@3")] {
        let (mut wire, trouble) = wire(inward, outward);
        (0..9).for_each(|number| wire.send(&frame(number), 5));
        assert_eq!(numbers(&arrived(&mut wire, 5)), [0, 1, 3, 4, 6, 7]);
        assert_eq!(
            trouble.inward.injections(TroubleKind::Drop) + trouble.outward.injections(TroubleKind::Drop),
            3
        );
        trouble.inward.stop();
        trouble.outward.stop();
        (0..3).for_each(|number| wire.send(&frame(number), 6));
        assert_eq!(numbers(&arrived(&mut wire, 6)), [0, 1, 2]);
    }
}

#[test]
fn a_lost_frame_takes_its_time_on_the_wire() {
    let trouble = Trouble::new(1, &TroubleRule::parse_all("drop:always").expect("a rule"), &[]);
    let end = Box::new(Loopback::new(1000));
    let mut wire = Wire::new(Rate::TEN_GIGABIT, end).with_trouble(Arc::new(trouble));
    for _ in 0..1000 {
        wire.send(&frame(0), 1_000_000);
    }
    assert!(wire.receive(1_000_000).is_none());
    // 32 at a time, and at line rate in the long run.
    for now in (1_000_000..1_010_000).step_by(100) {
        assert!(wire.receive(now).is_none());
    }
    assert!(wire.receive_due_ns().is_some(), "a thousand take 67 us, of which 60 are over");
}

#[test]
fn a_delayed_frame_comes_after_its_time_and_others_before_it() {
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
fn a_duplicate_is_the_same() {
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
fn damage_is_told_by_the_fcs_or_not() {
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
        for (number, (bytes, told)) in found.iter().enumerate() {
            assert_eq!(*told, damage, "{kind}");
            assert!((fewest..=most).contains(&bytes.len()), "{kind}: {} bytes", bytes.len());
            assert_ne!(bytes[..], frame(number as u8)[..], "{kind}");
        }
        // The other end drops what its FCS tells of.
        let (mut wire, _) = self::wire("", &format!("{kind}:always"));
        wire.send(&frame(0), 1);
        assert_eq!(arrived(&mut wire, 1).is_empty(), damage.is_some(), "{kind}");
    }
}

#[test]
fn a_flap_takes_the_link_and_what_was_on_it() {
    let (mut wire, trouble) = wire("flap:#3:1us+delay:#1:500ns", "");
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
    // By hand; the device is told.
    let woken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = woken.clone();
    wire.attach(Arc::new(move || {
        seen.fetch_add(1, Ordering::Relaxed);
    }));
    trouble.set_cut(true);
    assert!(!wire.is_up(1200) && woken.load(Ordering::Relaxed) == 1);
    wire.send(&frame(9), 1200);
    assert_eq!(numbers(&arrived(&mut wire, 1200)), []);
    assert_eq!(wire.receive_due_ns(), None);
    trouble.set_cut(false);
    assert!(wire.is_up(1200));
}

#[test]
fn each_frame_that_is_lost_on_the_way_is_counted_by_its_cause() {
    for (inward, outward, expected) in [
        ("drop:@3", "", Losses { dropped: 3, ..Losses::default() }),
        ("", "drop:@3", Losses { dropped: 3, ..Losses::default() }),
        ("", "corrupt:@3", Losses { damaged: 3, ..Losses::default() }),
        ("", "truncate:@3", Losses { damaged: 3, ..Losses::default() }),
        // These arrive, and the device at the other end has to see what they are.
        ("corrupt:@3", "garble:@3", Losses::default()),
    ] {
        let (mut wire, _) = wire(inward, outward);
        (0..9).for_each(|number| wire.send(&frame(number), 5));
        let arrived = arrived(&mut wire, 5).len() as u64;
        let losses = wire.losses().read();
        assert_eq!(losses, expected, "in {inward}, out {outward}");
        assert_eq!(arrived + losses.sum(), 9, "in {inward}, out {outward}");
    }
    // The first is delayed, the third takes the link with it, and the fourth finds it down.
    let (mut wire, trouble) = wire("flap:#3:1us+delay:#1:500ns", "");
    (0..4).for_each(|number| wire.send(&frame(number), 100));
    assert_eq!(numbers(&arrived(&mut wire, 100)), [1]);
    assert_eq!(wire.losses().read(), Losses { flapped: 1, link_down: 2, ..Losses::default() });
    trouble.set_cut(true);
    wire.send(&frame(9), 2000);
    assert_eq!(wire.losses().read(), Losses { flapped: 1, link_down: 3, ..Losses::default() });
}

#[test]
fn delayed_frames_that_are_too_many_or_never_come_are_counted() {
    for (inward, outward) in [("delay:always:1s", ""), ("", "delay:always:1s")] {
        let (wire, _) = wire(inward, outward);
        // A loopback that holds them all.
        let end = Box::new(Loopback::new(layer::HELD_LIMIT + 10));
        let trouble = wire.trouble().expect("it was given").clone();
        let mut wire = Wire::new(Rate::Unlimited, end).with_trouble(trouble);
        (0..layer::HELD_LIMIT + 5).for_each(|_| wire.send(&frame(1), 1));
        while wire.receive_due_ns() == Some(0) {
            assert!(wire.receive(1).is_none());
        }
        let losses = wire.losses().clone();
        assert_eq!(losses.read(), Losses { delay_full: 5, ..Losses::default() });
        drop(wire);
        let abandoned = layer::HELD_LIMIT as u64;
        assert_eq!(losses.read(), Losses { delay_full: 5, abandoned, ..Losses::default() });
    }
}

#[test]
fn the_same_seed_hits_the_same_frames() {
    let run = || {
        let (mut wire, trouble) = wire("", "");
        trouble.inward.set_rate(TroubleKind::Drop, Times::Probability { times: 1, of: 4 });
        (0..60).for_each(|number| wire.send(&frame(number), 1));
        let mut found = numbers(&arrived(&mut wire, 1));
        found.extend(numbers(&arrived(&mut wire, 1)));
        found
    };
    let found = run();
    assert_eq!(found, run());
    assert!((30..56).contains(&found.len()), "{} of 60", found.len());
}
