//! `kubox server`, also called `kube-apiserver`: flags, then the server until a signal.
//!
//! Every flag of upstream's kube-apiserver is either honoured or refused with a line that says why; none is ignored.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use apiserver::start::{Options, start};
use registry::parse_cidrs;
use tokio::signal::unix::{SignalKind, signal};
use world::World;

/// One flag.
struct Flag {
    name: &'static str,
    value: &'static str,
    help: &'static str,
    set: fn(&mut Parsed, &str) -> Result<(), String>,
}

struct Parsed {
    options: Options,
    verbosity: u8,
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn parse<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{value:?} is not of the right form"))
}

fn switch(value: &str) -> Result<bool, String> {
    match value {
        "" | "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
        "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
        other => Err(format!("{other:?} is neither true nor false")),
    }
}

/// The flags that are honoured.
const FLAGS: &[Flag] = &[
    Flag {
        name: "data-dir",
        value: "DIR",
        help: "where everything is kept (required)",
        set: |p, v| {
            p.options.data_dir = PathBuf::from(v);
            Ok(())
        },
    },
    Flag {
        name: "bind-address",
        value: "IP",
        help: "where to listen (127.0.0.1)",
        set: |p, v| {
            p.options.bind_address = parse(v)?;
            Ok(())
        },
    },
    Flag {
        name: "secure-port",
        value: "PORT",
        help: "the port to listen at (6443); 0 takes a free one",
        set: |p, v| {
            p.options.secure_port = parse(v)?;
            Ok(())
        },
    },
    Flag {
        name: "advertise-address",
        value: "IP",
        help: "the address that others are told",
        set: |p, v| {
            p.options.advertise_address = Some(parse(v)?);
            Ok(())
        },
    },
    Flag {
        name: "service-cluster-ip-range",
        value: "CIDRS",
        help: "Service addresses (10.96.0.0/12)",
        set: |p, v| {
            p.options.service_cidrs = parse_cidrs(v)?;
            Ok(())
        },
    },
    Flag {
        name: "service-node-port-range",
        value: "A-B",
        help: "node ports (30000-32767)",
        set: |p, v| {
            let (first, last) = v.split_once('-').ok_or_else(|| format!("{v:?} is no range A-B"))?;
            let (first, last): (u16, u16) = (parse(first)?, parse(last)?);
            if first == 0 || first > last {
                return Err(format!("{v:?} is no range A-B"));
            }
            p.options.node_ports = first..=last;
            Ok(())
        },
    },
    Flag {
        name: "service-account-issuer",
        value: "URL",
        help: "the issuer of service account tokens",
        set: |p, v| {
            p.options.service_account_issuer = text(v).ok_or("the issuer may not be empty")?;
            Ok(())
        },
    },
    Flag {
        name: "api-audiences",
        value: "LIST",
        help: "what tokens must be meant for (the issuer)",
        set: |p, v| {
            p.options.api_audiences = list(v);
            Ok(())
        },
    },
    Flag {
        name: "token-auth-file",
        value: "FILE",
        help: "static tokens: token,user,uid,\"groups\"",
        set: |p, v| {
            p.options.token_auth_file = text(v).map(PathBuf::from);
            Ok(())
        },
    },
    Flag {
        name: "anonymous-auth",
        value: "BOOL",
        help: "who may stay anonymous: health and version only unless true",
        set: |p, v| {
            p.options.anonymous = if switch(v)? { authn::Anonymous::Everywhere } else { authn::Anonymous::Off };
            Ok(())
        },
    },
    Flag {
        name: "max-requests-inflight",
        value: "N",
        help: "reads at once (400)",
        set: |p, v| {
            p.options.max_requests_in_flight = parse(v)?;
            Ok(())
        },
    },
    Flag {
        name: "max-mutating-requests-inflight",
        value: "N",
        help: "writes at once (200)",
        set: |p, v| {
            p.options.max_mutating_requests_in_flight = parse(v)?;
            Ok(())
        },
    },
    Flag {
        name: "min-request-timeout",
        value: "SECONDS",
        help: "how long watches last at least (1800)",
        set: |p, v| {
            p.options.min_request_timeout_seconds = parse(v)?;
            Ok(())
        },
    },
    Flag {
        name: "enable-admission-plugins",
        value: "LIST",
        help: "admission plugins beside the default ones",
        set: |p, v| {
            p.options.enable_admission_plugins.extend(list(v));
            Ok(())
        },
    },
    Flag {
        name: "disable-admission-plugins",
        value: "LIST",
        help: "admission plugins to leave out",
        set: |p, v| {
            p.options.disable_admission_plugins = list(v);
            p.options.enable_admission_plugins.retain(|name| !p.options.disable_admission_plugins.contains(name));
            Ok(())
        },
    },
    Flag {
        name: "authorization-mode",
        value: "LIST",
        help: "Node,RBAC,AlwaysAllow,AlwaysDeny (Node,RBAC)",
        set: |p, v| {
            p.options.authorization_modes = list(v);
            Ok(())
        },
    },
    Flag {
        name: "runtime-config",
        value: "MAP",
        help: "group/version=true|false, api/beta=true, ...",
        set: |p, v| {
            for part in list(v) {
                let (key, on) = part.split_once('=').unwrap_or((&part, "true"));
                p.options.runtime_config.push((key.to_owned(), switch(on)?));
            }
            Ok(())
        },
    },
    Flag {
        name: "tls-san",
        value: "NAME",
        help: "one more name in the serving certificate; may be repeated",
        set: |p, v| {
            p.options.extra_names.extend(text(v));
            Ok(())
        },
    },
    Flag {
        name: "v",
        value: "N",
        help: "how much to log (2)",
        set: |p, v| {
            p.verbosity = parse(v)?;
            Ok(())
        },
    },
];

/// Flags of upstream that ask for what this server does not have (yet), and why they are refused.
const REFUSED: &[(&str, &str)] = &[
    ("etcd-servers", "an etcd back end is not there yet; state is kept in --data-dir"),
    ("etcd-cafile", "an etcd back end is not there yet; state is kept in --data-dir"),
    ("etcd-certfile", "an etcd back end is not there yet; state is kept in --data-dir"),
    ("etcd-keyfile", "an etcd back end is not there yet; state is kept in --data-dir"),
    ("client-ca-file", "keys and certificates are kept in --data-dir/pki; put your own ca.crt there"),
    ("tls-cert-file", "keys and certificates are kept in --data-dir/pki; put your own apiserver.crt there"),
    ("tls-private-key-file", "keys and certificates are kept in --data-dir/pki; put your own apiserver.key there"),
    ("service-account-key-file", "keys are kept in --data-dir/pki; put your own sa.pub there"),
    ("service-account-signing-key-file", "keys are kept in --data-dir/pki; put your own sa.key there"),
    ("audit-log-path", "audit is not there yet"),
    ("audit-policy-file", "audit is not there yet"),
    ("encryption-provider-config", "encryption at rest is not there yet"),
    ("oidc-issuer-url", "OpenID Connect users are not there yet"),
    ("admission-control-config-file", "configuration of admission plugins is not there yet"),
    ("authorization-config", "use --authorization-mode"),
    ("authorization-webhook-config-file", "authorization webhooks are not there yet"),
    ("authentication-token-webhook-config-file", "token webhooks are not there yet"),
    ("enable-aggregator-routing", "aggregation is not there yet"),
];

fn help() -> String {
    let mut out = String::from("kubox server: the API server\n\n");
    for flag in FLAGS {
        out.push_str(&format!("  --{} {}\n        {}\n", flag.name, flag.value, flag.help));
    }
    out
}

fn parse_flags(args: &[String]) -> Result<Option<Parsed>> {
    let mut parsed = Parsed { options: Options::new(std::path::Path::new("")), verbosity: 2 };
    let mut args = args.iter().peekable();
    while let Some(arg) = args.next() {
        if matches!(arg.as_str(), "--help" | "-h") {
            return Ok(None);
        }
        let Some(body) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
            bail!("{arg:?} is no flag; see `kubox server --help`");
        };
        let (name, stated) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            bail!("--{name} cannot be honoured: {why}");
        }
        let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else {
            bail!("--{name} is not known; see `kubox server --help`");
        };
        let value = match stated {
            Some(value) => value,
            None if flag.value == "BOOL" => String::new(),
            None => args.next().cloned().with_context(|| format!("--{name} needs a value"))?,
        };
        (flag.set)(&mut parsed, &value).map_err(|why| anyhow::anyhow!("--{name}: {why}"))?;
    }
    if parsed.options.data_dir.as_os_str().is_empty() {
        bail!("--data-dir is needed: the folder where everything is kept");
    }
    Ok(Some(parsed))
}

/// Runs the server until SIGTERM or SIGINT.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let Some(parsed) = parse_flags(args)? else {
        print!("{}", help());
        return Ok(());
    };
    let level = match parsed.verbosity {
        0 => tracing::Level::WARN,
        1..=3 => tracing::Level::INFO,
        4..=5 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("listen for signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listen for signals")?;
        let kubeconfig = parsed.options.data_dir.join("admin.kubeconfig");
        let running = start(parsed.options, World::system()).await?;
        tracing::info!(address = %running.address, kubeconfig = %kubeconfig.display(), "serving");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        running.stop().await;
        Ok(())
    })
}
