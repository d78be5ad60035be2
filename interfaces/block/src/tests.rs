//! Heads decode to the values that were encoded, and any bits decode to some head.

use super::*;

const ERRORS: [BlockError; 12] = [
    BlockError::LbaOutOfRange { lba: u64::MAX, blocks: u32::MAX, capacity: 1 << 40 },
    BlockError::TooLarge { blocks: 257, most: 256 },
    BlockError::BufferTooSmall { bytes: 8192, capacity: 512 },
    BlockError::NotSupported { operation: 200 },
    BlockError::QueueFull { depth: 32 },
    BlockError::Media { lba: 77, status: 0x281 },
    BlockError::WriteProtected { lba: 3 },
    BlockError::DeviceFault { status: 6 },
    BlockError::TimedOut { after_ns: u64::MAX },
    BlockError::Aborted { status: 7 },
    BlockError::Gone { waited_ns: 5_000_000_000 },
    BlockError::Unknown { code: 9999 },
];

const INFO: BlockInfo = BlockInfo {
    block_bytes: 512,
    blocks: 100,
    max_transfer_blocks: 8,
    max_range_blocks: 64,
    queue_depth: 4,
    queues: 1,
    volatile_write_cache: true,
    operations: Operations::NONE
        .with(Operation::Read)
        .with(Operation::Write)
        .with(Operation::Flush)
        .with(Operation::WriteZeroes),
    identity: Identity { model: Text::EMPTY, serial: Text::EMPTY, namespace: 1, unique: [0; 16] },
};

#[test]
fn every_result_decodes_as_it_was_encoded() {
    let mut head = RequestHead::new(Operation::Write, 5, 6).with_tag(7).with_fua();
    assert_eq!((head.status(), head.is_pending()), (Status::Pending, true));
    for error in ERRORS {
        head.answer(Err(error));
        assert_eq!((head.status(), head.result()), (Status::Failed(error), Err(error)));
        assert!(!head.is_pending());
    }
    head.answer(Ok(()));
    assert_eq!((head.status(), head.result()), (Status::Done, Ok(())));
    assert_eq!((head.tag(), head.lba(), head.blocks(), head.is_fua()), (7, 5, 6, true));
    let command = head.command();
    head.set(Operation::Flush, 0, 0);
    head.restore(command);
    assert_eq!((head.tag(), head.lba(), head.blocks(), head.is_fua()), (7, 5, 6, true));
    assert_eq!(head.result(), Err(BlockError::Aborted { status: 0 }));
    // No code of an unknown error reads as pending or as done.
    for code in 0..=u16::MAX {
        head.answer(Err(BlockError::Unknown { code }));
        assert!(matches!(head.status(), Status::Failed(_)), "{code}");
    }
}

#[test]
fn any_bits_are_a_valid_head() {
    let mut bits = 1_u64;
    let mut word = || {
        bits = bits.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        bits ^ bits >> 29
    };
    for status in 0..=u16::MAX {
        let head = RequestHead::from_bits(
            word(),
            word(),
            word() as u32,
            word() as u8,
            word() as u8,
            status,
            [word(), word(), word()],
        );
        let text = std::format!("{head:?} {:?} {:?}", head.result(), head.check(&INFO, word() as usize));
        assert!(!text.is_empty());
        if let Status::Failed(error) = head.status() {
            // Encoding the decoded error gives the same status, except for unused bits.
            let mut again = head;
            again.answer(Err(error));
            assert_eq!(again.status(), head.status());
        }
    }
}

#[test]
fn a_request_is_checked_against_the_disk() {
    let check =
        |operation, lba, blocks, capacity| RequestHead::new(operation, lba, blocks).check(&INFO, capacity);
    use Operation::*;
    assert_eq!(check(Read, 92, 8, 4096), Ok(Read));
    assert_eq!(check(Flush, u64::MAX, u32::MAX, 0), Ok(Flush));
    assert_eq!(check(WriteZeroes, 36, 64, 0), Ok(WriteZeroes));
    let out = |lba, blocks| Err(BlockError::LbaOutOfRange { lba, blocks, capacity: 100 });
    assert_eq!(check(Write, 93, 8, 4096), out(93, 8));
    assert_eq!(check(Read, u64::MAX, 1, 4096), out(u64::MAX, 1));
    assert_eq!(check(WriteZeroes, 99, 2, 0), out(99, 2));
    assert_eq!(check(Read, 0, 9, 8192), Err(BlockError::TooLarge { blocks: 9, most: 8 }));
    assert_eq!(check(Write, 0, 0, 8192), Err(BlockError::TooLarge { blocks: 0, most: 8 }));
    assert_eq!(check(Read, 0, 2, 1023), Err(BlockError::BufferTooSmall { bytes: 1024, capacity: 1023 }));
    assert_eq!(check(Deallocate, 0, 1, 0), Err(BlockError::NotSupported { operation: 4 }));
}

#[test]
fn operations_are_found_by_their_numbers() {
    for operation in Operation::ALL {
        assert_eq!(Operation::from_number(operation as u8), Some(operation));
        assert!(Operations::NONE.with(operation).contains(operation));
        assert!(!Operations::NONE.contains(operation));
    }
    assert_eq!(Operation::from_number(5), None);
}
