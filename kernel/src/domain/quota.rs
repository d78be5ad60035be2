//! The shared heap's quotas: an account for each domain, and reserves that each CPU takes from the accounts.
//!
//! A domain has an [`Account`]. A CPU takes a chunk of it into its [`CpuReserve`] and charges allocations to
//! that, so that an allocation takes no lock and touches no other CPU's memory. A reserve returns its
//! surplus. The payer of an object does not change when the object moves, so an account can be empty although
//! its domain owns little; then [`crate::domain::recount`] charges each domain for the objects that it owns.

use coppice_abi::{DomainId, SLOT_LIMIT};
use coppice_rref::{Payer, Quotas};

use crate::domain::{self, Domain, shared_heap};
use crate::platform::sync::{Lock, PerCpu};
use crate::sched::world::Stopped;

/// The largest chunk in bytes that a CPU takes from an account at once.
const LARGEST_CHUNK: u64 = 256 * 1024;

/// The chunks of all CPUs together are at most this fraction of a quota, so that the reserves alone never
/// cause a recount.
const CHUNKS_IN_QUOTA: u64 = 8;

/// The unused part of the quota of the present instance of a domain, without the reserves of the CPUs.
#[derive(Default)]
pub(crate) struct Account {
    payer: Payer,
    /// Bytes of objects that died with ended instances and that calls still read. `left` does not have them.
    kept: i64,
    /// Bytes. Negative if a recount found that the domain owns more than its quota: other domains may give it
    /// any amount.
    left: i64,
    /// Bytes that a CPU takes at once.
    chunk: u32,
}

impl Account {
    /// Begins an instance with the whole quota, whatever the previous instance used, except for objects of
    /// ended instances that calls still read.
    pub(crate) fn open(&mut self, payer: Payer, quota: u64, cpus: usize) {
        let chunk = (quota / (CHUNKS_IN_QUOTA * cpus as u64)).min(LARGEST_CHUNK);
        let left = quota.min(i64::MAX as u64) as i64 - self.kept;
        *self = Self { payer, kept: self.kept, left, chunk: chunk as u32 };
    }

    /// Bytes of objects that died with ended instances and that calls still read.
    pub(crate) fn kept(&self) -> u64 {
        self.kept as u64
    }

    /// Reserves a part of the quota for a child. That may be more than the account has left; then nothing is
    /// granted until enough is freed.
    pub(crate) fn reserve(&mut self, bytes: u64) {
        self.left -= bytes as i64;
    }

    /// Returns a part of the quota that was reserved for a child.
    pub(crate) fn unreserve(&mut self, bytes: u64) {
        self.left += bytes as i64;
    }

    /// Charges for an object of an ended instance that a call still reads, even beyond the quota.
    pub(super) fn keep(&mut self, bytes: usize) {
        self.kept += bytes as i64;
        self.left -= bytes as i64;
    }

    /// Charges for an object that the domain owns, even beyond the quota.
    pub(super) fn charge_owned(&mut self, bytes: usize) {
        self.left -= bytes as i64;
    }

    /// Takes a chunk of at least `bytes`. Returns its size.
    fn withdraw(&mut self, payer: Payer, bytes: usize) -> Option<usize> {
        let left = usize::try_from(self.left).ok().filter(|&left| self.payer == payer && left >= bytes)?;
        // Chunks shrink near the limit, so that one CPU does not hold the bytes that another one needs.
        let chunk = (self.chunk as usize).min(left / 2).max(bytes);
        self.left -= chunk as i64;
        Some(chunk)
    }

    fn deposit(&mut self, payer: Payer, bytes: usize) {
        if payer.is_slot() {
            self.kept -= bytes as i64;
            self.left += bytes as i64;
        } else if self.payer == payer {
            self.left += bytes as i64;
        }
        // Credits for a dead instance are discarded.
    }
}

/// One CPU's reserve from the account of one slot.
#[derive(Clone, Copy)]
struct CpuReserve {
    payer: Payer,
    /// Bytes that a reserve may keep; beyond this, a part is returned to the account.
    limit: u32,
    left: usize,
}

const EMPTY: CpuReserve = CpuReserve { payer: Payer::NONE, limit: 0, left: 0 };

impl CpuReserve {
    fn charge(&mut self, account: &Lock<Account>, payer: Payer, bytes: usize) -> bool {
        if (self.payer != payer || self.left < bytes) && !self.refill(&mut account.lock(), payer, bytes) {
            return false;
        }
        self.left -= bytes;
        true
    }

    /// Makes `bytes` available in the reserve for `payer`. If the account has too little, the reserve is
    /// emptied into it, so that later credits go to the account, where every CPU finds them.
    fn refill(&mut self, account: &mut Account, payer: Payer, bytes: usize) -> bool {
        if self.payer != payer {
            account.deposit(self.payer, self.left);
            *self = EMPTY;
        }
        let Some(chunk) = account.withdraw(payer, bytes - self.left) else {
            account.deposit(self.payer, self.left);
            *self = EMPTY;
            return false;
        };
        *self = Self { payer, limit: account.chunk.saturating_mul(2), left: self.left + chunk };
        true
    }

    fn credit(&mut self, account: &Lock<Account>, payer: Payer, bytes: usize) {
        if self.payer != payer {
            return account.lock().deposit(payer, bytes);
        }
        self.left += bytes;
        if self.left > self.limit as usize {
            let keep = self.limit as usize / 2;
            account.lock().deposit(payer, self.left - keep);
            self.left = keep;
        }
    }
}

/// The reserves of a CPU, by slot.
pub(crate) struct CpuReserves([CpuReserve; SLOT_LIMIT]);

impl CpuReserves {
    pub(crate) const fn new() -> Self {
        Self([EMPTY; SLOT_LIMIT])
    }
}

/// Returns the reserves of all CPUs of that instance's quota to its account.
pub(super) fn collect_reserves(instance: DomainId, stopped: &Stopped) {
    let Some(domain) = domain::get(instance.slot()) else { return };
    for reserves in shared_heap::reserves(stopped) {
        // SAFETY: no other CPU runs, and nothing here enters the reserves again.
        let reserve = core::mem::replace(&mut unsafe { reserves.get() }.0[domain.slot], EMPTY);
        domain.account.lock().deposit(reserve.payer, reserve.left);
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

/// Charges `to` instead of `from` for `bytes`, even beyond its quota.
pub(super) fn change_payer(from: Payer, to: Payer, bytes: usize) {
    if let Some(domain) = domain::get(from.slot()) {
        domain.account.lock().deposit(from, bytes);
    }
    if let Some(domain) = domain::get(to.slot()) {
        let mut account = domain.account.lock();
        if to.is_slot() {
            account.keep(bytes);
        } else if account.payer == to {
            account.charge_owned(bytes);
        }
    }
}

/// Returns the payer of `domain`'s account, and the bytes that the account and all reserves have left.
pub(crate) fn left(domain: &Domain, stopped: &Stopped) -> (Payer, i64) {
    let account = domain.account.lock();
    let reserved = |reserves: &PerCpu<CpuReserves>| {
        // SAFETY: no other CPU runs, and nothing here enters the reserves again.
        let reserve = unsafe { reserves.get() }.0[domain.slot];
        if reserve.payer == account.payer { reserve.left as i64 } else { 0 }
    };
    (account.payer, account.left + shared_heap::reserves(stopped).map(reserved).sum::<i64>())
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

    /// An account with a reserve on each of some CPUs, and the bytes that were granted.
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
            let reserved: usize = self
                .reserves
                .iter()
                .filter(|reserve| reserve.payer == payer)
                .map(|reserve| reserve.left)
                .sum();
            let account = self.account.lock();
            assert_eq!(
                account.left + (reserved + self.charged) as i64,
                QUOTA as i64,
                "bytes were lost or created"
            );
            assert!(account.left >= 0 && self.charged <= QUOTA as usize);
            assert!(
                reserved <= 2 * CPUS * account.chunk as usize,
                "the reserves of the CPUs hold {reserved} bytes, more than two chunks each"
            );
        }
    }

    #[test]
    fn bytes_are_neither_lost_nor_created_on_whichever_cpu_charges_and_credits() {
        let mut fixture = Fixture::new();
        let mut random = 0x853c_49e6_748f_ea9b_u64;
        let mut held = Vec::new();
        let mut refused = 0;
        for _ in 0..200_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let (cpu, bytes) = (random as usize % CPUS, 64 << (random >> 8 & 7));
            // Phases of mostly charging and mostly crediting alternate, so that the quota is exhausted at
            // times and nearly unused at others.
            let phase = held.len() * 64 / 2048 + (random >> 20 & 15) as usize;
            if phase % 17 < 10 {
                if fixture.charge(cpu, instance(0), bytes) { held.push(bytes) } else { refused += 1 }
            } else if let Some(bytes) = held.pop() {
                fixture.credit(cpu, instance(0), bytes);
            }
            fixture.check(instance(0));
        }
        assert!(refused > 0, "the quota was never reached");
    }

    #[test]
    fn all_cpus_together_are_granted_nearly_the_whole_quota() {
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
    fn bytes_credited_on_one_cpu_are_granted_on_another() {
        let mut fixture = Fixture::new();
        for _ in 0..100_000 {
            assert!(fixture.charge(0, instance(0), 4096), "refused although nothing is charged");
            fixture.credit(1, instance(0), 4096);
        }
        fixture.check(instance(0));
    }

    #[test]
    fn a_request_beyond_the_quota_is_refused_and_charges_nothing() {
        let mut fixture = Fixture::new();
        assert!(!fixture.charge(0, instance(0), QUOTA as usize + 1));
        assert!(fixture.charge(1, instance(0), QUOTA as usize));
        assert!(!fixture.charge(2, instance(0), 1));
        fixture.check(instance(0));
    }

    #[test]
    fn a_new_instance_has_the_whole_quota_and_credits_of_the_old_one_are_discarded() {
        let mut fixture = Fixture::new();
        for cpu in 0..CPUS {
            assert!(fixture.charge(cpu, instance(0), 100_000));
        }
        fixture.account.lock().open(instance(1), QUOTA, CPUS);
        fixture.charged = 0;
        // Objects that the old instance paid for are freed late, on CPUs with a reserve of the new one and on
        // CPUs without.
        assert!(fixture.charge(0, instance(1), 1000));
        for cpu in 0..CPUS {
            fixture.reserves[cpu].credit(&fixture.account, instance(0), 100_000);
        }
        fixture.check(instance(1));
        assert!(!fixture.charge(0, instance(0), 1), "a dead instance was granted memory");
        fixture.check(instance(1));
        assert!(fixture.charge(2, instance(1), QUOTA as usize / 2));
        fixture.check(instance(1));
    }

    #[test]
    fn bytes_that_an_ended_instance_has_left_behind_reduce_the_quota_until_they_are_freed() {
        let mut fixture = Fixture::new();
        fixture.account.lock().keep(QUOTA as usize - 1000);
        for generation in 1..4 {
            fixture.account.lock().open(instance(generation), QUOTA, CPUS);
            assert!(!fixture.charge(0, instance(generation), 1001), "generation {generation}");
        }
        assert!(fixture.charge(0, instance(3), 1000));
        fixture.reserves[1].credit(&fixture.account, Payer::of_slot(2), QUOTA as usize - 1000);
        assert_eq!(fixture.account.lock().kept(), 0);
        assert!(fixture.charge(0, instance(3), QUOTA as usize - 1000));
        fixture.check(instance(3));
    }

    #[test]
    fn a_domain_above_its_quota_is_refused_until_enough_is_freed() {
        let mut fixture = Fixture::new();
        fixture.account.lock().left = -5000;
        assert!(!fixture.charge(0, instance(0), 64));
        fixture.reserves[0].credit(&fixture.account, instance(0), 5000);
        assert!(!fixture.charge(0, instance(0), 64));
        fixture.reserves[0].credit(&fixture.account, instance(0), 64);
        assert!(fixture.charge(0, instance(0), 64));
    }
}
