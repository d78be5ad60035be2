//! The console: stdout, and a host thread that reads stdin.

use std::collections::VecDeque;
use std::io::{Read, stdin};
use std::sync::Mutex;

use crate::{cpus, signals};

static TYPED: Mutex<VecDeque<u8>> = Mutex::new(VecDeque::new());

/// Writes all of `bytes`. Not through `std::io::stdout`: its lock must not be taken by code that a kernel
/// thread runs.
pub(crate) fn write(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: the slice is readable.
        let written = unsafe { libc::write(libc::STDOUT_FILENO, bytes.as_ptr().cast(), bytes.len()) };
        match usize::try_from(written) {
            Ok(written) => bytes = &bytes[written..],
            Err(_) if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {}
            // The reader has gone, and the error cannot be reported anywhere.
            Err(_) => return,
        }
    }
}

/// Takes a typed byte.
pub(crate) fn read() -> Option<u8> {
    // The reader holds the lock only briefly, and is never interrupted while it does: signals go to CPUs.
    TYPED.lock().ok()?.pop_front()
}

/// Starts the reader thread, which ends at the end of stdin.
pub(crate) fn start_reader() {
    std::thread::spawn(|| {
        signals::disable();
        let mut buffer = [0; 256];
        while let Ok(count) = stdin().read(&mut buffer) {
            if count == 0 {
                break;
            }
            if let Ok(mut typed) = TYPED.lock() {
                typed.extend(&buffer[..count]);
            }
            cpus::interrupt(0, signals::Reason::Console);
        }
    });
}
