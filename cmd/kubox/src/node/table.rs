//! The flags of `kubox node`.

use std::path::PathBuf;

use super::wanted::Wanted;
use crate::flags::{Flag, Form, Given, Section, Verdict};

type Set = fn(&mut Wanted, &Given) -> Result<(), String>;

const fn honoured(name: &'static str, form: Form, help: &'static str, set: Set) -> Flag<Wanted> {
    Flag { name, form, help, verdict: Verdict::Honoured(set) }
}

/// All flags.
pub(super) const FLAGS: &[Section<Wanted>] = &[
    Section {
        title: "kubox's own flags",
        flags: &[
            honoured("state-dir", Form::Text, "where images and the runtime's records are kept", |w, given| {
                w.state_dir = PathBuf::from(given.text());
                Ok(())
            }),
            honoured(
                "run-dir",
                Form::Text,
                "where sockets and namespaces are; empty after a restart of the machine",
                |w, given| {
                    w.run_dir = PathBuf::from(given.text());
                    Ok(())
                },
            ),
            honoured("image-dir", Form::Text, "a folder of image archives, imported once each", |w, given| {
                w.image_dir = Some(PathBuf::from(given.text()));
                Ok(())
            }),
            honoured("bridge", Form::Text, "the name of the built-in network's bridge; empty for none", |w, given| {
                w.bridge = given.text().to_owned();
                Ok(())
            }),
            honoured("cni-conf-dir", Form::Text, "where CNI networks are configured", |w, given| {
                w.cni_conf_dir = PathBuf::from(given.text());
                Ok(())
            }),
            honoured("cni-bin-dir", Form::List, "where CNI plugins are", |w, given| {
                w.cni_bin_dirs = given.list().into_iter().map(PathBuf::from).collect();
                Ok(())
            }),
        ],
    },
    Section {
        title: "The API and the Node",
        flags: &[
            honoured("kubeconfig", Form::Text, "how the API is reached (required)", |w, given| {
                w.kubeconfig = PathBuf::from(given.text());
                Ok(())
            }),
            honoured("hostname-override", Form::Text, "the Node's name, if not the host's", |w, given| {
                w.name = given.text().to_owned();
                Ok(())
            }),
            honoured("node-ip", Form::List, "the Node's addresses, if not those of the default route", |w, given| {
                let ips = given.list();
                if let Some(bad) = ips.iter().find(|ip| ip.parse::<std::net::IpAddr>().is_err()) {
                    return Err(format!("invalid IP address {bad:?}"));
                }
                w.node_ips = ips;
                Ok(())
            }),
            honoured("node-labels", Form::Pairs, "labels that the Node registers with", |w, given| {
                for pair in given.list() {
                    let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
                    w.labels.push((name.to_owned(), value.to_owned()));
                }
                Ok(())
            }),
            honoured("register-node", Form::Bool, "register the Node with the API", |w, given| {
                w.register = given.bool();
                Ok(())
            }),
            honoured(
                "register-with-taints",
                Form::List,
                "taints that the Node registers with: key=value:effect",
                |w, given| {
                    for taint in given.list() {
                        w.taints.push(super::wanted::taint(&taint)?);
                    }
                    Ok(())
                },
            ),
            honoured("max-pods", Form::Int, "how many Pods the Node takes", |w, given| {
                w.pods_max = given.int();
                Ok(())
            }),
            honoured("address", Form::Ip, "where the Node's own API listens; every address by default", |w, given| {
                w.address = given.ip().ok_or_else(|| "an address is wanted".to_owned())?;
                Ok(())
            }),
            honoured("cert-dir", Form::Text, "where the certificate of the Node's own API is kept", |w, given| {
                w.certificate_dir = Some(PathBuf::from(given.text()));
                Ok(())
            }),
            honoured("client-ca-file", Form::Text, "whose client certificates the Node's own API takes", |w, given| {
                w.client_ca_file = Some(PathBuf::from(given.text()));
                Ok(())
            }),
            honoured("port", Form::Uint, "the port of the Node's own API", |w, given| {
                w.port = u16::try_from(given.int()).map_err(|_| "a port is at most 65535".to_owned())?;
                Ok(())
            }),
        ],
    },
    Section {
        title: "Pods",
        flags: &[
            honoured(
                "container-runtime-endpoint",
                Form::Text,
                "the socket of a CRI runtime; the embedded runtime if empty",
                |w, given| {
                    w.runtime_endpoint = given.text().to_owned();
                    Ok(())
                },
            ),
            honoured(
                "image-service-endpoint",
                Form::Text,
                "the socket of a CRI image service, if another one",
                |w, given| {
                    w.image_endpoint = given.text().to_owned();
                    Ok(())
                },
            ),
            honoured("root-dir", Form::Text, "where volumes and other files of Pods are", |w, given| {
                w.root_dir = PathBuf::from(given.text());
                Ok(())
            }),
            honoured("pod-logs-dir", Form::Text, "where the logs of Pods are", |w, given| {
                w.log_dir = PathBuf::from(given.text());
                Ok(())
            }),
            honoured("cgroup-root", Form::Text, "the cgroup above all Pods'", |w, given| {
                w.cgroup_root = given.text().to_owned();
                Ok(())
            }),
            honoured("cluster-dns", Form::List, "addresses of the cluster's DNS", |w, given| {
                w.cluster_dns = given.list();
                Ok(())
            }),
            honoured("cluster-domain", Form::Text, "the cluster's domain", |w, given| {
                w.cluster_domain = given.text().to_owned();
                Ok(())
            }),
            honoured("resolv-conf", Form::Text, "the resolver of Pods that use the node's", |w, given| {
                w.resolv_conf = PathBuf::from(given.text());
                Ok(())
            }),
            honoured("pod-cidr", Form::Text, "the range of Pods' addresses on this node", |w, given| {
                w.pod_cidr = given.text().to_owned();
                Ok(())
            }),
            honoured(
                "seccomp-default",
                Form::Bool,
                "the runtime's seccomp profile for containers that name none",
                |w, given| {
                    w.seccomp_default = given.bool();
                    Ok(())
                },
            ),
        ],
    },
    Section {
        title: "Logs",
        flags: &[honoured(
            "v",
            Form::Int,
            "how much is logged: 0 warnings, 2 what happens, 4 and more details",
            |w, given| {
                w.verbosity = given.int();
                Ok(())
            },
        )],
    },
];
