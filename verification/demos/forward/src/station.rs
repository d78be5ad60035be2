//! [`Station`]: receives frames, changes their addresses, and sends them back.

use alloc::format;
use core::sync::atomic::Ordering;
use core::time::Duration;

use coppice_experiment::Failure;
use coppice_net::{Frames, MacAddr};
use coppice_net_client::{NetClient, PacketPool};
use coppice_runtime::time;
use coppice_traffic::{Control, Message, Report, Start, Stop, decode};

use crate::desk::{Desk, STREAM};
use crate::plan::STATION;
use crate::stage::Stage;

/// How long one exchange waits for a frame: short, as somebody may want to stop.
const WAIT: Duration = Duration::from_millis(2);
/// How often the tester is asked how things stand.
const ROUTINE: Duration = Duration::from_millis(40);
/// How long the tester may take to answer, a crash and a hang included.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Frames that are on their way when the tester stops are back by then.
const SETTLE: Duration = Duration::from_millis(20);
/// So many frames have to come after the last crash.
const FLOWS: u64 = 1000;

/// Who forwards.
pub(crate) struct Station<'a> {
    stage: &'a Stage,
    port: NetClient,
    /// Nothing was received since the driver's queue was lost.
    is_cut_off: bool,
    routine_due: Duration,
}

impl<'a> Station<'a> {
    pub(crate) fn open(stage: &'a Stage) -> Result<Self, Failure> {
        let plan = &stage.plan;
        let pool = PacketPool::new(plan.packets, plan.packet_bytes)?;
        let port = NetClient::open(stage.net.clone(), plan.depth, pool)?;
        Ok(Self { stage, port, is_cut_off: false, routine_due: time::now() })
    }

    /// Sends back what was received, and receives.
    pub(crate) fn turn(&mut self) -> Result<(), Failure> {
        let stage = self.stage;
        let now = time::now();
        let until_ns = (now + WAIT).as_nanos() as u64;
        let mut request = stage.desk.to_send();
        if request.is_none() && now >= self.routine_due {
            self.routine_due = now + ROUTINE;
            request = Some(Desk::routine());
        }
        let turn = match request {
            None => self.port.forward(until_ns, |frame| readdress(stage, frame)),
            Some(request) => {
                let received = self.port.received();
                for index in 0..received.len() {
                    if let Some(frame) = received.frame_at_mut(index) {
                        readdress(stage, frame);
                    }
                }
                self.port.turn_around();
                let write =
                    |room: &mut [u8]| request.encode(MacAddr::BROADCAST.0, STATION.0, room).unwrap_or(0);
                let turn = self.port.send(until_ns, 1, write)?;
                if turn.written == 0 {
                    stage.desk.not_sent();
                }
                Ok(turn)
            }
        }?;
        if turn.is_new {
            self.is_cut_off = true;
        }
        if turn.received > 0 {
            stage.forwarded.fetch_add(turn.received as u64, Ordering::Relaxed);
            if self.is_cut_off {
                self.is_cut_off = false;
                stage.resumed_ns.store(time::now().as_nanos() as u64, Ordering::Release);
            }
        }
        Ok(())
    }

    /// Forwards for so long.
    pub(crate) fn run(&mut self, duration: Duration) -> Result<(), Failure> {
        let until = time::now() + duration;
        while time::now() < until {
            self.turn()?;
        }
        Ok(())
    }

    /// Asks the tester while it forwards.
    pub(crate) fn ask(&mut self, request: impl FnOnce(u32) -> Control) -> Result<Report, Failure> {
        let stage = self.stage;
        let report = stage.desk.ask(request, PATIENCE, || self.turn())?;
        let report = report.ok_or_else(|| Failure(format!("the tester does not answer for {PATIENCE:?}")))?;
        match report.refusal {
            None => Ok(report),
            Some(refusal) => Err(Failure(format!("the tester refuses: {refusal}"))),
        }
    }

    /// Has the tester send, so many frames in a second or as fast as it can.
    pub(crate) fn start(&mut self, per_second: u64) -> Result<Report, Failure> {
        let frame_bytes = self.stage.plan.frame_bytes;
        self.ask(|request| {
            Control::Start(Start {
                stream: STREAM,
                request,
                frame_bytes,
                frames_per_second: per_second,
                count: 0,
                burst: 0,
                destination: STATION.0,
                flows: 0,
                checks_filler: true,
            })
        })
    }

    /// Has it send no more. Answers what came of it.
    pub(crate) fn stop(&mut self) -> Result<Report, Failure> {
        self.ask(|request| Control::Stop(Stop { stream: STREAM, request }))?;
        self.run(SETTLE)?;
        self.ask(|request| Control::Ask(coppice_traffic::Ask { stream: STREAM, request }))
    }

    /// Gives the queue back, and counts the packets.
    pub(crate) fn close(self) {
        let stage = self.stage;
        let lost = match self.port.close(time::now() + PATIENCE) {
            Ok(pool) => pool.audit().renamed,
            Err(missing) => missing.packets,
        };
        stage.buffers_lost.fetch_add(lost as u64, Ordering::Relaxed);
    }
}

/// From us, back to who sent it. What is an answer of the tester's is read as well, and goes back to who drops it.
#[inline]
fn readdress(stage: &Stage, frame: &mut [u8]) {
    if frame.len() == Report::FRAME_BYTES
        && let Ok(Message::Report(report)) = decode(frame)
    {
        stage.desk.deliver(&report);
    }
    let Some(addresses) = frame.first_chunk_mut::<12>() else { return };
    let ([to, from], []) = addresses.as_chunks_mut::<6>() else { return };
    if *to != STATION.0 {
        stage.foreign.fetch_add(1, Ordering::Relaxed);
    }
    (*to, *from) = (*from, STATION.0);
}

/// Forwards until the trial is over and the last crash survived; then looks whether frames still come, and counts.
pub(crate) fn run(stage: &Stage) -> Result<(), Failure> {
    let mut station = Station::open(stage)?;
    station.start(stage.pace.load(Ordering::Relaxed))?;
    stage.is_started.store(true, Ordering::Release);
    while !stage.trial.is_finished() {
        station.turn()?;
    }
    let (wanted, deadline) = (stage.forwarded.load(Ordering::Relaxed) + FLOWS, time::now() + PATIENCE);
    while stage.forwarded.load(Ordering::Relaxed) < wanted && !stage.trial.has_failed() {
        station.turn()?;
        if time::now() > deadline {
            return Err(Failure(format!("after the last crash no {FLOWS} frames came within {PATIENCE:?}")));
        }
    }
    let report = station.stop()?;
    station.close();
    stage.take(&report);
    Ok(())
}
