//! One lease for many keys.

use std::sync::Arc;
use std::time::Duration;

use store::model::ModelStore;
use store::{SHARED_LEASE_KEYS_MAX, SharedLeases, Store, Txn};
use world::{ManualClock, Timestamp};

use crate::ready;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn keys_of_one_minute_share_a_lease_and_none_ends_early() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(0)));
    let store: Arc<dyn Store> = Arc::new(ModelStore::new(clock.clone()));
    let leases = SharedLeases::new(Arc::clone(&store), clock.clone());

    let first = ready(leases.lease(HOUR)).expect("lease");
    clock.advance(Duration::from_secs(59));
    assert_eq!(ready(leases.lease(HOUR)).expect("lease"), first);
    assert_ne!(ready(leases.lease(2 * HOUR)).expect("lease"), first, "another time to live, another lease");
    ready(store.txn(Txn::put("/event", "x").with_lease(first))).expect("put");

    clock.advance(Duration::from_secs(1));
    assert_ne!(ready(leases.lease(HOUR)).expect("lease"), first);
    clock.advance(HOUR - Duration::from_secs(1));
    assert!(
        ready(store.get(b"/event", None)).expect("get").record.is_some(),
        "an hour after the put, but for a second"
    );
    clock.advance(Duration::from_secs(61));
    assert!(ready(store.get(b"/event", None)).expect("get").record.is_none());
}

#[test]
fn a_lease_takes_only_so_many_keys() {
    let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(0)));
    let leases = SharedLeases::new(Arc::new(ModelStore::new(clock.clone())), clock);
    let first = ready(leases.lease(HOUR)).expect("lease");
    for _ in 1..SHARED_LEASE_KEYS_MAX {
        assert_eq!(ready(leases.lease(HOUR)).expect("lease"), first);
    }
    assert_ne!(ready(leases.lease(HOUR)).expect("lease"), first);
}
