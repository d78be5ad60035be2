//! The shared heap's quotas: what each domain may still have, and where each CPU finds it without asking the others.
//!
//! A domain has an [`Account`]. A CPU takes a chunk of it into its [`CpuReserve`] and hands that out, so that an allocation
//! takes no lock and touches no other CPU's memory. What a reserve has too much of goes back. Who pays for an object does
//! not change when the object moves, so an account can be empty although its domain owns little; then
//! [`crate::domain::recount`] charges each domain for what it owns.

use coppice_abi::SLOT_LIMIT;
use coppice_rref::{Payer, Quotas};

use crate::domain::{self, Domain, shared_heap};
use crate::platform::sync::{Lock, PerCpu};
use crate::sched::world::Stopped;

/// Most bytes that a CPU takes from an account at once.
const LARGEST_CHUNK: u64 = 256 * 1024;

/// All chunks together are this part of a quota at most: what CPUs have in hand is no reason to count.
const CHUNKS_IN_QUOTA: u64 = 8;

/// What the present instance of a domain may still have, but for what CPUs have in hand.
#[derive(Default)]
pub(crate) struct Account {
    payer: Payer,
    /// Negative if a count found that the domain owns more than its quota: others may give it as much as they like.
    left: i64,
    /// What a CPU takes at once.
    chunk: u32,
}

impl Account {
    /// Begins a instance: all of the quota is there, whatever became of the one before.
    pub(crate) fn open(&mut self, payer: Payer, quota: u64, cpus: usize) {
        let chunk = (quota / (CHUNKS_IN_QUOTA * cpus as u64)).min(LARGEST_CHUNK);
        *self = Self { payer, left: quota.min(i64::MAX as u64) as i64, chunk: chunk as u32 };
    }

    /// Makes the quota smaller by what a child gets of it. That may be more than is left for now: then nothing is granted
    /// until enough is freed.
    pub(crate) fn reserve(&mut self, bytes: u64) {
        self.left -= bytes as i64;
    }

    /// Takes back what was lent.
    pub(crate) fn unreserve(&mut self, bytes: u64) {
        self.left += bytes as i64;
    }

    /// Sets what is left to all of `quota`, before [`Self::charge_owned`].
    pub(super) fn reset(&mut self, quota: u64) {
        self.left = quota.min(i64::MAX as u64) as i64;
    }

    /// Charges for an object that the domain owns, whatever is left.
    pub(super) fn charge_owned(&mut self, bytes: usize) {
        self.left -= bytes as i64;
    }

    /// At least `bytes`, or nothing.
    fn withdraw(&mut self, payer: Payer, bytes: usize) -> Option<usize> {
        let left = usize::try_from(self.left).ok().filter(|&left| self.payer == payer && left >= bytes)?;
        // Less and less, so that near the limit one CPU does not have in hand what another one needs.
        let chunk = (self.chunk as usize).min(left / 2).max(bytes);
        self.left -= chunk as i64;
        Some(chunk)
    }

    fn deposit(&mut self, payer: Payer, bytes: usize) {
        // Of a instance that is over, nobody wants it back.
        if self.payer == payer {
            self.left += bytes as i64;
        }
    }
}

/// What one CPU has in hand of the account of one slot.
#[derive(Clone, Copy)]
struct CpuReserve {
    payer: Payer,
    /// Beyond this, some goes back.
    most: u32,
    left: usize,
}

const EMPTY: CpuReserve = CpuReserve { payer: Payer::NONE, most: 0, left: 0 };

impl CpuReserve {
    fn charge(&mut self, account: &Lock<Account>, payer: Payer, bytes: usize) -> bool {
        if (self.payer != payer || self.left < bytes) && !self.fill(&mut account.lock(), payer, bytes) {
            return false;
        }
        self.left -= bytes;
        true
    }

    /// Sees to it that `bytes` are in hand for `payer`. If they cannot be had, nothing stays in hand: so what is given back
    /// next goes to the account, where every CPU finds it.
    fn fill(&mut self, account: &mut Account, payer: Payer, bytes: usize) -> bool {
        if self.payer != payer {
            account.deposit(self.payer, self.left);
            *self = EMPTY;
        }
        let Some(chunk) = account.withdraw(payer, bytes - self.left) else {
            account.deposit(self.payer, self.left);
            *self = EMPTY;
            return false;
        };
        *self = Self { payer, most: account.chunk.saturating_mul(2), left: self.left + chunk };
        true
    }

    fn credit(&mut self, account: &Lock<Account>, payer: Payer, bytes: usize) {
        if self.payer != payer {
            return account.lock().deposit(payer, bytes);
        }
        self.left += bytes;
        if self.left > self.most as usize {
            let keep = self.most as usize / 2;
            account.lock().deposit(payer, self.left - keep);
            self.left = keep;
        }
    }
}

/// A CPU's reserves, by slot.
pub(crate) struct CpuReserves([CpuReserve; SLOT_LIMIT]);

impl CpuReserves {
    pub(crate) const fn new() -> Self {
        Self([EMPTY; SLOT_LIMIT])
    }

    /// Forgets what is in hand.
    pub(super) fn clear(&mut self) {
        self.0.fill(EMPTY);
    }
}

impl Quotas for CpuReserves {
    fn charge(&mut self, payer: Payer, bytes: usize) -> bool {
        // The kernel has no quota.
        let Some(domain) = domain::get(payer.slot()) else { return true };
        self.0[payer.slot()].charge(&domain.account, payer, bytes)
    }

    fn credit(&mut self, payer: Payer, bytes: usize) {
        if let Some(domain) = domain::get(payer.slot()) {
            self.0[payer.slot()].credit(&domain.account, payer, bytes);
        }
    }
}

/// Who is charged what of `domain`'s quota is used, and what its account and all reserves have left of it.
pub(crate) fn left(domain: &Domain, stopped: &Stopped) -> (Payer, i64) {
    let account = domain.account.lock();
    let in_hand = |reserves: &PerCpu<CpuReserves>| {
        // SAFETY: no other CPU runs, and nothing here comes back to the reserves.
        let reserve = unsafe { reserves.get() }.0[domain.slot];
        if reserve.payer == account.payer { reserve.left as i64 } else { 0 }
    };
    (account.payer, account.left + shared_heap::reserves(stopped).map(in_hand).sum::<i64>())
}

#[cfg(test)]
mod tests {
    use coppice_abi::DomainId;

    use super::*;

    const QUOTA: u64 = 1 << 20;
    const CPUS: usize = 4;

    fn instance(generation: u32) -> Payer {
        Payer::of(DomainId::new(2, generation))
    }

    /// An account with a reserve on each of some CPUs, and what was handed out.
    struct Fixture {
        account: Lock<Account>,
        reserves: [CpuReserve; CPUS],
        charged: usize,
    }

    impl Fixture {
        fn new() -> Self {
            let account = Lock::new(Account::default());
            account.lock().open(instance(0), QUOTA, CPUS);
            Self { account, reserves: [EMPTY; CPUS], charged: 0 }
        }

        fn charge(&mut self, cpu: usize, payer: Payer, bytes: usize) -> bool {
            let granted = self.reserves[cpu].charge(&self.account, payer, bytes);
            self.charged += if granted { bytes } else { 0 };
            granted
        }

        fn credit(&mut self, cpu: usize, payer: Payer, bytes: usize) {
            self.reserves[cpu].credit(&self.account, payer, bytes);
            self.charged -= bytes;
        }

        #[track_caller]
        fn check(&self, payer: Payer) {
            let in_hand: usize = self
                .reserves
                .iter()
                .filter(|reserve| reserve.payer == payer)
                .map(|reserve| reserve.left)
                .sum();
            let account = self.account.lock();
            assert_eq!(account.left + (in_hand + self.charged) as i64, QUOTA as i64, "bytes are lost");
            assert!(account.left >= 0 && self.charged <= QUOTA as usize);
            assert!(
                in_hand <= 2 * CPUS * account.chunk as usize,
                "the CPUs have {in_hand} bytes in hand: that is hoarding"
            );
        }
    }

    #[test]
    fn bytes_are_neither_lost_nor_made_whatever_cpu_charges_and_credits() {
        let mut fixture = Fixture::new();
        let mut random = 0x853c_49e6_748f_ea9b_u64;
        let mut held = Vec::new();
        let mut refused = 0;
        for _ in 0..200_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let (cpu, bytes) = (random as usize % CPUS, 64 << (random >> 8 & 7));
            // More often one than the other, by turns, so that it is full now and empty then.
            let tide = held.len() * 64 / 2048 + (random >> 20 & 15) as usize;
            if tide % 17 < 10 {
                if fixture.charge(cpu, instance(0), bytes) { held.push(bytes) } else { refused += 1 }
            } else if let Some(bytes) = held.pop() {
                fixture.credit(cpu, instance(0), bytes);
            }
            fixture.check(instance(0));
        }
        assert!(refused > 0, "the quota was never reached");
    }

    #[test]
    fn cpus_together_get_nearly_all_of_the_quota() {
        let mut fixture = Fixture::new();
        let mut granted = true;
        while granted {
            granted = (0..CPUS)
                .map(|cpu| fixture.charge(cpu, instance(0), 1000))
                .filter(|granted| *granted)
                .count()
                > 0;
        }
        assert!(fixture.charged as u64 > QUOTA * 99 / 100, "refused at {} of {QUOTA}", fixture.charged);
        fixture.check(instance(0));
    }

    #[test]
    fn one_cpu_gets_what_another_one_gives_back() {
        let mut fixture = Fixture::new();
        for _ in 0..100_000 {
            assert!(fixture.charge(0, instance(0), 4096), "refused although nothing is held");
            fixture.credit(1, instance(0), 4096);
        }
        fixture.check(instance(0));
    }

    #[test]
    fn more_than_the_quota_is_refused_at_once_and_costs_nothing() {
        let mut fixture = Fixture::new();
        assert!(!fixture.charge(0, instance(0), QUOTA as usize + 1));
        assert!(fixture.charge(1, instance(0), QUOTA as usize));
        assert!(!fixture.charge(2, instance(0), 1));
        fixture.check(instance(0));
    }

    #[test]
    fn a_new_instance_has_the_whole_quota_and_the_old_one_gives_nothing_back_to_it() {
        let mut fixture = Fixture::new();
        for cpu in 0..CPUS {
            assert!(fixture.charge(cpu, instance(0), 100_000));
        }
        fixture.account.lock().open(instance(1), QUOTA, CPUS);
        fixture.charged = 0;
        // What the old instance paid for is freed late, on CPUs that know the new one and on such that do not.
        assert!(fixture.charge(0, instance(1), 1000));
        for cpu in 0..CPUS {
            fixture.reserves[cpu].credit(&fixture.account, instance(0), 100_000);
        }
        fixture.check(instance(1));
        assert!(!fixture.charge(0, instance(0), 1), "a instance that is over is granted something");
        fixture.check(instance(1));
        assert!(fixture.charge(2, instance(1), QUOTA as usize / 2));
        fixture.check(instance(1));
    }

    #[test]
    fn who_owns_more_than_its_quota_gets_nothing_until_enough_is_freed() {
        let mut fixture = Fixture::new();
        fixture.account.lock().left = -5000;
        assert!(!fixture.charge(0, instance(0), 64));
        fixture.reserves[0].credit(&fixture.account, instance(0), 5000);
        assert!(!fixture.charge(0, instance(0), 64));
        fixture.reserves[0].credit(&fixture.account, instance(0), 64);
        assert!(fixture.charge(0, instance(0), 64));
    }
}
