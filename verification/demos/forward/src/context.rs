//! [`Context`]: the device and the counters that all threads share, and the implementation of the trial's
//! [`Load`].

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

use coppice_experiment::Failure;
use coppice_interfaces::Handle;
use coppice_net::{NetConfig, NetDevice};
use coppice_run_protocol::trial::{Meter, Note, checks};
use coppice_runtime::time;
use coppice_traffic::Report;
use coppice_trial::{Load, Probe, Progress, Trial, Work};

use crate::plan::{FORWARDER_MAC, Plan};
use crate::probe::FrameProbe;
use crate::tester::TesterClient;
use crate::{forwarder, rate};

/// State that all threads of the demonstration share.
pub struct Context {
    pub(crate) trial: Arc<Trial>,
    /// The network device, behind the shadow.
    pub(crate) net: Handle<dyn NetDevice>,
    pub(crate) plan: Plan,
    pub(crate) tester: TesterClient,
    /// The offered rate, which the tester is started with; 0 for the line rate.
    pub(crate) frames_per_second: AtomicU64,
    /// Set when the tester has started to send. From then on the forwarder's thread makes no requests of its
    /// own until the end of the run, so other threads may.
    pub(crate) is_started: AtomicBool,
    /// The count of frames received and sent back.
    pub(crate) forwarded: AtomicU64,
    /// The time of the first frame after the latest crash, in nanoseconds since boot.
    pub(crate) resumed_ns: AtomicU64,
    /// The count of frames received for another MAC address.
    pub(crate) misaddressed: AtomicU64,
    pub(crate) buffers_lost: AtomicU64,
    pub(crate) lost_by_crashes: AtomicU64,
    // From the tester's final report.
    damaged: AtomicU64,
    duplicated: AtomicU64,
    reordered: AtomicU64,
}

impl Context {
    pub(crate) fn new(trial: Arc<Trial>, net: Handle<dyn NetDevice>) -> Result<Self, Failure> {
        let plan = Plan::read(&trial.control, &net.info()?)?;
        // Configured once, at the shadow: the forwarder does not notice that the driver restarts.
        let config = NetConfig { mac: Some(FORWARDER_MAC), promiscuous: false, ..net.config()? };
        net.configure(config)??;
        let zero = || AtomicU64::new(0);
        Ok(Self {
            trial,
            net,
            plan,
            tester: TesterClient::default(),
            frames_per_second: zero(),
            is_started: AtomicBool::new(false),
            forwarded: zero(),
            resumed_ns: zero(),
            misaddressed: zero(),
            buffers_lost: zero(),
            lost_by_crashes: zero(),
            damaged: zero(),
            duplicated: zero(),
            reordered: zero(),
        })
    }

    /// Stores the tester's final report and prints a summary.
    pub(crate) fn finish(&self, report: &Report) {
        let Report { sent, returned, damaged, twice, late, .. } = report;
        for (total, number) in [(&self.damaged, damaged), (&self.duplicated, twice), (&self.reordered, late)]
        {
            total.store(*number, Ordering::Relaxed);
        }
        let (lost, by_crashes) = (report.missing(), get(&self.lost_by_crashes));
        let other = lost.saturating_sub(by_crashes);
        let text = format!(
            "{sent} frames were sent, {returned} came back; {by_crashes} were lost in outages, {other} at other times"
        );
        self.trial.print(Note { text });
    }
}

fn get(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

impl Load for Context {
    const REPLIES: &'static str = "frames forwarded";

    fn trial(&self) -> &Arc<Trial> {
        &self.trial
    }

    fn warm_up(&self) -> Result<(), Failure> {
        rate::choose(self)
    }

    fn wait_for_reply(&self) -> Result<(), Failure> {
        self.net.link()??;
        Ok(())
    }

    fn meters(&self) -> Vec<Meter> {
        ["offered", "forwarded"].map(|name| Meter::frames(name, self.plan.wire_bytes())).into()
    }

    fn workers(&self) -> Vec<(&'static str, Work<Self>)> {
        vec![("the forwarder", forwarder::run)]
    }

    fn probe(&self) -> Result<Box<dyn Probe + '_>, Failure> {
        // Until then the forwarder's thread makes requests itself. A request of the probe would wait for that
        // thread to send it, while that thread waits for its turn to make one.
        while !self.is_started.load(Ordering::Acquire) && !self.trial.is_over() {
            time::sleep(Duration::from_millis(1));
        }
        Ok(Box::new(FrameProbe::of(self)))
    }

    fn progress(&self) -> Progress {
        let forwarded = get(&self.forwarded);
        Progress { totals: [self.tester.sent(), forwarded].into(), answers: forwarded }
    }

    fn zero_checks(&self) -> Vec<(&'static str, i64)> {
        let counts =
            [&self.buffers_lost, &self.damaged, &self.duplicated, &self.reordered, &self.misaddressed];
        checks::NET.into_iter().zip(counts.map(|number| get(number) as i64)).collect()
    }
}
