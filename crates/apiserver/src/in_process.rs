//! Requests from within this program: the same request chain, without sockets and TLS, in the name of a given user.

use std::fmt;
use std::sync::{Arc, Weak};

use authn::{ClientChain, UserInfo};
use bytes::Bytes;
use client::{Reply, Transport, TransportError};
use http::Request;

use crate::body::RequestBody;
use crate::handler::Chain;
use crate::serve::Peer;

/// Carries a component's requests to the server that runs in the same process. It holds no part of the server: once
/// that has stopped, requests fail as if nobody listened.
pub struct InProcess {
    chain: Weak<Chain>,
    peer: Peer,
}

impl InProcess {
    /// Requests of this user, who may do what the authorizers allow; admission and validation apply as to anybody.
    pub fn new(chain: Weak<Chain>, user: UserInfo) -> Self {
        let peer = Peer { address: None, client: ClientChain::new(&[]), known: Some(Arc::new(user)) };
        Self { chain, peer }
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InProcess").field(&self.peer.known.as_ref().map(|user| &user.name)).finish()
    }
}

impl Transport for InProcess {
    fn send(&self, request: Request<Bytes>) -> Reply<'_> {
        Box::pin(async move {
            let Some(chain) = self.chain.upgrade() else {
                let server = "the API server of this process".to_owned();
                return Err(TransportError::Connect { server, source: "it has stopped".into() });
            };
            let response = chain.respond(&self.peer, request.map(RequestBody::Whole)).await;
            Ok(response.map(client::Body::new))
        })
    }
}
