//! A Pod runs as a service account that exists, with the account's token at hand and its secrets for pulling images.

use std::sync::Arc;

use admission::{Attributes, BoxFuture, Operation, Plugin, View};
use api_schema::{Value, format_smolstr};
use api_semantics::status::{GroupResource, Status};
use authz::references::{is_mirror, secrets};
use world::Random;

use crate::refusal::{forbidden, not_cached, ready};

const DEFAULT_ACCOUNT: &str = "default";
/// How long a namespace's default account is waited for: its controller makes it when it sees the namespace.
const DEFAULT_ACCOUNT_WAIT_MS_MAX: u64 = 1_500;
const VOLUME_PREFIX: &str = "kube-api-access-";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ENFORCE_MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";
/// An hour and a few seconds, by which upstream tells tokens of this volume from those that clients asked for.
const TOKEN_SECONDS: i64 = 3607;

/// See the module.
pub(crate) struct ServiceAccount {
    pub(crate) random: Arc<dyn Random>,
}

impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, resource: &GroupResource, subresource: &str, operation: Operation) -> bool {
        resource.resource == "pods"
            && resource.group.is_empty()
            && matches!((subresource, operation), ("", Operation::Create) | ("ephemeralcontainers", Operation::Update))
    }

    fn mutates(&self) -> bool {
        true
    }

    fn validates(&self) -> bool {
        true
    }

    fn admit<'a>(
        &'a self,
        attributes: &'a mut Attributes<'_>,
        view: &'a dyn View,
    ) -> BoxFuture<'a, Result<(), Status>> {
        let Some(pod) = attributes.object.as_deref_mut().filter(|_| attributes.operation == Operation::Create) else {
            return ready(Ok(()));
        };
        if is_mirror(pod) {
            return ready(check_mirror(attributes));
        }
        if account_name(pod).is_empty() {
            pod.set(&["spec", "serviceAccountName"], DEFAULT_ACCOUNT);
            pod.set(&["spec", "serviceAccount"], DEFAULT_ACCOUNT);
        }
        Box::pin(async move {
            let account = account(attributes, view).await?;
            let Some(pod) = attributes.object.as_deref_mut() else { return Ok(()) };
            let chosen = pod.bool_at(&["spec", "automountServiceAccountToken"]);
            if chosen.or(account.bool_at(&["automountServiceAccountToken"])).unwrap_or(true) {
                mount_token(pod, &*self.random);
            }
            if pod.list_at(&["spec", "imagePullSecrets"]).is_empty() {
                let name = |reference: &Value| Value::from([("name", reference.str_at(&["name"]))]);
                let references: Vec<Value> = account.list_at(&["imagePullSecrets"]).iter().map(name).collect();
                if !references.is_empty() {
                    pod.set(&["spec", "imagePullSecrets"], references);
                }
            }
            check_secrets(attributes, &account)
        })
    }

    fn validate<'a>(&'a self, attributes: &'a Attributes<'_>, view: &'a dyn View) -> BoxFuture<'a, Result<(), Status>> {
        let Some(pod) = attributes.object.as_deref() else { return ready(Ok(())) };
        if attributes.operation == Operation::Create && is_mirror(pod) {
            return ready(check_mirror(attributes));
        }
        if account_name(pod).is_empty() {
            let name = pod.str_at(&["metadata", "name"]);
            let why = format!("no service account specified for pod {}/{name}", attributes.namespace);
            return ready(Err(forbidden(attributes, why)));
        }
        Box::pin(async move {
            let account = account(attributes, view).await?;
            check_secrets(attributes, &account)
        })
    }
}

fn account_name(pod: &Value) -> &str {
    pod.str_at(&["spec", "serviceAccountName"])
}

/// The Pod's account.
async fn account(attributes: &Attributes<'_>, view: &dyn View) -> Result<Value, Status> {
    let namespace = attributes.namespace;
    let name = attributes.object.as_deref().map(account_name).unwrap_or_default();
    if let Some(account) = view.get("", "serviceaccounts", namespace, name) {
        return Ok(account);
    }
    let found = if name == DEFAULT_ACCOUNT {
        view.get_soon("", "serviceaccounts", namespace, name, DEFAULT_ACCOUNT_WAIT_MS_MAX).await
    } else {
        view.get_fresh("", "serviceaccounts", namespace, name).await
    };
    found.ok_or_else(|| {
        let missing = not_cached("", "serviceaccount", name);
        forbidden(attributes, format!("error looking up service account {namespace}/{name}: {missing}"))
    })
}

/// A node may show its static Pods, but not get hold of anything by them.
fn check_mirror(attributes: &Attributes<'_>) -> Result<(), Status> {
    let Some(pod) = attributes.object.as_deref() else { return Ok(()) };
    let why = if !account_name(pod).is_empty() {
        "a mirror pod may not reference service accounts"
    } else if secrets(pod).next().is_some() {
        "a mirror pod may not reference secrets"
    } else if projects_token(pod) {
        "a mirror pod may not use ServiceAccountToken volume projections"
    } else {
        return Ok(());
    };
    Err(forbidden(attributes, why))
}

fn projects_token(pod: &Value) -> bool {
    pod.list_at(&["spec", "volumes"])
        .iter()
        .flat_map(|volume| volume.list_at(&["projected", "sources"]))
        .any(|source| source.get("serviceAccountToken").is_some())
}

// === The token's volume ===

fn mount_token(pod: &mut Value, random: &dyn Random) {
    let volumes = pod.list_at(&["spec", "volumes"]).iter().map(|volume| volume.str_at(&["name"]));
    let own = volumes.filter(|name| name.starts_with(VOLUME_PREFIX)).map(api_schema::SmolStr::new).next();
    let has_volume = own.is_some();
    let name = own.unwrap_or_else(|| format_smolstr!("{VOLUME_PREFIX}{}", random.name_suffix()));
    let mut needs_volume = false;
    for field in ["initContainers", "containers"] {
        let containers = pod.at_mut(&["spec", field]).and_then(Value::as_list_mut);
        for container in containers.into_iter().flatten() {
            let mounts = container.list_at(&["volumeMounts"]);
            if mounts.iter().any(|mount| mount.str_at(&["mountPath"]) == MOUNT_PATH) {
                continue;
            }
            let mut mount = Value::from([("mountPath", MOUNT_PATH), ("name", &*name)]);
            mount.set(&["readOnly"], true);
            push(container.entry(&["volumeMounts"]), mount);
            needs_volume = true;
        }
    }
    if needs_volume && !has_volume {
        let mut volume = Value::from([("name", &*name)]);
        volume.set(&["projected"], token_source());
        push(pod.entry(&["spec", "volumes"]), volume);
    }
}

/// The token, the authority that vouches for the server, and the namespace.
fn token_source() -> Value {
    let mut token = Value::default();
    token.set(&["serviceAccountToken", "path"], "token");
    token.set(&["serviceAccountToken", "expirationSeconds"], TOKEN_SECONDS);
    let mut authority = Value::default();
    authority.set(&["configMap", "name"], "kube-root-ca.crt");
    authority.set(&["configMap", "items"], vec![Value::from([("key", "ca.crt"), ("path", "ca.crt")])]);
    let mut namespace = Value::from([("path", "namespace")]);
    namespace.set(&["fieldRef"], [("apiVersion", "v1"), ("fieldPath", "metadata.namespace")]);
    let mut downward = Value::default();
    downward.set(&["downwardAPI", "items"], vec![namespace]);
    let mut source = Value::from([("sources", vec![token, authority, downward])]);
    source.set(&["defaultMode"], 0o644);
    source
}

fn push(list: &mut Value, item: Value) {
    match list.as_list_mut() {
        Some(list) => list.push(item),
        None => *list = vec![item].into(),
    }
}

// === Mountable secrets ===

/// Where the account says so, its Pods may use no secrets but its own.
fn check_secrets(attributes: &Attributes<'_>, account: &Value) -> Result<(), Status> {
    let enforced = account
        .map_at(&["metadata", "annotations"])
        .and_then(|annotations| annotations.get(ENFORCE_MOUNTABLE)?.as_str())
        .is_some_and(|value| matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"));
    let Some(pod) = attributes.object.as_deref().filter(|_| enforced) else { return Ok(()) };
    let is_create = attributes.operation == Operation::Create;
    let forbidden_secret = if is_create { foreign_secret(pod, account) } else { None };
    let why = forbidden_secret.or_else(|| {
        let containers: &[(&str, &str)] = if is_create {
            &[("initContainers", "init container"), ("containers", "container")]
        } else {
            &[("ephemeralContainers", "ephemeral container")]
        };
        foreign_environment(pod, account, containers)
    });
    match why.or_else(|| if is_create { foreign_pull_secret(pod, account) } else { None }) {
        Some(why) => Err(forbidden(attributes, why)),
        None => Ok(()),
    }
}

fn names(account: &Value, list: &str, name: &str) -> bool {
    account.list_at(&[list]).iter().any(|reference| reference.str_at(&["name"]) == name)
}

fn foreign_secret(pod: &Value, account: &Value) -> Option<String> {
    let sources = pod.list_at(&["spec", "volumes"]).iter().filter_map(|volume| volume.get("secret"));
    let foreign = sources.map(|source| source.str_at(&["secretName"])).find(|name| !names(account, "secrets", name))?;
    let account = account.str_at(&["metadata", "name"]);
    Some(format!(
        "volume with secret.secretName=\"{foreign}\" is not allowed because service account {account} does not reference that secret"
    ))
}

fn foreign_environment(pod: &Value, account: &Value, fields: &[(&str, &str)]) -> Option<String> {
    let account_name = account.str_at(&["metadata", "name"]);
    let refusal = |shown: &str, container: &Value, with: &str, secret: &str| {
        let container = container.str_at(&["name"]);
        format!(
            "{shown} {container} with {with} referencing secret.secretName=\"{secret}\" is not allowed because service account {account_name} does not reference that secret"
        )
    };
    let is_foreign = |reference: &&Value| !names(account, "secrets", reference.str_at(&["name"]));
    for (field, shown) in fields {
        for container in pod.list_at(&["spec", field]) {
            for env in container.list_at(&["env"]) {
                if let Some(secret) = env.at(&["valueFrom", "secretKeyRef"]).filter(is_foreign) {
                    let with = format!("envVar {}", env.str_at(&["name"]));
                    return Some(refusal(shown, container, &with, secret.str_at(&["name"])));
                }
            }
            let from = container.list_at(&["envFrom"]).iter().filter_map(|from| from.get("secretRef"));
            if let Some(secret) = from.into_iter().find(is_foreign) {
                return Some(refusal(shown, container, "envFrom", secret.str_at(&["name"])));
            }
        }
    }
    None
}

fn foreign_pull_secret(pod: &Value, account: &Value) -> Option<String> {
    let references = pod.list_at(&["spec", "imagePullSecrets"]).iter().map(|reference| reference.str_at(&["name"]));
    let (at, name) = references.enumerate().find(|(_, name)| !names(account, "imagePullSecrets", name))?;
    let account = account.str_at(&["metadata", "name"]);
    Some(format!(
        "imagePullSecrets[{at}].name=\"{name}\" is not allowed because service account {account} does not reference that imagePullSecret"
    ))
}
