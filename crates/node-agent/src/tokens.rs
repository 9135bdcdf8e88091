//! Service account tokens of Pods: asked for once, renewed before they expire.

use std::collections::HashMap;
use std::time::Duration;

use api_schema::Value;
use client::{Client, Error};
use parking_lot::Mutex;
use smol_str::SmolStr;
use std::sync::Arc;
use world::Clock;

use crate::pod::{Pod, Uid};

/// A token is renewed when this part of its life is over (kubelet: 80 %), in percent.
const RENEW_PERCENT: i64 = 80;
/// And at the latest when it is this old, in seconds.
const AGE_SECONDS_MAX: i64 = 24 * 3600;

/// What a token is for: the Pod, the audience and the seconds that it shall live.
type Key = (Uid, SmolStr, i64);

#[derive(Clone)]
struct Token {
    text: String,
    /// Seconds since 1970.
    renew_at: i64,
    /// Seconds since 1970.
    expires_at: i64,
}

/// The tokens of this node's Pods.
pub struct TokenCache {
    client: Client,
    clock: Arc<dyn Clock>,
    tokens: Mutex<HashMap<Key, Token>>,
}

impl TokenCache {
    /// An empty cache.
    pub fn new(client: Client, clock: Arc<dyn Clock>) -> TokenCache {
        TokenCache { client, clock, tokens: Mutex::default() }
    }

    /// Makes sure that every token in the Pod's volumes is at hand and fresh. A token that cannot be renewed serves on
    /// until it expires.
    ///
    /// # Errors
    /// If the API refuses a token and there is none that still holds.
    pub async fn prepare(&self, pod: &Pod) -> Result<(), Error> {
        for (audience, seconds) in wanted(pod) {
            let key = (pod.uid().clone(), audience.clone(), seconds);
            let held = self.tokens.lock().get(&key).cloned();
            let now = self.clock.now().seconds;
            if held.as_ref().is_some_and(|token| now < token.renew_at) {
                continue;
            }
            match self.ask(pod, &audience, seconds).await {
                Ok(token) => {
                    self.tokens.lock().insert(key, token);
                }
                Err(error) if held.is_some_and(|token| now < token.expires_at) => {
                    tracing::warn!(pod = %pod.key(), %error, "cannot renew a service account token");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn ask(&self, pod: &Pod, audience: &str, seconds: i64) -> Result<Token, Error> {
        let account = match pod.spec_str("serviceAccountName") {
            "" => "default",
            account => account,
        };
        let mut request = Value::from([("apiVersion", "authentication.k8s.io/v1"), ("kind", "TokenRequest")]);
        request.set(&["spec", "expirationSeconds"], seconds);
        let audiences: Vec<Value> =
            Some(audience).filter(|audience| !audience.is_empty()).map(Value::from).into_iter().collect();
        request.set(&["spec", "audiences"], audiences);
        let reference = Value::from([
            ("apiVersion", "v1"),
            ("kind", "Pod"),
            ("name", pod.key().name.as_str()),
            ("uid", pod.uid().0.as_str()),
        ]);
        request.set(&["spec", "boundObjectRef"], reference);
        let accounts = self.client.resource("", "v1", "serviceaccounts").namespace(&pod.key().namespace);
        let answer = accounts.create_sub(account, "token", &request).await?;
        let now = self.clock.now().seconds;
        let expires = answer.str_at(&["status", "expirationTimestamp"]);
        let expires_at = api_semantics::time::rfc3339(expires).unwrap_or(now + seconds);
        // The API may give a longer life than was asked for; the file is renewed by what was asked.
        let life = (expires_at - now).min(seconds.max(1)).max(1);
        let renew_at = now + (life * RENEW_PERCENT / 100).min(AGE_SECONDS_MAX);
        Ok(Token { text: answer.str_at(&["status", "token"]).to_owned(), renew_at, expires_at })
    }

    /// A token that was prepared.
    pub fn get(&self, pod: &Uid, audience: &str, seconds: i64) -> Option<String> {
        let key = (pod.clone(), SmolStr::new(audience), seconds);
        self.tokens.lock().get(&key).map(|token| token.text.clone())
    }

    /// How long until a token of the Pod wants to be renewed.
    pub fn renew_after(&self, pod: &Uid) -> Option<Duration> {
        let now = self.clock.now().seconds;
        let tokens = self.tokens.lock();
        let soonest = tokens.iter().filter(|((uid, _, _), _)| uid == pod).map(|(_, token)| token.renew_at).min()?;
        Some(Duration::from_secs(u64::try_from(soonest - now).unwrap_or(0).max(1)))
    }

    /// Forgets a Pod.
    pub fn forget(&self, pod: &Uid) {
        self.tokens.lock().retain(|(uid, _, _), _| uid != pod);
    }
}

/// The tokens in a Pod's volumes: audience and seconds.
fn wanted(pod: &Pod) -> Vec<(SmolStr, i64)> {
    let volumes = pod.spec(&["volumes"]).and_then(Value::as_list).unwrap_or_default();
    let sources = volumes.iter().flat_map(|volume| volume.list_at(&["projected", "sources"]));
    let tokens = sources.filter_map(|source| source.get("serviceAccountToken"));
    let mut wanted: Vec<_> = tokens
        .map(|token| (SmolStr::new(token.str_at(&["audience"])), token.int_at(&["expirationSeconds"]).unwrap_or(3600)))
        .collect();
    wanted.sort();
    wanted.dedup();
    wanted
}
