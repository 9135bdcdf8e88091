//! How long requested tokens live.

use crate::{ISSUER, strings};
use authn::token_request::{self, Lifetime, Limits};

#[test]
fn durations_have_limits() {
    let short = Some("may not specify a duration less than 10 minutes");
    let long = Some("may not specify a duration larger than 2^32 seconds");
    for (seconds, want) in
        [(i64::MIN, short), (0, short), (599, short), (600, None), (1 << 32, None), ((1 << 32) + 1, long)]
    {
        assert_eq!(token_request::validate(seconds), want, "{seconds}");
    }
}

#[test]
fn lifetimes_are_shortened_and_extended_as_configured() {
    let limits = Limits::new(&strings(&[ISSUER, "api"]));
    let capped = Limits { max_expiration_seconds: Some(3000), ..limits.clone() };
    let exact = Limits { max_expiration_seconds: Some(3607), ..limits.clone() };
    let strict = Limits { extend_expiration: false, ..limits.clone() };
    let plain = |seconds| Lifetime {
        expiration_seconds: seconds,
        token_seconds: seconds,
        warn_after_seconds: None,
        warning: None,
    };
    let extended = Lifetime { token_seconds: 31_536_000, warn_after_seconds: Some(3607), ..plain(3607) };
    let warned = |from: i64, to: i64, lifetime: Lifetime| Lifetime {
        warning: Some(format!("requested expiration of {from} seconds shortened to {to} seconds")),
        ..lifetime
    };
    for (case, seconds, to_pod, audiences, limits, want) in [
        ("plain", 3600, true, &[ISSUER][..], &limits, plain(3600)),
        ("old clients", 3607, true, &[ISSUER], &limits, extended.clone()),
        ("old clients, all audiences ours", 3607, true, &["api", ISSUER], &limits, extended.clone()),
        ("not bound to a pod", 3607, false, &[ISSUER], &limits, plain(3607)),
        ("for others too", 3607, true, &[ISSUER, "vault"], &limits, plain(3607)),
        ("switched off", 3607, true, &[ISSUER], &strict, plain(3607)),
        ("too long", 7200, true, &[ISSUER], &capped, warned(7200, 3000, plain(3000))),
        ("within", 3000, true, &[ISSUER], &capped, plain(3000)),
        ("shortened to old clients' time", 9000, true, &[ISSUER], &exact, warned(9000, 3607, extended.clone())),
    ] {
        assert_eq!(token_request::plan(seconds, to_pod, &strings(audiences), limits), want, "{case}");
    }
}
