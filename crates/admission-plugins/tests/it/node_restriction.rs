//! What nodes may change.

use std::sync::Arc;

use authz::Rbac;
use base64::Engine as _;

use crate::support::{Cluster, Request, config, json, only, only_of};

const MIRROR: &str = r#""annotations":{"kubernetes.io/config.mirror":"x"}"#;
const OWNER: &str = r#""ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"n1","uid":"u1","controller":true}]"#;

fn cluster() -> Cluster {
    let cluster = Cluster::default();
    cluster.add("nodes", r#"{"metadata":{"name":"n1","uid":"u1"}}"#);
    for (name, node) in [("own", "n1"), ("other", "n2")] {
        cluster.add(
            "pods",
            &format!(
                r#"{{"metadata":{{"name":"{name}","namespace":"dev","uid":"{name}-uid"}},"spec":{{"nodeName":"{node}","volumes":[
                    {{"name":"t","projected":{{"sources":[{{"serviceAccountToken":{{"path":"t"}}}},
                                                        {{"serviceAccountToken":{{"path":"t","audience":"vault"}}}}]}}}},
                    {{"name":"c","csi":{{"driver":"inline"}}}},
                    {{"name":"p","persistentVolumeClaim":{{"claimName":"bound"}}}},
                    {{"name":"a","azureFile":{{"shareName":"s"}}}}]}}}}"#
            ),
        );
    }
    cluster.add(
        "pods",
        r#"{"metadata":{"name":"broken","namespace":"dev","uid":"broken-uid"},"spec":{"nodeName":"n1","volumes":[
            {"name":"p","persistentVolumeClaim":{"claimName":"none"}},{"name":"c","csi":{"driver":"none"}}]}}"#,
    );
    cluster
        .add("persistentvolumeclaims", r#"{"metadata":{"name":"bound","namespace":"dev"},"spec":{"volumeName":"v"}}"#);
    cluster.add("persistentvolumes", r#"{"metadata":{"name":"v"},"spec":{"csi":{"driver":"claimed"}}}"#);
    for (driver, audience) in [("inline", "a-inline"), ("claimed", "a-claimed"), ("file.csi.azure.com", "a-azure")] {
        cluster.add(
            "csidrivers.storage.k8s.io",
            &format!(
                r#"{{"metadata":{{"name":"{driver}"}},"spec":{{"tokenRequests":[{{"audience":"{audience}"}}]}}}}"#
            ),
        );
    }
    cluster
}

fn verdict(what: &str, object: &str, old: &str) -> String {
    let mut request = Request::new(what).by("system:node:n1", &["system:nodes"]);
    if !object.is_empty() {
        request = request.object(object);
    }
    if !old.is_empty() {
        request = request.old(old);
    }
    request.verdict(&only("NodeRestriction"), &cluster())
}

/// Checks refusals of `RESOURCE "NAME" is forbidden: `; texts with a leading code are whole answers.
fn check(what: &str, object: &str, old: &str, want: &str) {
    let got = verdict(what, object, old);
    let got = match got.strip_prefix("403 ").and_then(|text| text.split_once(" is forbidden: ")) {
        Some((_, why)) => why.to_string(),
        None => got,
    };
    assert_eq!(got, want, "{what} {object} {old}");
}

#[test]
fn mirror_pods_are_all_that_nodes_make() {
    let pod = |metadata: &str, spec: &str| format!(r#"{{"metadata":{{{metadata}}},"spec":{{{spec}}}}}"#);
    let good = format!("{MIRROR},{OWNER}");
    let owner = |fields: &str| format!(r#"{MIRROR},"ownerReferences":[{{"apiVersion":"v1","kind":"Node",{fields}}}]"#);
    let own = r#"node "n1" can only create pods with an owner reference set to itself"#;
    for (metadata, spec, want) in [
        (
            good.clone(),
            r#""nodeName":"n1","volumes":[{"name":"h","hostPath":{}},{"name":"e","emptyDir":{}},
            {"name":"d","projected":{"sources":[{"downwardAPI":{}}]}}]"#,
            "ok",
        ),
        (
            OWNER.into(),
            r#""nodeName":"n1""#,
            r#"pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods"#,
        ),
        (good.clone(), r#""nodeName":"n2""#, r#"node "n1" can only create pods with spec.nodeName set to itself"#),
        (MIRROR.into(), r#""nodeName":"n1""#, own),
        (
            format!(r#"{MIRROR},"ownerReferences":[{{}},{{}}]"#),
            r#""nodeName":"n1""#,
            r#"node "n1" can only create pods with a single owner reference set to itself"#,
        ),
        (owner(r#""name":"n2","uid":"u1","controller":true"#), r#""nodeName":"n1""#, own),
        (
            owner(r#""name":"n1","uid":"u1""#),
            r#""nodeName":"n1""#,
            r#"node "n1" can only create pods with a controller owner reference set to itself"#,
        ),
        (
            owner(r#""name":"n1","uid":"u1","controller":true,"blockOwnerDeletion":true"#),
            r#""nodeName":"n1""#,
            r#"node "n1" must not set blockOwnerDeletion on an owner reference"#,
        ),
        (
            owner(r#""name":"n1","uid":"u2","controller":true"#),
            r#""nodeName":"n1""#,
            "node n1 UID mismatch: expected u2 got u1",
        ),
    ] {
        check("create pods dev/p", &pod(&metadata, spec), "", want);
    }
    for (spec, sort) in [
        (r#""serviceAccountName":"s""#, "serviceaccounts"),
        (r#""imagePullSecrets":[{"name":"s"}]"#, "secrets"),
        (r#""containers":[{"envFrom":[{"configMapRef":{"name":"c"}}]}]"#, "configmaps"),
        (r#""resourceClaims":[{"name":"r"}]"#, "resourceclaims"),
        (r#""volumes":[{"name":"v","configMap":{}}]"#, "configmaps (via configmap volumes)"),
        (r#""volumes":[{"name":"v","secret":{}}]"#, "secrets (via secret volumes)"),
        (r#""volumes":[{"name":"v","csi":{"driver":"d"}}]"#, "csidrivers (via CSI volumes)"),
        (r#""volumes":[{"name":"v","glusterfs":{}}]"#, "endpoints (via glusterFS volumes)"),
        (r#""volumes":[{"name":"v","persistentVolumeClaim":{}}]"#, "persistentvolumeclaims"),
        (r#""volumes":[{"name":"v","ephemeral":{}}]"#, "persistentvolumeclaims (via ephemeral volumes)"),
        (r#""volumes":[{"name":"v","azureFile":{}}]"#, "secrets (via azureFile volumes)"),
        (
            r#""volumes":[{"name":"v","projected":{"sources":[{"downwardAPI":{}},{"serviceAccountToken":{}}]}}]"#,
            "serviceaccounts (via projected volumes)",
        ),
        (r#""volumes":[{"name":"v","projected":{"sources":[{"clusterTrustBundle":{}}]}}]"#, "clustertrustbundles"),
    ] {
        let want = format!(r#"node "n1" can not create pods that reference {sort}"#);
        check("create pods dev/p", &pod(&good, &format!(r#""nodeName":"n1",{spec}"#)), "", &want);
    }
    for (volume, why) in [
        (r#""later":{}"#, r#"unknown volume type for volume  "v""#),
        (r#""projected":{"sources":[{"later":{}}]}"#, r#"unknown source for projected volume "v""#),
    ] {
        let spec = format!(r#""nodeName":"n1","volumes":[{{"name":"v",{volume}}}]"#);
        let want = format!("error checking mirror pod for API references: {why}");
        check("create pods dev/p", &pod(&good, &spec), "", &want);
    }
}

#[test]
fn nodes_change_the_pods_that_run_on_them() {
    let on = |node: &str, rest: &str| {
        format!(r#"{{"metadata":{{"labels":{{"a":"b"}}}},"spec":{{"nodeName":"{node}"}}{rest}}}"#)
    };
    let own = on("n1", "");
    for (what, object, old, want) in [
        ("delete pods dev/own", "", own.as_str(), "ok"),
        ("delete pods dev/other", "", &own, r#"node "n1" can only delete pods with spec.nodeName set to itself"#),
        ("delete pods dev/none", "", &own, r#"404 pod "none" not found"#),
        (
            "update pods dev/own",
            &own,
            &own,
            r#"unexpected operation "UPDATE", node "n1" can only create and delete mirror pods"#,
        ),
        ("update pods/status dev/own", &on("n1", r#","status":{"phase":"Running"}"#), &own, "ok"),
        (
            "update pods/status dev/own",
            &own,
            &on("n2", ""),
            r#"node "n1" can only update pod status for pods with spec.nodeName set to itself"#,
        ),
        (
            "update pods/status dev/own",
            r#"{"metadata":{"labels":{"a":"c"}},"spec":{"nodeName":"n1"}}"#,
            &own,
            r#"node "n1" cannot update labels through pod status"#,
        ),
        (
            "update pods/status dev/own",
            &on("n1", r#","status":{"resourceClaimStatuses":[{"name":"r","resourceClaimName":"c"}]}"#),
            &own,
            r#"node "n1" cannot update resource claim statues"#,
        ),
        (
            "update pods/status dev/own",
            &on("n1", r#","status":{"extendedResourceClaimStatus":{"resourceClaimName":"c"}}"#),
            &own,
            r#"node "n1" cannot update extended resource claim status"#,
        ),
        ("create pods/status dev/own", &own, "", r#"unexpected operation "CREATE""#),
        ("create pods/eviction dev/own", "{}", "", "ok"),
        ("create pods/eviction dev/", r#"{"metadata":{"name":"own"}}"#, "", "ok"),
        ("create pods/eviction dev/", "{}", "", "could not determine pod from request data"),
        ("create pods/eviction dev/other", "{}", "", "node n1 can only evict pods with spec.nodeName set to itself"),
        ("create pods/eviction dev/none", "{}", "", r#"404 pod "none" not found"#),
        ("update pods/eviction dev/own", "{}", "", "unexpected operation UPDATE"),
        (
            "create pods/binding dev/own",
            "{}",
            "",
            r#"unexpected pod subresource "binding", only 'status' and 'eviction' are allowed"#,
        ),
        ("connect pods/exec dev/other", "{}", "", "ok"),
    ] {
        check(what, object, old, want);
    }
}

#[test]
fn nodes_change_themselves_but_not_what_draws_work() {
    let labels = |labels: &str| format!(r#"{{"metadata":{{"labels":{{{labels}}}}}}}"#);
    let set = |labels: &str| format!(r#"node "n1" is not allowed to set the following labels: {labels}"#);
    let allowed = r#""kubernetes.io/hostname":"n1","topology.kubernetes.io/zone":"z","x":"y","example.com/a":"b",
        "x.kubelet.kubernetes.io/a":"b","node.kubernetes.io/a":"b","beta.kubernetes.io/os":"linux","notk8s.io/a":"b""#;
    for (what, object, old, want) in [
        ("create nodes /n1", labels(allowed), "", "ok".to_string()),
        ("create nodes /n2", labels(""), "", r#"node "n1" is not allowed to modify node "n2""#.into()),
        ("delete nodes /n2", String::new(), "{}", r#"node "n1" is not allowed to modify node "n2""#.into()),
        ("delete nodes /n1", String::new(), "{}", "ok".into()),
        (
            "create nodes /n1",
            labels(
                r#""z.node-restriction.kubernetes.io/a":"b","node-role.kubernetes.io/x":"","foo.k8s.io/a":"","k8s.io/b":"""#,
            ),
            "",
            set("foo.k8s.io/a, k8s.io/b, node-role.kubernetes.io/x, z.node-restriction.kubernetes.io/a"),
        ),
        (
            "create nodes /n1",
            r#"{"spec":{"configSource":{}}}"#.into(),
            "",
            r#"node "n1" is not allowed to create pods with a non-nil configSource"#.into(),
        ),
        (
            "update nodes /n1",
            labels(r#""x":"z","node-role.kubernetes.io/x":"""#),
            r#"{"metadata":{"labels":{"node-role.kubernetes.io/x":""}}}"#,
            "ok".into(),
        ),
        (
            "update nodes/status /n1",
            labels(r#""node-role.kubernetes.io/x":"""#),
            "{}",
            "is not allowed to modify labels: node-role.kubernetes.io/x".into(),
        ),
        (
            "update nodes /n1",
            "{}".into(),
            r#"{"metadata":{"labels":{"node-role.kubernetes.io/x":""}}}"#,
            "is not allowed to modify labels: node-role.kubernetes.io/x".into(),
        ),
        (
            "update nodes /n1",
            r#"{"spec":{"taints":[]}}"#.into(),
            r#"{"spec":{"taints":[{"key":"a"}]}}"#,
            r#"node "n1" is not allowed to modify taints"#.into(),
        ),
        ("update nodes /n1", r#"{"spec":{"taints":[]}}"#.into(), "{}", "ok".into()),
        (
            "update nodes /n1",
            r#"{"metadata":{"ownerReferences":[{"uid":"u"}]}}"#.into(),
            "{}",
            r#"node "n1" is not allowed to modify ownerReferences"#.into(),
        ),
        (
            "update nodes /n1",
            r#"{"spec":{"configSource":{"a":1}}}"#.into(),
            r#"{"spec":{"configSource":{}}}"#,
            r#"node "n1" is not allowed to update configSource to a new non-nil configSource"#.into(),
        ),
        ("update nodes /n1", "{}".into(), r#"{"spec":{"configSource":{}}}"#, "ok".into()),
    ] {
        check(what, &object, old, &want);
    }
}

#[test]
fn nodes_get_tokens_for_their_pods() {
    let request = |bound: &str, rest: &str| format!(r#"{{"spec":{{"boundObjectRef":{{{bound}}}{rest}}}}}"#);
    let pod = |name: &str| format!(r#""apiVersion":"v1","kind":"Pod","name":"{name}","uid":"{name}-uid""#);
    let audience = |name: &str| format!(r#","audiences":["{name}"]"#);
    let unbound = "node requested token not bound to a pod";
    let foreign = |name: &str| {
        format!(
            r#"audience "{name}" not found in pod spec volume, system:node:n1 is not authorized to request tokens for this audience"#
        )
    };
    for (bound, rest, want) in [
        (pod("own"), String::new(), "ok".to_string()),
        (pod("own"), audience("vault"), "ok".into()),
        (pod("own"), audience("a-inline"), "ok".into()),
        (pod("own"), audience("a-claimed"), "ok".into()),
        (pod("own"), audience("a-azure"), "ok".into()),
        (pod("own"), audience("x"), foreign("x")),
        (pod("own"), r#","audiences":["vault","x"]"#.into(), "node may only request 0 or 1 audiences".into()),
        (
            pod("broken"),
            audience("x"),
            r#"error validating audience "x": [persistentvolumeclaim "none" not found, csidriver.storage.k8s.io "none" not found]"#.into(),
        ),
        (String::new(), String::new(), unbound.into()),
        (r#""apiVersion":"v1","kind":"Secret","name":"own","uid":"u""#.into(), String::new(), unbound.into()),
        (
            r#""apiVersion":"v1","kind":"Pod","name":"own""#.into(),
            String::new(),
            "node requested token with a pod binding without a uid".into(),
        ),
        (
            r#""apiVersion":"v1","kind":"Pod","name":"own","uid":"x""#.into(),
            String::new(),
            "the UID in the bound object reference (x) does not match the UID in record. The object might have been deleted and then recreated".into(),
        ),
        (pod("other"), String::new(), "node requested token bound to a pod scheduled on a different node".into()),
        (pod("none"), String::new(), r#"404 pod "none" not found"#.into()),
    ] {
        check("create serviceaccounts/token dev/sa", &request(&bound, &rest), "", &want);
    }
    check("create serviceaccounts dev/sa", "{}", "", "ok");
    // A rule may name further audiences.
    let rbac = Arc::new(Rbac::new());
    let rule = r#"{"rules":[{"verbs":["request-serviceaccounts-token-audience"],"apiGroups":[""],"resources":["x"],"resourceNames":["sa"]}]}"#;
    rbac.apply("clusterroles", "", "r", Some(&json(rule)));
    let binding =
        r#"{"roleRef":{"kind":"ClusterRole","name":"r"},"subjects":[{"kind":"Group","name":"system:nodes"}]}"#;
    rbac.apply("clusterrolebindings", "", "r", Some(&json(binding)));
    let mut config = config();
    config.authorizer = rbac;
    let chain = only_of("NodeRestriction", config);
    for (account, want) in [("sa", true), ("sb", false)] {
        let what = format!("create serviceaccounts/token dev/{account}");
        let asked =
            Request::new(&what).by("system:node:n1", &["system:nodes"]).object(&request(&pod("own"), &audience("x")));
        assert_eq!(asked.run(&chain, &cluster()).is_ok(), want, "{account}");
    }
}

#[test]
fn other_objects_of_nodes_are_their_own() {
    let named = |name: &str| format!(r#"{{"metadata":{{"name":"{name}"}}}}"#);
    let slice = |node: &str| format!(r#"{{"spec":{{"nodeName":"{node}"}}}}"#);
    let claim = |metadata: &str, status: &str| format!(r#"{{"metadata":{{{metadata}}},"status":{{{status}}}}}"#);
    let lease = "can only access node lease with the same name as the requesting node";
    let csi_node = "can only access CSINode with the same name as the requesting node";
    for (what, object, old, want) in [
        ("create leases.coordination.k8s.io kube-node-lease/n1", named("n1"), String::new(), "ok".to_string()),
        ("create leases.coordination.k8s.io kube-node-lease/n2", named("n2"), String::new(), lease.into()),
        ("update leases.coordination.k8s.io kube-node-lease/n2", named("n1"), named("n1"), lease.into()),
        (
            "create leases.coordination.k8s.io kube-system/n1",
            named("n1"),
            String::new(),
            r#"can only access leases in the "kube-node-lease" system namespace"#.into(),
        ),
        ("create csinodes.storage.k8s.io /n1", named("n1"), String::new(), "ok".into()),
        ("create csinodes.storage.k8s.io /n2", named("n2"), String::new(), csi_node.into()),
        ("delete csinodes.storage.k8s.io /n2", String::new(), named("n2"), csi_node.into()),
        ("create resourceslices.resource.k8s.io /s", slice("n1"), String::new(), "ok".into()),
        (
            "create resourceslices.resource.k8s.io /s",
            slice("n2"),
            String::new(),
            "can only create ResourceSlice with the same NodeName as the requesting node".into(),
        ),
        (
            "delete resourceslices.resource.k8s.io /s",
            String::new(),
            slice("n2"),
            "can only delete ResourceSlice with the same NodeName as the requesting node".into(),
        ),
        ("update resourceslices.resource.k8s.io /s", slice("n2"), slice("n2"), "ok".into()),
        ("create persistentvolumeclaims dev/c", "{}".into(), String::new(), "may only update PVC status".into()),
        (
            "update persistentvolumeclaims/status dev/c",
            claim(r#""resourceVersion":"2""#, r#""capacity":{"storage":"1Gi"},"conditions":[{}]"#),
            claim("", ""),
            "ok".into(),
        ),
        (
            "update persistentvolumeclaims/status dev/c",
            claim(r#""labels":{"a":"b"}"#, r#""phase":"Bound""#),
            claim("", r#""phase":"Lost""#),
            r#"node "n1" is not allowed to update fields other than status.quantity and status.conditions: metadata.labels, status.phase"#.into(),
        ),
        (
            "create podcertificaterequests.certificates.k8s.io dev/c",
            "{}".into(),
            String::new(),
            "PodCertificateRequest feature gate is disabled".into(),
        ),
    ] {
        check(what, &object, &old, &want);
    }
}

#[test]
fn signing_requests_carry_the_nodes_name() {
    // Made by openssl for `system:node:n1` and `system:node:n2`.
    let (n1, n2) = (include_str!("data/n1.csr"), include_str!("data/n2.csr"));
    let request = |pem: &str, signer: &str| {
        let encoded = base64::engine::general_purpose::STANDARD.encode(pem);
        format!(r#"{{"spec":{{"signerName":"kubernetes.io/{signer}","request":"{encoded}"}}}}"#)
    };
    let wrong = "can only create a node CSR with CN=system:node:n1";
    for (object, want) in [
        (request(n1, "kubelet-serving"), "ok"),
        (request(n2, "kubelet-serving"), wrong),
        (request(n2, "kube-apiserver-client-kubelet"), wrong),
        (request(n2, "kube-apiserver-client"), "ok"),
        (
            r#"{"spec":{"signerName":"kubernetes.io/kubelet-serving","request":"eA=="}}"#.into(),
            "unable to parse csr: PEM block type must be CERTIFICATE REQUEST",
        ),
    ] {
        check("create certificatesigningrequests.certificates.k8s.io /c", &object, "", want);
    }
}

#[test]
fn others_are_not_restricted() {
    for (user, groups, want) in [
        ("jane", &["system:nodes"][..], "ok"),
        ("system:node:n1", &[], "ok"),
        (
            "system:node:",
            &["system:nodes"],
            r#"403 nodes "n2" is forbidden: could not determine node from user "system:node:""#,
        ),
    ] {
        let request = Request::new("create nodes /n2").by(user, groups).object("{}");
        assert_eq!(request.verdict(&only("NodeRestriction"), &cluster()), want, "{user}");
    }
}
