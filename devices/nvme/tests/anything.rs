//! Arbitrary register writes and commands: the device neither panics nor accesses memory outside of the pages
//! in its commands, and a reset makes it usable again.

mod rig;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use device_bus::{DmaError, Host, Model, TestHost};
use nvme_model::{Nvme, NvmeConfig};
use proptest::prelude::*;
use rig::{PAGE, Pair, Rig, Sqe};

/// A test host that records accesses outside of the permitted range.
struct Fenced {
    inner: Arc<TestHost>,
    permitted: (u64, u64),
    violations: Mutex<Vec<(u64, usize)>>,
}

impl Fenced {
    fn check(&self, address: u64, bytes: usize) -> Result<(), DmaError> {
        let (first, end) = self.permitted;
        if address >= first && address.checked_add(bytes as u64).is_some_and(|last| last <= end) {
            return Ok(());
        }
        self.violations.lock().expect("no thread panics with the lock held").push((address, bytes));
        Err(DmaError::Unreachable { address, bytes: bytes as u64 })
    }
}

impl Host for Fenced {
    fn read_memory(&self, address: u64, into: &mut [u8]) -> Result<(), DmaError> {
        self.check(address, into.len())?;
        self.inner.read_memory(address, into)
    }

    fn write_memory(&self, address: u64, from: &[u8]) -> Result<(), DmaError> {
        self.check(address, from.len())?;
        self.inner.write_memory(address, from)
    }

    fn raise(&self, vector: u16) {
        self.inner.raise(vector);
    }
}

/// A number that is often small, often an edge case, and sometimes arbitrary.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        0..4_u32,
        0..300_u32,
        Just(u32::MAX),
        Just(1 << 31),
        (0..32_u32).prop_map(|bit| 1 << bit),
        any::<u32>()
    ]
}

/// A command with data pointers to pages below `pages`, at offsets that may be invalid.
fn command(pages: u64) -> impl Strategy<Value = ([u32; 16], (u64, u64))> {
    let opcode = prop_oneof![0..13_u32, Just(0x80), any::<u8>().prop_map(u32::from)];
    let offset = prop_oneof![Just(0_u64), 0..4096_u64, (0..512_u64).prop_map(|words| words * 8)];
    let pointer = (0..pages, offset).prop_map(|(page, offset)| page * PAGE + offset);
    let pointers = (pointer.clone(), pointer);
    let numbers = prop::array::uniform6(number());
    (opcode, prop_oneof![Just(1_u32), number()], pointers, numbers).prop_map(
        |(opcode, nsid, pointers, numbers)| {
            let mut words = [0; 16];
            words[0] = opcode;
            words[1] = nsid;
            words[10..].copy_from_slice(&numbers);
            (words, pointers)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_reset_revives_the_device_after_any_register_writes(
        writes in prop::collection::vec((0..0x1100_u64, 0..4_u32, any::<u64>()), 1..200),
        seed in any::<u64>(),
    ) {
        let mut rig = Rig::off(&format!("seed={seed},ready=1us"));
        for (offset, size, value) in writes {
            // Half of the writes go to the dense part of the registers.
            let offset = if offset % 2 == 0 { offset % 0x40 } else { offset };
            rig.nvme.write(0, offset & !3, 1 << size, value);
            rig.nvme.read(0, offset, 1 << size);
        }
        rig.nvme.reset();
        rig.nvme.set_bus_master(true);
        rig.restart();
        let mut pair = rig.pair(1, 8);
        prop_assert_eq!(rig.write_block(&mut pair, 1, 3, 0).code, 0);
        prop_assert_eq!(rig.read_block(&mut pair, 1), vec![3; 512]);
    }

    #[test]
    fn any_command_accesses_only_the_pages_that_it_names(
        commands in prop::collection::vec((any::<bool>(), command(24)), 1..40),
        fill in any::<u64>(),
    ) {
        let host = Arc::new(TestHost::new(1 << 20, 16));
        let mut admin = Pair::new(&host, 0, 64);
        let first = admin.submission;
        let mut pair = Pair::new(&host, 1, 64);
        let data = host.allocate(24 * PAGE);
        let end = data + 24 * PAGE;
        // If a part of the data is used as a PRP list, its entries point into the data, mostly to page
        // boundaries.
        let mut random = device_bus::SplitMix64::new(fill);
        for word in 0..24 * PAGE / 8 {
            let offset = if random.below(200) == 0 { random.below(PAGE) } else { 0 };
            let entry = data + random.below(24) * PAGE + offset;
            // Not so near the end that an offset leads beyond it.
            let entry = entry.min(end - PAGE);
            host.poke(data + 8 * word, &entry.to_le_bytes());
        }
        let fenced = Arc::new(Fenced { inner: host.clone(), permitted: (first, end), violations: Mutex::default() });
        let nvme = Nvme::new(NvmeConfig::parse("memory=1M,queues=2,mdts=4").expect("the description is valid")).expect("the device is valid");
        nvme.attach(fenced.clone()).expect("the device has no host");
        nvme.set_bus_master(true);
        nvme.write(0, 0x24, 4, 0x003f_003f);
        nvme.write(0, 0x28, 8, admin.submission);
        nvme.write(0, 0x30, 8, admin.completion);
        nvme.write(0, 0x14, 4, 4 << 20 | 6 << 16 | 1);
        while nvme.read(0, 0x1c, 4) != 1 {
            std::thread::yield_now();
        }
        let put = |pair: &mut Pair, mut words: [u32; 16], id: u32| {
            words[0] = words[0] & 0xffff | id << 16;
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            host.poke(pair.submission + u64::from(pair.tail) * 64, &bytes);
            pair.tail += 1;
            nvme.write(0, 0x1000 + 8 * u64::from(pair.id), 4, u64::from(pair.tail));
        };
        put(&mut admin, Sqe::new(5).prp(pair.completion, 0).d10(63 << 16 | 1).d11(1).0, 1000);
        put(&mut admin, Sqe::new(1).prp(pair.submission, 0).d10(63 << 16 | 1).d11(1 << 16 | 1).0, 1001);
        std::thread::sleep(Duration::from_millis(1));
        for (id, (to_admin, (words, (prp1, prp2)))) in commands.into_iter().enumerate() {
            // A queue may be in any memory, outside of the permitted range, and is accessed as long as it
            // exists.
            let makes_queues = to_admin && matches!(words[0], 1 | 5);
            if makes_queues {
                continue;
            }
            // The data of a first page with an offset ends with the page, so it stays within the range.
            let pointed = Sqe(words).prp(data + prp1, data + prp2).0;
            put(if to_admin { &mut admin } else { &mut pair }, pointed, id as u32);
        }
        std::thread::sleep(Duration::from_millis(2));
        nvme.reset();
        let violations = fenced.violations.lock().expect("no thread has panicked with the lock held").clone();
        prop_assert!(violations.is_empty(), "{violations:x?}");
    }
}
