//! What holds of every row.

use std::collections::BTreeSet;

use admission::{Admission, Operation};
use admission_plugins::{NAMES, all, default_names};
use api_schema::Value;

use crate::support::{Cluster, Request, config};

#[test]
fn names_are_unique_and_those_on_are_upstreams() {
    assert_eq!(NAMES.iter().collect::<BTreeSet<_>>().len(), NAMES.len());
    assert_eq!(NAMES.len(), 41);
    // As the help of a 1.36.2 kube-apiserver lists those that are on without a flag.
    let on = "NamespaceLifecycle, LimitRanger, ServiceAccount, TaintNodesByCondition, PodSecurity, Priority, \
              DefaultTolerationSeconds, DefaultStorageClass, StorageObjectInUseProtection, PodGroupProtection, \
              PersistentVolumeClaimResize, RuntimeClass, CertificateApproval, CertificateSigning, \
              ClusterTrustBundleAttest, CertificateSubjectRestriction, DefaultIngressClass, PodTopologyLabels, \
              PodGroupWorkloadExists, NodeDeclaredFeatureValidator, JobValidation, PodResizeValidator, \
              MutatingAdmissionPolicy, MutatingAdmissionWebhook, ValidatingAdmissionPolicy, \
              ValidatingAdmissionWebhook, ResourceQuota";
    assert_eq!(default_names().collect::<Vec<_>>().join(", "), on);
}

#[test]
fn flags_choose_plugins() {
    for (enable, disable, want) in [
        (
            "",
            "",
            "NamespaceLifecycle LimitRanger ServiceAccount TaintNodesByCondition Priority DefaultTolerationSeconds \
             RuntimeClass ResourceQuota RbacEscalation",
        ),
        (
            "Priority,NodeRestriction",
            "LimitRanger,ServiceAccount,PodSecurity,AlwaysDeny",
            "NamespaceLifecycle NodeRestriction TaintNodesByCondition Priority DefaultTolerationSeconds RuntimeClass \
             ResourceQuota RbacEscalation",
        ),
        ("NodeRestrictions", "", r#"enable-admission-plugins plugin "NodeRestrictions" is unknown"#),
        ("", "x", r#"disable-admission-plugins plugin "x" is unknown"#),
        ("RbacEscalation", "", r#"enable-admission-plugins plugin "RbacEscalation" is unknown"#),
        ("AlwaysDeny", "", r#"enable-admission-plugins plugin "AlwaysDeny" is not available in this version"#),
        (
            "Priority,LimitRanger",
            "Priority,LimitRanger",
            "[LimitRanger Priority] in enable-admission-plugins and disable-admission-plugins overlapped",
        ),
    ] {
        let list = |text: &str| -> Vec<String> {
            text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
        };
        let mut config = config();
        (config.enable, config.disable) = (list(enable), list(disable));
        let got = match all(&config) {
            Ok(plugins) => plugins.iter().map(|plugin| plugin.name()).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, want, "{enable} {disable}");
    }
}

#[test]
fn every_plugin_survives_odd_objects() {
    let mut config = config();
    config.enable.push("NodeRestriction".into());
    let plugins = all(&config).expect("known names");
    let names: Vec<&str> = plugins.iter().map(|plugin| plugin.name()).collect();
    assert!(names.iter().all(|name| NAMES.contains(name) || *name == "RbacEscalation"));
    let chain = Admission::new(plugins);
    let cluster = Cluster::default();
    cluster.add("namespaces", r#"{"metadata":{"name":"dev"}}"#);
    cluster.add("limitranges", r#"{"metadata":{"namespace":"dev"},"spec":{"limits":[{}, 1, {"type":"Pod","max":3}]}}"#);
    cluster.add("serviceaccounts", r#"{"metadata":{"namespace":"dev","name":"default"},"secrets":"x"}"#);
    cluster.add(
        "resourcequotas",
        r#"{"metadata":{"namespace":"dev"},"spec":{"scopes":[1]},"status":{"hard":{"pods":[],"cpu":{}},"used":{"pods":"x"}}}"#,
    );
    let objects = [
        Value::Null,
        Value::from(Vec::new()),
        crate::support::json("{}"),
        crate::support::json(r#"{"metadata":[],"spec":1}"#),
        crate::support::json(
            r#"{"metadata":{"annotations":[]},"spec":{"containers":[1,{}],"tolerations":{},"taints":3}}"#,
        ),
    ];
    let resources = "pods pods/status pods/eviction pods/resize pods/ephemeralcontainers nodes nodes/status namespaces \
                     persistentvolumeclaims persistentvolumeclaims/status serviceaccounts serviceaccounts/token \
                     leases.coordination.k8s.io csinodes.storage.k8s.io resourceslices.resource.k8s.io \
                     certificatesigningrequests.certificates.k8s.io priorityclasses.scheduling.k8s.io \
                     roles.rbac.authorization.k8s.io clusterrolebindings.rbac.authorization.k8s.io";
    let mut answers = 0;
    for object in &objects {
        for resource in resources.split_whitespace() {
            for operation in ["create", "update", "delete", "connect"] {
                for user in ["jane", "system:node:n1", "system:node:"] {
                    let mut request =
                        Request::new(&format!("{operation} {resource} dev/x")).by(user, &["system:nodes"]);
                    request.object = Some(object.clone()).filter(|_| operation != "delete");
                    request.old = Some(object.clone()).filter(|_| operation != "create");
                    if let Err(status) = request.run(&chain, &cluster) {
                        assert!((400..500).contains(&status.code), "{status:?}");
                    }
                    answers += 1;
                }
            }
        }
    }
    assert_eq!(answers, objects.len() * 19 * 4 * 3);
    // Nobody is asked about what does not concern them.
    let configmaps = api_semantics::status::GroupResource::new("", "configmaps");
    let asked: Vec<&str> = all(&config)
        .expect("known names")
        .iter()
        .filter(|plugin| plugin.handles(&configmaps, "", Operation::Create))
        .map(|plugin| plugin.name())
        .collect();
    assert_eq!(asked, ["NamespaceLifecycle", "ResourceQuota"]);
}
