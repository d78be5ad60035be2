//! Whatever a driver writes, the device neither panics nor touches memory that it was not pointed at, and a reset makes
//! it usable again.

mod rig;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use device_bus::{Bench, DmaError, Host, Model};
use nvme_model::{Nvme, NvmeConfig};
use proptest::prelude::*;
use rig::{PAGE, Pair, Rig, Sqe};

/// A bench that notes accesses outside of the pages that were given to the device.
struct Fenced {
    bench: Arc<Bench>,
    permitted: (u64, u64),
    trespasses: Mutex<Vec<(u64, usize)>>,
}

impl Fenced {
    fn check(&self, address: u64, bytes: usize) -> Result<(), DmaError> {
        let (first, end) = self.permitted;
        if address >= first && address.checked_add(bytes as u64).is_some_and(|last| last <= end) {
            return Ok(());
        }
        self.trespasses.lock().expect("nobody panics with it").push((address, bytes));
        Err(DmaError::Unreachable { address, bytes: bytes as u64 })
    }
}

impl Host for Fenced {
    fn read_memory(&self, address: u64, into: &mut [u8]) -> Result<(), DmaError> {
        self.check(address, into.len())?;
        self.bench.read_memory(address, into)
    }

    fn write_memory(&self, address: u64, from: &[u8]) -> Result<(), DmaError> {
        self.check(address, from.len())?;
        self.bench.write_memory(address, from)
    }

    fn raise(&self, vector: u16) {
        self.bench.raise(vector);
    }
}

/// A number that is often small, often at an edge, and sometimes anything.
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

/// A command whose data pointers name pages below `pages`, at offsets that may break the rules.
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
    fn any_register_write_leaves_a_device_that_a_reset_revives(
        writes in prop::collection::vec((0..0x1100_u64, 0..4_u32, any::<u64>()), 1..200),
        seed in any::<u64>(),
    ) {
        let mut rig = Rig::off(&format!("seed={seed},ready=1us"));
        for (offset, size, value) in writes {
            // Half of them where registers are dense.
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
    fn any_command_stays_within_the_pages_that_it_names(
        commands in prop::collection::vec((any::<bool>(), command(24)), 1..40),
        fill in any::<u64>(),
    ) {
        let bench = Arc::new(Bench::new(1 << 20, 16));
        let mut admin = Pair::new(&bench, 0, 64);
        let first = admin.submission;
        let mut pair = Pair::new(&bench, 1, 64);
        let data = bench.allocate(24 * PAGE);
        let end = data + 24 * PAGE;
        // Whatever of it is taken for a list points back into the data, mostly to beginnings of pages.
        let mut chance = device_bus::Chance::new(fill);
        for word in 0..24 * PAGE / 8 {
            let offset = if chance.below(200) == 0 { chance.below(PAGE) } else { 0 };
            let entry = data + chance.below(24) * PAGE + offset;
            // Never so near the end that an offset leads beyond it.
            let entry = entry.min(end - PAGE);
            bench.poke(data + 8 * word, &entry.to_le_bytes());
        }
        let fenced = Arc::new(Fenced { bench: bench.clone(), permitted: (first, end), trespasses: Mutex::default() });
        let nvme = Nvme::new(NvmeConfig::parse("memory=1M,queues=2,mdts=4").expect("a text")).expect("sound");
        nvme.attach(fenced.clone()).expect("new");
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
            bench.poke(pair.submission + u64::from(pair.tail) * 64, &bytes);
            pair.tail += 1;
            nvme.write(0, 0x1000 + 8 * u64::from(pair.id), 4, u64::from(pair.tail));
        };
        put(&mut admin, Sqe::new(5).prp(pair.completion, 0).d10(63 << 16 | 1).d11(1).0, 1000);
        put(&mut admin, Sqe::new(1).prp(pair.submission, 0).d10(63 << 16 | 1).d11(1 << 16 | 1).0, 1001);
        std::thread::sleep(Duration::from_millis(1));
        for (id, (to_admin, (words, (prp1, prp2)))) in commands.into_iter().enumerate() {
            // A queue's memory is the driver's to choose, and would be written for as long as it exists.
            let makes_queues = to_admin && matches!(words[0], 1 | 5);
            if makes_queues {
                continue;
            }
            // A first page with an offset ends with its page, so it cannot lead out.
            let pointed = Sqe(words).prp(data + prp1, data + prp2).0;
            put(if to_admin { &mut admin } else { &mut pair }, pointed, id as u32);
        }
        std::thread::sleep(Duration::from_millis(2));
        nvme.reset();
        let trespasses = fenced.trespasses.lock().expect("nobody panicked").clone();
        prop_assert!(trespasses.is_empty(), "{trespasses:x?}");
    }
}
