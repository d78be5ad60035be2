//! Passes orders on to a driver that is being tried, and remembers what came of them.

#![no_std]
#![forbid(unsafe_code)]

use coppice_interfaces::{Handle, News, Order, Orders, Record, RpcResult};
use coppice_runtime::sync::Mutex;
use coppice_runtime::{Domain, Environment, time};

/// The domain.
pub struct OrdersDomain;

impl Domain for OrdersDomain {
    type Imports = ();
    type Export = Handle<dyn Orders>;

    fn start(_: &Environment<'_>, (): ()) -> Self::Export {
        <dyn Orders>::export(Service::default())
    }
}

#[derive(Default)]
struct Service {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    order: Option<Order>,
    record: Record,
}

impl Orders for Service {
    fn give(&self, order: Order) -> RpcResult<()> {
        self.state.lock().order = Some(order);
        Ok(())
    }

    fn record(&self) -> RpcResult<Record> {
        Ok(self.state.lock().record)
    }

    fn begin(&self, generation: u32, start_ns: u64) -> RpcResult<()> {
        let mut state = self.state.lock();
        if generation >= state.record.generation {
            let begun_ns = time::now().as_nanos() as u64;
            state.record = Record { generation, begun_ns, start_ns, ..state.record };
            state.order = None;
        }
        Ok(())
    }

    fn next(&self, generation: u32) -> RpcResult<News> {
        let mut state = self.state.lock();
        if state.record.generation > generation {
            return Ok(News::Over);
        }
        // What was known has ended with an earlier life of this domain's.
        state.record.generation = generation;
        Ok(state.order.take().map_or(News::Nothing, News::Order))
    }

    fn raise(&self, generation: u32) -> RpcResult<()> {
        // Waiting for the lock is not yet going wrong.
        let mut state = self.state.lock();
        state.record.raised = Some((generation, time::now().as_nanos() as u64));
        Ok(())
    }

    fn survive(&self, generation: u32) -> RpcResult<()> {
        self.state.lock().record.survived = Some(generation);
        Ok(())
    }
}
