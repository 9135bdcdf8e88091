//! Leader election on a Lease, as client-go does it: of several programs one works, the others wait.

use std::time::Duration;

use api_semantics::time::Timestamp as ApiTime;
use client::{Api, Client, Error, SmolStr, Value};
use parking_lot::Mutex;
use world::{Monotonic, World};

use crate::controller::chain;

/// How long a leader leads (upstream's figures).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElectionTimes {
    /// Others may take over after so long without a sign of the leader.
    pub lease: Duration,
    /// The leader gives up after so long without success in renewing.
    pub renew_deadline: Duration,
    /// Between attempts.
    pub retry_period: Duration,
}

impl Default for ElectionTimes {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// Waiting candidates ask after the retry period and up to so many times longer, by chance (client-go's figure).
const JITTER: f64 = 1.2;

/// The lease could not be renewed in time: somebody else may lead by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the leader's lease was lost")]
pub struct LostLease;

/// A candidate for leading.
#[derive(Debug)]
pub struct Election {
    leases: Api,
    world: World,
    namespace: SmolStr,
    name: SmolStr,
    identity: SmolStr,
    times: ElectionTimes,
    /// The lease as it was last seen, and when it was seen to change. The times in it are those of others' clocks.
    observed: Mutex<Option<(Value, Monotonic)>>,
}

impl Election {
    /// A candidate named `identity`, which no other has, for the Lease of a namespace and name
    /// (`kube-system/kube-controller-manager`).
    pub fn new(client: &Client, namespace: &str, name: &str, identity: &str, times: ElectionTimes) -> Self {
        Self {
            leases: client.resource("coordination.k8s.io", "v1", "leases").namespace(namespace),
            world: client.world().clone(),
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            times,
            observed: Mutex::default(),
        }
    }

    /// Waits until this candidate leads, then works for as long as it does. When the work is done the lease is given up.
    ///
    /// # Errors
    /// If the lease was lost; the work was dropped where it was, and a program had better end.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, LostLease> {
        self.acquire().await;
        tracing::info!(lease = %self.name, identity = %self.identity, "became the leader");
        tokio::select! {
            biased;
            () = self.renew() => {
                tracing::error!(lease = %self.name, identity = %self.identity, "lost the lease");
                Err(LostLease)
            }
            result = work => {
                self.release().await;
                Ok(result)
            }
        }
    }

    /// Who leads, as far as this candidate has seen; empty if nobody.
    pub fn leader(&self) -> SmolStr {
        let observed = self.observed.lock();
        observed.as_ref().map(|(lease, _)| lease.str_at(&["spec", "holderIdentity"]).into()).unwrap_or_default()
    }

    async fn acquire(&self) {
        while !self.try_once().await {
            let chance = self.world.random.u64() as f64 / u64::MAX as f64;
            let pause = self.times.retry_period.mul_f64(1.0 + JITTER * chance);
            world::timer::sleep(&*self.world.clock, pause).await;
        }
    }

    /// Renews the lease until that fails for too long.
    async fn renew(&self) {
        let clock = &*self.world.clock;
        loop {
            world::timer::sleep(clock, self.times.retry_period).await;
            let renewed = world::timer::timeout(clock, self.times.renew_deadline, async {
                while !self.try_once().await {
                    world::timer::sleep(clock, self.times.retry_period).await;
                }
            });
            if renewed.await.is_none() {
                return;
            }
        }
    }

    /// Takes or renews the lease if that may be. Whether this candidate leads now.
    async fn try_once(&self) -> bool {
        let result = self.attempt().await;
        result.unwrap_or_else(|error| {
            tracing::debug!(lease = %self.name, error = %chain(&error), "the lease could not be taken or renewed");
            false
        })
    }

    async fn attempt(&self) -> Result<bool, Error> {
        // A leader whose lease holds writes at once, and reads only if somebody else has written.
        let known = self.observed.lock().clone();
        if let Some((lease, since)) = known
            && self.is_ours(&lease)
            && self.is_valid(&lease, since)
        {
            match self.leases.update(&self.renewed(&lease)).await {
                Ok(lease) => {
                    self.observe(lease);
                    return Ok(true);
                }
                Err(error) => {
                    tracing::debug!(lease = %self.name, error = %chain(&error), "the lease must be read again");
                }
            }
        }
        let Some(lease) = self.leases.get_if_exists(&self.name).await? else {
            let lease = self.leases.create(&self.first()).await?;
            self.observe(lease);
            return Ok(true);
        };
        let since = self.observe(lease.clone());
        let held = !lease.str_at(&["spec", "holderIdentity"]).is_empty() && !self.is_ours(&lease);
        if held && self.is_valid(&lease, since) {
            return Ok(false);
        }
        let lease = self.leases.update(&self.renewed(&lease)).await?;
        self.observe(lease);
        Ok(true)
    }

    /// Remembers a lease, and since when it is so.
    fn observe(&self, lease: Value) -> Monotonic {
        let mut observed = self.observed.lock();
        let now = self.world.clock.monotonic();
        match &mut *observed {
            Some((known, since)) if known.get("spec") == lease.get("spec") => {
                *known = lease;
                *since
            }
            observed => {
                *observed = Some((lease, now));
                now
            }
        }
    }

    fn is_ours(&self, lease: &Value) -> bool {
        lease.str_at(&["spec", "holderIdentity"]) == self.identity
    }

    fn is_valid(&self, lease: &Value, since: Monotonic) -> bool {
        let seconds = lease.int_at(&["spec", "leaseDurationSeconds"]).unwrap_or_default();
        let lasts = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        self.world.clock.monotonic() < since.saturating_add(lasts)
    }

    fn now(&self) -> SmolStr {
        let now = self.world.clock.now();
        ApiTime { seconds: now.seconds, nanos: now.nanos }.to_micro_time()
    }

    fn first(&self) -> Value {
        let mut lease = Value::from([("apiVersion", "coordination.k8s.io/v1"), ("kind", "Lease")]);
        lease.set(&["metadata", "name"], self.name.clone());
        lease.set(&["metadata", "namespace"], self.namespace.clone());
        lease.set(&["spec", "leaseTransitions"], 0);
        self.taken(lease)
    }

    /// The lease held by this candidate from now on.
    fn taken(&self, mut lease: Value) -> Value {
        lease.set(&["spec", "acquireTime"], self.now());
        self.held(lease)
    }

    fn held(&self, mut lease: Value) -> Value {
        lease.set(&["spec", "holderIdentity"], self.identity.clone());
        lease.set(&["spec", "leaseDurationSeconds"], i64::try_from(self.times.lease.as_secs()).unwrap_or(i64::MAX));
        lease.set(&["spec", "renewTime"], self.now());
        lease
    }

    fn renewed(&self, lease: &Value) -> Value {
        if self.is_ours(lease) {
            return self.held(lease.clone());
        }
        let mut lease = lease.clone();
        let transitions = lease.int_at(&["spec", "leaseTransitions"]).unwrap_or_default();
        lease.set(&["spec", "leaseTransitions"], transitions + 1);
        self.taken(lease)
    }

    /// Gives the lease up, so that others need not wait for its end.
    async fn release(&self) {
        let Some((mut lease, _)) = self.observed.lock().clone() else { return };
        lease.set(&["spec", "holderIdentity"], "");
        lease.set(&["spec", "leaseDurationSeconds"], 1);
        for time in ["renewTime", "acquireTime"] {
            lease.set(&["spec", time], self.now());
        }
        let released =
            world::timer::timeout(&*self.world.clock, self.times.renew_deadline, self.leases.update(&lease)).await;
        match released {
            Some(Ok(lease)) => drop(self.observe(lease)),
            Some(Err(error)) => {
                tracing::warn!(lease = %self.name, error = %chain(&error), "the lease was not given up")
            }
            None => tracing::warn!(lease = %self.name, "the lease was not given up in time"),
        }
    }
}
