use alloc::vec::Vec;

use super::*;

const FILES: [(&str, &[u8]); 3] = [("manifest", b"wires"), ("images/echo", &[7; 700]), ("symbols/echo", b"")];

fn key() -> SigningKey {
    SigningKey::parse(&"5a".repeat(32)).expect("64 digits")
}

fn seal(verdict: Option<Verdict>) -> Seal {
    let mut seal = Seal::default();
    for (name, content) in FILES {
        seal.add(name, content, verdict.filter(|_| name.starts_with(IMAGES)));
    }
    seal
}

/// Opens `bytes` with the key of [`key`] and checks `files` against it.
fn verify(bytes: &[u8], files: &[(&str, &[u8])]) -> Result<(), SealError> {
    let seal = Seal::open(bytes, key().public())?;
    seal.check(files.iter().copied())?;
    seal.check_verdicts()
}

#[test]
fn a_sealed_archive_is_accepted() {
    let bytes = seal(Some(Verdict::Passed)).sign(&key());
    let mut files = FILES.to_vec();
    files.push((ENTRY, &bytes));
    assert_eq!(verify(&bytes, &files), Ok(()));
}

#[test]
fn every_change_of_a_seal_is_refused() {
    let bytes = seal(Some(Verdict::Passed)).sign(&key());
    for position in 0..bytes.len() {
        for bit in [1, 0x80] {
            let mut changed = bytes.clone();
            changed[position] ^= bit;
            assert!(Seal::open(&changed, key().public()).is_err(), "byte {position} was changed");
        }
    }
}

#[test]
fn every_truncation_and_extension_is_refused() {
    let bytes = seal(Some(Verdict::Passed)).sign(&key());
    for len in 0..bytes.len() {
        assert!(Seal::open(&bytes[..len], key().public()).is_err(), "{len} of {} bytes", bytes.len());
    }
    assert_eq!(Seal::open(&[], key().public()), Err(SealError::Truncated));
    let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
    assert_eq!(Seal::open(&longer, key().public()), Err(SealError::Signature));
}

#[test]
fn a_seal_of_another_key_is_refused() {
    let (other, seed) = SigningKey::generate();
    assert_eq!(SigningKey::parse(&seed).map(|key| key.public()), Ok(other.public()));
    let bytes = seal(Some(Verdict::Passed)).sign(&other);
    let (found, trusted) = (other.public(), key().public());
    assert_eq!(Seal::open(&bytes, trusted), Err(SealError::OtherKey { found, trusted }));
    // Also if the archive claims to be signed with the trusted key.
    let mut claimed = bytes;
    claimed[..32].copy_from_slice(&trusted.0);
    assert_eq!(Seal::open(&claimed, trusted), Err(SealError::Signature));
}

#[test]
fn signed_bytes_that_are_no_seal_are_refused() {
    let key = key();
    for body in [&[][..], &[0xff; 20]] {
        let signature = key.sign(&message(body));
        let bytes = [&key.public().0[..], &signature, body].concat();
        assert_eq!(Seal::open(&bytes, key.public()), Err(SealError::Malformed));
    }
    // A signature of the same bytes for another purpose.
    let body = postcard::to_allocvec(&Seal::default()).expect("a vector grows as needed");
    let bytes = [&key.public().0[..], &key.sign(&body), &body].concat();
    assert_eq!(Seal::open(&bytes, key.public()), Err(SealError::Signature));
}

#[test]
fn changed_added_and_removed_entries_are_refused() {
    let bytes = seal(Some(Verdict::Passed)).sign(&key());
    let entry = String::from;
    let mut files = FILES;
    files[1].1 = &[8; 700];
    assert_eq!(verify(&bytes, &files), Err(SealError::Changed { entry: entry("images/echo") }));
    let more = [&FILES[..], &[("images/other", b"")]].concat();
    assert_eq!(verify(&bytes, &more), Err(SealError::Unlisted { entry: entry("images/other") }));
    assert_eq!(verify(&bytes, &FILES[..2]), Err(SealError::Missing { entries: 1 }));
    // The content of one sealed entry under the name of another.
    files[1].1 = FILES[0].1;
    assert_eq!(verify(&bytes, &files), Err(SealError::Changed { entry: entry("images/echo") }));
}

#[test]
fn an_image_needs_a_verdict_without_findings() {
    let refusal = |verdict| verify(&seal(verdict).sign(&key()), &FILES).expect_err("it has not passed");
    let image = || String::from("echo");
    assert_eq!(refusal(None), SealError::Unaudited { image: image(), findings: None });
    let failed = Some(Verdict::Failed { findings: 3 });
    assert_eq!(refusal(failed), SealError::Unaudited { image: image(), findings: Some(3) });
}

#[test]
fn a_key_is_parsed_from_its_text() {
    let public = key().public();
    assert_eq!(PublicKey::parse(&alloc::format!("{public}")), Ok(public));
    assert_eq!(PublicKey::parse("12"), Err(KeyError::Length(2)));
    assert_eq!(PublicKey::parse(&"g".repeat(64)), Err(KeyError::Digit(0)));
    assert_eq!(PublicKey::parse(&"ä".repeat(32)), Err(KeyError::Digit(0)));
}
