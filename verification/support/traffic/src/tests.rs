//! Encoded messages decode to themselves, and arbitrary bytes decode to a message or an error.

use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

use crate::*;

const GUEST: [u8; 6] = [2, 0, 0, 0, 0, 1];
const TESTER: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn control() -> impl Strategy<Value = Control> {
    let names = (0..STREAMS, any::<u32>());
    let start = (
        names.clone(),
        any::<u16>(),
        any::<u64>(),
        any::<u64>(),
        any::<u32>(),
        any::<[u8; 6]>(),
        any::<u16>(),
        any::<bool>(),
    );
    prop_oneof![
        start.prop_map(
            |(
                (stream, request),
                frame_bytes,
                frames_per_second,
                count,
                burst,
                destination,
                flows,
                checks_filler,
            )| {
                Control::Start(Start {
                    stream,
                    request,
                    frame_bytes,
                    frames_per_second,
                    count,
                    burst,
                    destination,
                    flows,
                    checks_filler,
                })
            }
        ),
        names.clone().prop_map(|(stream, request)| Control::Stop(Stop { stream, request })),
        names.clone().prop_map(|(stream, request)| Control::Ask(Ask { stream, request })),
        (names, 0u64..1 << 48).prop_map(|((stream, request), base)| Control::Reset(Reset {
            stream,
            request,
            base
        })),
    ]
}

/// Returns copies of a frame with a single flipped bit, for each bit from `from` on.
fn damaged(frame: &[u8], from: usize, to: usize) -> impl Iterator<Item = Vec<u8>> + '_ {
    (8 * from..8 * to).map(|bit| {
        let mut wrong = frame.to_vec();
        wrong[bit / 8] ^= 1 << (bit % 8);
        wrong
    })
}

/// Returns true if the filler of a test frame is undamaged.
fn is_filler_whole(frame: &[u8], offset: usize) -> bool {
    frame.iter().enumerate().skip(offset + Test::BYTES).all(|(at, byte)| *byte == crate::frame::filler(at))
}

proptest! {
    #[test]
    fn a_request_decodes_to_itself(control in control()) {
        let mut frame = [0xee; 100];
        let len = control.encode(TESTER, GUEST, &mut frame).expect("it fits");
        prop_assert_eq!(len, Control::FRAME_BYTES);
        prop_assert_eq!(decode(&frame[..len]), Ok(Message::Control(control)));
        prop_assert!(frame[len..].iter().all(|byte| *byte == 0xee));
        let mut short = [0; 59];
        prop_assert_eq!(control.encode(TESTER, GUEST, &mut short), Err(EncodeError::NoRoom { bytes: 59, least: 60 }));
    }

    #[test]
    fn a_report_decodes_to_itself(control in control(), numbers in any::<[u64; 6]>(), is_running in any::<bool>(), refused in any::<bool>()) {
        let [now_ns, sent, returned, lost, p50_ns, stalled_ns] = numbers;
        let mut report = Report::to(&control);
        (report.now_ns, report.sent, report.returned) = (now_ns, sent, returned);
        (report.lost, report.stalled_ns, report.is_running) = (lost, stalled_ns, is_running);
        report.refusal = refused.then_some(Refusal::Rate);
        report.latency.p50_ns = p50_ns;
        let mut frame = [0; Report::FRAME_BYTES];
        let len = report.encode(GUEST, TESTER, &mut frame).expect("it fits");
        prop_assert_eq!(decode(&frame[..len]), Ok(Message::Report(report)));
        prop_assert!(report.answers(&control));
    }

    #[test]
    fn a_test_decodes_to_itself(
        stream in 0..STREAMS,
        sequence in 0u64..1 << 48,
        sent_ns in any::<u64>(),
        bytes in SHORTEST_FRAME..2000,
        flows in 0u16..9,
    ) {
        let shape = Shape { destination: GUEST, source: TESTER, bytes, flows };
        let mut template = Template::new(stream, shape).expect("a shape");
        let mut frame = vec![0; bytes];
        template.write(&mut frame).expect("it fits");
        template.stamp(&mut frame, sequence, sent_ns);
        let Ok(Message::Test(test)) = decode(&frame) else { panic!("{:?}", decode(&frame)) };
        prop_assert_eq!((test.stream, test.sequence), (stream, sequence));
        prop_assert_eq!(test.age_ns(sent_ns.wrapping_add(77)), 77);
        let offset = message_offset(&frame).expect("it is ours");
        prop_assert!(is_filler_whole(&frame, offset));
        if let Some(last) = frame.get_mut(offset + Test::BYTES..).and_then(|filler| filler.last_mut()) {
            *last ^= 1;
            prop_assert!(!is_filler_whole(&frame, offset));
        }
    }

    #[test]
    fn arbitrary_bytes_decode_to_a_message_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..300), ours in 0..3) {
        // Most random bytes have another EtherType; so some get the protocol's headers.
        let head = if ours == 1 { &[0x88, 0xb5, MARK][..] } else { &[8, 0, 0x45][..] };
        if ours > 0 && bytes.len() > 40 {
            bytes[12..15].copy_from_slice(head);
            (bytes[23], bytes[36], bytes[37]) = (17, 0x88, 0xb5);
        }
        if let Ok(message) = decode(&bytes) {
            prop_assert!(matches!(message, Message::Test(_)), "32 bits of check came out right by chance: {:?}", message);
        }
    }
}

#[test]
fn each_single_bit_error_is_detected() {
    let start = Control::Start(Start {
        stream: 3,
        request: 9,
        frame_bytes: 60,
        frames_per_second: 1000,
        count: 0,
        burst: 32,
        destination: GUEST,
        flows: 4,
        checks_filler: true,
    });
    let mut frame = [0; 60];
    start.encode(TESTER, GUEST, &mut frame).expect("it fits");
    assert!(damaged(&frame, 14, 14 + 44).all(|wrong| decode(&wrong).is_err()));
    let mut long = [0; Report::FRAME_BYTES];
    Report::to(&start).encode(GUEST, TESTER, &mut long).expect("it fits");
    assert!(damaged(&long, 14, long.len()).all(|wrong| decode(&wrong).is_err()));
    let shape = Shape { destination: GUEST, source: TESTER, bytes: 60, flows: 0 };
    let mut template = Template::new(63, shape).expect("a shape");
    template.write(&mut frame).expect("it fits");
    for sequence in [0, 1, 0xffff, 1 << 32, (1 << 48) - 1] {
        template.stamp(&mut frame, sequence, sequence * 67);
        assert!(damaged(&frame, 14, 14 + Test::BYTES).all(|wrong| decode(&wrong).is_err()));
    }
}

#[test]
fn flows_differ_by_address_and_port_and_have_valid_checksums() {
    let shape = Shape { destination: GUEST, source: TESTER, bytes: 60, flows: 3 };
    let mut template = Template::new(0, shape).expect("a shape");
    let mut frame = [0; 60];
    template.write(&mut frame).expect("it fits");
    let mut seen = Vec::new();
    for sequence in 0..4 {
        template.stamp(&mut frame, sequence, 0);
        let sum: u32 =
            frame[14..34].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "the header's checksum");
        assert_eq!(frame[16..18], [0, 46], "as long as it is");
        assert_eq!(frame[38..40], [0, 26]);
        seen.push((frame[26..30].to_vec(), frame[34..36].to_vec()));
    }
    assert_eq!(seen[0], seen[3]);
    assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2]);
}

#[test]
fn invalid_shapes_and_foreign_frames_are_errors() {
    let shape = Shape { destination: GUEST, source: TESTER, bytes: 59, flows: 0 };
    assert_eq!(Template::new(0, shape).err(), Some(EncodeError::NoRoom { bytes: 59, least: 60 }));
    assert_eq!(Template::new(64, shape).err(), Some(EncodeError::Stream { stream: 64 }));
    let long = Shape { bytes: 9231, ..shape };
    assert_eq!(Template::new(0, long).err(), Some(EncodeError::TooLong { bytes: 9231, most: 9230 }));
    assert_eq!(decode(&[0; 13]), Err(DecodeError::TooShort { bytes: 13, least: 14 }));
    assert_eq!(decode(&[0; 60]), Err(DecodeError::Foreign { ether_type: 0 }));
}
