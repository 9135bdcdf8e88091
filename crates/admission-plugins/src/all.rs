//! Every admission plugin, in the order a request meets them.

use std::sync::Arc;

use admission::Plugin;
use api_semantics::field::quoted;
use authz::{Authorizer, Rbac};
use world::Random;

use crate::default_toleration_seconds::DefaultTolerationSeconds;
use crate::limit_ranger::LimitRanger;
use crate::namespace_lifecycle::NamespaceLifecycle;
use crate::node_restriction::NodeRestriction;
use crate::priority::Priority;
use crate::rbac_escalation::RbacEscalation;
use crate::resource_quota::ResourceQuota;
use crate::runtime_class::RuntimeClass;
use crate::service_account::ServiceAccount;
use crate::taint_nodes_by_condition::TaintNodesByCondition;

/// What the plugins are made from.
pub struct Config {
    /// Names from `--enable-admission-plugins`.
    pub enable: Vec<String>,
    /// Names from `--disable-admission-plugins`.
    pub disable: Vec<String>,
    /// `--default-not-ready-toleration-seconds`; upstream's default is 300.
    pub not_ready_toleration_seconds: i64,
    /// `--default-unreachable-toleration-seconds`; upstream's default is 300.
    pub unreachable_toleration_seconds: i64,
    /// Where name suffixes come from.
    pub random: Arc<dyn Random>,
    /// Who decides on requests, for plugins that ask whether a user may do more.
    pub authorizer: Arc<dyn Authorizer>,
    /// The roles, where RBAC is on: nobody shall grant more than they hold.
    pub rbac: Option<Arc<Rbac>>,
}

/// The names given cannot be honoured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No plugin has this name.
    #[error("{flag} plugin {} is unknown", quoted(name))]
    Unknown {
        /// The flag, without dashes.
        flag: &'static str,
        /// The name.
        name: String,
    },
    /// The plugin exists upstream, but not here yet.
    #[error("enable-admission-plugins plugin {} is not available in this version", quoted(name))]
    NotAvailable {
        /// The name.
        name: String,
    },
    /// Plugins are both enabled and disabled.
    #[error("[{}] in enable-admission-plugins and disable-admission-plugins overlapped", names.join(" "))]
    Overlap {
        /// The names.
        names: Vec<String>,
    },
}

type Make = fn(&Config) -> Box<dyn Plugin>;

struct Row {
    /// Upstream's name.
    name: &'static str,
    /// Whether it is on without being enabled.
    on: bool,
    /// Makes it; absent for those that are still to come.
    make: Option<Make>,
}

const fn row(name: &'static str, on: bool, make: Option<Make>) -> Row {
    Row { name, on, make }
}

const OFF: bool = false;
const ON: bool = true;

/// The order is upstream's: what others change is seen by those that check and count.
const ALL: &[Row] = &[
    row("AlwaysAdmit", OFF, None),
    row("NamespaceAutoProvision", OFF, None),
    row("NamespaceLifecycle", ON, Some(|_| Box::new(NamespaceLifecycle::default()))),
    row("NamespaceExists", OFF, None),
    row("LimitPodHardAntiAffinityTopology", OFF, None),
    row("LimitRanger", ON, Some(|_| Box::new(LimitRanger))),
    row("ServiceAccount", ON, Some(|config| Box::new(ServiceAccount { random: Arc::clone(&config.random) }))),
    row(
        "NodeRestriction",
        OFF,
        Some(|config| Box::new(NodeRestriction { authorizer: Arc::clone(&config.authorizer) })),
    ),
    row("TaintNodesByCondition", ON, Some(|_| Box::new(TaintNodesByCondition))),
    row("AlwaysPullImages", OFF, None),
    row("ImagePolicyWebhook", OFF, None),
    row("PodSecurity", ON, None),
    row("PodNodeSelector", OFF, None),
    row("Priority", ON, Some(|_| Box::new(Priority))),
    row(
        "DefaultTolerationSeconds",
        ON,
        Some(|config| {
            Box::new(DefaultTolerationSeconds {
                not_ready_seconds: config.not_ready_toleration_seconds,
                unreachable_seconds: config.unreachable_toleration_seconds,
            })
        }),
    ),
    row("PodTolerationRestriction", OFF, None),
    row("EventRateLimit", OFF, None),
    row("ExtendedResourceToleration", OFF, None),
    row("DefaultStorageClass", ON, None),
    row("StorageObjectInUseProtection", ON, None),
    row("PodGroupProtection", ON, None),
    row("OwnerReferencesPermissionEnforcement", OFF, None),
    row("PersistentVolumeClaimResize", ON, None),
    row("RuntimeClass", ON, Some(|_| Box::new(RuntimeClass))),
    row("CertificateApproval", ON, None),
    row("CertificateSigning", ON, None),
    row("ClusterTrustBundleAttest", ON, None),
    row("CertificateSubjectRestriction", ON, None),
    row("DefaultIngressClass", ON, None),
    row("DenyServiceExternalIPs", OFF, None),
    row("PodTopologyLabels", ON, None),
    row("PodGroupWorkloadExists", ON, None),
    row("NodeDeclaredFeatureValidator", ON, None),
    row("JobValidation", ON, None),
    row("PodResizeValidator", ON, None),
    // Webhooks, quota and refusals see what all others made of the object.
    row("MutatingAdmissionPolicy", ON, None),
    row("MutatingAdmissionWebhook", ON, None),
    row("ValidatingAdmissionPolicy", ON, None),
    row("ValidatingAdmissionWebhook", ON, None),
    row("ResourceQuota", ON, Some(|_| Box::new(ResourceQuota::default()))),
    row("AlwaysDeny", OFF, None),
];

/// The names of all plugins that upstream has, in order, for `--help`.
pub const NAMES: [&str; ALL.len()] = {
    let mut names = [""; ALL.len()];
    let mut at = 0;
    while at < ALL.len() {
        names[at] = ALL[at].name;
        at += 1;
    }
    names
};

/// The names of the plugins that are on without being enabled.
pub fn default_names() -> impl Iterator<Item = &'static str> {
    ALL.iter().filter(|row| row.on).map(|row| row.name)
}

/// The plugins that are on, in order; behind them the check that nobody grants more than they hold.
///
/// # Errors
/// A name is unknown, not available, or both enabled and disabled.
pub fn all(config: &Config) -> Result<Vec<Box<dyn Plugin>>, ConfigError> {
    for (flag, names) in [("enable-admission-plugins", &config.enable), ("disable-admission-plugins", &config.disable)]
    {
        if let Some(name) = names.iter().find(|name| !NAMES.contains(&name.as_str())) {
            return Err(ConfigError::Unknown { flag, name: name.clone() });
        }
    }
    let mut both: Vec<String> = config.enable.iter().filter(|name| config.disable.contains(name)).cloned().collect();
    if !both.is_empty() {
        both.sort_unstable();
        both.dedup();
        return Err(ConfigError::Overlap { names: both });
    }
    let is_named = |names: &[String], row: &Row| names.iter().any(|name| name == row.name);
    let mut plugins: Vec<Box<dyn Plugin>> = Vec::new();
    for row in ALL {
        let is_enabled = is_named(&config.enable, row);
        match row.make {
            Some(make) if is_enabled || row.on && !is_named(&config.disable, row) => plugins.push(make(config)),
            None if is_enabled => return Err(ConfigError::NotAvailable { name: row.name.into() }),
            _ => {}
        }
    }
    // Upstream has this check in the storage of roles, behind all plugins, where no flag reaches it.
    if let Some(rbac) = &config.rbac {
        let (rbac, authorizer) = (Arc::clone(rbac), Arc::clone(&config.authorizer));
        plugins.push(Box::new(RbacEscalation { rbac, authorizer }));
    }
    Ok(plugins)
}
