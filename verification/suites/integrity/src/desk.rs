//! [`Desk`]: one thread's queue, and the requests that go over it.

use alloc::vec::Vec;
use core::mem;
use core::sync::atomic::Ordering;
use core::time::Duration;

use coppice_block::{Batch, BlockQueue, Busy, Request, RequestHead};
use coppice_interfaces::Handle;
use coppice_rref::{Lent, Loan, RRef};
use coppice_runtime::time;

use crate::load::{LoadError, Shared};
use crate::writer::{Taken, Writer};

/// How long one exchange waits for an answer: long enough to sleep, short enough to notice that the load is to stop.
const WAIT: Duration = Duration::from_millis(5);

/// How often somebody looks whether what a dead domain had is back, and whether there is a queue again.
const GLANCE: Duration = Duration::from_micros(200);

/// A request, wherever it is.
enum Form {
    /// Made when it is wanted for the first time.
    None,
    Home(RRef<Request>),
    Away(Loan<Request>),
}

/// One thread's queue.
pub(crate) struct Desk<'a> {
    shared: &'a Shared,
    queue: Handle<dyn BlockQueue>,
    writer: Writer,
    forms: Vec<Form>,
    batch: Option<RRef<Batch>>,
}

impl<'a> Desk<'a> {
    pub(crate) fn open(shared: &'a Shared, writer: Writer) -> Result<Self, LoadError> {
        let queue = shared.disk.open(writer.depth() as u32)??;
        let forms = (0..writer.depth()).map(|_| Form::None).collect();
        Ok(Self { shared, queue, writer, forms, batch: None })
    }

    /// Whether no more should be asked. A proof is not stopped.
    fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed) && self.writer.is_stoppable()
    }

    pub(crate) fn run(mut self) -> Result<(), LoadError> {
        let pause = self.shared.book.options.pause;
        loop {
            let batch = self.fill();
            if batch.is_empty() && self.writer.is_idle() {
                return Ok(());
            }
            let until = u64::try_from((time::now() + WAIT).as_nanos()).unwrap_or(u64::MAX);
            match self.queue.exchange(batch, until) {
                Ok(Ok(mut batch)) => {
                    while let Some(lent) = batch.pop_front() {
                        self.take(lent);
                    }
                    self.batch = Some(batch);
                    self.look_for_lost();
                }
                Ok(Err(Busy { batch })) => {
                    drop(batch);
                    self.wait_for_all();
                    return Err(LoadError::Busy);
                }
                Err(_) => self.begin_again()?,
            }
            if pause > Duration::ZERO {
                time::sleep(pause);
            }
        }
    }

    /// A batch with something for each place where nothing is under way.
    fn fill(&mut self) -> RRef<Batch> {
        let mut batch = self.batch.take().unwrap_or_else(|| RRef::new(Batch::new()));
        if self.is_stopped() {
            return batch;
        }
        let now = time::now();
        for place in 0..self.forms.len() {
            if batch.is_full() {
                break;
            }
            let mut request = match mem::replace(&mut self.forms[place], Form::None) {
                Form::Home(request) => request,
                Form::None => RRef::with_capacity(RequestHead::flush(), self.writer.capacity()),
                away @ Form::Away(_) => {
                    self.forms[place] = away;
                    continue;
                }
            };
            let Some(head) = self.writer.ask(place, now, request.bytes_mut()) else {
                self.forms[place] = Form::Home(request);
                break;
            };
            *request.head_mut() = head;
            let (loan, lent) = request.lend();
            self.forms[place] = Form::Away(loan);
            if batch.push_back(lent).is_err() {
                unreachable!("the batch was not full");
            }
        }
        batch
    }

    /// Something has come back.
    fn take(&mut self, lent: Lent<Request>) {
        // The place that lent it knows it, whatever its head says by now.
        let place = self.writer.place_of(lent.head());
        let Some(form) = place.and_then(|place| self.forms.get_mut(place)) else {
            self.writer.take(lent.head(), &[]);
            return;
        };
        let loan = match mem::replace(form, Form::None) {
            Form::Away(loan) => loan,
            other => {
                *form = other;
                self.writer.take(lent.head(), &[]);
                return;
            }
        };
        match loan.settle(lent) {
            Ok(request) => {
                // It is back, whatever its head says: what it was for will not be answered otherwise.
                if self.writer.take(request.head(), request.bytes()) == Taken::Stray
                    && let Some(place) = place
                {
                    self.writer.lose(place);
                }
                *form = Form::Home(request);
            }
            Err((loan, lent)) => {
                *form = Form::Away(loan);
                self.shared.book.tally.unknown.add(1);
                drop(lent);
            }
        }
    }

    /// What was given back without an answer is lost, and so is what was not answered for too long.
    fn look_for_lost(&mut self) {
        let patience = self.shared.book.options.patience;
        let before = time::now().saturating_sub(patience);
        for place in 0..self.forms.len() {
            let is_back = matches!(&self.forms[place], Form::Away(loan) if loan.is_back());
            if !is_back && !self.writer.is_older(place, before) {
                continue;
            }
            self.writer.lose(place);
            // Dropping a claim leaves the object to whoever has it.
            if let Form::Away(loan) = mem::replace(&mut self.forms[place], Form::None) {
                match loan.redeem() {
                    Ok(request) => log::error!("given back without an answer: {:?}", request.head()),
                    Err(_) => log::error!("not answered for {patience:?}, in place {place}"),
                }
            }
        }
    }

    /// The domain of the queue has ended. What it had comes back; what was done of it nobody knows.
    fn begin_again(&mut self) -> Result<(), LoadError> {
        self.shared.book.tally.interruptions.add(1);
        self.wait_for_all();
        let deadline = time::now() + self.shared.book.options.patience;
        loop {
            match self.shared.disk.open(self.forms.len() as u32) {
                Ok(Ok(queue)) => {
                    self.queue = queue;
                    return Ok(());
                }
                Ok(Err(error)) if time::now() > deadline => return Err(error.into()),
                Err(error) if time::now() > deadline => return Err(error.into()),
                _ => time::sleep(GLANCE),
            }
        }
    }

    /// Waits until what is away is back, for as long as patience allows: until then, a write of it may still happen.
    fn wait_for_all(&mut self) {
        let deadline = time::now() + self.shared.book.options.patience;
        for place in 0..self.forms.len() {
            let mut form = mem::replace(&mut self.forms[place], Form::None);
            while let Form::Away(loan) = form {
                form = match loan.redeem() {
                    Ok(request) => {
                        self.writer.give_up(place);
                        Form::Home(request)
                    }
                    Err(_) if time::now() > deadline => {
                        self.writer.lose(place);
                        Form::None
                    }
                    Err(loan) => {
                        time::sleep(GLANCE);
                        Form::Away(loan)
                    }
                };
            }
            self.forms[place] = form;
        }
    }
}
