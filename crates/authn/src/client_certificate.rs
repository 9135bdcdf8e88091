//! The user that a client certificate names: CN is the name, O are the groups.

use crate::user::{CREDENTIAL_ID_KEY, UserInfo};
use parking_lot::Mutex;
use pki::{CertificateDer, ClientIdentity, ClientVerifier};
use smol_str::{SmolStr, format_smolstr};
use std::fmt;
use std::sync::Arc;

/// For how long a connection's certificate is not judged again.
const JUDGEMENT_SECONDS: i64 = 60;

/// What came of judging a certificate: a user, nobody (no name in it), or a reason for refusing it.
pub(crate) type Judgement = Result<Option<Arc<UserInfo>>, String>;

/// The certificates that a client showed when it connected. Keep it with the connection: what was found out about them
/// is remembered here.
pub struct ClientChain {
    chain: Vec<CertificateDer<'static>>,
    client: Mutex<Option<Remembered<Judgement>>>,
    front_proxy: Mutex<Option<Remembered<Result<(), String>>>>,
}

#[derive(Clone)]
struct Remembered<T> {
    /// Which authenticator judged.
    by: u64,
    from: i64,
    until: i64,
    value: T,
}

impl fmt::Debug for ClientChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientChain({} certificates)", self.chain.len())
    }
}

impl ClientChain {
    /// Takes the chain as rustls gives it (`peer_certificates`), leaf first.
    pub fn new(chain: &[CertificateDer<'_>]) -> Self {
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Self { chain, client: Mutex::default(), front_proxy: Mutex::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }

    pub(crate) fn user(&self, by: u64, verifier: &ClientVerifier, now: i64) -> Judgement {
        remember(&self.client, by, now, || match verifier.verify(&self.chain, now) {
            Ok(identity) => (identity.not_after, user(identity)),
            Err(rejection) => (i64::MAX, Err(rejection.to_string())),
        })
    }

    pub(crate) fn front_proxy(
        &self,
        by: u64,
        verifier: &ClientVerifier,
        allowed_names: &[String],
        now: i64,
    ) -> Result<(), String> {
        remember(&self.front_proxy, by, now, || match verifier.verify(&self.chain, now) {
            Ok(identity) => {
                let name = &identity.subject.common_name;
                let allowed = allowed_names.is_empty() || allowed_names.contains(name);
                let refused = || format!("x509: subject with cn={name} is not in the allowed list");
                (identity.not_after, if allowed { Ok(()) } else { Err(refused()) })
            }
            Err(rejection) => (i64::MAX, Err(rejection.to_string())),
        })
    }
}

fn remember<T: Clone>(slot: &Mutex<Option<Remembered<T>>>, by: u64, now: i64, judge: impl FnOnce() -> (i64, T)) -> T {
    let mut slot = slot.lock();
    if let Some(remembered) = &*slot
        && remembered.by == by
        && (remembered.from..=remembered.until).contains(&now)
    {
        return remembered.value.clone();
    }
    let (not_after, value) = judge();
    let until = now.saturating_add(JUDGEMENT_SECONDS).min(not_after);
    *slot = Some(Remembered { by, from: now, until, value: value.clone() });
    value
}

fn user(identity: ClientIdentity) -> Judgement {
    let subject = identity.subject;
    if subject.common_name.is_empty() {
        return Ok(None);
    }
    let uid = match subject.uids.as_slice() {
        [] => "",
        [uid] if uid.is_empty() => return Err("UID cannot be an empty string".to_owned()),
        [uid] => uid,
        many => return Err(format!("expected 1 UID, but found multiple: [{}]", many.join(" "))),
    };
    let credential = format_smolstr!("X509SHA256={}", identity.fingerprint);
    let user = UserInfo {
        name: subject.common_name.into(),
        uid: uid.into(),
        groups: subject.organizations.into_iter().map(SmolStr::from).collect(),
        extra: [(SmolStr::new_static(CREDENTIAL_ID_KEY), vec![credential])].into(),
    };
    Ok(Some(Arc::new(user.authenticated())))
}
