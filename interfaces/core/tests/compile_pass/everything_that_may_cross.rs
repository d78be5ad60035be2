//! An interface with every kind of argument and result that may cross, and a domain's implementation of it.

#![forbid(unsafe_code)]

use std::sync::Mutex;

use coppice_example_interfaces::Counter;
use coppice_interfaces::{Handle, Imports, Interface, RpcResult, Text, interface};
use coppice_rref::{AnyBits, Bytes, Flat, Lent, Loan, RRef, RRefArray, RRefDeque, Shareable};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat, AnyBits)]
pub struct Lba(u64);

#[derive(Debug, Shareable, Flat)]
pub enum Never {}

#[derive(Debug, Shareable)]
pub enum SubmitError {
    OutOfRange { lba: Lba, buffer: RRef<Bytes<512>> },
    Busy,
}

#[derive(Shareable)]
pub struct Request<T: Shareable> {
    at: Lba,
    flags: (bool, Option<u8>),
    payload: T,
    parts: [Option<RRef<u64>>; 2],
}

#[interface]
pub trait Everything {
    /// No argument.
    fn nothing(&self) -> RpcResult<()>;
    /// Plain data, with names that the proxy's code might use.
    fn plain(&self, target: u64, borrows: char, frame: Text<8>, core: [u16; 3]) -> RpcResult<(i8, f64)>;
    /// Moved.
    fn moved(&self, request: RRef<Request<u32>>) -> RpcResult<Result<RRef<u64>, SubmitError>>;
    /// By value, with references inside.
    fn by_value(&self, request: Request<RRef<u64>>) -> RpcResult<Option<RRef<Bytes<512>>>>;
    /// Borrowed, two of them, and one moved.
    fn borrowed(&self, a: &RRef<u64>, b: RRef<u64>, c: &RRef<RRefDeque<u64, 4>>) -> RpcResult<u64>;
    /// Containers.
    fn containers(&self, array: RRef<RRefArray<u64, 3>>) -> RpcResult<RRef<RRefDeque<u64, 4>>>;
    /// Lent.
    fn lent(&self, buffer: Lent<Bytes<512>>) -> RpcResult<()>;
    /// Interface objects, one of them of this interface.
    fn objects(&self, counter: Handle<dyn Counter>) -> RpcResult<Option<Handle<dyn Everything>>>;
    /// The callee cannot return an error.
    fn never(&self) -> RpcResult<Result<(), Never>>;
}

#[derive(Imports)]
pub struct Wires {
    pub everything: Handle<dyn Everything>,
    pub counter: Handle<dyn Counter>,
}

#[derive(Default)]
pub struct Service {
    kept: Mutex<Vec<RRef<u64>>>,
    lent: Mutex<Option<Lent<Bytes<512>>>>,
}

impl Everything for Service {
    fn nothing(&self) -> RpcResult<()> {
        Ok(())
    }
    fn plain(&self, _: u64, _: char, _: Text<8>, _: [u16; 3]) -> RpcResult<(i8, f64)> {
        Ok((1, 1.0))
    }
    fn moved(&self, mut request: RRef<Request<u32>>) -> RpcResult<Result<RRef<u64>, SubmitError>> {
        if request.at == Lba(0) {
            return Ok(Err(SubmitError::Busy));
        }
        Ok(request.update(|request| request.parts[0].take()).ok_or(SubmitError::Busy))
    }
    fn by_value(&self, request: Request<RRef<u64>>) -> RpcResult<Option<RRef<Bytes<512>>>> {
        let Request { payload, parts, .. } = request;
        self.kept.lock().unwrap().extend(parts.into_iter().flatten().chain([payload]));
        Ok(None)
    }
    fn borrowed(&self, a: &RRef<u64>, b: RRef<u64>, c: &RRef<RRefDeque<u64, 4>>) -> RpcResult<u64> {
        Ok(**a + *b + c.iter().map(|number| **number).sum::<u64>())
    }
    fn containers(&self, mut array: RRef<RRefArray<u64, 3>>) -> RpcResult<RRef<RRefDeque<u64, 4>>> {
        let mut deque = RRef::new(RRefDeque::new());
        if let Some(number) = array.take(0) {
            let _ = deque.push_back(number);
        }
        Ok(deque)
    }
    fn lent(&self, mut buffer: Lent<Bytes<512>>) -> RpcResult<()> {
        buffer.fill(0);
        *self.lent.lock().unwrap() = Some(buffer);
        Ok(())
    }
    fn objects(&self, counter: Handle<dyn Counter>) -> RpcResult<Option<Handle<dyn Everything>>> {
        counter.next()?;
        Ok(Some(<dyn Everything>::export(Service::default())))
    }
    fn never(&self) -> RpcResult<Result<(), Never>> {
        Ok(Ok(()))
    }
}

pub fn client(wires: &Wires, number: RRef<u64>) -> RpcResult<Option<Loan<Bytes<512>>>> {
    let deque = RRef::new(RRefDeque::new());
    wires.everything.borrowed(&number, RRef::new(1), &deque)?;
    let (loan, lent) = Bytes::new_shared().lend();
    wires.everything.lent(lent)?;
    Ok(Some(loan))
}

fn main() {
    assert_eq!(<dyn Everything as Interface>::NAME, "Everything");
    assert_ne!(<dyn Everything as Interface>::FINGERPRINT, <dyn Counter as Interface>::FINGERPRINT);
}
