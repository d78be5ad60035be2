//! The cost of a request to a block device: to a driver that does nothing, and through the shadow in front of
//! it.

use alloc::vec::Vec;

use coppice_bench_harness::{Budget, Samples};
use coppice_block::{Batch, BlockDevice, BlockQueue, Operation, Request, RequestHead};
use coppice_interfaces::{Handle, RpcResult};
use coppice_rref::{Lent, Loan, RRef};

use crate::Wires;

/// Batches of one request and of many.
const SIZES: [usize; 2] = [1, 32];

/// The number of figures: with no domain in between, with the driver's, and with the shadow's as well.
pub(crate) const FIGURES: u32 = 3 * SIZES.len() as u32;

/// Requests that are submitted repeatedly. The table of loans is the least that a client needs, because it is
/// part of each figure.
struct RequestSet {
    home: Vec<RRef<Request>>,
    loans: Vec<Option<Loan<Request>>>,
    batch: Option<RRef<Batch>>,
}

impl RequestSet {
    fn new(size: usize) -> Self {
        let request = |_| RRef::with_capacity(RequestHead::new(Operation::Read, 0, 8), 4096);
        Self {
            home: (0..size).map(request).collect(),
            loans: (0..size).map(|_| None).collect(),
            batch: Some(RRef::new(Batch::new())),
        }
    }

    /// Submits all requests and takes all of them back.
    #[inline(always)]
    fn round(&mut self, exchange: impl Fn(RRef<Batch>) -> Option<RRef<Batch>>) {
        let Some(mut batch) = self.batch.take() else { return };
        for (tag, place) in self.loans.iter_mut().enumerate() {
            let Some(mut request) = self.home.pop() else { break };
            *request.head_mut() = RequestHead::new(Operation::Read, 8, 8).with_tag(tag as u64);
            let (loan, lent) = request.lend();
            *place = Some(loan);
            let _ = batch.push_back(lent);
        }
        let Some(mut batch) = exchange(batch) else { return };
        while let Some(lent) = batch.pop_front() {
            self.take_in(lent);
        }
        self.batch = Some(batch);
    }

    #[inline(always)]
    fn take_in(&mut self, lent: Lent<Request>) {
        let loan = self.loans.get_mut(lent.tag() as usize).and_then(Option::take);
        if let Some(Ok(request)) = loan.map(|loan| loan.settle(lent)) {
            self.home.push(request);
        }
    }

    /// Returns true if every request has come back.
    fn is_whole(&self) -> bool {
        self.home.len() == self.loans.len()
    }
}

/// Measures cycles per request.
pub(crate) fn measure(
    wires: &Wires,
    budget: Budget,
    report: &dyn Fn(&str, Samples) -> RpcResult<()>,
) -> RpcResult<()> {
    for size in SIZES {
        let figure = |name: &str, exchange: &dyn Fn(RRef<Batch>) -> Option<RRef<Batch>>| {
            let mut set = RequestSet::new(size);
            let samples = Samples::of_batches(budget, || set.round(exchange)).divided_by(size as f64);
            assert!(set.is_whole(), "requests are lost");
            report(&alloc::format!("block/{name}_batch{size}"), samples)
        };
        figure("local", &|batch| Some(batch))?;
        let direct = open(&wires.null_block)?;
        figure("driver", &|batch| direct.exchange(batch, 0).ok()?.ok())?;
        let behind = open(&wires.shadow_block)?;
        figure("shadow", &|batch| behind.exchange(batch, 0).ok()?.ok())?;
    }
    Ok(())
}

fn open(disk: &Handle<dyn BlockDevice>) -> RpcResult<Handle<dyn BlockQueue>> {
    Ok(disk.open(64)?.expect("a null disk has queues"))
}
