//! Service account tokens: issued bound to a time, an audience and an object; verified by signature, claims and the
//! existence of what they name. Tokens kept in Secrets, as Kubernetes had them first, verify as well.

use crate::authenticator::{Notes, TokenAuthenticator, TokenUser};
use crate::jwt::{self, Audience, NumericDate, SignatureError, Unverified, VerifyingKey};
use crate::user::{self, CREDENTIAL_ID_KEY, NODE_NAME_KEY, NODE_UID_KEY, POD_NAME_KEY, POD_UID_KEY, UserInfo};
use base64::Engine as _;
use pki::{JwsSigner, PkiError, PublicKey};
use ring::rand::SecureRandom as _;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::fmt;
use std::sync::Arc;

/// The issuer of tokens kept in Secrets.
pub const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";
/// Clocks may differ by this much, and an object may be gone for this long.
const LEEWAY_SECONDS: i64 = 60;

// === issuing ===

/// An object by name and uid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectRef {
    /// The object's name.
    #[serde(default, skip_serializing_if = "SmolStr::is_empty")]
    pub name: SmolStr,
    /// The object's uid. A pod's node may be named without one.
    #[serde(default, skip_serializing_if = "SmolStr::is_empty")]
    pub uid: SmolStr,
}

impl ObjectRef {
    /// An object by name and uid.
    pub fn new(name: &str, uid: &str) -> Self {
        Self { name: name.into(), uid: uid.into() }
    }
}

/// What a token's life hangs on, beside its service account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Binding {
    /// Nothing else.
    #[default]
    None,
    /// A pod, and the node that it runs on if it has one.
    Pod(ObjectRef, Option<ObjectRef>),
    /// A node.
    Node(ObjectRef),
    /// A Secret.
    Secret(ObjectRef),
}

/// A token to be issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The service account's namespace.
    pub namespace: SmolStr,
    /// The service account.
    pub service_account: ObjectRef,
    /// Who may accept the token.
    pub audiences: Vec<String>,
    /// What the token's life hangs on.
    pub binding: Binding,
    /// How long it is good.
    pub lifetime_seconds: i64,
    /// After how long its use is noted as stale, if at all.
    pub warn_after_seconds: Option<i64>,
}

/// A token just issued.
pub struct Issued {
    /// The token: a secret.
    pub token: String,
    /// Its id, as in the audit annotation `authentication.kubernetes.io/issued-credential-id`.
    pub credential_id: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issued({}, secret)", self.credential_id)
    }
}

/// Issues tokens under the cluster's name.
#[derive(Clone, Debug)]
pub struct Issuer {
    issuer: String,
    signer: JwsSigner,
}

// The order of the fields is that of upstream's tokens: alphabetical.
#[derive(Serialize)]
struct NewClaims<'a> {
    aud: &'a [String],
    exp: i64,
    iat: i64,
    iss: &'a str,
    jti: &'a str,
    #[serde(rename = "kubernetes.io")]
    kubernetes: NewPrivateClaims<'a>,
    nbf: i64,
    sub: &'a str,
}

#[derive(Serialize)]
struct NewPrivateClaims<'a> {
    namespace: &'a SmolStr,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a ObjectRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a ObjectRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a ObjectRef>,
    serviceaccount: &'a ObjectRef,
    #[serde(skip_serializing_if = "Option::is_none")]
    warnafter: Option<i64>,
}

#[derive(Serialize)]
struct NewLegacyClaims<'a> {
    iss: &'a str,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: &'a str,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret_name: &'a str,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    service_account_name: &'a str,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    service_account_uid: &'a str,
    sub: &'a str,
}

impl Issuer {
    /// Issues under this name (`--service-account-issuer`) with this key.
    pub fn new(issuer: &str, signer: JwsSigner) -> Self {
        Self { issuer: issuer.to_owned(), signer }
    }

    /// The cluster's name in tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The public half of the signing key.
    pub fn public_key(&self) -> &PublicKey {
        self.signer.public_key()
    }

    /// Issues a token that is good from `now`.
    pub fn issue(&self, order: &Order, now: i64) -> Result<Issued, PkiError> {
        let jti = random_uuid()?;
        let (pod, node, secret) = match &order.binding {
            Binding::None => (None, None, None),
            Binding::Pod(pod, node) => (Some(pod), node.as_ref(), None),
            Binding::Node(node) => (None, Some(node), None),
            Binding::Secret(secret) => (None, None, Some(secret)),
        };
        let claims = NewClaims {
            aud: &order.audiences,
            exp: now.saturating_add(order.lifetime_seconds),
            iat: now,
            iss: &self.issuer,
            jti: &jti,
            kubernetes: NewPrivateClaims {
                namespace: &order.namespace,
                node,
                pod,
                secret,
                serviceaccount: &order.service_account,
                warnafter: order.warn_after_seconds.map(|seconds| now.saturating_add(seconds)),
            },
            nbf: now,
            sub: &user::service_account_username(&order.namespace, &order.service_account.name),
        };
        Ok(Issued { token: self.sign(&claims)?, credential_id: credential_id(&jti) })
    }

    /// Makes the token of a Secret of type `kubernetes.io/service-account-token`: without an end, good as long as the
    /// Secret holds it.
    pub fn issue_legacy(
        &self,
        namespace: &str,
        service_account: &ObjectRef,
        secret_name: &str,
    ) -> Result<String, PkiError> {
        self.sign(&NewLegacyClaims {
            iss: LEGACY_ISSUER,
            namespace,
            secret_name,
            service_account_name: &service_account.name,
            service_account_uid: &service_account.uid,
            sub: &user::service_account_username(namespace, &service_account.name),
        })
    }

    fn sign(&self, claims: &impl Serialize) -> Result<String, PkiError> {
        let payload = serde_json::to_vec(claims).map_err(|error| PkiError::Key(error.to_string()))?;
        jwt::sign(&self.signer, &payload)
    }
}

fn credential_id(jti: &str) -> String {
    format!("JTI={jti}")
}

/// A random UUID (version 4).
fn random_uuid() -> Result<String, PkiError> {
    let mut bytes = [0u8; 16];
    ring::rand::SystemRandom::new().fill(&mut bytes).map_err(|ring::error::Unspecified| PkiError::Random)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

// === verifying ===

/// An object that a token names, as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectState {
    /// Its uid.
    pub uid: SmolStr,
    /// Its `deletionTimestamp`, unix time.
    pub deletion_timestamp: Option<i64>,
}

/// A service account as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAccountState {
    /// Uid and deletion.
    pub object: ObjectState,
    /// The names in `secrets`.
    pub secrets: Vec<SmolStr>,
}

/// A Secret as it is now.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretState {
    /// Uid and deletion.
    pub object: ObjectState,
    /// `data.token`.
    pub token: Vec<u8>,
    /// The label `kubernetes.io/legacy-token-invalid-since`, if it is set and not empty.
    pub invalid_since: Option<SmolStr>,
}

impl fmt::Debug for SecretState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretState")
            .field("object", &self.object)
            .field("invalid_since", &self.invalid_since)
            .finish_non_exhaustive()
    }
}

/// Where the objects that tokens name are looked up. `Ok(None)` means that there is none; `Err` says why it cannot be
/// told.
pub trait TokenObjects: Send + Sync {
    /// The service account.
    fn service_account(&self, namespace: &str, name: &str) -> Result<Option<ServiceAccountState>, String>;
    /// The pod.
    fn pod(&self, namespace: &str, name: &str) -> Result<Option<ObjectState>, String>;
    /// The Secret.
    fn secret(&self, namespace: &str, name: &str) -> Result<Option<SecretState>, String>;
    /// The node.
    fn node(&self, name: &str) -> Result<Option<ObjectState>, String>;
}

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The signature is not one of ours.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The claims cannot be read.
    #[error("service account token claims could not be validated: {0}")]
    Claims(String),
    /// The token is for others.
    #[error("token audiences {} is invalid for the target audiences {}", go_list(token), go_list(wanted))]
    Audience {
        /// Whom the token is for.
        token: Vec<String>,
        /// Who we are.
        wanted: Vec<String>,
    },
    /// Its time is over.
    #[error("service account token has expired")]
    Expired,
    /// Its time has not begun.
    #[error("service account token is not valid yet")]
    NotValidYet,
    /// It claims to be issued later than now.
    #[error("service account token is issued in the future")]
    IssuedInTheFuture,
    /// A claim that must be there is not.
    #[error("{0} claim is missing")]
    MissingClaim(&'static str),
    /// The subject is not the service account that the other claims name.
    #[error("sub claim is invalid")]
    InvalidSubject,
    /// The service account is not there.
    #[error("serviceaccounts {0:?} not found")]
    ServiceAccountNotFound(String),
    /// The service account has been deleted.
    #[error("service account {0} has been deleted")]
    ServiceAccountDeleted(String),
    /// Another service account has the name now.
    #[error("service account UID ({actual}) does not match claim ({claimed})")]
    ServiceAccountUid {
        /// The uid now.
        actual: SmolStr,
        /// The uid in the token.
        claimed: SmolStr,
    },
    /// What the token is bound to is gone.
    #[error("service account token has been invalidated")]
    Invalidated,
    /// Another object has the name of the one that the token is bound to.
    #[error("{kind} UID ({actual}) does not match service account {kind} ref claim ({claimed})")]
    BoundUid {
        /// `pod`, `secret` or `node`.
        kind: &'static str,
        /// The uid now.
        actual: SmolStr,
        /// The uid in the token.
        claimed: SmolStr,
    },
    /// The Secret holds another token now.
    #[error("service account token does not match server's copy")]
    Replaced,
    /// The Secret is labelled as no longer to be used.
    #[error(
        "the token in secret {namespace}/{secret} for service account {namespace}/{service_account} has been marked \
         invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the \
         'kubernetes.io/legacy-token-invalid-since' label from the secret to temporarily allow use of this token"
    )]
    MarkedInvalid {
        /// The namespace of both.
        namespace: String,
        /// The Secret.
        secret: String,
        /// The service account.
        service_account: String,
    },
    /// It cannot be told whether the objects are there.
    #[error("service account token could not be looked up: {0}")]
    Lookup(String),
}

/// Strings as Go's `%q` prints a list of them.
fn go_list(values: &[String]) -> String {
    format!("[{}]", values.iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join(" "))
}

/// Verifies service account tokens.
#[derive(Clone)]
pub struct Verifier {
    issuers: Vec<String>,
    keys: Vec<VerifyingKey>,
    api_audiences: Vec<String>,
    objects: Arc<dyn TokenObjects>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("issuers", &self.issuers)
            .field("keys", &self.keys)
            .field("api_audiences", &self.api_audiences)
            .finish_non_exhaustive()
    }
}

/// How a good token was made, for metrics (`serviceaccount_*_tokens_total`) and for marking Secrets as used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenUse {
    /// A bound token.
    Bound,
    /// A bound token with an extended life; it is stale after its `warnafter`.
    Extended {
        /// Whether `warnafter` has passed.
        stale: bool,
    },
    /// The token of a Secret, to be labelled `kubernetes.io/legacy-token-last-used`.
    Legacy {
        /// The Secret's namespace.
        namespace: SmolStr,
        /// The Secret's name.
        secret: SmolStr,
        /// Whether the token controller made the Secret.
        auto_generated: bool,
    },
}

/// A good token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The service account, with its groups and what the token is bound to.
    pub user: UserInfo,
    /// The audiences that were both wanted and granted.
    pub audiences: Vec<String>,
    /// How the token was made.
    pub token_use: TokenUse,
    /// Audit annotations.
    pub annotations: Vec<(&'static str, String)>,
    /// Warnings for the client.
    pub warnings: Vec<String>,
    /// The last second for which the token is good, if it has an end.
    pub expires_at: Option<i64>,
}

#[derive(Deserialize)]
struct IssuerClaim {
    #[serde(default)]
    iss: String,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
    #[serde(default)]
    aud: Audience,
    exp: Option<NumericDate>,
    nbf: Option<NumericDate>,
    iat: Option<NumericDate>,
    #[serde(default)]
    jti: String,
    #[serde(default, rename = "kubernetes.io")]
    kubernetes: PrivateClaims,
    #[serde(default, rename = "kubernetes.io/serviceaccount/namespace")]
    legacy_namespace: String,
    #[serde(default, rename = "kubernetes.io/serviceaccount/secret.name")]
    legacy_secret: String,
    #[serde(default, rename = "kubernetes.io/serviceaccount/service-account.name")]
    legacy_name: String,
    #[serde(default, rename = "kubernetes.io/serviceaccount/service-account.uid")]
    legacy_uid: String,
}

#[derive(Default, Deserialize)]
struct PrivateClaims {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    serviceaccount: ObjectRef,
    pod: Option<ObjectRef>,
    secret: Option<ObjectRef>,
    node: Option<ObjectRef>,
    warnafter: Option<NumericDate>,
}

impl Verifier {
    /// Accepts tokens of these issuers (those kept in Secrets always) signed with one of these keys, for these
    /// audiences. Without audiences of its own the API takes the first issuer as its audience.
    pub fn new(
        issuers: &[String],
        keys: Vec<PublicKey>,
        api_audiences: &[String],
        objects: Arc<dyn TokenObjects>,
    ) -> Self {
        let api_audiences = if api_audiences.is_empty() { issuers.get(..1).unwrap_or_default() } else { api_audiences };
        Self {
            issuers: issuers.to_vec(),
            keys: keys.into_iter().map(VerifyingKey::new).collect(),
            api_audiences: api_audiences.to_vec(),
            objects,
        }
    }

    /// The keys, for the discovery documents.
    pub fn keys(&self) -> &[VerifyingKey] {
        &self.keys
    }

    /// The audiences of the API server itself.
    pub fn api_audiences(&self) -> &[String] {
        &self.api_audiences
    }

    /// Judges a token at `now`. `Ok(None)` means that it is not a service account token of this cluster. Without
    /// wanted audiences it must be for the API server.
    pub fn verify(
        &self,
        token: &str,
        wanted_audiences: Option<&[String]>,
        now: i64,
    ) -> Result<Option<Verified>, TokenError> {
        let Some(unverified) = Unverified::parse(token) else { return Ok(None) };
        // The issuer is believed only as far as it says whose token this is to judge.
        let Ok(IssuerClaim { iss }) = serde_json::from_slice(unverified.payload()) else { return Ok(None) };
        let legacy = iss == LEGACY_ISSUER;
        if !legacy && !self.issuers.contains(&iss) {
            return Ok(None);
        }
        unverified.verify(&self.keys)?;
        let mut claims: Claims =
            serde_json::from_slice(unverified.payload()).map_err(|error| TokenError::Claims(error.to_string()))?;

        let mut annotations = Vec::new();
        if claims.aud.0.is_empty() {
            annotations.push(("authentication.k8s.io/legacy-token", claims.sub.clone()));
            claims.aud.0.clone_from(&self.api_audiences);
        }
        let wanted = wanted_audiences.unwrap_or(&self.api_audiences);
        let audiences: Vec<String> = claims.aud.0.iter().filter(|aud| wanted.contains(aud)).cloned().collect();
        if audiences.is_empty() && !self.api_audiences.is_empty() {
            return Err(TokenError::Audience { token: claims.aud.0, wanted: wanted.to_vec() });
        }
        let verified = Verified {
            user: UserInfo::default(),
            audiences,
            token_use: TokenUse::Bound,
            annotations,
            warnings: Vec::new(),
            expires_at: claims.exp.map(|exp| exp.0),
        };
        let verified =
            if legacy { self.legacy(token, claims, verified, now)? } else { self.bound(claims, verified, now)? };
        Ok(Some(verified))
    }

    fn bound(&self, claims: Claims, mut verified: Verified, now: i64) -> Result<Verified, TokenError> {
        check_times(&claims, now)?;
        let PrivateClaims { namespace, serviceaccount, pod, secret, node, warnafter } = claims.kubernetes;
        self.existing_service_account(&namespace, &serviceaccount, now)?;
        if let Some(secret) = &secret {
            let found = self.objects.secret(&namespace, &secret.name).map_err(|_| TokenError::Invalidated)?;
            check_bound("secret", secret, found.map(|found| found.object), now)?;
        }
        if let Some(pod) = &pod {
            let found = self.objects.pod(&namespace, &pod.name).map_err(|_| TokenError::Invalidated)?;
            check_bound("pod", pod, found, now)?;
        }
        if let (Some(node), None) = (&node, &pod) {
            let found = self.objects.node(&node.name).map_err(|_| TokenError::Invalidated)?;
            check_bound("node", node, found, now)?;
        }
        if let Some(NumericDate(warn_after)) = warnafter.filter(|warn_after| warn_after.0 != 0) {
            let stale = now > warn_after;
            verified.token_use = TokenUse::Extended { stale };
            if stale {
                let note = format!("subject: {}, seconds after warning threshold: {}", claims.sub, now - warn_after);
                verified.annotations.push(("authentication.k8s.io/stale-token", note));
            }
        }
        verified.user = UserInfo::service_account(&namespace, &serviceaccount.name, &serviceaccount.uid);
        let mut extra = |key, value: SmolStr| verified.user.extra.insert(SmolStr::new_static(key), vec![value]);
        if !claims.jti.is_empty() {
            extra(CREDENTIAL_ID_KEY, credential_id(&claims.jti).into());
        }
        if let Some(pod) = pod.filter(|pod| !pod.name.is_empty() && !pod.uid.is_empty()) {
            extra(POD_NAME_KEY, pod.name);
            extra(POD_UID_KEY, pod.uid);
        }
        if let Some(node) = node.filter(|node| !node.name.is_empty()) {
            extra(NODE_NAME_KEY, node.name);
            if !node.uid.is_empty() {
                extra(NODE_UID_KEY, node.uid);
            }
        }
        Ok(verified)
    }

    fn legacy(&self, token: &str, claims: Claims, mut verified: Verified, now: i64) -> Result<Verified, TokenError> {
        // Such tokens have no end as a rule; one that is there counts.
        check_times(&claims, now)?;
        let (namespace, secret_name) = (claims.legacy_namespace, claims.legacy_secret);
        let account = ObjectRef::new(&claims.legacy_name, &claims.legacy_uid);
        for (claim, value) in [
            ("sub", claims.sub.as_str()),
            ("namespace", &namespace),
            ("secretName", &secret_name),
            ("serviceAccountName", &account.name),
            ("serviceAccountUID", &account.uid),
        ] {
            if value.is_empty() {
                return Err(TokenError::MissingClaim(claim));
            }
        }
        if user::split_service_account_username(&claims.sub) != Some((&namespace, &account.name)) {
            return Err(TokenError::InvalidSubject);
        }
        let secret = self.objects.secret(&namespace, &secret_name).map_err(|_| TokenError::Invalidated)?;
        let secret = secret.ok_or(TokenError::Invalidated)?;
        if is_gone(&secret.object, now) {
            return Err(TokenError::Invalidated);
        }
        if secret.token != token.as_bytes() {
            return Err(TokenError::Replaced);
        }
        let state = self.existing_service_account(&namespace, &account, now)?;
        if secret.invalid_since.is_some() {
            return Err(TokenError::MarkedInvalid {
                namespace,
                secret: secret_name,
                service_account: account.name.to_string(),
            });
        }
        let auto_generated = state.secrets.iter().any(|name| *name == secret_name);
        let annotation = if auto_generated {
            verified.warnings.push(
                "Use tokens from the TokenRequest API or manually created secret-based tokens instead of \
                 auto-generated secret-based tokens."
                    .to_owned(),
            );
            "authentication.k8s.io/legacy-token-autogenerated-secret"
        } else {
            "authentication.k8s.io/legacy-token-manual-secret"
        };
        verified.annotations.push((annotation, secret_name.clone()));
        verified.user = UserInfo::service_account(&namespace, &account.name, &account.uid);
        verified.token_use =
            TokenUse::Legacy { namespace: namespace.into(), secret: secret_name.into(), auto_generated };
        Ok(verified)
    }

    fn existing_service_account(
        &self,
        namespace: &str,
        account: &ObjectRef,
        now: i64,
    ) -> Result<ServiceAccountState, TokenError> {
        let state = self.objects.service_account(namespace, &account.name).map_err(TokenError::Lookup)?;
        let state = state.ok_or_else(|| TokenError::ServiceAccountNotFound(account.name.to_string()))?;
        if state.object.uid != account.uid {
            return Err(TokenError::ServiceAccountUid { actual: state.object.uid, claimed: account.uid.clone() });
        }
        if is_gone(&state.object, now) {
            return Err(TokenError::ServiceAccountDeleted(format!("{namespace}/{}", account.name)));
        }
        Ok(state)
    }
}

fn check_times(claims: &Claims, now: i64) -> Result<(), TokenError> {
    let (early, late) = (now.saturating_sub(LEEWAY_SECONDS), now.saturating_add(LEEWAY_SECONDS));
    if claims.nbf.is_some_and(|nbf| late < nbf.0) {
        return Err(TokenError::NotValidYet);
    }
    if claims.exp.is_some_and(|exp| early > exp.0) {
        return Err(TokenError::Expired);
    }
    if claims.iat.is_some_and(|iat| late < iat.0) {
        return Err(TokenError::IssuedInTheFuture);
    }
    Ok(())
}

fn check_bound(
    kind: &'static str,
    claimed: &ObjectRef,
    found: Option<ObjectState>,
    now: i64,
) -> Result<(), TokenError> {
    let found = found.ok_or(TokenError::Invalidated)?;
    if found.uid != claimed.uid {
        return Err(TokenError::BoundUid { kind, actual: found.uid, claimed: claimed.uid.clone() });
    }
    if is_gone(&found, now) {
        return Err(TokenError::Invalidated);
    }
    Ok(())
}

fn is_gone(object: &ObjectState, now: i64) -> bool {
    object.deletion_timestamp.is_some_and(|at| at < now.saturating_sub(LEEWAY_SECONDS))
}

impl TokenAuthenticator for Verifier {
    fn authenticate_token(&self, token: &str, audiences: &[String], now: i64) -> Result<Option<TokenUser>, String> {
        let verified = self.verify(token, Some(audiences), now).map_err(|error| error.to_string())?;
        Ok(verified.map(|verified| TokenUser {
            user: Arc::new(verified.user.authenticated()),
            audiences: verified.audiences.into(),
            notes: Some(Arc::new(Notes {
                annotations: verified.annotations,
                warnings: verified.warnings,
                token_use: Some(verified.token_use),
            })),
            expires_at: verified.expires_at.map(|at| at.saturating_add(LEEWAY_SECONDS)),
        }))
    }
}

/// The bytes of a token's claims, for tools and tests; nothing is verified.
pub fn peek_claims(token: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()
}
