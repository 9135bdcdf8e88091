//! The `pki` folder of a cluster, laid out as kubeadm does: what is missing is made, what is about to expire or does
//! not cover the wanted names is issued again, and what is there and good stays as it is. Keys are never replaced.

use crate::files::{self, NewFile};
use crate::kubeconfig::Existing;
use crate::{
    Authority, Certificate, Credential, Kubeconfig, PkiError, PrivateKey, PublicKey, Subject, SubjectAltNames, Template,
};
use jiff::Timestamp;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

const DAY_SECONDS: i64 = 24 * 60 * 60;
const AUTHORITY_LIFETIME_SECONDS: i64 = 10 * 365 * DAY_SECONDS;
const LEAF_LIFETIME_SECONDS: i64 = 365 * DAY_SECONDS;

// === Wanted ===

/// What the cluster's certificates must be good for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The address that others are told to reach the API server at.
    pub advertise_address: Option<IpAddr>,
    /// The address it listens on; unspecified ones (0.0.0.0) name nobody and are left out.
    pub bind_address: Option<IpAddr>,
    /// Further host names and addresses of the API server.
    pub hostnames: Vec<String>,
    /// The first address of each service range, which is that of the `kubernetes` Service.
    pub service_addresses: Vec<IpAddr>,
    /// The cluster's DNS domain.
    pub cluster_domain: String,
    /// The kubeconfigs to keep.
    pub kubeconfigs: Vec<KubeconfigUser>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            advertise_address: None,
            bind_address: None,
            hostnames: Vec::new(),
            service_addresses: vec![IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1))],
            cluster_domain: "cluster.local".to_owned(),
            kubeconfigs: Vec::new(),
        }
    }
}

/// A user who gets a kubeconfig.
#[derive(Clone, Debug)]
pub struct KubeconfigUser {
    /// The file's name within the data folder.
    pub file: String,
    /// The user's name and groups.
    pub subject: Subject,
    /// Where the user reaches the server: `https://host:port`.
    pub server: String,
    /// The cluster's name within the file.
    pub cluster: String,
    /// Further certificates that the server may be known by, beside those of our authority.
    pub trusted: Vec<Certificate>,
}

impl KubeconfigUser {
    /// The administrator: `admin.kubeconfig`, group `system:masters`.
    pub fn admin(server: &str) -> Self {
        Self {
            file: "admin.kubeconfig".to_owned(),
            subject: Subject::new("kubernetes-admin", &["system:masters"]),
            server: server.to_owned(),
            cluster: "kubox".to_owned(),
            trusted: Vec::new(),
        }
    }
}

impl Wanted {
    /// The names that the API server's certificate must cover.
    pub fn server_names(&self) -> SubjectAltNames {
        let mut dns: Vec<String> =
            ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned).into();
        dns.push(format!("kubernetes.default.svc.{}", self.cluster_domain));
        dns.push("localhost".to_owned());
        let mut ips = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        ips.extend(&self.service_addresses);
        ips.extend(self.advertise_address);
        ips.extend(self.bind_address);
        for hostname in &self.hostnames {
            match hostname.trim_matches(['[', ']']).parse() {
                Ok(ip) => ips.push(ip),
                Err(_) => dns.push(hostname.clone()),
            }
        }
        ips.retain(|ip| !ip.is_unspecified());
        dedup_in_order(&mut dns);
        dedup_in_order(&mut ips);
        SubjectAltNames { dns, ips, ..SubjectAltNames::default() }
    }
}

fn dedup_in_order<T: PartialEq + Clone>(values: &mut Vec<T>) {
    let mut kept: Vec<T> = Vec::with_capacity(values.len());
    for value in values.iter() {
        if !kept.contains(value) {
            kept.push(value.clone());
        }
    }
    *values = kept;
}

// === Pki ===

/// A certificate (leaf first) and its key.
#[derive(Clone, Debug)]
pub struct KeyPair {
    /// The leaf and what leads from it towards a root.
    pub chain: Vec<Certificate>,
    /// The leaf's key.
    pub key: PrivateKey,
}

/// An authority as its files show it.
#[derive(Clone, Debug)]
pub struct AuthorityFiles {
    /// The file's certificates: the one in use first.
    pub certificates: Vec<Certificate>,
    /// The authority that can issue, unless its key is kept elsewhere.
    pub authority: Option<Authority>,
}

/// A cluster's keys and certificates.
#[derive(Clone, Debug)]
pub struct Pki {
    /// Vouches for the API server, components and users (`ca.crt`).
    pub ca: AuthorityFiles,
    /// Vouches for front proxies (`front-proxy-ca.crt`).
    pub front_proxy_ca: AuthorityFiles,
    /// What the API server serves with.
    pub apiserver: KeyPair,
    /// What the API server shows to kubelets.
    pub apiserver_kubelet_client: KeyPair,
    /// What the API server shows to extension API servers.
    pub front_proxy_client: KeyPair,
    /// Signs service account tokens (`sa.key`).
    pub service_account_key: PrivateKey,
    /// Verifies service account tokens (`sa.pub`): the signing key's public half, and keys of the past.
    pub service_account_public_keys: Vec<PublicKey>,
    /// The files written this time.
    pub written: Vec<PathBuf>,
    /// When to call [`ensure`] again: the first of the certificates that can be renewed is due then.
    pub renewal_due_at: i64,
}

/// Makes the files below `dir` complete and good at `now` for what is wanted, and loads them. Calling it again later
/// renews what is about to expire; what `written` then names is to be taken into use.
pub fn ensure(dir: &Path, wanted: &Wanted, now: i64) -> Result<Pki, PkiError> {
    let mut folder = Folder { pki: dir.join("pki"), now, new: Vec::new(), renewal_due_at: i64::MAX };
    let ca = folder.authority("ca", "kubernetes")?;
    let front_proxy_ca = folder.authority("front-proxy-ca", "front-proxy-ca")?;
    let apiserver =
        Template::server(Subject::new("kube-apiserver", &[]), wanted.server_names(), now, LEAF_LIFETIME_SECONDS);
    let apiserver = folder.leaf("apiserver", ("ca", &ca), &apiserver)?;
    let client = |subject| Template::client(subject, now, LEAF_LIFETIME_SECONDS);
    let kubelet_client = client(Subject::new("kube-apiserver-kubelet-client", &["system:masters"]));
    let apiserver_kubelet_client = folder.leaf("apiserver-kubelet-client", ("ca", &ca), &kubelet_client)?;
    let proxy_client = client(Subject::new("front-proxy-client", &[]));
    let front_proxy_client = folder.leaf("front-proxy-client", ("front-proxy-ca", &front_proxy_ca), &proxy_client)?;
    let (service_account_key, service_account_public_keys) = folder.service_account()?;
    for user in &wanted.kubeconfigs {
        folder.kubeconfig(dir.join(&user.file), user, &ca)?;
    }
    files::write_all(&folder.new)?;
    Ok(Pki {
        ca,
        front_proxy_ca,
        apiserver,
        apiserver_kubelet_client,
        front_proxy_client,
        service_account_key,
        service_account_public_keys,
        renewal_due_at: folder.renewal_due_at,
        written: folder.new.into_iter().map(|file| file.path).collect(),
    })
}

/// Reads the folder and collects what must be written. A key comes before its certificate, so that after a crash
/// between the two the certificate is issued again for the key that is there.
struct Folder {
    pki: PathBuf,
    now: i64,
    new: Vec<NewFile>,
    renewal_due_at: i64,
}

impl Folder {
    /// Notes when a certificate that can be renewed is due.
    fn will_renew(&mut self, certificate: &Certificate) {
        self.renewal_due_at = self.renewal_due_at.min(certificate.renewal_due_at());
    }

    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.pki.join(format!("{name}.{extension}"))
    }

    fn key(&mut self, name: &str) -> Result<PrivateKey, PkiError> {
        let path = self.file(name, "key");
        match read_with(&path, PrivateKey::from_pem)? {
            Some(key) => Ok(key),
            None => {
                let key = PrivateKey::generate()?;
                self.new.push(NewFile::secret(path, key.to_pem()));
                Ok(key)
            }
        }
    }

    fn write_certificates(&mut self, path: PathBuf, certificates: &[Certificate]) {
        let text: String = certificates.iter().map(Certificate::to_pem).collect();
        self.new.push(NewFile::public(path, text));
    }

    fn authority(&mut self, name: &str, common_name: &str) -> Result<AuthorityFiles, PkiError> {
        let (crt_path, key_path) = (self.file(name, "crt"), self.file(name, "key"));
        let unusable = |error: PkiError| PkiError::Unusable { path: crt_path.clone(), reason: error.to_string() };
        let Some(mut certificates) = read_with(&crt_path, Certificate::from_pem)? else {
            let key = self.key(name)?;
            let authority = Authority::self_signed(common_name, key, self.now, AUTHORITY_LIFETIME_SECONDS)?;
            let certificates = vec![authority.certificate().clone()];
            self.will_renew(authority.certificate());
            self.write_certificates(crt_path, &certificates);
            return Ok(AuthorityFiles { certificates, authority: Some(authority) });
        };
        let ended = certificates[0].not_after < self.now;
        let Some(key) = read_with(&key_path, PrivateKey::from_pem)? else {
            if ended {
                let reason = format!(
                    "{}, and {}, which could renew it, is missing",
                    expired(certificates[0].not_after),
                    key_path.display()
                );
                return Err(PkiError::Given { path: crt_path, reason });
            }
            return Ok(AuthorityFiles { certificates, authority: None });
        };
        let mut authority = Authority::new(certificates[0].clone(), key).map_err(unusable)?;
        let current = authority.certificate();
        if ended && !current.is_signed_by(current) {
            let reason = format!("{}, and who issued it must renew it", expired(current.not_after));
            return Err(PkiError::Given { path: crt_path, reason });
        }
        // What another authority issued is that one's to renew.
        if current.is_signed_by(current) {
            if current.is_due_for_renewal(self.now) {
                authority = authority.renewed(self.now, AUTHORITY_LIFETIME_SECONDS)?;
                certificates[0] = authority.certificate().clone();
                self.write_certificates(crt_path, &certificates);
            }
            self.will_renew(authority.certificate());
        }
        Ok(AuthorityFiles { certificates, authority: Some(authority) })
    }

    fn leaf(
        &mut self,
        name: &str,
        (authority_name, authority): (&str, &AuthorityFiles),
        template: &Template,
    ) -> Result<KeyPair, PkiError> {
        let crt_path = self.file(name, "crt");
        let key_path = self.file(name, "key");
        let authority_key = self.file(authority_name, "key");
        let chain = read_with(&crt_path, Certificate::from_pem)?;
        let key = read_with(&key_path, PrivateKey::from_pem)?;
        let reason = match (&chain, &key) {
            (Some(chain), Some(key)) => self.flaw(chain, key, authority, template),
            (None, _) => Some("it is missing".to_owned()),
            (_, None) => Some("its key is missing".to_owned()),
        };
        if let (None, Some(chain), Some(key)) = (&reason, &chain, &key) {
            if authority.authority.is_some() {
                self.will_renew(&chain[0]);
            }
            return Ok(KeyPair { chain: chain.clone(), key: key.clone() });
        }
        let Some(issuer) = &authority.authority else {
            let reason = reason.unwrap_or_default();
            return Err(PkiError::AuthorityKeyMissing { certificate: crt_path, key: authority_key, reason });
        };
        let key = self.key(name)?;
        let chain = vec![issuer.issue(template, key.public_key())?];
        self.will_renew(&chain[0]);
        self.write_certificates(crt_path, &chain);
        Ok(KeyPair { chain, key })
    }

    /// Why this certificate must be issued again, if it must.
    fn flaw(
        &self,
        chain: &[Certificate],
        key: &PrivateKey,
        authority: &AuthorityFiles,
        template: &Template,
    ) -> Option<String> {
        let leaf = &chain[0];
        if !leaf.has_key(key.public_key()) {
            return Some("it is for another key".to_owned());
        }
        let signed = |child: &Certificate| authority.certificates.iter().any(|parent| child.is_signed_by(parent));
        let links = chain.windows(2).all(|pair| pair[0].is_signed_by(&pair[1]));
        if !(signed(leaf) || links && chain.last().is_some_and(signed)) {
            return Some("another authority issued it".to_owned());
        }
        if leaf.subject != template.subject {
            return Some("it is for another subject".to_owned());
        }
        if let Some(name) = leaf.names.first_missing(&template.names) {
            return Some(format!("it does not cover {name}"));
        }
        // Without the authority's key a certificate is used to its end.
        let expired = self.now > leaf.not_after || self.now < leaf.not_before;
        if expired || authority.authority.is_some() && leaf.is_due_for_renewal(self.now) {
            return Some("it expires".to_owned());
        }
        None
    }

    fn service_account(&mut self) -> Result<(PrivateKey, Vec<PublicKey>), PkiError> {
        let (key_path, pub_path) = (self.file("sa", "key"), self.file("sa", "pub"));
        let unusable = |reason: &str| PkiError::Unusable { path: pub_path.clone(), reason: reason.to_owned() };
        let public_keys = read_with(&pub_path, PublicKey::from_pem)?;
        if public_keys.is_some() && read_with(&key_path, PrivateKey::from_pem)?.is_none() {
            return Err(unusable("sa.key, its private half, is missing"));
        }
        let key = self.key("sa")?;
        let public_keys = match public_keys {
            Some(keys) if keys.contains(key.public_key()) => keys,
            Some(_) => return Err(unusable("it does not hold the public half of sa.key")),
            None => {
                self.new.push(NewFile { path: pub_path, content: key.public_key().to_pem().into(), mode: 0o644 });
                vec![key.public_key().clone()]
            }
        };
        Ok((key, public_keys))
    }

    fn kubeconfig(&mut self, path: PathBuf, user: &KubeconfigUser, ca: &AuthorityFiles) -> Result<(), PkiError> {
        let existing = read_with(&path, Existing::from_yaml)?;
        let mut bundle = ca.certificates.clone();
        bundle.extend(user.trusted.iter().cloned());
        dedup_in_order(&mut bundle);
        let template = Template::client(user.subject.clone(), self.now, LEAF_LIFETIME_SECONDS);
        let reason = match &existing {
            Some(existing) => self.flaw(&existing.chain, &existing.key, ca, &template),
            None => Some("it is missing".to_owned()),
        };
        let (chain, key) = match (existing, reason) {
            (Some(existing), None) => {
                if ca.authority.is_some() {
                    self.will_renew(&existing.chain[0]);
                }
                if existing.server == user.server && existing.certificate_authority == bundle {
                    return Ok(());
                }
                (existing.chain, existing.key)
            }
            (_, reason) => {
                let Some(issuer) = &ca.authority else {
                    let key = self.file("ca", "key");
                    return Err(PkiError::AuthorityKeyMissing {
                        certificate: path,
                        key,
                        reason: reason.unwrap_or_default(),
                    });
                };
                let key = PrivateKey::generate()?;
                let certificate = issuer.issue(&template, key.public_key())?;
                self.will_renew(&certificate);
                (vec![certificate], key)
            }
        };
        let kubeconfig = Kubeconfig {
            cluster: user.cluster.clone(),
            context: format!("{}@{}", user.subject.common_name, user.cluster),
            user: user.subject.common_name.clone(),
            server: user.server.clone(),
            certificate_authority: bundle,
            namespace: None,
            credential: Credential::ClientCertificate { chain, key },
        };
        self.new.push(NewFile::secret(path, kubeconfig.to_yaml()));
        Ok(())
    }
}

/// Reads a file in some form; one that is there but not in this form is unusable.
fn read_with<T>(path: &Path, parse: impl Fn(&[u8]) -> Result<T, PkiError>) -> Result<Option<T>, PkiError> {
    let Some(content) = files::read(path)? else { return Ok(None) };
    match parse(&content) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(PkiError::Unusable { path: path.to_owned(), reason: error.to_string() }),
    }
}

// === user-provided files ===

fn load<T>(path: &Path, parse: impl Fn(&[u8]) -> Result<T, PkiError>) -> Result<T, PkiError> {
    let given = |reason: String| PkiError::Given { path: path.to_owned(), reason };
    let content = std::fs::read(path).map_err(|error| given(error.to_string()))?;
    parse(&content).map_err(|error| given(error.to_string()))
}

/// Loads the certificates of a PEM file.
pub fn load_certificates(path: &Path) -> Result<Vec<Certificate>, PkiError> {
    load(path, Certificate::from_pem)
}

/// Loads authorities, such as `--client-ca-file`, of which at least one must be good at `now`.
pub fn load_authorities(path: &Path, now: i64) -> Result<Vec<Certificate>, PkiError> {
    let certificates = load_certificates(path)?;
    let last = certificates.iter().map(|certificate| certificate.not_after).max().unwrap_or_default();
    if last < now {
        return Err(PkiError::Given { path: path.to_owned(), reason: expired(last) });
    }
    Ok(certificates)
}

/// Loads a private key, such as `--service-account-signing-key-file`.
pub fn load_private_key(path: &Path) -> Result<PrivateKey, PkiError> {
    load(path, PrivateKey::from_pem)
}

/// Loads the public keys of a PEM file, such as `--service-account-key-file`; private keys and certificates serve too.
pub fn load_public_keys(path: &Path) -> Result<Vec<PublicKey>, PkiError> {
    load(path, PublicKey::from_pem)
}

/// Loads a certificate chain and its key, such as `--tls-cert-file` and `--tls-private-key-file`. Both may be in the
/// same file. The certificate must not have expired at `now`.
pub fn load_key_pair(certificate: &Path, key: &Path, now: i64) -> Result<KeyPair, PkiError> {
    let chain = load_certificates(certificate)?;
    let private = load_private_key(key)?;
    let flaw = if !chain[0].has_key(private.public_key()) {
        format!("it is not for the key in {}", key.display())
    } else if chain[0].not_after < now {
        expired(chain[0].not_after)
    } else {
        return Ok(KeyPair { chain, key: private });
    };
    Err(PkiError::Given { path: certificate.to_owned(), reason: flaw })
}

/// The words for what has expired.
fn expired(at: i64) -> String {
    match Timestamp::from_second(at) {
        Ok(at) => format!("it expired at {at}"),
        Err(_) => "it expired".to_owned(),
    }
}
