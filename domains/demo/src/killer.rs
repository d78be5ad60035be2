//! Crashes the driver, by one method after the other, and measures from the instant of the fault to the first answer of the
//! next life, with reads of its own.

use alloc::format;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering;
use core::time::Duration;

use coppice_experiment::{Failure, Random};
use coppice_interfaces::block::{Operation, Request, RequestHead};
use coppice_interfaces::{ControlError, DomainId, Order, Record, Text};
use coppice_rref::RRef;
use coppice_runtime::time;

use crate::plan::Method;
use crate::queue::{Answer, Queue};
use crate::stage::Stage;

/// How long an order, or a next life, may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// When an order that nobody has carried out is given again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is looked whether one is carried out.
const GLANCE: Duration = Duration::from_micros(50);
/// How long the killer sleeps at a time, as the run may be over meanwhile.
const NAP: Duration = Duration::from_millis(20);
/// What the killer's own chance is, beside those of the writers.
const STREAM: u64 = 1 << 32;

/// What came of a method.
#[derive(Clone, Copy, Default)]
struct Tally {
    crashes: u64,
    /// The machine does not raise it.
    is_absent: bool,
}

/// What came of one attempt.
enum Outcome {
    Crashed(Crash),
    Absent,
    /// The life was over before its time: somebody else's fault.
    Unasked,
}

struct Crash {
    /// Nanoseconds since boot.
    at_ns: u64,
    outage_ns: u64,
    start_ns: Option<u64>,
    life: DomainId,
}

/// Crashes until the run is over.
pub(crate) fn run(stage: &Stage) -> Result<(), Failure> {
    let plan = &stage.plan;
    let mut probe = Probe::open(stage)?;
    let mut tallies: Vec<Tally> = plan.methods.iter().map(|_| Tally::default()).collect();
    let (mut turn, mut unasked) = (0, 0_u64);
    let mut due = time::now() + plan.every;
    while wait_until(stage, due) {
        due = (due + plan.every).max(time::now());
        if stage.calm.load(Ordering::Relaxed) {
            continue;
        }
        if tallies.iter().all(|tally| tally.is_absent) {
            return Err(Failure("the machine raises nothing of what was asked for".into()));
        }
        let number = loop {
            let number = turn % tallies.len();
            turn += 1;
            if !tallies[number].is_absent {
                break number;
            }
        };
        let method = plan.methods[number];
        match probe.crash(method, (turn / tallies.len()) as u64)? {
            Outcome::Crashed(crash) => {
                tallies[number].crashes += 1;
                stage.crashes.fetch_add(1, Ordering::Relaxed);
                report(stage, method, &crash)?;
            }
            Outcome::Absent => tallies[number].is_absent = true,
            Outcome::Unasked => unasked += 1,
        }
    }
    for (method, Tally { crashes, is_absent }) in plan.methods.iter().zip(&tallies) {
        stage.say(format_args!(r#""fault":{{"name":"{method}","crashes":{crashes},"absent":{is_absent}}}"#));
    }
    if unasked > 0 {
        stage.say(format_args!(r#""fault":{{"name":"unasked","crashes":{unasked}}}"#));
    }
    Ok(())
}

/// False if the run was over before.
fn wait_until(stage: &Stage, due: Duration) -> bool {
    while !stage.is_over() {
        let now = time::now();
        if now >= due {
            return true;
        }
        time::sleep_until(due.min(now + NAP));
    }
    false
}

fn report(stage: &Stage, method: Method, crash: &Crash) -> Result<(), Failure> {
    let Crash { at_ns, outage_ns, start_ns, life } = crash;
    let (us, generation) = (at_ns / 1000, life.generation());
    let died = death(stage, method, *life)?;
    let mut start = Text::<32>::new("");
    if let Some(ns) = start_ns {
        let _ = write!(start, r#","start_ns":{ns}"#);
    }
    stage.say(format_args!(
        r#""crash":{{"us":{us},"fault":"{method}","died":"{died}","outage_ns":{outage_ns},"generation":{generation}{start}}}"#
    ));
    Ok(())
}

/// What the kernel says that a life died of. It has to be what that method ends with; or the deadline, which is earlier when
/// the machine is so busy that filling a heap takes as long.
fn death(stage: &Stage, method: Method, life: DomainId) -> Result<Text<16>, Failure> {
    let Some(line) = stage.wires.control.post_mortem(life, 0)? else {
        return Err(Failure(format!("nobody knows what generation {} died of", life.generation())));
    };
    let kinds: Vec<Text<16>> = match method {
        Method::Kill => [Text::new("Killed")].into(),
        Method::Fault(fault) => {
            fault.kinds().iter().map(|kind| Text::format(format_args!("{kind:?}"))).collect()
        }
    };
    kinds
        .into_iter()
        .chain([Text::new("Deadline")])
        .find(|kind| line.contains(&**kind))
        .ok_or_else(|| Failure(format!("after {method} the kernel says: {}", &*line)))
}

/// Reads single blocks of the image, one at a time.
struct Probe<'a> {
    stage: &'a Stage,
    queue: Queue<'a>,
    request: Option<RRef<Request>>,
    answers: Vec<Answer>,
    random: Random,
}

impl<'a> Probe<'a> {
    fn open(stage: &'a Stage) -> Result<Self, Failure> {
        let head = RequestHead::new(Operation::Read, 0, 1);
        Ok(Self {
            stage,
            queue: Queue::open(stage, 1)?,
            request: Some(RRef::with_capacity(head, stage.disk.block_bytes as usize)),
            answers: Vec::new(),
            random: Random::new(stage.plan.seed, STREAM),
        })
    }

    /// Reads a block, through whatever happens to the driver meanwhile. Answers when that was answered.
    fn read(&mut self) -> Result<u64, Failure> {
        let blocks = (self.stage.plan.image_bytes / u64::from(self.stage.disk.block_bytes)).max(1);
        let mut request = self.request.take().expect("it is here between reads");
        request.head_mut().set(Operation::Read, self.random.below(blocks), 1);
        self.queue.submit(0, request);
        while self.answers.is_empty() {
            self.queue.exchange(true, &mut self.answers)?;
        }
        let now = time::now();
        self.request = self.answers.pop().map(|(_, request)| request);
        Ok(now.as_nanos() as u64)
    }

    /// Whether that life has begun to carry an order out.
    fn is_raised(&self, life: DomainId) -> bool {
        let record = self.stage.wires.orders.record();
        record.is_ok_and(|record| record.raised.is_some_and(|(of, _)| of == life.generation()))
    }

    /// Has the driver end by that method, for the `turn`th time.
    fn crash(&mut self, method: Method, turn: u64) -> Result<Outcome, Failure> {
        let stage = self.stage;
        let control = &stage.wires.control;
        let life = stage.driver()?.id;
        let mut killed_ns = None;
        match method {
            Method::Kill => {
                let now = time::now().as_nanos() as u64;
                match control.kill(Text::new(stage.victim))? {
                    Ok(()) => killed_ns = Some(now),
                    Err(ControlError::WrongState { .. }) => return Ok(Outcome::Unasked),
                    Err(error) => return Err(error.into()),
                }
            }
            Method::Fault(_) => {}
        }
        let mut told: Option<Duration> = None;
        let deadline = time::now() + PATIENCE;
        loop {
            if let Method::Fault(fault) = method
                && told.is_none_or(|at| time::now() > at + AGAIN)
            {
                // Who passes it on may have been ended by its deadline, and its next life knows of nothing.
                let _ = stage.wires.orders.give(Order { fault, place: method.place(turn) });
                told = Some(time::now());
            }
            // Until then it is for the load's calls to carry the order out: a hang of a thread as urgent as this one would keep
            // all others off its CPU.
            let is_under_way = killed_ns.is_some() || self.is_raised(life);
            let answered_ns = if is_under_way { self.read()? } else { 0 };
            let Ok(record) = stage.wires.orders.record() else { continue };
            let Record { generation, begun_ns, start_ns, raised, survived } = record;
            let raised_ns = raised.and_then(|(of, ns)| (of == life.generation()).then_some(ns));
            let has_next = generation > life.generation();
            match killed_ns.or(raised_ns) {
                // What was answered before the next life began, the last one had answered.
                Some(at_ns) if has_next && answered_ns >= begun_ns => {
                    let outage_ns = answered_ns.saturating_sub(at_ns);
                    return Ok(Outcome::Crashed(Crash { at_ns, outage_ns, start_ns: Some(start_ns), life }));
                }
                None if has_next => return Ok(Outcome::Unasked),
                _ if survived == Some(life.generation()) => return Ok(Outcome::Absent),
                _ => {}
            }
            // While the old life still answers, as when it only half hangs, its threads and their locks want the CPU too.
            time::sleep(GLANCE);
            if time::now() > deadline {
                return Err(Failure(format!(
                    "{method}: generation {} {} within {PATIENCE:?}",
                    life.generation(),
                    if has_next { "had no next life that answers" } else { "does not end" }
                )));
            }
        }
    }
}
