//! Building and checking transactions.

use store::{LeaseId, Op, Revision, StoreError, TXN_BYTES_MAX, Txn};

#[test]
fn each_shorthand_compares_what_it_says() {
    let check = |txn: Txn, compare: Option<u64>, puts: bool| {
        let compares: Vec<_> = txn.compares.iter().map(|compare| (&compare.key[..], compare.mod_revision.0)).collect();
        assert_eq!(compares, compare.map(|revision| (&b"k"[..], revision)).into_iter().collect::<Vec<_>>());
        assert_eq!(txn.ops.len(), 1);
        assert_eq!(txn.ops[0].key(), "k");
        assert_eq!(matches!(txn.ops[0], Op::Put { .. }), puts);
    };
    check(Txn::create("k", "v"), Some(0), true);
    check(Txn::update("k", "v", Revision(7)), Some(7), true);
    check(Txn::put("k", "v"), None, true);
    check(Txn::delete_if("k", Revision(7)), Some(7), false);
    check(Txn::delete("k"), None, false);
}

#[test]
fn a_lease_goes_to_every_put() {
    let txn = Txn::create("a", "v").and(Txn::put("b", "v")).and(Txn::delete("c")).with_lease(LeaseId(5));
    let leases: Vec<_> =
        txn.ops.iter().filter_map(|op| if let Op::Put { lease, .. } = op { *lease } else { None }).collect();
    assert_eq!(leases, [LeaseId(5), LeaseId(5)]);
    assert_eq!(txn.compares.len(), 1);
}

#[test]
fn what_no_store_takes_is_refused() {
    let twice = Txn::put("a", "1").and(Txn::delete("b")).and(Txn::delete("a"));
    assert!(matches!(twice.validate(), Err(StoreError::DuplicateKey)));
    assert!(Txn::put("a", "1").and(Txn::delete("b")).validate().is_ok());
    assert!(Txn::default().validate().is_ok());

    let of_size = |size: usize| Txn::put("k", vec![0; size]);
    let room = TXN_BYTES_MAX - Txn::put("k", "").size();
    assert!(of_size(room).validate().is_ok());
    assert!(matches!(of_size(room + 1).validate(), Err(StoreError::TooLarge { size, max }) if size == max + 1));
}
