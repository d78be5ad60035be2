//! [`Stage`]: the device and what was forwarded through it, shared by all threads; and what the trial wants to know of it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

use coppice_experiment::Failure;
use coppice_interfaces::Handle;
use coppice_net::{NetConfig, NetDevice};
use coppice_runtime::time;
use coppice_traffic::Report;
use coppice_trial::{Load, Meter, Probe, Progress, Trial, Unit, Work};

use crate::desk::Desk;
use crate::plan::{Plan, STATION};
use crate::probe::Watch;
use crate::{pace, station};

/// What all threads share.
pub(crate) struct Stage {
    pub(crate) trial: Arc<Trial>,
    /// The network device, behind the shadow.
    pub(crate) net: Handle<dyn NetDevice>,
    pub(crate) plan: Plan,
    pub(crate) desk: Desk,
    /// How many frames are offered in a second, as the tester is told.
    pub(crate) pace: AtomicU64,
    /// The tester was told to send: from then on the station's thread asks for nothing, and others may.
    pub(crate) is_started: AtomicBool,
    /// Frames received and sent back.
    pub(crate) forwarded: AtomicU64,
    /// When frames came again after a crash, the last time.
    pub(crate) resumed_ns: AtomicU64,
    /// Frames that were for somebody else.
    pub(crate) foreign: AtomicU64,
    pub(crate) buffers_lost: AtomicU64,
    pub(crate) lost_by_crashes: AtomicU64,
    /// By the tester, at the end.
    damaged: AtomicU64,
    twice: AtomicU64,
    late: AtomicU64,
}

impl Stage {
    pub(crate) fn new(trial: Arc<Trial>, net: Handle<dyn NetDevice>) -> Result<Self, Failure> {
        let plan = Plan::read(&trial.control, &net.info()?)?;
        // Told once, and to the shadow alone: whoever forwards knows of no other instance.
        let config = NetConfig { mac: Some(STATION), promiscuous: false, ..net.config()? };
        net.configure(config)??;
        let zero = || AtomicU64::new(0);
        Ok(Self {
            trial,
            net,
            plan,
            desk: Desk::default(),
            pace: zero(),
            is_started: AtomicBool::new(false),
            forwarded: zero(),
            resumed_ns: zero(),
            foreign: zero(),
            buffers_lost: zero(),
            lost_by_crashes: zero(),
            damaged: zero(),
            twice: zero(),
            late: zero(),
        })
    }

    /// What the tester says at the end.
    pub(crate) fn take(&self, report: &Report) {
        let Report { sent, returned, damaged, twice, late, .. } = report;
        for (total, number) in [(&self.damaged, damaged), (&self.twice, twice), (&self.late, late)] {
            total.store(*number, Ordering::Relaxed);
        }
        let (lost, by_crashes) = (report.missing(), get(&self.lost_by_crashes));
        let beside = lost.saturating_sub(by_crashes);
        self.trial.say(format_args!(
            r#""note":{{"text":"{sent} frames were sent, {returned} came back; {by_crashes} were lost in outages, {beside} beside them"}}"#
        ));
    }
}

fn get(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

impl Load for Stage {
    const REPLIES: &'static str = "frames forwarded";

    fn trial(&self) -> &Arc<Trial> {
        &self.trial
    }

    fn warm_up(&self) -> Result<(), Failure> {
        pace::settle(self)
    }

    fn wait_for_reply(&self) -> Result<(), Failure> {
        self.net.link()??;
        Ok(())
    }

    fn meters(&self) -> Vec<Meter> {
        let unit = Unit::Frames { wire_bytes: self.plan.wire_bytes() };
        ["offered", "forwarded"].map(|name| Meter { name, unit }).into()
    }

    fn workers(&self) -> Vec<(&'static str, Work<Self>)> {
        vec![("the station", station::run)]
    }

    fn probe(&self) -> Result<Box<dyn Probe + '_>, Failure> {
        // Who asks at the same time as the station waits for it to pass the question on, and it would wait for its turn to ask.
        while !self.is_started.load(Ordering::Acquire) && !self.trial.is_over() {
            time::sleep(Duration::from_millis(1));
        }
        Ok(Box::new(Watch::of(self)))
    }

    fn progress(&self) -> Progress {
        let forwarded = get(&self.forwarded);
        Progress { totals: [self.desk.sent(), forwarded].into(), answers: forwarded }
    }

    fn zero_checks(&self) -> Vec<(&'static str, i64)> {
        let count = |number| get(number) as i64;
        [
            ("buffers lost", count(&self.buffers_lost)),
            ("frames damaged", count(&self.damaged)),
            ("frames twice", count(&self.twice)),
            ("frames out of order", count(&self.late)),
            ("frames of other stations", count(&self.foreign)),
        ]
        .into()
    }
}
