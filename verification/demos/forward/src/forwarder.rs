//! [`Forwarder`]: receives frames, changes their addresses, and sends them back.

use alloc::format;
use core::sync::atomic::Ordering;
use core::time::Duration;

use coppice_experiment::Failure;
use coppice_net::{Frames, MacAddr};
use coppice_net_client::{NetClient, PacketPool};
use coppice_runtime::time;
use coppice_traffic::{Control, Message, Report, Start, Stop, decode};

use crate::context::Context;
use crate::plan::FORWARDER_MAC;
use crate::tester::{STREAM, TesterClient};

/// The time that one exchange waits for a frame: short, so that the thread notices the end of the run.
const EXCHANGE_WAIT: Duration = Duration::from_millis(2);
/// The interval of periodic requests to the tester.
const PERIODIC_INTERVAL: Duration = Duration::from_millis(40);
/// The time within which the tester must report, a crash and a hang of the driver included.
pub(crate) const TESTER_TIMEOUT: Duration = Duration::from_secs(10);
/// The time within which frames in flight come back after the tester has stopped.
const DRAIN_TIME: Duration = Duration::from_millis(20);
/// The number of frames that must arrive after the last crash.
const FINAL_FRAMES: u64 = 1000;

/// A client of the network device that forwards frames.
pub(crate) struct Forwarder<'a> {
    context: &'a Context,
    client: NetClient,
    /// Set when the driver's queue was lost, until the next frame is received.
    is_interrupted: bool,
    periodic_due: Duration,
}

impl<'a> Forwarder<'a> {
    pub(crate) fn open(context: &'a Context) -> Result<Self, Failure> {
        let plan = &context.plan;
        let pool = PacketPool::new(plan.packets, plan.packet_bytes)?;
        let client = NetClient::open(context.net.clone(), plan.depth, pool)?;
        Ok(Self { context, client, is_interrupted: false, periodic_due: time::now() })
    }

    /// Exchanges packets once: sends back the frames received last, and receives. Also sends a control
    /// request to the tester if one is due.
    pub(crate) fn turn(&mut self) -> Result<(), Failure> {
        let context = self.context;
        let now = time::now();
        let until_ns = (now + EXCHANGE_WAIT).as_nanos() as u64;
        let mut request = context.tester.next_to_send();
        if request.is_none() && now >= self.periodic_due {
            self.periodic_due = now + PERIODIC_INTERVAL;
            request = Some(TesterClient::periodic());
        }
        let turn = match request {
            None => self.client.forward(until_ns, |frame| readdress(context, frame)),
            Some(request) => {
                let received = self.client.received();
                for index in 0..received.len() {
                    if let Some(frame) = received.frame_at_mut(index) {
                        readdress(context, frame);
                    }
                }
                self.client.turn_around();
                let write = |room: &mut [u8]| {
                    request.encode(MacAddr::BROADCAST.0, FORWARDER_MAC.0, room).unwrap_or(0)
                };
                let turn = self.client.send(until_ns, 1, write)?;
                if turn.written == 0 {
                    context.tester.defer();
                }
                Ok(turn)
            }
        }?;
        if turn.is_new {
            self.is_interrupted = true;
        }
        if turn.received > 0 {
            context.forwarded.fetch_add(turn.received as u64, Ordering::Relaxed);
            if self.is_interrupted {
                self.is_interrupted = false;
                context.resumed_ns.store(time::now().as_nanos() as u64, Ordering::Release);
            }
        }
        Ok(())
    }

    /// Forwards for `duration`.
    pub(crate) fn run(&mut self, duration: Duration) -> Result<(), Failure> {
        let until = time::now() + duration;
        while time::now() < until {
            self.turn()?;
        }
        Ok(())
    }

    /// Makes a request to the tester and forwards until the report arrives.
    ///
    /// # Errors
    /// When the tester refuses, or does not report within [`TESTER_TIMEOUT`].
    pub(crate) fn ask(&mut self, request: impl FnOnce(u32) -> Control) -> Result<Report, Failure> {
        let context = self.context;
        let report = context.tester.ask(request, TESTER_TIMEOUT, || self.turn())?;
        let report =
            report.ok_or_else(|| Failure(format!("no report of the tester within {TESTER_TIMEOUT:?}")))?;
        match report.refusal {
            None => Ok(report),
            Some(refusal) => Err(Failure(format!("the tester refuses: {refusal}"))),
        }
    }

    /// Starts the tester at `per_second` frames per second, or at the line rate if that is 0.
    pub(crate) fn start(&mut self, per_second: u64) -> Result<Report, Failure> {
        let frame_bytes = self.context.plan.frame_bytes;
        self.ask(|request| {
            Control::Start(Start {
                stream: STREAM,
                request,
                frame_bytes,
                frames_per_second: per_second,
                count: 0,
                burst: 0,
                destination: FORWARDER_MAC.0,
                flows: 0,
                checks_filler: true,
            })
        })
    }

    /// Stops the tester and returns its final report.
    pub(crate) fn stop(&mut self) -> Result<Report, Failure> {
        self.ask(|request| Control::Stop(Stop { stream: STREAM, request }))?;
        self.run(DRAIN_TIME)?;
        self.ask(|request| Control::Ask(coppice_traffic::Ask { stream: STREAM, request }))
    }

    /// Closes the queue and counts the packets that did not come back.
    pub(crate) fn close(self) {
        let context = self.context;
        let lost = match self.client.close(time::now() + TESTER_TIMEOUT) {
            Ok(pool) => pool.audit().renamed,
            Err(missing) => missing.packets,
        };
        context.buffers_lost.fetch_add(lost as u64, Ordering::Relaxed);
    }
}

/// Addresses a frame to its sender, with the forwarder as the source. A report of the tester is also
/// delivered to the [`TesterClient`]; the tester drops it when it comes back.
#[inline]
fn readdress(context: &Context, frame: &mut [u8]) {
    if frame.len() == Report::FRAME_BYTES
        && let Ok(Message::Report(report)) = decode(frame)
    {
        context.tester.deliver(&report);
    }
    let Some(addresses) = frame.first_chunk_mut::<12>() else { return };
    let ([to, from], []) = addresses.as_chunks_mut::<6>() else { return };
    if *to != FORWARDER_MAC.0 {
        context.misaddressed.fetch_add(1, Ordering::Relaxed);
    }
    (*to, *from) = (*from, FORWARDER_MAC.0);
}

/// Forwards until the trial is over and the driver has recovered from the last crash. Then checks that frames
/// still arrive, stops the tester, and counts.
pub(crate) fn run(context: &Context) -> Result<(), Failure> {
    let mut forwarder = Forwarder::open(context)?;
    forwarder.start(context.frames_per_second.load(Ordering::Relaxed))?;
    context.is_started.store(true, Ordering::Release);
    while !context.trial.is_finished() {
        forwarder.turn()?;
    }
    let (wanted, deadline) =
        (context.forwarded.load(Ordering::Relaxed) + FINAL_FRAMES, time::now() + TESTER_TIMEOUT);
    while context.forwarded.load(Ordering::Relaxed) < wanted && !context.trial.has_failed() {
        forwarder.turn()?;
        if time::now() > deadline {
            return Err(Failure(format!(
                "fewer than {FINAL_FRAMES} frames arrived within {TESTER_TIMEOUT:?} after the last crash"
            )));
        }
    }
    let report = forwarder.stop()?;
    forwarder.close();
    context.finish(&report);
    Ok(())
}
