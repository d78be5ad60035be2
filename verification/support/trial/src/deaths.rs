//! [`DeathLog`]: the ends of instances, of all domains, that the trial did not cause.
//!
//! The kernel's crash log has a record of each end. The trial reads it several times per second and after
//! each injected fault. An end is explained if it is that of the instance with the fault, or if it is a
//! documented consequence of the fault under way (docs/demo.md): a hang occupies CPUs, so calls into other
//! domains may exceed their deadlines, too; and a driver whose device has faults may end at any time.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use coppice_control::{Control, DomainState};
use coppice_experiment::Failure;
use coppice_interfaces::{DomainId, Handle, Text};
use coppice_run_protocol::trial::{Consequence, DEADLINE, Line, Unexpected};

/// The text in place of a crash record: later ends have overwritten it, or the instance never ran.
const NO_RECORD: &str = "an unknown cause: the crash log has no record of it";

/// The crash log, as far as it is read here.
pub(crate) trait Source {
    /// The instance of the record `back` places before the latest.
    fn death(&self, back: u32) -> Result<Option<DomainId>, Failure>;

    /// The cause, the time, the message and the place of an end; `None` if the log has no record of it.
    fn record(&self, instance: DomainId) -> Result<Option<String>, Failure>;
}

impl Source for Handle<dyn Control> {
    fn death(&self, back: u32) -> Result<Option<DomainId>, Failure> {
        Ok((**self).death(back)?)
    }

    fn record(&self, instance: DomainId) -> Result<Option<String>, Failure> {
        let Some(first) = self.post_mortem(instance, 0)? else { return Ok(None) };
        // "NAME (generation 3) died of Panic at 1.000000 s on CPU 0, in thread 7"
        let cause = first.split_once("died of ").map_or(&*first, |(_, cause)| cause);
        let cause = cause.split_once(" on CPU").map_or(cause, |(cause, _)| cause);
        let message = self.post_mortem(instance, 1)?.unwrap_or(Text::EMPTY);
        Ok(Some(format!("{cause}: {}", message.trim())))
    }
}

/// The instances of one domain.
struct Instances {
    name: Text<32>,
    slot: usize,
    /// The first generation whose end has not been read yet.
    next: u32,
}

/// The instance that is ended by a fault of the trial.
struct Target {
    instance: DomainId,
    /// The fault only ends by a deadline.
    is_hang: bool,
    /// Its end has been read.
    is_read: bool,
}

/// The ends of instances that have been read so far.
pub(crate) struct DeathLog {
    domains: Vec<Instances>,
    target: Option<Target>,
    /// The slot of the driver, if its device has faults.
    faulty: Option<usize>,
    unexpected: u64,
}

impl DeathLog {
    /// Begins with the instances that run now. `faulty` is the driver, if its device has faults.
    pub(crate) fn begin(control: &Handle<dyn Control>, faulty: Option<DomainId>) -> Result<Self, Failure> {
        let faulty = faulty.map(DomainId::slot);
        let mut log = Self { domains: Vec::new(), target: None, faulty, unexpected: 0 };
        for number in 0..control.domain_count()? {
            if let Some(info) = control.domain(number)? {
                let has_ended = u32::from(info.state == DomainState::Dead);
                log.add(info.name, info.id.slot(), info.id.generation() + has_ended);
            }
        }
        Ok(log)
    }

    fn add(&mut self, name: Text<32>, slot: usize, next: u32) {
        self.domains.push(Instances { name, slot, next });
    }

    /// Returns the number of ends that no fault explains.
    pub(crate) fn unexpected(&self) -> u64 {
        self.unexpected
    }

    /// Announces that the trial is about to end this instance. All ends until now must have been read.
    pub(crate) fn expect(&mut self, instance: DomainId, is_hang: bool) {
        self.target = Some(Target { instance, is_hang, is_read: false });
    }

    /// Withdraws the announcement: the fault has taken its effect, or there is none. If `has_ended` is false,
    /// another cause has ended the instance.
    pub(crate) fn conclude(
        &mut self,
        source: &impl Source,
        has_ended: bool,
        report: &mut dyn FnMut(Line),
    ) -> Result<(), Failure> {
        self.read(source, report)?;
        if let Some(Target { instance, is_read: true, .. }) = self.target.take()
            && !has_ended
        {
            self.report(source, instance, false, report)?;
        }
        Ok(())
    }

    /// Reads the crash log and reports each new end, except that of the announced instance.
    pub(crate) fn read(&mut self, source: &impl Source, report: &mut dyn FnMut(Line)) -> Result<(), Failure> {
        let mut new = Vec::new();
        // A record that is added during the loop only moves the others back.
        for back in 0.. {
            match source.death(back)? {
                Some(instance) if self.is_new(instance) => new.push(instance),
                // All earlier ones have been read as well.
                _ => break,
            }
        }
        for instance in new.into_iter().rev() {
            // A record that moved back was found twice.
            if !self.is_new(instance) {
                continue;
            }
            let (slot, generation) = (instance.slot(), instance.generation());
            let next = match self.domains.iter_mut().find(|domain| domain.slot == slot) {
                Some(domain) => core::mem::replace(&mut domain.next, generation + 1),
                None => {
                    self.add(Text::format(format_args!("the domain in slot {slot}")), slot, generation + 1);
                    generation
                }
            };
            // Later ends may have overwritten records.
            for generation in next..=generation {
                self.classify(source, DomainId::new(slot as u32, generation), report)?;
            }
        }
        Ok(())
    }

    fn is_new(&self, instance: DomainId) -> bool {
        let domain = self.domains.iter().find(|domain| domain.slot == instance.slot());
        domain.is_none_or(|domain| instance.generation() >= domain.next)
    }

    fn classify(
        &mut self,
        source: &impl Source,
        instance: DomainId,
        report: &mut dyn FnMut(Line),
    ) -> Result<(), Failure> {
        match &mut self.target {
            Some(target) if target.instance == instance => {
                target.is_read = true;
                Ok(())
            }
            Some(target) if target.is_hang => {
                let record = source.record(instance)?;
                let is_late = record.is_some_and(|record| record.starts_with(DEADLINE));
                self.report(source, instance, is_late, report)
            }
            _ => self.report(source, instance, false, report),
        }
    }

    /// Reports an end; `is_late` if the hang under way explains it.
    fn report(
        &mut self,
        source: &impl Source,
        instance: DomainId,
        is_late: bool,
        report: &mut dyn FnMut(Line),
    ) -> Result<(), Failure> {
        let record = source.record(instance)?.unwrap_or_else(|| NO_RECORD.into());
        let (domain, generation) = (self.name(instance), instance.generation());
        if is_late || self.faulty == Some(instance.slot()) {
            report(Consequence { domain, generation, record }.into());
        } else {
            self.unexpected += 1;
            report(Unexpected { domain, generation, record }.into());
        }
        Ok(())
    }

    fn name(&self, instance: DomainId) -> String {
        let domain = self.domains.iter().find(|domain| domain.slot == instance.slot());
        domain.map_or_else(String::new, |domain| domain.name.to_string())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    /// A crash log: instances and records, the latest last.
    #[derive(Default)]
    struct Records(Vec<(DomainId, &'static str)>);

    impl Source for Records {
        fn death(&self, back: u32) -> Result<Option<DomainId>, Failure> {
            Ok(self.0.iter().rev().nth(back as usize).map(|(instance, _)| *instance))
        }

        fn record(&self, instance: DomainId) -> Result<Option<String>, Failure> {
            let record = self.0.iter().find(|(known, _)| *known == instance);
            Ok(record.map(|(_, record)| (*record).into()))
        }
    }

    const DRIVER: usize = 2;
    const SHADOW: usize = 3;

    fn instance(slot: usize, generation: u32) -> DomainId {
        DomainId::new(slot as u32, generation)
    }

    /// A log of two domains that run as generations 5 and 0; earlier ends of the driver are in `records`.
    fn log(records: &mut Records) -> DeathLog {
        records.0 = (0..5).map(|generation| (instance(DRIVER, generation), "Killed")).collect();
        let mut log = DeathLog { domains: Vec::new(), target: None, faulty: None, unexpected: 0 };
        log.add(Text::new("nvme"), DRIVER, 5);
        log.add(Text::new("shadow-block"), SHADOW, 0);
        log
    }

    fn unexpected(domain: &str, generation: u32, record: &str) -> Line {
        Unexpected { domain: domain.into(), generation, record: record.into() }.into()
    }

    fn read(log: &mut DeathLog, records: &Records) -> Vec<Line> {
        let mut lines = Vec::new();
        log.read(records, &mut |line| lines.push(line)).unwrap_or_else(|failure| panic!("{failure}"));
        lines
    }

    fn conclude(log: &mut DeathLog, records: &Records, has_ended: bool) -> Vec<Line> {
        let mut lines = Vec::new();
        let outcome = log.conclude(records, has_ended, &mut |line| lines.push(line));
        outcome.unwrap_or_else(|failure| panic!("{failure}"));
        lines
    }

    #[test]
    fn an_end_without_a_fault_is_reported_once_with_its_record() {
        let mut records = Records::default();
        let mut log = log(&mut records);
        assert_eq!(read(&mut log, &records), []);
        records.0.push((instance(SHADOW, 0), "Panic: x"));
        records.0.push((instance(DRIVER, 5), "Deadline: y"));
        let lines = [unexpected("shadow-block", 0, "Panic: x"), unexpected("nvme", 5, "Deadline: y")];
        assert_eq!(read(&mut log, &records), lines);
        assert_eq!(read(&mut log, &records), []);
        assert_eq!(log.unexpected(), 2);
    }

    #[test]
    fn the_announced_end_is_not_reported_but_another_one_is() {
        let mut records = Records::default();
        let mut log = log(&mut records);
        log.expect(instance(DRIVER, 5), false);
        records.0.push((instance(DRIVER, 5), "Panic: x"));
        assert_eq!(read(&mut log, &records), []);
        records.0.push((instance(SHADOW, 0), "Deadline: y"));
        assert_eq!(conclude(&mut log, &records, true), [unexpected("shadow-block", 0, "Deadline: y")]);
        // The next instance of the same domain has not been announced.
        records.0.push((instance(DRIVER, 6), "Panic: z"));
        assert_eq!(read(&mut log, &records), [unexpected("nvme", 6, "Panic: z")]);
    }

    #[test]
    fn an_announced_instance_that_ended_by_another_cause_is_reported() {
        for is_read_before in [false, true] {
            let mut records = Records::default();
            let mut log = log(&mut records);
            log.expect(instance(DRIVER, 5), false);
            records.0.push((instance(DRIVER, 5), "Deadline: x"));
            if is_read_before {
                assert_eq!(read(&mut log, &records), []);
            }
            assert_eq!(conclude(&mut log, &records, false), [unexpected("nvme", 5, "Deadline: x")]);
            assert_eq!(log.unexpected(), 1);
        }
    }

    #[test]
    fn a_fault_that_the_machine_does_not_raise_ends_nothing() {
        let mut records = Records::default();
        let mut log = log(&mut records);
        log.expect(instance(DRIVER, 5), false);
        assert_eq!(conclude(&mut log, &records, false), []);
        assert_eq!(log.unexpected(), 0);
    }

    #[test]
    fn a_deadline_of_another_domain_during_a_hang_is_a_consequence() {
        let mut records = Records::default();
        let mut log = log(&mut records);
        log.expect(instance(DRIVER, 5), true);
        records.0.push((instance(SHADOW, 0), "Deadline at 1.0 s: x"));
        records.0.push((instance(SHADOW, 1), "Panic at 1.1 s: y"));
        let (domain, record) = ("shadow-block".into(), "Deadline at 1.0 s: x".into());
        let consequence = Consequence { domain, generation: 0, record }.into();
        let lines = [consequence, unexpected("shadow-block", 1, "Panic at 1.1 s: y")];
        assert_eq!(read(&mut log, &records), lines);
        assert_eq!(log.unexpected(), 1);
        // After the hang a deadline is unexpected again.
        conclude(&mut log, &records, true);
        records.0.push((instance(SHADOW, 2), "Deadline at 2.0 s: x"));
        assert_eq!(read(&mut log, &records), [unexpected("shadow-block", 2, "Deadline at 2.0 s: x")]);
    }

    #[test]
    fn only_the_driver_of_a_faulty_device_may_end_at_any_time() {
        let mut records = Records::default();
        let mut log = log(&mut records);
        log.faulty = Some(DRIVER);
        records.0.push((instance(DRIVER, 5), "Panic: x"));
        records.0.push((instance(SHADOW, 0), "Panic: y"));
        let (domain, record) = ("nvme".into(), "Panic: x".into());
        let consequence = Consequence { domain, generation: 5, record }.into();
        assert_eq!(read(&mut log, &records), [consequence, unexpected("shadow-block", 0, "Panic: y")]);
        assert_eq!(log.unexpected(), 1);
    }

    #[test]
    fn an_end_whose_record_was_replaced_is_reported() {
        let mut records = Records::default();
        let mut log = log(&mut records);
        records.0 = vec![(instance(DRIVER, 7), "Panic: x")];
        let lines = read(&mut log, &records);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(lines[2], unexpected("nvme", 7, "Panic: x"));
        assert_eq!(lines[0], unexpected("nvme", 5, NO_RECORD));
    }

    #[test]
    fn a_domain_that_was_not_there_at_the_beginning_is_reported() {
        let mut records = Records::default();
        let mut log = log(&mut records);
        records.0.push((instance(9, 3), "Abort: x"));
        assert_eq!(read(&mut log, &records), [unexpected("the domain in slot 9", 3, "Abort: x")]);
        assert_eq!(read(&mut log, &records), []);
    }
}
