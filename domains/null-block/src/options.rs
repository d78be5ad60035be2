//! The manifest's words.

use core::time::Duration;

use coppice_interfaces::Text;
use coppice_interfaces::block::{BlockInfo, Identity, Operation, Operations};
use coppice_runtime::Environment;

/// How large the disk is.
pub(crate) struct Options {
    /// Bytes that it keeps; `None` if it keeps nothing.
    pub(crate) memory: Option<u64>,
    pub(crate) blocks: u64,
    pub(crate) block_bytes: u32,
    /// Blocks of the record.
    pub(crate) record: u64,
}

/// How a driver without a device behaves, for trying those who deal with it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Habits {
    /// Keeps up to so many requests.
    pub(crate) hold: usize,
    /// Answers no sooner.
    pub(crate) delay: Duration,
    pub(crate) reorder: bool,
    /// Does not answer each one of so many.
    pub(crate) unanswered: Option<u64>,
    pub(crate) frail: Option<Frail>,
    pub(crate) moody: bool,
    pub(crate) generation: u32,
}

/// What three of four lives end of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Frail {
    Info,
    Open,
    Exchange,
}

impl Options {
    pub(crate) fn of(environment: &Environment<'_>) -> Self {
        let bytes_of =
            |name| environment.option(name).map(|text| bytes(text).expect("a size such as 64M is wanted"));
        let number = |name, otherwise: u64| {
            environment.option(name).map_or(otherwise, |text| text.parse().expect("a number is wanted"))
        };
        let memory = bytes_of("memory");
        let block_bytes = number("block", 512) as u32;
        assert!(
            block_bytes.is_power_of_two() && block_bytes >= 512,
            "option block: 512, 1024, ... is wanted"
        );
        let blocks = memory.map_or(number("blocks", 1 << 31), |bytes| bytes / u64::from(block_bytes));
        let record = number("record", 0);
        assert!(record < blocks, "option record: fewer blocks than the disk has are wanted");
        Self { memory, blocks, block_bytes, record }
    }

    /// What a disk with these says of itself.
    pub(crate) fn info(&self) -> BlockInfo {
        let operations = Operation::ALL.into_iter().fold(Operations::NONE, Operations::with);
        let model = if self.memory.is_some() { "Coppice memory disk" } else { "Coppice null disk" };
        BlockInfo {
            block_bytes: self.block_bytes,
            blocks: self.blocks,
            max_transfer_blocks: (1 << 20) / self.block_bytes,
            max_range_blocks: 1 << 16,
            queue_depth: 1024,
            queues: 64,
            volatile_write_cache: true,
            operations,
            identity: Identity {
                model: Text::new(model),
                serial: Text::new("0"),
                namespace: 1,
                unique: [0; 16],
            },
        }
    }
}

impl Habits {
    /// As the manifest says.
    ///
    /// # Panics
    /// When it says what means nothing.
    pub fn of(environment: &Environment<'_>) -> Self {
        let number = |name| environment.option(name).map(|text| text.parse().expect("a number is wanted"));
        let delay =
            environment.option("delay").map(|text| duration(text).expect("a time such as 20us is wanted"));
        let frail = environment.args().contains(&"frail");
        let frail = [None, Some(Frail::Info), Some(Frail::Open), Some(Frail::Exchange)]
            [environment.generation() as usize % 4]
            .filter(|_| frail);
        Self {
            hold: number("hold").unwrap_or(0) as usize,
            delay: delay.unwrap_or_default(),
            reorder: environment.args().contains(&"reorder"),
            unanswered: number("unanswered").filter(|&every| every > 0),
            frail,
            moody: environment.args().contains(&"moody"),
            generation: environment.generation(),
        }
    }

    /// Whether answers may be late.
    pub(crate) fn is_late(&self) -> bool {
        self.hold > 0 || !self.delay.is_zero() || self.reorder
    }
}

/// A whole number, of what its last letter says.
fn bytes(text: &str) -> Option<u64> {
    let (number, factor) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 1 << 10),
        b'M' => (&text[..text.len() - 1], 1 << 20),
        b'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// A whole number with its unit.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let number = text[..digits].parse().ok()?;
    match &text[digits..] {
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_units() {
        assert_eq!(
            [bytes("512"), bytes("4K"), bytes("64M"), bytes("2G")],
            [512, 4096, 64 << 20, 2 << 30].map(Some)
        );
        assert_eq!(
            ["", "K", "-1", "1T", "99999999999999999999", "18446744073709551615K"].map(bytes),
            [None; 6]
        );
        assert_eq!(
            (duration("20us"), duration("3ms")),
            (Some(Duration::from_micros(20)), Some(Duration::from_millis(3)))
        );
        assert_eq!(["", "5", "us", "1h"].map(duration), [None; 4]);
    }
}
