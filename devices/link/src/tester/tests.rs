//! The tester alone: the times of its frames, and its reports on frames that return.

use coppice_traffic::{Ask, Refusal, Reset, Start, Stop};

use super::*;
use crate::{Losses, Rate, Wire};

const GUEST: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn start(frames_per_second: u64, count: u64) -> Start {
    Start {
        stream: 5,
        request: 1,
        frame_bytes: 60,
        frames_per_second,
        count,
        burst: 1,
        destination: GUEST,
        flows: 0,
        checks_filler: false,
    }
}

/// Sends a request and reads the report.
fn ask(tester: &mut Tester, request: Control, now_ns: u64) -> Report {
    let mut frame = [0; Control::FRAME_BYTES];
    request.encode(Tester::MAC, GUEST, &mut frame).expect("a request");
    tester.take(&frame, now_ns);
    assert_eq!(tester.due_ns(), Some(0));
    let report = tester.give(now_ns).expect("a report");
    assert_eq!((&report.bytes[..6], &report.bytes[6..12]), (&GUEST[..], &Tester::MAC[..]));
    match decode(report.bytes) {
        Ok(Message::Report(report)) if report.answers(&request) => report,
        other => panic!("{other:?}"),
    }
}

fn report(tester: &mut Tester, now_ns: u64) -> Report {
    ask(tester, Control::Ask(Ask { stream: 5, request: 77 }), now_ns)
}

fn number(frame: &[u8]) -> u64 {
    match decode(frame) {
        Ok(Message::Test(test)) => test.sequence,
        other => panic!("{other:?}"),
    }
}

#[test]
fn sent_and_returned_frames_are_counted() {
    let mut tester = Tester::new(Tester::MAC);
    let report_at_start = ask(&mut tester, Control::Start(start(0, 10)), 1000);
    assert!(report_at_start.is_running && report_at_start.sent == 0);
    // A repeated request gets a report and is not executed again.
    let mut frames = Vec::new();
    while let Some(frame) = tester.give(1000 + 10 * frames.len() as u64) {
        frames.push(frame.bytes.to_vec());
    }
    assert_eq!(frames.iter().map(|frame| number(frame)).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    let again = ask(&mut tester, Control::Start(start(0, 10)), 2000);
    assert!(!again.is_running && again.sent == 10 && tester.due_ns().is_none());
    // Frame 3 is lost, 5 late, 7 a duplicate, 8 damaged, 9 longer.
    for (index, age) in [(0, 50), (1, 50), (2, 50), (4, 50), (6, 50), (5, 50), (7, 50), (7, 50)] {
        tester.take(&frames[index], 1000 + 10 * index as u64 + age);
    }
    let mut damaged = frames[8].clone();
    damaged[20] ^= 4;
    tester.take(&damaged, 3000);
    damaged = frames[9].clone();
    damaged.push(0);
    tester.take(&damaged, 3000);
    let Report { sent, sent_bytes, returned, returned_bytes, lost, late, twice, damaged, latency, .. } =
        report(&mut tester, 4000);
    assert_eq!((sent, sent_bytes, returned, returned_bytes), (10, 600, 7, 420));
    assert_eq!((lost, late, twice, damaged), (1, 1, 1, 2));
    assert_eq!((latency.p50_ns, latency.max_ns), (50, 50));
    // After a new start the numbers go on, and frames still on their way do not count.
    ask(&mut tester, Control::Start(Start { request: 2, ..start(0, 1) }), 5000);
    let first = tester.give(5000).expect("a frame").bytes.to_vec();
    assert_eq!(number(&first), 10);
    tester.take(&frames[3], 5000);
    tester.take(&first, 5100);
    let Report { sent, returned, lost, stale, sent_first_ns, returned_first_ns, .. } =
        report(&mut tester, 6000);
    assert_eq!((sent, returned, lost, stale, sent_first_ns, returned_first_ns), (1, 1, 0, 1, 5000, 5100));
}

#[test]
fn a_rate_is_kept_with_and_without_bursts() {
    for (burst, least_gap) in [(1, 1000), (32, 32_000)] {
        let mut tester = Tester::new(Tester::MAC);
        let begin = 1_000_000;
        ask(&mut tester, Control::Start(Start { burst, ..start(1_000_000, 0) }), begin);
        let mut frames = 0;
        for now in (begin..begin + 1_000_000).step_by(100) {
            let due = tester.due_ns().expect("it runs");
            let mut at_once = 0;
            while tester.give(now).is_some() {
                assert!(due <= now);
                at_once += 1;
            }
            assert!(at_once == 0 || at_once == burst, "{at_once} at once");
            if at_once > 0 {
                assert!(tester.due_ns() >= Some(due + least_gap - 1));
            }
            frames += at_once;
        }
        assert!((1000 - burst..=1000 + burst).contains(&frames), "{frames} frames in a millisecond");
        assert_eq!(report(&mut tester, begin + 1_000_000).stalled_ns, 0);
    }
}

#[test]
fn a_stall_of_the_tester_is_reported_and_not_made_up_for() {
    let mut tester = Tester::new(Tester::MAC);
    ask(&mut tester, Control::Start(start(1_000_000, 0)), 0);
    assert!(tester.give(0).is_some());
    let mut at_once = 0;
    while tester.give(10_000_000).is_some() {
        at_once += 1;
    }
    assert!(at_once <= 52, "{at_once} frames after 10 ms");
    let stalled_ns = report(&mut tester, 10_000_000).stalled_ns;
    assert!((9_990_000..=10_000_000).contains(&stalled_ns), "{stalled_ns}");
}

#[test]
fn a_stream_of_the_guest_is_counted_from_its_base() {
    let mut tester = Tester::new(Tester::MAC);
    ask(&mut tester, Control::Reset(Reset { stream: 5, request: 3, base: 100 }), 0);
    let shape = coppice_traffic::Shape { destination: Tester::MAC, source: GUEST, bytes: 64, flows: 4 };
    let mut template = coppice_traffic::Template::new(5, shape).expect("a shape");
    let mut frame = [0; 64];
    template.write(&mut frame).expect("it fits");
    for sequence in [99, 101, 102, 104] {
        template.stamp(&mut frame, sequence, 1 << 40);
        tester.take(&frame, sequence);
    }
    // A repeated request is not executed again.
    let Report { returned, returned_bytes, lost, stale, latency, .. } =
        ask(&mut tester, Control::Reset(Reset { stream: 5, request: 3, base: 100 }), 200);
    assert_eq!((returned, returned_bytes, lost, stale, latency.max_ns), (3, 192, 2, 1, 0));
}

#[test]
fn an_impossible_request_is_refused_and_changes_nothing() {
    let mut tester = Tester::new(Tester::MAC);
    ask(&mut tester, Control::Start(start(1000, 0)), 0);
    for (start, refusal) in [
        (Start { request: 8, frame_bytes: 59, ..start(0, 0) }, Refusal::FrameBytes),
        (Start { request: 9, frame_bytes: 9231, ..start(0, 0) }, Refusal::FrameBytes),
        (Start { request: 10, ..start(1_000_000_001, 0) }, Refusal::Rate),
    ] {
        let report = ask(&mut tester, Control::Start(start), 10);
        assert_eq!((report.refusal, report.is_running), (Some(refusal), true));
    }
    assert!(!ask(&mut tester, Control::Stop(Stop { stream: 5, request: 11 }), 20).is_running);
    assert!(tester.give(u64::MAX).is_none());
}

#[test]
fn two_streams_share_a_wire_evenly_and_a_report_goes_first() {
    let mut tester = Tester::new(Tester::MAC);
    ask(&mut tester, Control::Start(start(0, 0)), 0);
    ask(&mut tester, Control::Start(Start { stream: 6, frame_bytes: 1514, ..start(0, 0) }), 0);
    let mut wire = Wire::new(Rate::TEN_GIGABIT, Box::new(tester));
    let mut frames = [0u64; 2];
    for now in (1_000_000..2_000_000).step_by(50) {
        while let Some(frame) = wire.receive(now) {
            frames[usize::from(frame.bytes.len() == 1514)] += 1;
        }
    }
    assert!(frames[0] > 700 && frames[0].abs_diff(frames[1]) <= 2, "{frames:?}");
    let mut request = [0; 60];
    Control::Ask(Ask { stream: 6, request: 1 }).encode(Tester::MAC, GUEST, &mut request).expect("a request");
    wire.send(&request, 2_000_000);
    let report = wire.receive(2_010_000).expect("a report");
    assert!(matches!(decode(report.bytes), Ok(Message::Report(_))));
}

#[test]
fn unusable_frames_and_reports_without_room_are_counted() {
    let mut tester = Tester::new(Tester::MAC);
    let losses = tester.losses();
    ask(&mut tester, Control::Start(Start { checks_filler: true, ..start(0, 2) }), 0);
    let mut damaged = tester.give(0).expect("a frame").bytes.to_vec();
    tester.take(&damaged, 10);
    assert_eq!(losses.read(), Losses::default());
    // A frame of another length than the stream's, a message that cannot be decoded, and no message at all.
    damaged.push(0);
    tester.take(&damaged, 10);
    damaged.truncate(30);
    tester.take(&damaged, 10);
    tester.take(&[0xff; 60], 10);
    assert_eq!(losses.read(), Losses { ignored: 3, ..Losses::default() });
    let mut request = [0; Control::FRAME_BYTES];
    let ask = Control::Ask(Ask { stream: 5, request: 1 });
    ask.encode(Tester::MAC, GUEST, &mut request).expect("a request");
    (0..REPORTS + 2).for_each(|_| tester.take(&request, 20));
    assert_eq!(losses.read(), Losses { ignored: 3, peer_full: 2, ..Losses::default() });
    // The report of another tester.
    let report = tester.give(20).expect("a report").bytes.to_vec();
    tester.take(&report, 30);
    assert_eq!(losses.read(), Losses { ignored: 4, peer_full: 2, ..Losses::default() });
}

#[test]
fn any_frame_is_accepted() {
    let mut tester = Tester::new(Tester::MAC);
    let mut random = 1u64;
    for bytes in 0..200 {
        let frame: Vec<u8> = (0..bytes)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 56) as u8
            })
            .collect();
        tester.take(&frame, bytes);
    }
    assert_eq!(tester.due_ns(), None);
}
