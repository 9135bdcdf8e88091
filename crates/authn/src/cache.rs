//! Remembers good tokens for a few seconds, so that a client with a token costs one hash per request and not one
//! signature check.

use crate::authenticator::TokenUser;
use parking_lot::Mutex;
use ring::hmac;
use ring::rand::SystemRandom;
use std::collections::HashMap;
use std::fmt;

/// How long a good token is remembered, as upstream does. Refusals are never remembered.
pub const SUCCESS_SECONDS: i64 = 10;
const STRIPES: usize = 16;
/// Tokens remembered in each stripe; together as many as upstream's 32 Ki.
const STRIPE_TOKENS_MAX: usize = 2048;

/// Hashes tokens with a key that nobody knows, so that tokens are neither kept nor comparable from outside.
pub struct TokenHasher(hmac::Key);

impl fmt::Debug for TokenHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHasher(secret)")
    }
}

/// A token's hash.
pub type TokenHash = [u8; ring::digest::SHA256_OUTPUT_LEN];

impl TokenHasher {
    /// A hasher with a random key; `None` when there is no randomness.
    pub fn new() -> Option<Self> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok().map(Self)
    }

    /// The hash of a token and the audiences that it was shown for.
    pub fn hash(&self, token: &str, audiences: &[String]) -> TokenHash {
        let mut context = hmac::Context::with_key(&self.0);
        // With the lengths before them, no two different lists look alike.
        for part in std::iter::once(token).chain(audiences.iter().map(String::as_str)) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut hash = TokenHash::default();
        hash.copy_from_slice(context.sign().as_ref());
        hash
    }
}

/// The tokens remembered.
pub struct TokenCache {
    hasher: TokenHasher,
    stripes: [Mutex<HashMap<TokenHash, Remembered>>; STRIPES],
}

struct Remembered {
    user: TokenUser,
    from: i64,
    until: i64,
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens: usize = self.stripes.iter().map(|stripe| stripe.lock().len()).sum();
        write!(f, "TokenCache({tokens} tokens)")
    }
}

impl TokenCache {
    /// An empty cache; `None` when there is no randomness.
    pub fn new() -> Option<Self> {
        Some(Self { hasher: TokenHasher::new()?, stripes: std::array::from_fn(|_| Mutex::default()) })
    }

    /// The remembered user of this token, or what `authenticate` finds.
    pub fn get_or_authenticate(
        &self,
        token: &str,
        audiences: &[String],
        now: i64,
        authenticate: impl FnOnce() -> Result<Option<TokenUser>, Vec<String>>,
    ) -> Result<Option<TokenUser>, Vec<String>> {
        let hash = self.hasher.hash(token, audiences);
        let stripe = &self.stripes[usize::from(hash[0]) % STRIPES];
        if let Some(remembered) = stripe.lock().get(&hash)
            && (remembered.from..remembered.until).contains(&now)
        {
            return Ok(Some(remembered.user.clone()));
        }
        let found = authenticate()?;
        if let Some(user) = &found {
            let end = now.saturating_add(SUCCESS_SECONDS);
            let until = user.expires_at.map_or(end, |expires_at| end.min(expires_at.saturating_add(1)));
            let mut tokens = stripe.lock();
            if tokens.len() >= STRIPE_TOKENS_MAX {
                tokens.retain(|_, remembered| remembered.until > now);
            }
            if tokens.len() >= STRIPE_TOKENS_MAX {
                // A crowd of live tokens; they are all dear to make and all alike, so start over.
                tokens.clear();
            }
            tokens.insert(hash, Remembered { user: user.clone(), from: now, until });
        }
        Ok(found)
    }
}
