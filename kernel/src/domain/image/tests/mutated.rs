//! Valid images with random damage. Seeded, so that a failure can be reproduced; `kernel/fuzz` searches
//! further.

use elf::abi::{PF_W, PF_X, PT_LOAD};

use super::builder::{DYNAMIC_AT, NOTES_AT, PROGRAMS_AT, RELOCATIONS_AT, separate_relro, shared_relro};
use crate::domain::image::Image;
use crate::platform::machine::{PAGE_SIZE, Protection};

const ROUNDS: usize = 60_000;

/// Larger images are parsed but not loaded, to save time.
const LOAD_LIMIT: usize = 64 * PAGE_SIZE;

/// xorshift64* (Vigna 2016): small and deterministic.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// Values next to the limits that the loader checks.
const EDGES: [u64; 20] = [
    0,
    1,
    2,
    4,
    7,
    8,
    24,
    0x38,
    0xfff,
    0x1000,
    0x1001,
    0x2008,
    0x3020,
    0x6000,
    0x3ff_ffff,
    0x400_0000,
    0x7fff_ffff,
    0xffff_ffff,
    u64::MAX - 0xfff,
    u64::MAX,
];

/// Makes one change, usually in a structure that the loader reads.
fn mutate(file: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let structure =
        [(0, 0x40), (PROGRAMS_AT, 0x1c0), (NOTES_AT, 0x180), (RELOCATIONS_AT, 0x48), (DYNAMIC_AT, 0x40)];
    let (start, len) = random.pick(&structure);
    let at = (start + random.below(len)).min(file.len() - 1);
    match random.below(8) {
        0 => file.truncate(1 + random.below(file.len())),
        1 => file[at] ^= 1 << random.below(8),
        2 => file[at] = random.next() as u8,
        3..=5 => {
            let width = random.pick(&[2, 4, 8]);
            let value = random.pick(&EDGES).wrapping_add(random.pick(&[0, 0, 0, 1, u64::MAX]));
            let at = at & !(width - 1);
            for (byte, new) in file[at..].iter_mut().zip(&value.to_le_bytes()[..width]) {
                *byte = *new;
            }
        }
        6 => {
            // A part of another image, at the same offset or a different one.
            let from = random.below(other.len());
            let to = if random.below(2) == 0 { from.min(file.len()) } else { at };
            let len = 1 + random.below(256);
            for (byte, new) in file[to..].iter_mut().zip(&other[from..]).take(len) {
                *byte = *new;
            }
        }
        _ => {
            // Two program headers, relocations or dynamic entries are swapped.
            let (start, size, count) =
                random.pick(&[(PROGRAMS_AT, 56, 8), (RELOCATIONS_AT, 24, 3), (DYNAMIC_AT, 16, 4)]);
            let (a, b) = (start + size * random.below(count), start + size * random.below(count));
            if a != b && a.max(b) + size <= file.len() {
                for i in 0..size {
                    file.swap(a + i, b + i);
                }
            }
        }
    }
}

/// Returns true if a program header is writable and executable. Reads the headers without the loader's code.
fn has_writable_code(file: &[u8]) -> bool {
    let field = |at: usize, len: usize| {
        file[at..at + len].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    };
    let (table, count) = (field(0x20, 8) as usize, field(0x38, 2) as usize);
    (0..count).map(|i| table + i * 56).any(|at| {
        let flags = field(at + 4, 4) as u32;
        field(at, 4) as u32 == PT_LOAD && field(at + 40, 8) > 0 && flags & PF_W != 0 && flags & PF_X != 0
    })
}

/// Checks the properties of an image that the loader accepts.
fn check(file: &[u8], image: &Image<'_>) {
    assert!(!has_writable_code(file));

    let mut covered = 0;
    for region in image.layout() {
        assert_eq!(region.pages.start, covered);
        assert!(!region.pages.is_empty());
        covered = region.pages.end;
    }
    assert_eq!(covered, image.span_pages());
    let entry = image.entry_offset() / PAGE_SIZE;
    let mut code = image.layout().iter().filter(|region| region.protection == Protection::ReadExecute);
    assert!(code.any(|region| region.pages.contains(&entry)));

    let span = image.span_pages() * PAGE_SIZE;
    if span > LOAD_LIMIT {
        return;
    }
    // Guards on both sides. Two bases, so that every relocated word differs.
    let load = |base: usize| {
        let mut memory = vec![0xa5; span + 2 * PAGE_SIZE];
        image.load_into(&mut memory[PAGE_SIZE..PAGE_SIZE + span], base).expect("memory has the image's span");
        let guards = [&memory[..PAGE_SIZE], &memory[PAGE_SIZE + span..]];
        assert!(guards.iter().all(|guard| guard.iter().all(|&byte| byte == 0xa5)));
        memory
    };
    let (low, high) = (load(0x10_0000), load(0x7eff_ffee_0000));
    for region in image.layout() {
        let range = (region.pages.start + 1) * PAGE_SIZE..(region.pages.end + 1) * PAGE_SIZE;
        if matches!(region.protection, Protection::ReadExecute | Protection::None) {
            assert!(low[range.clone()] == high[range], "a relocation changed code");
        }
    }
}

#[test]
fn mutated_images_never_break_the_loader() {
    let seeds = [separate_relro().build(), shared_relro().build()];
    let mut random = Random(0x5eed_c0bb_1ce0_0001);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let (seed, other) = (&seeds[round % 2], &seeds[(round + 1) % 2]);
        let mut file = seed.clone();
        for _ in 0..1 + random.below(4) {
            mutate(&mut file, other, &mut random);
        }
        match Image::parse(&file) {
            Ok(image) => {
                check(&file, &image);
                accepted += 1;
            }
            Err(error) => {
                // Every refusal can be printed.
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    // Otherwise the mutations are too destructive or too mild to test anything.
    assert!(accepted > ROUNDS / 20 && refused > ROUNDS / 20, "{accepted} accepted, {refused} refused");
}
