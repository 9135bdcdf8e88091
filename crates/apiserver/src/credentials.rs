//! Keys and certificates in use: from the data folder or from the files that flags name, and again whenever those
//! change or a certificate of ours is due.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use authn::authenticator::TokenAuthenticator;
use authn::front_proxy::FrontProxy;
use authn::{Authenticator, Config as AuthnConfig};
use pki::{Certificate, KeyPair, Pki, PkiError, SniCertificate};
use world::World;

use crate::files::Files;
use crate::options::{KeyPairFiles, Options};
use crate::proxy::{Proxy, ProxyConfig};
use crate::start::{StartError, chain};

/// What the files that flags name hold.
pub(crate) struct Given {
    serving: Option<KeyPair>,
    sni: Vec<SniCertificate>,
    client_ca: Option<Vec<Certificate>>,
    request_header_ca: Option<Vec<Certificate>>,
    kubelet_client: Option<KeyPair>,
    kubelet_ca: Option<Vec<Certificate>>,
}

impl Given {
    /// Reads the files. They must be good at `now`.
    pub(crate) fn read(options: &Options, now: i64) -> Result<Self, StartError> {
        let pair = |flag: &str, files: &KeyPairFiles| {
            pki::load_key_pair(&files.certificate, &files.key, now).map_err(|error| refusal(flag, &error))
        };
        let pair_of = |flag, files: &Option<KeyPairFiles>| files.as_ref().map(|files| pair(flag, files)).transpose();
        let authorities = |flag: &str, path: &Option<PathBuf>| {
            let read = |path: &PathBuf| pki::load_authorities(path, now).map_err(|error| refusal(flag, &error));
            path.as_ref().map(read).transpose()
        };
        let sni = options.sni_certificates.iter().map(|files| {
            let pair = pair("tls-sni-cert-key", &files.pair)?;
            Ok(SniCertificate { pair, names: files.names.clone() })
        });
        pair_of("proxy-client-cert-file", &options.proxy_client)?;
        let given = Self {
            serving: pair_of("tls-cert-file", &options.serving_certificate)?,
            sni: sni.collect::<Result<_, _>>()?,
            client_ca: authorities("client-ca-file", &options.client_ca_file)?,
            request_header_ca: authorities("requestheader-client-ca-file", &options.request_header.client_ca_file)?,
            kubelet_client: pair_of("kubelet-client-certificate", &options.kubelet_client)?,
            kubelet_ca: authorities("kubelet-certificate-authority", &options.kubelet_ca_file)?,
        };
        if let (Some(users), Some(proxies)) = (&given.client_ca, &given.request_header_ca) {
            check_proxies(options, users, proxies)?;
        }
        Ok(given)
    }

    /// The certificates that the server is known by, if they are the user's own.
    pub(crate) fn serving_chain(&self) -> &[Certificate] {
        self.serving.as_ref().map(|pair| pair.chain.as_slice()).unwrap_or_default()
    }
}

/// All keys and certificates: those that flags name, and ours for the rest.
pub(crate) struct Loaded {
    serving: KeyPair,
    sni: Vec<SniCertificate>,
    /// Vouches for users.
    pub(crate) client_ca: Vec<Certificate>,
    /// Vouches for authenticating proxies.
    pub(crate) request_header_ca: Vec<Certificate>,
    kubelet_client: KeyPair,
    kubelet_ca: Option<Vec<Certificate>>,
}

impl Loaded {
    /// Takes from the data folder what flags do not name.
    pub(crate) fn new(options: &Options, given: Given, pki: &Pki) -> Result<Self, StartError> {
        let loaded = Self {
            serving: given.serving.unwrap_or_else(|| pki.apiserver.clone()),
            sni: given.sni,
            client_ca: given.client_ca.unwrap_or_else(|| pki.ca.certificates.clone()),
            request_header_ca: given.request_header_ca.unwrap_or_else(|| pki.front_proxy_ca.certificates.clone()),
            kubelet_client: given.kubelet_client.unwrap_or_else(|| pki.apiserver_kubelet_client.clone()),
            kubelet_ca: given.kubelet_ca,
        };
        check_proxies(options, &loaded.client_ca, &loaded.request_header_ca)?;
        Ok(loaded)
    }

    fn authorities(&self) -> Vec<Certificate> {
        self.client_ca.iter().chain(&self.request_header_ca).cloned().collect()
    }

    fn proxy_config(&self, options: &Options) -> ProxyConfig {
        ProxyConfig {
            client: Some(self.kubelet_client.clone()),
            kubelet_ca: self.kubelet_ca.clone(),
            address_types: options.kubelet_address_types.clone(),
        }
    }
}

/// Not everybody with a certificate may name users as proxies do.
fn check_proxies(options: &Options, users: &[Certificate], proxies: &[Certificate]) -> Result<(), StartError> {
    if !options.request_header.allowed_names.is_empty() || !proxies.iter().any(|one| users.contains(one)) {
        return Ok(());
    }
    Err(StartError::Flag(
        "--requestheader-client-ca-file and --client-ca-file contain overlapping certificates; \
         --requestheader-allowed-names must be specified to ensure regular client certificates cannot set \
         authenticating proxy headers for arbitrary users"
            .into(),
    ))
}

fn refusal(flag: &str, error: &PkiError) -> StartError {
    StartError::Flag(format!("--{flag} {}", chain(error)))
}

/// The files that flags name and that are read again when they change.
fn watched(options: &Options) -> Vec<PathBuf> {
    let pairs = [&options.serving_certificate, &options.kubelet_client].into_iter().flatten();
    let pairs = pairs.chain(options.sni_certificates.iter().map(|sni| &sni.pair));
    let files = [&options.client_ca_file, &options.request_header.client_ca_file, &options.kubelet_ca_file];
    pairs
        .flat_map(|pair| [pair.certificate.clone(), pair.key.clone()])
        .chain(files.into_iter().flatten().cloned())
        .collect()
}

/// What serves with the keys and certificates.
pub(crate) struct Credentials {
    /// TLS towards clients.
    pub(crate) tls: Arc<pki::ServerTls>,
    /// Who clients are.
    pub(crate) authenticator: Arc<ArcSwap<Authenticator>>,
    /// TLS towards kubelets.
    pub(crate) proxy: Arc<Proxy>,
    tokens: Vec<Arc<dyn TokenAuthenticator>>,
    options: Options,
}

impl Credentials {
    /// Takes what was read into use.
    pub(crate) fn new(
        options: &Options,
        loaded: &Loaded,
        tokens: Vec<Arc<dyn TokenAuthenticator>>,
    ) -> Result<Self, StartError> {
        let pki = |error: PkiError| StartError::Pki(chain(&error));
        let certificates = pki::ServingCertificates::new(&loaded.serving, &loaded.sni).map_err(pki)?;
        let tls = pki::ServerTls::new(certificates, &loaded.authorities(), options.tls.clone())
            .map_err(|error| StartError::Flag(chain(&error)))?;
        Ok(Self {
            tls: Arc::new(tls),
            authenticator: Arc::new(ArcSwap::from_pointee(authenticator(options, loaded, &tokens).map_err(pki)?)),
            proxy: Arc::new(Proxy::new(loaded.proxy_config(options)).map_err(pki)?),
            tokens,
            options: options.clone(),
        })
    }

    /// Takes what was read later into use: all of it, or nothing if something of it is no good.
    fn replace(&self, loaded: &Loaded) -> Result<(), PkiError> {
        let authenticator = authenticator(&self.options, loaded, &self.tokens)?;
        self.proxy.replace(&loaded.proxy_config(&self.options))?;
        self.tls.certificates().replace(&loaded.serving, &loaded.sni)?;
        self.tls.set_client_authorities(&loaded.authorities())?;
        self.authenticator.store(Arc::new(authenticator));
        Ok(())
    }

    /// Keeps them fresh while the server runs: renews what is ours before it expires, and reads files again that
    /// changed. What cannot be used is reported and left; what is in use stays.
    pub(crate) async fn keep_fresh(self, wanted: pki::Wanted, mut pki: Pki, world: World) {
        let paths = watched(&self.options);
        let mut files = match (paths.is_empty(), Files::watch(paths)) {
            (true, _) => None,
            (false, Ok(files)) => Some(files),
            (false, Err(error)) => {
                tracing::warn!(%error, "changes of certificate files will go unnoticed");
                None
            }
        };
        loop {
            let now = world.clock.now().seconds;
            // The wall clock may be set: look at least once a day, which costs nothing.
            let wait = (pki.renewal_due_at - now).clamp(1, 24 * 3600);
            let has_changed = tokio::select! {
                () = tokio::time::sleep(std::time::Duration::from_secs(wait.unsigned_abs())) => false,
                event = changed(files.as_mut()) => {
                    if let Err(error) = event {
                        tracing::warn!(%error, "changes of certificate files go unnoticed from now on");
                        files = None;
                    }
                    true
                }
            };
            let now = world.clock.now().seconds;
            let is_due = now >= pki.renewal_due_at;
            if !(has_changed || is_due) {
                continue;
            }
            if is_due {
                match pki::ensure(&self.options.data_dir, &wanted, now) {
                    Ok(renewed) => pki = renewed,
                    Err(error) => {
                        tracing::error!(error = %chain(&error), "certificates could not be renewed; trying again in an hour");
                        pki.renewal_due_at = now + 3600;
                    }
                }
            }
            let taken = Given::read(&self.options, now)
                .and_then(|given| Loaded::new(&self.options, given, &pki))
                .and_then(|loaded| self.replace(&loaded).map_err(|error| StartError::Pki(chain(&error))));
            match taken {
                Ok(()) => tracing::info!("keys and certificates were read again"),
                Err(error) => tracing::error!(%error, "the former keys and certificates stay in use"),
            }
        }
    }
}

/// Waits for a change of the files; forever if there are none.
async fn changed(files: Option<&mut Files>) -> std::io::Result<()> {
    match files {
        Some(files) => files.changed().await,
        None => std::future::pending().await,
    }
}

fn authenticator(
    options: &Options,
    loaded: &Loaded,
    tokens: &[Arc<dyn TokenAuthenticator>],
) -> Result<Authenticator, PkiError> {
    let stated = &options.request_header;
    let front_proxy = FrontProxy {
        verifier: pki::ClientVerifier::new(&loaded.request_header_ca)?,
        allowed_names: stated.allowed_names.clone(),
        username_headers: stated.username_headers.clone(),
        uid_headers: stated.uid_headers.clone(),
        group_headers: stated.group_headers.clone(),
        extra_prefixes: stated.extra_headers_prefix.clone(),
    };
    Authenticator::new(AuthnConfig {
        front_proxy: Some(front_proxy),
        client_certificates: Some(pki::ClientVerifier::new(&loaded.client_ca)?),
        tokens: tokens.to_vec(),
        api_audiences: options.audiences(),
        anonymous: options.anonymous.clone(),
    })
}
