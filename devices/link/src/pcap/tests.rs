//! Recorded frames are played, and captures of other programs are read.

use super::*;
use crate::{Frame, Loopback, Losses, Peer};

fn frames(peer: &mut dyn Peer, now_ns: u64) -> Vec<u8> {
    std::iter::from_fn(|| peer.give(now_ns).map(|Frame { bytes, .. }| bytes[0])).collect()
}

/// Records a capture of frames 1 to 3, at 0, 100 and 350 ns.
fn recorded() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut recorder = Recorder::new(file.path()).expect("it can be written");
    for (number, now_ns) in [(1, 5000), (2, 5100), (3, 5350)] {
        recorder.take(&[number; 60], now_ns);
    }
    file
}

#[test]
fn a_capture_is_played_with_its_times_or_as_fast_as_the_wire() {
    let file = recorded();
    let mut player = Player::new(file.path(), true, false, None).expect("a capture");
    assert_eq!(frames(&mut player, 1_000), [1]);
    assert_eq!(player.due_ns(), Some(1_100));
    assert_eq!(frames(&mut player, 1_099), []);
    assert_eq!(frames(&mut player, 1_350), [2, 3]);
    assert_eq!(player.due_ns(), None);
    let mut player = Player::new(file.path(), false, false, None).expect("a capture");
    assert_eq!(frames(&mut player, 7), [1, 2, 3]);
    let mut player = Player::new(file.path(), true, true, None).expect("a capture");
    assert_eq!(frames(&mut player, 0), [1]);
    assert_eq!(frames(&mut player, 350), [2, 3]);
    assert_eq!(player.due_ns(), Some(1350));
    // A round takes 350 ns, and the gap between rounds is 1 us.
    assert_eq!(frames(&mut player, 2700), [1, 2, 3, 1]);
}

#[test]
fn both_directions_are_captured_in_the_format_of_libpcap() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut peer = Capture::new(Box::new(Loopback::new(8)), file.path()).expect("it can be written");
    peer.take(&[7; 64], 1_000_000_001);
    assert_eq!(frames(&mut peer, 1_000_000_500), [7]);
    drop(peer);
    let bytes = std::fs::read(file.path()).expect("it is there");
    assert_eq!(bytes.len(), 24 + 2 * (16 + 64));
    assert_eq!(bytes[..8], [0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0]);
    assert_eq!(bytes[20..24], [1, 0, 0, 0], "Ethernet");
    assert_eq!(bytes[24 + 8..24 + 16], [64, 0, 0, 0, 64, 0, 0, 0]);
    let ns = |at: usize| {
        u64::from(word(&bytes, at, false)) * 1_000_000_000 + u64::from(word(&bytes, at + 4, false))
    };
    assert_eq!(ns(24 + 80) - ns(24), 499);
}

#[test]
fn unrecorded_frames_are_counted() {
    let file = recorded();
    let mut player = Player::new(file.path(), false, false, None).expect("a capture");
    player.take(&[1; 60], 0);
    assert_eq!(player.losses().read(), Losses { ignored: 1, ..Losses::default() });
    // A pipe without a reader takes no bytes.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer));
    let recorder = Recorder::new(Path::new(&path)).expect("it can be written");
    let mut player = Player::new(file.path(), false, false, Some(recorder)).expect("a capture");
    let losses = player.losses();
    drop(reader);
    // Frames are buffered before they are written.
    player.take(&[1; 60], 0);
    assert_eq!(losses.read(), Losses::default());
    (0..1000).for_each(|_| player.take(&[2; 60], 0));
    let before = losses.read();
    player.take(&[3; 60], 0);
    assert_eq!(losses.read(), Losses { refused: before.refused + 1, ..Losses::default() });
    assert!(before.refused > 0);
    // The peer behind a capture goes on without it.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer));
    let mut peer = Capture::new(Box::new(Loopback::new(1)), Path::new(&path)).expect("it can be written");
    drop(reader);
    (0..1000).for_each(|_| peer.take(&[2; 60], 0));
    assert_eq!(peer.losses().read(), Losses { peer_full: 999, ..Losses::default() });
}

#[test]
fn foreign_captures_are_read_and_invalid_ones_are_refused() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let capture = |magic: u32, link: u32, kept: u32| -> Vec<u8> {
        let words = [magic, 0x0002_0004, 0, 0, 65535, link, 10, 5, kept, 60];
        words.iter().flat_map(|word| word.to_be_bytes()).chain([9; 60]).collect()
    };
    // Big-endian, microseconds, two frames 3 us apart.
    let mut bytes = capture(MAGIC_US, 1, 60);
    bytes.extend([10u32, 8, 60, 60].iter().flat_map(|word| word.to_be_bytes()).chain([8; 60]));
    std::fs::write(file.path(), &bytes).expect("it can be written");
    let mut player = Player::new(file.path(), true, false, None).expect("a capture");
    assert_eq!(frames(&mut player, 0), [9]);
    assert_eq!(player.due_ns(), Some(3000));
    for (bytes, message) in [
        (vec![0; 10], "it is too short for a capture"),
        (vec![0; 100], "it is not a capture in libpcap's format"),
        (capture(MAGIC_NS, 113, 60), "its link type is 113, and Ethernet is 1"),
        (capture(MAGIC_NS, 1, 300_000), "it has a frame of 300000 bytes"),
        (capture(MAGIC_NS, 1, 61), "it ends within a frame"),
    ] {
        std::fs::write(file.path(), bytes).expect("it can be written");
        let error = Player::new(file.path(), true, false, None).err().expect(message).to_string();
        assert!(error.starts_with(message), "{error}");
    }
}
