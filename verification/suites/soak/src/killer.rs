//! Killers: end kill targets and restart them. One end and restart is a *cycle*.

use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use core::time::Duration;

use coppice_experiment::Random;
use coppice_interfaces::{RpcError, RpcResult};
use coppice_runtime::time;
use coppice_test_interfaces::Fault;

use crate::clients::message;
use crate::kill_targets::{KillTarget, RestartBy, Role};
use crate::plan::Method;
use crate::soak::{Outcome, Soak, Step};
use coppice_experiment::Failure;

/// The times of a cycle.
pub(crate) struct Cycle {
    /// The time from just before the fault or the kill until its caller continues, or `None` if the restart
    /// does both.
    pub(crate) ending_ns: Option<u64>,
    /// The time from there to the first correct answer of the next instance.
    pub(crate) restart_ns: u64,
}

/// Ends the kill targets with the indices `mine` until enough cycles are done, as worker number `worker`.
pub(crate) fn run(soak: &Arc<Soak>, worker: usize, mine: &[usize], mut random: Random) -> Outcome {
    while !soak.is_ending() && soak.take_cycle() {
        let number = mine[random.below(mine.len() as u64) as usize];
        let mut killer =
            Killer { soak, worker, number, victim: &soak.kill_targets[number], random: &mut random };
        match killer.cycle()? {
            Some(cycle) => soak.count_cycle(&cycle),
            None => soak.give_cycle_back(),
        }
        if soak.plan.rest_us > 0 {
            time::sleep(Duration::from_micros(random.below(soak.plan.rest_us)));
        }
    }
    Ok(())
}

struct Killer<'a> {
    soak: &'a Soak,
    worker: usize,
    number: usize,
    victim: &'a KillTarget,
    random: &'a mut Random,
}

impl Killer<'_> {
    /// Returns `None` if this machine cannot raise the drawn fault, or if a deadline has ended the victim
    /// first.
    fn cycle(&mut self) -> Outcome<Option<Cycle>> {
        let (soak, victim) = (self.soak, self.victim);
        let (index, choice) = soak.plan.draw(self.random, victim.role);
        let (worker, number) = (&soak.workers[self.worker], self.number);
        let does = |step: Step| worker.does(step.code(number, index));
        let kinds = choice.method.kinds();
        does(Step::Prepare);
        let mut deadline_came_first = false;
        let fault_target =
            if let Role::FaultTarget(number) = victim.role { Some(soak.fault_target(number)) } else { None };
        if fault_target.is_some() && self.random.below(4) == 0 {
            self.create_resources()?;
        }
        if let (Method::Stress, Some(fault_target)) = (choice.method, fault_target) {
            fault_target.stress_services(3)?;
            time::sleep(Duration::from_micros(self.random.below(300)));
        }
        does(Step::End);
        victim.expect_end(kinds);
        let began = time::now();
        match choice.method {
            Method::Fault(fault) => match self.fail(fault) {
                // The direct caller gets an error of the fault's kind and no other.
                Err(error) if error.domain() == victim.instance() && kinds.contains(&error.kind()) => {}
                Err(error) if victim.deadline_came_first(&error) => deadline_came_first = true,
                Err(error) => return Err(Failure(format!("{}: {error} after {fault:?}", victim.name))),
                Ok(()) => {
                    choice.absent.store(true, Ordering::Relaxed);
                    return Ok(None);
                }
            },
            Method::Kill | Method::Stress => deadline_came_first = !soak.kill(victim)?,
            // The restart below ends it first.
            Method::Restart => {}
        }
        let ended = time::now();
        does(Step::Restart);
        match victim.restart_by {
            RestartBy::Supervisor if choice.method != Method::Restart => {
                soak.wait_for_next_instance(victim)?
            }
            _ => soak.restart(victim)?,
        }
        does(Step::Ask);
        self.ask()?;
        if deadline_came_first {
            choice.missed.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        }
        choice.ended.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Cycle {
            ending_ns: (choice.method != Method::Restart).then(|| (ended - began).as_nanos() as u64),
            restart_ns: (time::now() - ended).as_nanos() as u64,
        }))
    }

    /// Creates resources that the kernel must reclaim after the crash, of a random kind.
    fn create_resources(&mut self) -> Outcome {
        let Role::FaultTarget(number) = self.victim.role else { return Ok(()) };
        let fault_target = self.soak.fault_target(number);
        let count = 1 + self.random.below(8) as u32;
        let elsewhere = match self.random.below(7) {
            0 => fault_target.own(count).map(Ok)?,
            1 => fault_target.fill_heap(u64::from(count) * 10_000, true).map(|_| Ok(()))?,
            2 => fault_target.spawn(count.min(3)).map(|_| Ok(()))?,
            3 => match self.soak.wires.factory.make(7) {
                Ok(counter) => fault_target.adopt(counter).map(Ok)?,
                Err(error) => Err(error),
            },
            4 => fault_target.lend(count)?,
            // Calls of the fault target's threads that stay in the holder.
            5 => fault_target.read_late().map(Ok)?,
            _ => fault_target.call_slow_counter().map(Ok)?,
        };
        // The other domains may be dead at that moment.
        elsewhere.or_else(|error| self.soak.check(&error))
    }

    fn fail(&mut self, fault: Fault) -> RpcResult<()> {
        match self.victim.role {
            Role::FaultTarget(number) | Role::FaultTargetWithDeadline(number) => {
                self.soak.fault_target(number).fail(fault)
            }
            // The plan draws no other fault for these roles: a panic, with objects held by several calls.
            Role::ShadowedEcho => {
                self.soak.wires.shadowed_echo.panic(message(b"a killer's"), self.random.below(4) as u32)
            }
            _ => self.soak.wires.echo.panic(message(b"a killer's"), self.random.below(4) as u32),
        }
    }

    /// Waits for a correct answer of the new instance.
    fn ask(&self) -> Outcome {
        let wires = &self.soak.wires;
        let answer = match self.victim.role {
            Role::Echo => wires.echo.ping(5).map(|answer| answer == 5),
            Role::Relay if self.victim.name == "left" => wires.left.ping(5).map(|answer| answer == 5),
            Role::Relay => wires.right.ping(5).map(|answer| answer == 5),
            Role::Holder => wires.holder.pending_calls().map(|_| true),
            Role::Factory => wires.factory.live().map(|_| true),
            Role::FaultTarget(number) | Role::FaultTargetWithDeadline(number) => {
                self.soak.fault_target(number).count().map(|count| count > 0)
            }
            Role::ShadowedEcho => wires.shadowed_echo.ping(5).map(|answer| answer == 5),
        };
        match answer {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure(format!("wrong first answer of {}", self.victim.name))),
            Err(error) => self.check_link_error(error),
        }
    }

    /// An error of another link is an answer of this link.
    fn check_link_error(&self, error: RpcError) -> Outcome {
        if self.victim.is_named_by(&error) && !self.victim.deadline_came_first(&error) {
            return Err(Failure(format!("{} has just started: {error}", self.victim.name)));
        }
        self.soak.check(&error)
    }
}
