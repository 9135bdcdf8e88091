//! What the flags of the server ask for together.

use std::path::{Path, PathBuf};

use apiserver::start::{KeyPairFiles, Options, RequestHeader};

/// What was asked for, flag by flag.
pub(super) struct Wanted {
    pub(super) options: Options,
    pub(super) verbosity: u8,
    pub(super) tls_cert: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
    pub(super) kubelet_cert: Option<PathBuf>,
    pub(super) kubelet_key: Option<PathBuf>,
    pub(super) proxy_cert: Option<PathBuf>,
    pub(super) proxy_key: Option<PathBuf>,
    pub(super) allowed_names: Option<Vec<String>>,
    pub(super) username_headers: Option<Vec<String>>,
    pub(super) uid_headers: Option<Vec<String>>,
    pub(super) group_headers: Option<Vec<String>>,
    pub(super) extra_headers_prefix: Option<Vec<String>>,
    pub(super) enable_plugins: Vec<String>,
    pub(super) disable_plugins: Vec<String>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            options: Options::new(Path::new("")),
            verbosity: 2,
            tls_cert: None,
            tls_key: None,
            kubelet_cert: None,
            kubelet_key: None,
            proxy_cert: None,
            proxy_key: None,
            allowed_names: None,
            username_headers: None,
            uid_headers: None,
            group_headers: None,
            extra_headers_prefix: None,
            enable_plugins: Vec::new(),
            disable_plugins: Vec::new(),
        }
    }
}

impl Wanted {
    /// The options, once all flags are read: some mean something only together.
    pub(super) fn finish(self) -> Result<Options, String> {
        let mut options = self.options;
        if options.data_dir.as_os_str().is_empty() {
            return Err("--data-dir is needed: the folder where everything is kept".into());
        }
        options.serving_certificate = pair(self.tls_cert, self.tls_key, ["tls-cert-file", "tls-private-key-file"])?;
        let names = ["kubelet-client-certificate", "kubelet-client-key"];
        options.kubelet_client = pair(self.kubelet_cert, self.kubelet_key, names)?;
        let names = ["proxy-client-cert-file", "proxy-client-key-file"];
        options.proxy_client = pair(self.proxy_cert, self.proxy_key, names)?;
        // Whoever brings an authority for proxies says which headers they send; ours send the usual ones.
        let ours = RequestHeader::default();
        let client_ca_file = options.request_header.client_ca_file;
        let or = |stated: Option<Vec<String>>, usual: Vec<String>| match client_ca_file {
            Some(_) => stated.unwrap_or_default(),
            None => stated.unwrap_or(usual),
        };
        options.request_header = RequestHeader {
            allowed_names: or(self.allowed_names, ours.allowed_names),
            username_headers: or(self.username_headers, ours.username_headers),
            uid_headers: or(self.uid_headers, ours.uid_headers),
            group_headers: or(self.group_headers, ours.group_headers),
            extra_headers_prefix: or(self.extra_headers_prefix, ours.extra_headers_prefix),
            client_ca_file,
        };
        options.enable_admission_plugins.retain(|usual| !self.disable_plugins.contains(usual));
        options.enable_admission_plugins.extend(self.enable_plugins);
        options.disable_admission_plugins = self.disable_plugins;
        Ok(options)
    }
}

/// A certificate and its key, which make sense only together.
fn pair(
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    [certificate_flag, key_flag]: [&str; 2],
) -> Result<Option<KeyPairFiles>, String> {
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(KeyPairFiles { certificate, key })),
        (Some(_), None) => Err(format!("--{certificate_flag} needs --{key_flag}")),
        (None, Some(_)) => Err(format!("--{key_flag} needs --{certificate_flag}")),
    }
}
