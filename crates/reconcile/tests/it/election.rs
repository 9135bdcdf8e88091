//! Leaders on virtual time.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reconcile::{Election, ElectionTimes};
use testkit::{Faults, Simulation, simulate};

fn candidate(client: &client::Client, identity: &str) -> Arc<Election> {
    Arc::new(Election::new(client, "kube-system", "it", identity, ElectionTimes::default()))
}

fn lease(sim: &Simulation) -> Arc<client::Value> {
    Arc::clone(&sim.server.objects("coordination.k8s.io", "v1", "leases")[0])
}

#[test]
fn another_takes_over_when_the_leader_is_cut_off_and_never_two_lead() {
    for seed in 0..20 {
        simulate(seed, async |sim| {
            let leading = Arc::new(Mutex::new(Vec::new()));
            let lead = |name: &'static str, client: client::Client| {
                let (leading, election) = (Arc::clone(&leading), candidate(&client, name));
                let trace = sim.trace.clone();
                tokio::spawn(async move {
                    /// Leads until it is dropped.
                    struct Term(Arc<Mutex<Vec<&'static str>>>, &'static str);
                    impl Drop for Term {
                        fn drop(&mut self) {
                            self.0.lock().retain(|name| *name != self.1);
                        }
                    }
                    let lost = election
                        .run(async {
                            let leaders = {
                                let mut now = leading.lock();
                                now.push(name);
                                now.len()
                            };
                            assert_eq!(leaders, 1, "two lead");
                            let _term = Term(Arc::clone(&leading), name);
                            std::future::pending::<()>().await;
                        })
                        .await;
                    trace.note(format!("{name} has lost the lease"));
                    lost
                })
            };
            // The first meets faults, the second does not.
            let first = lead("first", sim.client("first"));
            sim.wait_for("the first leads", Duration::from_secs(60), || *leading.lock() == ["first"]).await;
            let second = lead("second", sim.tester());
            // Some trouble does not unseat a leader.
            sim.server.set_faults(Faults { refused: 50, lost_answer: 30, ..Faults::none() });
            sim.pass(Duration::from_secs(300)).await;
            assert_eq!(*leading.lock(), ["first"], "most renewals succeed in time");
            assert_eq!(lease(sim).int_at(&["spec", "leaseTransitions"]), Some(0));
            sim.server.set_faults(Faults { refused: 1000, ..Faults::none() });
            sim.pass(Duration::from_secs(13)).await;
            assert!(first.is_finished(), "it gives up before its lease ends");
            sim.wait_for("the second leads", Duration::from_secs(11), || *leading.lock() == ["second"]).await;
            let lease = lease(sim);
            assert_eq!(lease.str_at(&["spec", "holderIdentity"]), "second");
            assert_eq!(lease.int_at(&["spec", "leaseTransitions"]), Some(1));
            first.await.expect("no panic").expect_err("it has lost the lease");
            second.abort();
        });
    }
}

#[test]
fn who_is_done_gives_the_lease_up() {
    simulate(1, async |sim| {
        let first = candidate(&sim.tester(), "first");
        let second = candidate(&sim.tester(), "second");
        let waiting = {
            let second = Arc::clone(&second);
            tokio::spawn(async move { second.run(async { 2 }).await })
        };
        let result = first.run(async { 1 }).await;
        let took = waiting.await.expect("no panic");
        assert_eq!((result, took), (Ok(1), Ok(2)));
        let lease = lease(sim);
        assert_eq!(lease.str_at(&["spec", "holderIdentity"]), "");
        assert_eq!(lease.int_at(&["spec", "leaseDurationSeconds"]), Some(1));
        let passed = sim.world.clock.monotonic().saturating_since(world::Monotonic::START);
        assert!(passed < Duration::from_secs(6), "nobody waits for a lease that was given up: {passed:?}");
    });
}
