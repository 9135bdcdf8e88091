//! Every flag of upstream's kube-apiserver 1.36, and ours: what becomes of each.

use std::path::PathBuf;

use apiserver::start::{KeyPairFiles, SniFiles};

use super::values;
use super::wanted::Wanted;
use crate::flags::{Flag, Form, Given, Section, Verdict};

type Set = fn(&mut Wanted, &Given) -> Result<(), String>;

const fn honoured(name: &'static str, form: Form, help: &'static str, set: Set) -> Flag<Wanted> {
    Flag { name, form, help, verdict: Verdict::Honoured(set) }
}

const fn only(name: &'static str, form: Form, is_done: fn(&Given) -> bool, why: &'static str) -> Flag<Wanted> {
    Flag { name, form, help: "", verdict: Verdict::Only(is_done, why) }
}

const fn moot(name: &'static str, form: Form, why: &'static str) -> Flag<Wanted> {
    Flag { name, form, help: "", verdict: Verdict::Moot(why) }
}

const fn refused(name: &'static str, form: Form, why: &'static str) -> Flag<Wanted> {
    Flag { name, form, help: "", verdict: Verdict::Refused(why) }
}

fn is_true(given: &Given) -> bool {
    given.bool()
}

fn is_false(given: &Given) -> bool {
    !given.bool()
}

fn is_empty(given: &Given) -> bool {
    given.text().is_empty()
}

fn path(given: &Given) -> Option<PathBuf> {
    Some(given.text()).filter(|text| !text.is_empty()).map(PathBuf::from)
}

const NO_ETCD: &str = "state is kept in --data-dir, not in etcd; leave the flag out";
const NO_AUDIT: &str = "there is no audit log yet; leave the flag out";
const NO_OIDC: &str = "users of OpenID Connect are not known yet; use client certificates or tokens";
const NO_WEBHOOK_AUTHN: &str = "tokens cannot be reviewed by others yet; use --token-auth-file or client certificates";
const NO_WEBHOOK_AUTHZ: &str = "others cannot be asked for authorization yet; use --authorization-mode=Node,RBAC";
const NO_PEERS: &str = "servers of different versions do not pass requests on to one another";
const NO_ELECTION: &str = "leaders are not elected by the server (the feature is beta and off upstream, too)";

/// All flags.
pub(super) const FLAGS: &[Section<Wanted>] = &[
    Section {
        title: "kubox's own flags",
        flags: &[
            honoured("data-dir", Form::Text, "where everything is kept (required)", |w, given| {
                w.options.data_dir = PathBuf::from(given.text());
                Ok(())
            }),
            honoured(
                "tls-san",
                Form::Repeated,
                "one more name or address in the serving certificate that is made; may be repeated",
                |w, given| {
                    w.options.extra_names = given.all().iter().filter(|name| !name.is_empty()).cloned().collect();
                    Ok(())
                },
            ),
        ],
    },
    Section {
        title: "Serving",
        flags: &[
            honoured("bind-address", Form::Ip, "where to listen (127.0.0.1)", |w, given| {
                w.options.bind_address = given.ip().unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into());
                Ok(())
            }),
            honoured("secure-port", Form::Int, "the port to listen at (6443); 0 takes a free one", |w, given| {
                w.options.secure_port = u16::try_from(given.int())
                    .map_err(|_| format!("--secure-port {} must be between 0 and 65535, inclusive", given.int()))?;
                Ok(())
            }),
            honoured(
                "advertise-address",
                Form::Ip,
                "the address that others are told (found out from the bind address and the default route)",
                |w, given| {
                    w.options.advertise_address = given.ip();
                    Ok(())
                },
            ),
            honoured(
                "external-hostname",
                Form::Text,
                "the name in URLs that lead to this server (the advertised address)",
                |w, given| {
                    w.options.external_hostname = Some(given.text().to_owned()).filter(|name| !name.is_empty());
                    Ok(())
                },
            ),
            honoured(
                "tls-cert-file",
                Form::Text,
                "the certificate to serve with, and those that lead to its root; read again when it changes",
                |w, given| {
                    w.tls_cert = path(given);
                    Ok(())
                },
            ),
            honoured(
                "tls-private-key-file",
                Form::Text,
                "the key of --tls-cert-file; read again when it changes",
                |w, given| {
                    w.tls_key = path(given);
                    Ok(())
                },
            ),
            honoured(
                "tls-sni-cert-key",
                Form::CertKey,
                "a certificate and its key for some names; may be repeated; read again when they change",
                |w, given| {
                    w.options.sni_certificates = given.all().iter().map(|value| sni(value)).collect();
                    Ok(())
                },
            ),
            honoured("tls-min-version", Form::Text, "VersionTLS12 or VersionTLS13 (VersionTLS12)", |w, given| {
                w.options.tls.min_version = values::tls_version(given.text())?;
                Ok(())
            }),
            honoured(
                "tls-cipher-suites",
                Form::List,
                "the cipher suites of TLS 1.2; those of 1.3 are always on",
                |w, given| {
                    w.options.tls.cipher_suites = given.list();
                    Ok(())
                },
            ),
            honoured(
                "tls-curve-preferences",
                Form::Ints,
                "key exchanges by number: 29 is X25519, 23 P-256, 24 P-384",
                |w, given| {
                    w.options.tls.curves = values::curves(given)?;
                    Ok(())
                },
            ),
            honoured(
                "http2-max-streams-per-connection",
                Form::Int,
                "requests at once on one HTTP/2 connection (100)",
                |w, given| {
                    w.options.http2_streams_max = values::streams(given.int())?;
                    Ok(())
                },
            ),
            honoured("disable-http2-serving", Form::Bool, "serve HTTP/1.1 only", |w, given| {
                w.options.tls.http2 = !given.bool();
                Ok(())
            }),
            honoured(
                "permit-port-sharing",
                Form::Bool,
                "other processes may listen at the same address and port",
                |w, given| {
                    w.options.permit_port_sharing = given.bool();
                    Ok(())
                },
            ),
            moot("permit-address-sharing", Form::Bool, "an address whose former connections linger is always taken"),
            refused(
                "cert-dir",
                Form::Text,
                "certificates are kept in --data-dir/pki; name your own with --tls-cert-file and --tls-private-key-file",
            ),
            honoured(
                "cors-allowed-origins",
                Form::List,
                "origins that browsers' scripts may call from, as regular expressions",
                |w, given| {
                    w.options.cors_allowed_origins = values::origins(given.list())?;
                    Ok(())
                },
            ),
            honoured(
                "strict-transport-security-directives",
                Form::List,
                "what the header Strict-Transport-Security says: max-age=N, includeSubDomains, preload",
                |w, given| {
                    w.options.strict_transport_security = values::transport_security(given.list())?;
                    Ok(())
                },
            ),
            honoured(
                "goaway-chance",
                Form::Float,
                "the share of HTTP/2 requests after which a client is asked to connect anew, up to 0.02 (0)",
                |w, given| {
                    w.options.goaway_chance = values::goaway_chance(given.float())?;
                    Ok(())
                },
            ),
            honoured(
                "request-timeout",
                Form::Duration,
                "how long requests other than watches may take (1m)",
                |w, given| {
                    w.options.request_timeout = given
                        .duration()
                        .filter(|timeout| !timeout.is_zero())
                        .ok_or("--request-timeout must be greater than 0")?;
                    Ok(())
                },
            ),
            honoured("min-request-timeout", Form::Int, "how many seconds watches last at least (1800)", |w, given| {
                w.options.min_request_timeout_seconds = values::not_negative("min-request-timeout", given.int())?;
                Ok(())
            }),
            honoured("max-requests-inflight", Form::Int, "reads at once (400); 0 is no limit", |w, given| {
                w.options.max_requests_in_flight = values::not_negative("max-requests-inflight", given.int())?;
                Ok(())
            }),
            honoured("max-mutating-requests-inflight", Form::Int, "writes at once (200); 0 is no limit", |w, given| {
                w.options.max_mutating_requests_in_flight =
                    values::not_negative("max-mutating-requests-inflight", given.int())?;
                Ok(())
            }),
            only(
                "enable-priority-and-fairness",
                Form::Bool,
                is_false,
                "requests are not queued by priority yet, only limited in number",
            ),
            only(
                "max-connection-bytes-per-sec",
                Form::Int,
                |given| given.int() == 0,
                "connections are not slowed down",
            ),
            honoured(
                "shutdown-delay-duration",
                Form::Duration,
                "how long to go on, not ready, when told to stop (0s)",
                |w, given| {
                    w.options.shutdown_delay =
                        given.duration().ok_or("--shutdown-delay-duration can not be negative value")?;
                    Ok(())
                },
            ),
            only("shutdown-send-retry-after", Form::Bool, is_false, "connections are closed at the end instead"),
            only(
                "shutdown-watch-termination-grace-period",
                Form::Duration,
                |given| given.nanos() == 0,
                "watches end at once when the server does; clients resume them",
            ),
            moot("livez-grace-period", Form::Duration, "all is up before the first request is taken"),
            moot(
                "storage-initialization-timeout",
                Form::Duration,
                "the store is read before the first request is taken",
            ),
        ],
    },
    Section {
        title: "Users",
        flags: &[
            honoured(
                "client-ca-file",
                Form::Text,
                "who vouches for users with certificates (--data-dir/pki/ca.crt); read again when it changes",
                |w, given| {
                    w.options.client_ca_file = path(given);
                    Ok(())
                },
            ),
            honoured(
                "token-auth-file",
                Form::Text,
                "static tokens, a line each: token,user,uid,\"groups\"",
                |w, given| {
                    w.options.token_auth_file = path(given);
                    Ok(())
                },
            ),
            honoured(
                "enable-bootstrap-token-auth",
                Form::Bool,
                "accept the tokens of Secrets of type bootstrap.kubernetes.io/token in kube-system",
                |w, given| {
                    w.options.bootstrap_tokens = given.bool();
                    Ok(())
                },
            ),
            honoured(
                "anonymous-auth",
                Form::Bool,
                "whether users may stay anonymous (for health and version only, unless stated)",
                |w, given| {
                    w.options.anonymous =
                        if given.bool() { authn::Anonymous::Everywhere } else { authn::Anonymous::Off };
                    Ok(())
                },
            ),
            honoured(
                "requestheader-client-ca-file",
                Form::Text,
                "who vouches for proxies that name users (--data-dir/pki/front-proxy-ca.crt); read again when it changes",
                |w, given| {
                    w.options.request_header.client_ca_file = path(given);
                    Ok(())
                },
            ),
            honoured(
                "requestheader-allowed-names",
                Form::List,
                "the proxies' common names; any if empty",
                |w, given| {
                    w.allowed_names = Some(given.list());
                    Ok(())
                },
            ),
            honoured(
                "requestheader-username-headers",
                Form::List,
                "headers that proxies name the user in",
                |w, given| {
                    w.username_headers = Some(values::headers("requestheader-username-headers", given.list())?);
                    Ok(())
                },
            ),
            honoured(
                "requestheader-uid-headers",
                Form::List,
                "headers that proxies name the user's uid in",
                |w, given| {
                    w.uid_headers = Some(values::headers("requestheader-uid-headers", given.list())?);
                    Ok(())
                },
            ),
            honoured(
                "requestheader-group-headers",
                Form::List,
                "headers that proxies name the user's groups in",
                |w, given| {
                    w.group_headers = Some(values::headers("requestheader-group-headers", given.list())?);
                    Ok(())
                },
            ),
            honoured(
                "requestheader-extra-headers-prefix",
                Form::List,
                "what the headers start with that hold other facts about the user",
                |w, given| {
                    w.extra_headers_prefix = Some(values::headers("requestheader-extra-headers-prefix", given.list())?);
                    Ok(())
                },
            ),
            honoured(
                "service-account-issuer",
                Form::Repeated,
                "the issuer of service account tokens; further ones are accepted too",
                |w, given| {
                    w.options.service_account_issuers = values::issuers(given.all())?;
                    Ok(())
                },
            ),
            honoured("api-audiences", Form::List, "what tokens must be meant for (the issuers)", |w, given| {
                w.options.api_audiences = given.list();
                Ok(())
            }),
            honoured(
                "service-account-key-file",
                Form::Repeated,
                "keys that verify service account tokens; may be repeated (--data-dir/pki/sa.pub)",
                |w, given| {
                    w.options.service_account_keys = given.all().iter().map(PathBuf::from).collect();
                    Ok(())
                },
            ),
            honoured(
                "service-account-signing-key-file",
                Form::Text,
                "the key that signs service account tokens (--data-dir/pki/sa.key)",
                |w, given| {
                    w.options.service_account_signing_key = path(given);
                    Ok(())
                },
            ),
            honoured("service-account-jwks-uri", Form::Text, "where others find the keys, if not here", |w, given| {
                w.options.service_account_jwks_uri = values::jwks_uri(given.text())?;
                Ok(())
            }),
            honoured(
                "service-account-max-token-expiration",
                Form::Duration,
                "how long a service account token may be good at most",
                |w, given| {
                    w.options.service_account_token_seconds_max = values::token_expiration(given)?;
                    Ok(())
                },
            ),
            honoured(
                "service-account-extend-token-expiration",
                Form::Bool,
                "let the tokens that pods get by default live a year, and warn of it (true)",
                |w, given| {
                    w.options.service_account_extends_tokens = given.bool();
                    Ok(())
                },
            ),
            only("service-account-lookup", Form::Bool, is_true, "a token always ends with its service account"),
            refused(
                "service-account-signing-endpoint",
                Form::Text,
                "tokens are signed by the server itself; use --service-account-signing-key-file",
            ),
            refused(
                "authentication-config",
                Form::Text,
                "users are configured by flags only; see --client-ca-file, --token-auth-file, --anonymous-auth",
            ),
            refused("oidc-ca-file", Form::Text, NO_OIDC),
            refused("oidc-client-id", Form::Text, NO_OIDC),
            refused("oidc-groups-claim", Form::Text, NO_OIDC),
            refused("oidc-groups-prefix", Form::Text, NO_OIDC),
            refused("oidc-issuer-url", Form::Text, NO_OIDC),
            refused("oidc-username-claim", Form::Text, NO_OIDC),
            refused("oidc-username-prefix", Form::Text, NO_OIDC),
            refused("oidc-required-claim", Form::Pairs, NO_OIDC),
            refused("oidc-signing-algs", Form::List, NO_OIDC),
            refused("authentication-token-webhook-config-file", Form::Text, NO_WEBHOOK_AUTHN),
            refused("authentication-token-webhook-version", Form::Text, NO_WEBHOOK_AUTHN),
            refused("authentication-token-webhook-cache-ttl", Form::Duration, NO_WEBHOOK_AUTHN),
        ],
    },
    Section {
        title: "Authorization",
        flags: &[
            honoured(
                "authorization-mode",
                Form::List,
                "who decides, in order: Node, RBAC, AlwaysAllow, AlwaysDeny (Node,RBAC)",
                |w, given| {
                    w.options.authorization_modes = values::authorization_modes(given.list())?;
                    Ok(())
                },
            ),
            refused("authorization-config", Form::Text, "authorizers are configured by --authorization-mode"),
            refused(
                "authorization-policy-file",
                Form::Text,
                "there is no mode ABAC; use --authorization-mode=Node,RBAC",
            ),
            refused("authorization-webhook-config-file", Form::Text, NO_WEBHOOK_AUTHZ),
            refused("authorization-webhook-version", Form::Text, NO_WEBHOOK_AUTHZ),
            refused("authorization-webhook-cache-authorized-ttl", Form::Duration, NO_WEBHOOK_AUTHZ),
            refused("authorization-webhook-cache-unauthorized-ttl", Form::Duration, NO_WEBHOOK_AUTHZ),
        ],
    },
    Section {
        title: "Admission",
        flags: &[
            honoured(
                "enable-admission-plugins",
                Form::List,
                "admission plugins beside the default ones and NodeRestriction",
                |w, given| {
                    w.enable_plugins = given.list();
                    Ok(())
                },
            ),
            honoured("disable-admission-plugins", Form::List, "admission plugins to leave out", |w, given| {
                w.disable_plugins = given.list();
                Ok(())
            }),
            honoured(
                "default-not-ready-toleration-seconds",
                Form::Int,
                "how long pods stay on nodes that are not ready, unless they say (300)",
                |w, given| {
                    w.options.not_ready_toleration_seconds = given.int();
                    Ok(())
                },
            ),
            honoured(
                "default-unreachable-toleration-seconds",
                Form::Int,
                "how long pods stay on nodes that cannot be reached, unless they say (300)",
                |w, given| {
                    w.options.unreachable_toleration_seconds = given.int();
                    Ok(())
                },
            ),
            refused(
                "admission-control",
                Form::List,
                "it is long deprecated; use --enable-admission-plugins and --disable-admission-plugins",
            ),
            refused(
                "admission-control-config-file",
                Form::Text,
                "admission plugins have no configuration of their own yet",
            ),
            only(
                "allow-privileged",
                Form::Bool,
                is_true,
                "privileged containers are allowed; RBAC and namespaces say who may make pods",
            ),
        ],
    },
    Section {
        title: "API",
        flags: &[
            honoured(
                "runtime-config",
                Form::Switches,
                "which groups and versions to serve: group/version=true|false, api/all, api/ga, api/beta, api/alpha",
                |w, given| {
                    w.options.runtime_config = values::runtime_config(&given.switches())?;
                    Ok(())
                },
            ),
            honoured(
                "feature-gates",
                Form::Switches,
                "features by name; each may only be said to be as it is",
                |_, given| values::feature_gates(&given.switches()),
            ),
            only(
                "emulated-version",
                Form::List,
                |given| given.list().iter().all(|v| values::is_version(v, 0)),
                "kubox is Kubernetes of one version; see --version",
            ),
            only(
                "min-compatibility-version",
                Form::List,
                |given| given.list().iter().all(|v| values::is_version(v, 0) || values::is_version(v, 1)),
                "kubox is compatible with the version before its own",
            ),
            only("emulation-forward-compatible", Form::Bool, is_false, "no other version is emulated"),
            only("runtime-config-emulation-forward-compatible", Form::Bool, is_false, "no other version is emulated"),
            honoured("event-ttl", Form::Duration, "how long Events are kept (1h)", |w, given| {
                w.options.event_ttl = given.duration().ok_or("--event-ttl can not be negative value")?;
                Ok(())
            }),
            honoured(
                "service-cluster-ip-range",
                Form::Text,
                "addresses of Services: one range, or two of different families (10.96.0.0/12)",
                |w, given| {
                    w.options.service_cidrs = values::service_cidrs(given.text())?;
                    Ok(())
                },
            ),
            honoured("service-node-port-range", Form::Ports, "node ports (30000-32767)", |w, given| {
                w.options.node_ports = values::node_ports(given.ports())?;
                Ok(())
            }),
            honoured(
                "endpoint-reconciler-type",
                Form::Text,
                "lease: keep the endpoints of the Service kubernetes; none: leave them (lease)",
                |w, given| {
                    w.options.keeps_endpoints = values::keeps_endpoints(given.text())?;
                    Ok(())
                },
            ),
            only(
                "kubernetes-service-node-port",
                Form::Int,
                |given| given.int() == 0,
                "the Service kubernetes has a cluster IP only",
            ),
            only("apiserver-count", Form::Int, |given| given.int() == 1, "one server keeps the store"),
            moot("delete-collection-workers", Form::Int, "objects are deleted as fast as the store takes it"),
            only(
                "enable-garbage-collector",
                Form::Bool,
                is_true,
                "objects always wait for those that depend on them, if so asked",
            ),
            only("enable-aggregator-routing", Form::Bool, is_false, "there are no extension API servers yet"),
            only(
                "aggregator-reject-forwarding-redirect",
                Form::Bool,
                is_true,
                "there are no extension API servers yet",
            ),
            honoured(
                "proxy-client-cert-file",
                Form::Text,
                "what to show to extension API servers; checked, and not used until there are some",
                |w, given| {
                    w.proxy_cert = path(given);
                    Ok(())
                },
            ),
            honoured("proxy-client-key-file", Form::Text, "the key of --proxy-client-cert-file", |w, given| {
                w.proxy_key = path(given);
                Ok(())
            }),
            refused("egress-selector-config-file", Form::Text, "connections to nodes are made directly"),
            refused("peer-advertise-ip", Form::Text, NO_PEERS),
            refused("peer-advertise-port", Form::Text, NO_PEERS),
            refused("peer-ca-file", Form::Text, NO_PEERS),
            refused("coordinated-leadership-lease-duration", Form::Duration, NO_ELECTION),
            refused("coordinated-leadership-renew-deadline", Form::Duration, NO_ELECTION),
            refused("coordinated-leadership-retry-period", Form::Duration, NO_ELECTION),
        ],
    },
    Section {
        title: "Kubelets",
        flags: &[
            honoured(
                "kubelet-client-certificate",
                Form::Text,
                "what to show to kubelets (--data-dir/pki/apiserver-kubelet-client.crt); read again when it changes",
                |w, given| {
                    w.kubelet_cert = path(given);
                    Ok(())
                },
            ),
            honoured(
                "kubelet-client-key",
                Form::Text,
                "the key of --kubelet-client-certificate; read again when it changes",
                |w, given| {
                    w.kubelet_key = path(given);
                    Ok(())
                },
            ),
            honoured(
                "kubelet-certificate-authority",
                Form::Text,
                "who vouches for kubelets (nobody: any certificate is taken); read again when it changes",
                |w, given| {
                    w.options.kubelet_ca_file = path(given);
                    Ok(())
                },
            ),
            honoured(
                "kubelet-preferred-address-types",
                Form::List,
                "a node's addresses in the order they are tried (Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP)",
                |w, given| {
                    w.options.kubelet_address_types = given.list();
                    Ok(())
                },
            ),
            moot("kubelet-timeout", Form::Duration, "upstream does not use it either"),
            only(
                "kubelet-port",
                Form::Uint,
                |given| given.int() == 10250,
                "a node that does not state its kubelet's port has it at 10250",
            ),
            moot("kubelet-read-only-port", Form::Uint, "the port is never asked"),
        ],
    },
    Section {
        title: "Storage",
        flags: &[
            refused("etcd-servers", Form::List, NO_ETCD),
            refused("etcd-servers-overrides", Form::List, NO_ETCD),
            refused("etcd-cafile", Form::Text, NO_ETCD),
            refused("etcd-certfile", Form::Text, NO_ETCD),
            refused("etcd-keyfile", Form::Text, NO_ETCD),
            refused("etcd-prefix", Form::Text, NO_ETCD),
            refused("etcd-compaction-interval", Form::Duration, NO_ETCD),
            refused("etcd-count-metric-poll-period", Form::Duration, NO_ETCD),
            refused("etcd-db-metric-poll-interval", Form::Duration, NO_ETCD),
            refused("etcd-healthcheck-timeout", Form::Duration, NO_ETCD),
            refused("etcd-readycheck-timeout", Form::Duration, NO_ETCD),
            refused("storage-backend", Form::Text, NO_ETCD),
            refused(
                "encryption-provider-config",
                Form::Text,
                "objects are not encrypted at rest yet; encrypt the disk under --data-dir",
            ),
            only(
                "encryption-provider-config-automatic-reload",
                Form::Bool,
                is_false,
                "objects are not encrypted at rest yet; encrypt the disk under --data-dir",
            ),
            only(
                "storage-media-type",
                Form::Text,
                |given| given.text() == "application/vnd.kubernetes.protobuf",
                "objects are stored as application/vnd.kubernetes.protobuf",
            ),
            only("watch-cache", Form::Bool, is_true, "lists and watches are always served from memory"),
            only(
                "default-watch-cache-size",
                Form::Int,
                |given| given.int() != 0,
                "lists and watches are always served from memory",
            ),
            only(
                "watch-cache-sizes",
                Form::List,
                |given| given.list().iter().all(|size| !size.ends_with("#0")),
                "lists and watches are always served from memory",
            ),
            moot("lease-reuse-duration-seconds", Form::Int, "how Events share a time to live is up to the store"),
        ],
    },
    Section {
        title: "Logs, metrics and traces",
        flags: &[
            honoured("v", Form::Uint, "how much to log (2)", |w, given| {
                w.verbosity = u8::try_from(given.int()).unwrap_or(u8::MAX);
                Ok(())
            }),
            only("vmodule", Form::Levels, is_empty, "how much is logged is set for the whole program; use --v"),
            only("logging-format", Form::Text, |given| given.text() == "text", "logs are lines of text"),
            moot("log-flush-frequency", Form::Duration, "each line is written at once"),
            only(
                "log-json-info-buffer-size",
                Form::Quantity,
                |given| given.text().starts_with('0'),
                "each line is written at once",
            ),
            only("log-json-split-stream", Form::Bool, is_false, "all goes to standard error"),
            only(
                "log-text-info-buffer-size",
                Form::Quantity,
                |given| given.text().starts_with('0'),
                "each line is written at once",
            ),
            only("log-text-split-stream", Form::Bool, is_false, "all goes to standard error"),
            only("enable-logs-handler", Form::Bool, is_false, "logs are not served"),
            only("profiling", Form::Bool, is_false, "there is no /debug/pprof"),
            only("contention-profiling", Form::Bool, is_false, "there is no /debug/pprof"),
            refused("debug-socket-path", Form::Text, "there is no /debug/pprof"),
            refused("allow-metric-labels", Form::Pairs, "metrics have few labels with few values"),
            refused("allow-metric-labels-manifest", Form::Text, "metrics have few labels with few values"),
            refused("disabled-metrics", Form::List, "metrics cannot be left out"),
            only(
                "show-hidden-metrics-for-version",
                Form::Text,
                |given| values::is_version(given.text(), 1),
                "no metric is hidden",
            ),
            refused("tracing-config-file", Form::Text, "there are no traces"),
        ],
    },
    Section {
        title: "Audit",
        flags: &[
            refused("audit-log-batch-buffer-size", Form::Int, NO_AUDIT),
            refused("audit-log-batch-max-size", Form::Int, NO_AUDIT),
            refused("audit-log-batch-max-wait", Form::Duration, NO_AUDIT),
            refused("audit-log-batch-throttle-burst", Form::Int, NO_AUDIT),
            refused("audit-log-batch-throttle-enable", Form::Bool, NO_AUDIT),
            refused("audit-log-batch-throttle-qps", Form::Float, NO_AUDIT),
            refused("audit-log-compress", Form::Bool, NO_AUDIT),
            refused("audit-log-format", Form::Text, NO_AUDIT),
            refused("audit-log-maxage", Form::Int, NO_AUDIT),
            refused("audit-log-maxbackup", Form::Int, NO_AUDIT),
            refused("audit-log-maxsize", Form::Int, NO_AUDIT),
            refused("audit-log-mode", Form::Text, NO_AUDIT),
            refused("audit-log-path", Form::Text, NO_AUDIT),
            refused("audit-log-truncate-enabled", Form::Bool, NO_AUDIT),
            refused("audit-log-truncate-max-batch-size", Form::Int, NO_AUDIT),
            refused("audit-log-truncate-max-event-size", Form::Int, NO_AUDIT),
            refused("audit-log-version", Form::Text, NO_AUDIT),
            refused("audit-policy-file", Form::Text, NO_AUDIT),
            refused("audit-webhook-batch-buffer-size", Form::Int, NO_AUDIT),
            refused("audit-webhook-batch-initial-backoff", Form::Duration, NO_AUDIT),
            refused("audit-webhook-batch-max-size", Form::Int, NO_AUDIT),
            refused("audit-webhook-batch-max-wait", Form::Duration, NO_AUDIT),
            refused("audit-webhook-batch-throttle-burst", Form::Int, NO_AUDIT),
            refused("audit-webhook-batch-throttle-enable", Form::Bool, NO_AUDIT),
            refused("audit-webhook-batch-throttle-qps", Form::Float, NO_AUDIT),
            refused("audit-webhook-config-file", Form::Text, NO_AUDIT),
            refused("audit-webhook-initial-backoff", Form::Duration, NO_AUDIT),
            refused("audit-webhook-mode", Form::Text, NO_AUDIT),
            refused("audit-webhook-truncate-enabled", Form::Bool, NO_AUDIT),
            refused("audit-webhook-truncate-max-batch-size", Form::Int, NO_AUDIT),
            refused("audit-webhook-truncate-max-event-size", Form::Int, NO_AUDIT),
            refused("audit-webhook-version", Form::Text, NO_AUDIT),
        ],
    },
    Section {
        title: "Others",
        flags: &[honoured("version", Form::Version, "print the version and end", |_, _| Ok(()))],
    },
];

/// `certificate,key`, and perhaps `:name,name`.
fn sni(value: &str) -> SniFiles {
    let (files, names) = value.trim().split_once(':').unwrap_or((value.trim(), ""));
    let (certificate, key) = files.split_once(',').unwrap_or((files, ""));
    let pair = KeyPairFiles { certificate: certificate.trim().into(), key: key.trim().into() };
    let names = names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    SniFiles { pair, names }
}
