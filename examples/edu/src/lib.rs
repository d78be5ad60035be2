//! The domain of QEMU's educational device (`edu`). On request it also behaves as a faulty driver, for tests
//! of the kernel's checks ([`Misuse`]).

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod misuse;

use alloc::vec::Vec;

use coppice_example_interfaces::{Engine, EngineInfo, Message, Misuse};
use coppice_hardware::{Device, DmaMemory};
use coppice_interfaces::{Handle, RpcResult};
use coppice_rref::RRef;
use coppice_runtime::sync::Mutex;
use coppice_runtime::{Domain, Environment, StartError};
use edu_driver::{BUFFER_BYTES, Edu};

/// The domain.
pub struct EduDomain;

/// The time in which the device must finish a copy that an earlier instance of this domain began; QEMU's
/// takes 100 ms.
const IDLE_TIMEOUT_NS: u64 = 2_000_000_000;

/// The timeout of each operation of the device.
const TIMEOUT_NS: u64 = 2_000_000_000;

/// The byte with which an instance fills its memory at the start.
const UNTOUCHED: u8 = 0x5a;

/// The number of pages that are watched for copies of an earlier instance.
const WATCHED_PAGES: usize = 32;

impl Domain for EduDomain {
    type Imports = ();
    type Export = Handle<dyn Engine>;

    fn start(environment: &Environment<'_>, (): ()) -> Result<Self::Export, StartError> {
        let device = environment.granted_device(0)?;
        // Allocated before DMA is enabled, so that it probably reuses the memory of the previous instance.
        let watched = (0..WATCHED_PAGES).map(|_| memory(&device)).collect::<Result<_, _>>()?;
        let memory = memory(&device)?;
        let edu = Edu::new(&device, IDLE_TIMEOUT_NS)?;
        let has_other = environment.device(1).is_some();
        let has_same = environment.device(0).is_some();
        let state = State { memory, edu };
        Ok(<dyn Engine>::export(Service { device, watched, has_other, has_same, state: Mutex::new(state) }))
    }
}

/// Allocates a buffer for copies and fills it.
fn memory(device: &Device) -> Result<DmaMemory, StartError> {
    let mut memory = device.dma(BUFFER_BYTES)?;
    memory.write_bytes(0, &[UNTOUCHED; BUFFER_BYTES]);
    Ok(memory)
}

struct Service {
    device: Device,
    watched: Vec<DmaMemory>,
    /// True if the environment yielded a second device, which the manifest does not grant.
    has_other: bool,
    /// True if the environment yielded the first device twice.
    has_same: bool,
    state: Mutex<State>,
}

struct State {
    memory: DmaMemory,
    edu: Edu,
}

impl State {
    /// Waits until no copy is running. Returns false if the deadline passes first.
    fn finish(&self, deadline_ns: u64) -> bool {
        while self.edu.is_copying() {
            if self.edu.wait(deadline_ns).is_err() {
                return false;
            }
        }
        true
    }

    /// Copies the first `len` bytes of the memory to the device. Returns false on failure.
    fn load(&self, len: usize, deadline_ns: u64) -> bool {
        self.finish(deadline_ns) && self.edu.begin_load(&self.memory, len).is_ok() && self.finish(deadline_ns)
    }

    /// Copies the first `len` bytes of the device to the memory. Returns false on failure.
    fn store(&self, len: usize, deadline_ns: u64) -> bool {
        self.finish(deadline_ns)
            && self.edu.begin_store(&self.memory, len).is_ok()
            && self.finish(deadline_ns)
    }
}

impl Service {
    fn deadline(&self) -> u64 {
        self.device.now_ns() + TIMEOUT_NS
    }
}

impl Engine for Service {
    fn info(&self) -> RpcResult<EngineInfo> {
        let state = self.state.lock();
        Ok(EngineInfo {
            address: self.device.info().address,
            identification: state.edu.identification(),
            memory: state.memory.addr(0).to_bits(),
        })
    }

    fn invert(&self, number: u32) -> RpcResult<u32> {
        Ok(self.state.lock().edu.invert(number))
    }

    fn factorial(&self, number: u32) -> RpcResult<Option<u32>> {
        Ok(self.state.lock().edu.factorial(number, self.deadline()).ok())
    }

    fn raise(&self, cause: u32) -> RpcResult<()> {
        // Without the lock: a thread in `wait` holds it.
        let registers = self.device.window(0).unwrap_or_else(|refusal| panic!("{refusal}"));
        Edu::raise_by(&registers, cause);
        Ok(())
    }

    fn wait(&self, deadline_ns: u64) -> RpcResult<Option<u32>> {
        Ok(self.state.lock().edu.wait(deadline_ns).ok())
    }

    fn copy(&self, mut message: RRef<Message>) -> RpcResult<RRef<Message>> {
        let mut state = self.state.lock();
        let len = message.len().min(BUFFER_BYTES);
        let deadline = self.deadline();
        state.memory.write_bytes(0, &message[..len]);
        if !state.load(len, deadline) {
            message.fill(0);
            return Ok(message);
        }
        state.memory.clear();
        if !state.store(len, deadline) {
            message.fill(0);
            return Ok(message);
        }
        let mut bytes = alloc::vec![0; len];
        state.memory.read_bytes(0, &mut bytes);
        message[..len].copy_from_slice(&bytes);
        Ok(message)
    }

    fn fill(&self, byte: u8) -> RpcResult<bool> {
        let mut state = self.state.lock();
        let deadline = self.deadline();
        state.memory.write_bytes(0, &[byte; BUFFER_BYTES]);
        Ok(state.load(BUFFER_BYTES, deadline))
    }

    fn begin(&self) -> RpcResult<bool> {
        let state = self.state.lock();
        Ok(state.edu.begin_store(&state.memory, BUFFER_BYTES).is_ok())
    }

    fn is_overwritten(&self) -> RpcResult<bool> {
        let mut bytes = alloc::vec![0; BUFFER_BYTES];
        let changed = |memory: &DmaMemory| {
            memory.read_bytes(0, &mut bytes);
            bytes.iter().any(|&byte| byte != UNTOUCHED)
        };
        Ok(self.watched.iter().any(changed))
    }

    fn take_and_drop(&self, times: u32, pages: u32) -> RpcResult<Option<u64>> {
        let mut last = None;
        for _ in 0..times {
            last = self.device.dma(pages as usize * 4096).ok().map(|memory| memory.addr(0).to_bits());
        }
        Ok(last)
    }

    fn misuse(&self, how: Misuse) -> RpcResult<bool> {
        Ok(match how {
            Misuse::OtherDevice => !self.has_other,
            Misuse::SameDevice => !self.has_same,
            _ => misuse::is_refused(&self.device, how),
        })
    }
}
