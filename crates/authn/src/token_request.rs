//! What becomes of a TokenRequest's `expirationSeconds`: limits, and the longer life of tokens that old clients do not
//! reload.

/// Life of a token when the request does not say.
pub const DEFAULT_EXPIRATION_SECONDS: i64 = 60 * 60;
/// The life that the ServiceAccount admission plugin asks for. Such tokens live longer and warn after this time.
pub const WARN_ONLY_EXPIRATION_SECONDS: i64 = 60 * 60 + 7;
/// The longer life.
pub const EXTENDED_EXPIRATION_SECONDS: i64 = 365 * 24 * 60 * 60;
const EXPIRATION_SECONDS_MIN: i64 = 10 * 60;
const EXPIRATION_SECONDS_MAX: i64 = 1 << 32;

/// The cluster's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `--service-account-max-token-expiration`.
    pub max_expiration_seconds: Option<i64>,
    /// `--service-account-extend-token-expiration`.
    pub extend_expiration: bool,
    /// The life of extended tokens.
    pub extended_expiration_seconds: i64,
    /// `--api-audiences`.
    pub api_audiences: Vec<String>,
}

impl Limits {
    /// Upstream's defaults.
    pub fn new(api_audiences: &[String]) -> Self {
        Self {
            max_expiration_seconds: None,
            extend_expiration: true,
            extended_expiration_seconds: EXTENDED_EXPIRATION_SECONDS,
            api_audiences: api_audiences.to_vec(),
        }
    }
}

/// How long the token is to live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// What the answer says: `spec.expirationSeconds`, and `status.expirationTimestamp` from now.
    pub expiration_seconds: i64,
    /// What the token says.
    pub token_seconds: i64,
    /// After how long using the token is stale.
    pub warn_after_seconds: Option<i64>,
    /// A warning for the client.
    pub warning: Option<String>,
}

/// The message of the `Invalid` error at `spec.expirationSeconds`, if there is one.
pub fn validate(expiration_seconds: i64) -> Option<&'static str> {
    if expiration_seconds < EXPIRATION_SECONDS_MIN {
        Some("may not specify a duration less than 10 minutes")
    } else if expiration_seconds > EXPIRATION_SECONDS_MAX {
        Some("may not specify a duration larger than 2^32 seconds")
    } else {
        None
    }
}

/// Decides how long a token lives. `audiences` are the request's, after the default.
pub fn plan(requested_seconds: i64, bound_to_pod: bool, audiences: &[String], limits: &Limits) -> Lifetime {
    let mut lifetime = Lifetime {
        expiration_seconds: requested_seconds,
        token_seconds: requested_seconds,
        warn_after_seconds: None,
        warning: None,
    };
    if let Some(max) = limits.max_expiration_seconds.filter(|max| *max > 0 && requested_seconds > *max) {
        lifetime.warning =
            Some(format!("requested expiration of {requested_seconds} seconds shortened to {max} seconds"));
        lifetime.expiration_seconds = max;
        lifetime.token_seconds = max;
    }
    let for_api_only = audiences.iter().all(|audience| limits.api_audiences.contains(audience));
    if limits.extend_expiration
        && bound_to_pod
        && for_api_only
        && lifetime.expiration_seconds == WARN_ONLY_EXPIRATION_SECONDS
    {
        lifetime.warn_after_seconds = Some(lifetime.expiration_seconds);
        lifetime.token_seconds = limits.extended_expiration_seconds;
    }
    lifetime
}
