//! The console: stdout, and a host thread that reads stdin.

use std::arch::asm;
use std::collections::VecDeque;
use std::io::{Read, stdin};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use crate::{cpus, signals};

static TYPED: Mutex<VecDeque<u8>> = Mutex::new(VecDeque::new());

/// The descriptor of an output that does not block; or [`MAY_BLOCK`].
static NON_BLOCKING: AtomicI32 = AtomicI32::new(MAY_BLOCK);

const MAY_BLOCK: i32 = -1;

/// Opens stdout once more, if it is a pipe or a terminal, so that writes do not block. Other processes use
/// the same open file as this process's stdout, and expect it to block.
pub(crate) fn init() {
    // SAFETY: all-zero is a value of it.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: writes the status.
    let is_known = unsafe { libc::fstat(libc::STDOUT_FILENO, &raw mut status) } == 0;
    // A file never blocks, and its position belongs to the open file.
    if is_known && matches!(status.st_mode & libc::S_IFMT, libc::S_IFIFO | libc::S_IFCHR) {
        let flags = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
        // SAFETY: the path ends with a zero byte.
        let descriptor = unsafe { libc::open(c"/proc/self/fd/1".as_ptr(), flags) };
        NON_BLOCKING.store(descriptor.max(MAY_BLOCK), Ordering::Relaxed);
    }
}

/// Offers `bytes` to stdout, and returns the number of those that it has taken.
pub(crate) fn write(bytes: &[u8]) -> usize {
    let mut descriptor = NON_BLOCKING.load(Ordering::Relaxed);
    if descriptor == MAY_BLOCK {
        descriptor = libc::STDOUT_FILENO;
        if !is_writable(descriptor) {
            return 0;
        }
    }
    // A pipe that is writable has room for this. A terminal or a socket may block, for the log writer only,
    // which is in no section.
    let bytes = &bytes[..bytes.len().min(libc::PIPE_BUF)];
    // SAFETY: the slice is readable.
    let written = unsafe {
        system_call(libc::SYS_write, descriptor as usize, bytes.as_ptr().expose_provenance(), bytes.len())
    };
    match -written as i32 {
        libc::EINTR | libc::EAGAIN => 0,
        // The reader has gone, and the error cannot be reported anywhere.
        1.. => bytes.len(),
        _ => written as usize,
    }
}

fn is_writable(descriptor: i32) -> bool {
    let mut poll = libc::pollfd { fd: descriptor, events: libc::POLLOUT, revents: 0 };
    // SAFETY: writes the one entry, and does not wait.
    let ready = unsafe { system_call(libc::SYS_poll, (&raw mut poll).expose_provenance(), 1, 0) };
    ready == 1
}

/// Makes a system call, and returns its result or the negated error. Not through the C library, which stores
/// errors in the host thread's memory: the log writer may continue on another CPU, which is another host
/// thread, at any instruction.
///
/// # Safety
/// As for the call.
unsafe fn system_call(number: libc::c_long, a: usize, b: usize, c: usize) -> isize {
    let result;
    // SAFETY: the caller's promise; `syscall` changes rax, rcx, r11 and memory only.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// Writes all of `bytes`, unless stdout takes none for a long time: the last words of a kernel.
pub(crate) fn write_last(mut bytes: &[u8]) {
    const STALL_LIMIT: Duration = Duration::from_secs(10);
    let mut stalled = Instant::now() + STALL_LIMIT;
    while !bytes.is_empty() && Instant::now() < stalled {
        match write(bytes) {
            0 => std::thread::sleep(Duration::from_millis(1)),
            count => {
                bytes = &bytes[count..];
                stalled = Instant::now() + STALL_LIMIT;
            }
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
