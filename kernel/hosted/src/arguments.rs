//! The command line.

use std::path::PathBuf;

use clap::Parser;
use coppice_kernel::machine::CPU_LIMIT;

use device_models::DeviceOption;

/// Runs a Coppice system inside this process.
///
/// Exit status: 0 when the system ends in success, 1 when it does not, 2 for a command line or an archive
/// that cannot be used, 70 when the kernel itself panics.
#[derive(Parser)]
#[command(name = "coppice-hosted")]
pub(crate) struct Arguments {
    /// Boot archive: a tar file with the manifest and the images; `cargo xtask` makes it
    #[arg(long, value_name = "FILE")]
    pub(crate) archive: PathBuf,
    /// Number of CPUs, each a host thread
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=CPU_LIMIT as i64))]
    pub(crate) cpus: u16,
    /// Physical memory; K, M and G are powers of 1024
    #[arg(long, default_value = "256M", value_parser = bytes, value_name = "SIZE")]
    pub(crate) memory: usize,
    /// A device: the name of a model, and its options as `name=value`, separated by commas; may be repeated
    #[arg(long = "device", value_name = "MODEL[,NAME=VALUE]")]
    pub(crate) devices: Vec<DeviceOption>,
    /// Options for the kernel and for domains, as `name=value` words
    #[arg(long, default_value = "", value_name = "WORDS")]
    pub(crate) cmdline: String,
}

pub(crate) fn parse() -> Arguments {
    Arguments::parse()
}

/// Minimum memory for a kernel to start.
const LEAST: usize = 4 << 20;
/// Maximum memory: more than any host of today has, so a larger number is a typing error.
const MOST: usize = 1 << 44;

fn bytes(text: &str) -> Result<usize, String> {
    let (digits, shift) = match text.trim_end_matches("iB").trim_end_matches('B') {
        text if text.ends_with(['K', 'k']) => (&text[..text.len() - 1], 10),
        text if text.ends_with(['M', 'm']) => (&text[..text.len() - 1], 20),
        text if text.ends_with(['G', 'g']) => (&text[..text.len() - 1], 30),
        text => (text, 0),
    };
    let number: usize = digits.trim().parse().map_err(|_| format!("`{text}` is not a size like 256M"))?;
    let bytes = number.checked_shl(shift).filter(|bytes| bytes >> shift == number).unwrap_or(usize::MAX);
    match bytes {
        ..LEAST => Err(format!("{bytes} bytes are too little: the kernel needs {LEAST}")),
        LEAST..=MOST => Ok(bytes),
        _ => Err(format!("`{text}` is more memory than any host has")),
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(bytes("64M"), Ok(64 << 20));
        assert_eq!(bytes("2G"), Ok(2 << 30));
        assert_eq!(bytes("8192 K"), Ok(8 << 20));
        assert_eq!(bytes("512MiB"), Ok(512 << 20));
        assert_eq!(bytes("16777216"), Ok(16 << 20));
    }

    #[test]
    fn malformed_and_absurd_sizes_are_refused() {
        for text in ["", "M", "12X", "1K", "-5M", "99999999999999999999G", "17179869184G"] {
            assert!(bytes(text).is_err(), "{text} was accepted");
        }
    }
}
