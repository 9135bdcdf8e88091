//! What nodes may do.

use std::sync::Arc;

use authz::NodeAuthorizer;

use crate::support::{Cluster, ask, shown, user};

fn authorizer() -> NodeAuthorizer {
    let cluster = Cluster::default();
    let pod = |name: &str, node: &str, annotations: &str, spec: &str, status: &str| {
        cluster.add(
            "",
            "pods",
            &format!(
                r#"{{"metadata":{{"name":"{name}","namespace":"dev","annotations":{{{annotations}}}}},
                     "spec":{{"nodeName":"{node}"{spec}}},"status":{{{status}}}}}"#
            ),
        );
    };
    pod(
        "p1",
        "n1",
        "",
        r#","serviceAccountName":"sa1","imagePullSecrets":[{"name":"s-pull"}],
        "initContainers":[{"env":[{"name":"A","valueFrom":{"secretKeyRef":{"name":"s-env","key":"k"}}},
                                  {"name":"B","valueFrom":{"configMapKeyRef":{"name":"c-env","key":"k"}}}]}],
        "containers":[{"envFrom":[{"secretRef":{"name":"s-from"}},{"configMapRef":{"name":"c-from"}}]}],
        "ephemeralContainers":[{"envFrom":[{"secretRef":{"name":"s-ephemeral"}}]}],
        "volumes":[{"name":"a","secret":{"secretName":"s-volume"}},{"name":"b","configMap":{"name":"c-volume"}},
                   {"name":"c","projected":{"sources":[{"secret":{"name":"s-projected"}},{"configMap":{"name":"c-projected"}}]}},
                   {"name":"d","csi":{"nodePublishSecretRef":{"name":"s-csi"}}},
                   {"name":"e","persistentVolumeClaim":{"claimName":"claim1"}},{"name":"f","ephemeral":{}},
                   {"name":"g","azureFile":{"secretName":"s-azure"}},{"name":"h","rbd":{"secretRef":{"name":"s-rbd"}}}],
        "resourceClaims":[{"name":"r1","resourceClaimName":"rc1"},{"name":"r2","resourceClaimTemplateName":"t"},
                          {"name":"r3","resourceClaimTemplateName":"t"}]"#,
        r#""resourceClaimStatuses":[{"name":"r2","resourceClaimName":"p1-r2"}],
           "extendedResourceClaimStatus":{"resourceClaimName":"p1-extended"}"#,
    );
    pod("p2", "n2", "", r#","serviceAccountName":"sa2","volumes":[{"name":"a","secret":{"secretName":"s-two"}}]"#, "");
    pod(
        "mirror",
        "n1",
        r#""kubernetes.io/config.mirror":"x""#,
        r#","serviceAccountName":"sa3","volumes":[{"name":"a","secret":{"secretName":"s-mirror"}},
            {"name":"b","persistentVolumeClaim":{"claimName":"claim3"}}]"#,
        "",
    );
    for (name, claim, source) in [
        (
            "v1",
            "claim1",
            r#""csi":{"nodeStageSecretRef":{"namespace":"store","name":"s-stage"},
                            "controllerPublishSecretRef":{"namespace":"store","name":"s-controller"}}"#,
        ),
        ("v2", "claim2", r#""rbd":{"secretRef":{"name":"s-rbd2"}}"#),
        ("v3", "claim3", r#""rbd":{"secretRef":{"name":"s-rbd3"}}"#),
        ("v4", "p1-f", r#""azureFile":{"secretName":"s-azure4"}"#),
    ] {
        let volume = format!(
            r#"{{"metadata":{{"name":"{name}"}},"spec":{{"claimRef":{{"namespace":"dev","name":"{claim}"}},{source}}}}}"#
        );
        cluster.add("", "persistentvolumes", &volume);
    }
    cluster.add("", "persistentvolumes", r#"{"metadata":{"name":"free"},"spec":{"rbd":{"secretRef":{"name":"s"}}}}"#);
    for (resource, group) in [("volumeattachments", "storage.k8s.io"), ("resourceslices", "resource.k8s.io")] {
        cluster.add(group, resource, r#"{"metadata":{"name":"own"},"spec":{"nodeName":"n1"}}"#);
        cluster.add(group, resource, r#"{"metadata":{"name":"other"},"spec":{"nodeName":"n2"}}"#);
    }
    let authorizer = NodeAuthorizer::new();
    authorizer.set_view(Arc::new(cluster));
    authorizer
}

#[test]
fn nodes_reach_what_their_pods_need() {
    let authorizer = authorizer();
    let unrelated = "no no relationship found between node 'n1' and this object";
    for (objects, want) in [
        ("secrets s-pull s-env s-from s-ephemeral s-volume s-projected s-csi s-azure s-rbd s-azure4", "yes"),
        ("secrets s-two s-mirror s-rbd2 s-rbd3 missing", unrelated),
        ("configmaps c-env c-from c-volume c-projected", "yes"),
        ("configmaps missing s-volume", unrelated),
        ("persistentvolumeclaims claim1 p1-f", "yes"),
        ("persistentvolumeclaims claim2 claim3 p1-e", unrelated),
        ("resource.k8s.io/resourceclaims rc1 p1-r2 p1-extended", "yes"),
        ("resource.k8s.io/resourceclaims p1-r3 r2 t", unrelated),
        ("serviceaccounts sa1", "yes"),
        ("serviceaccounts sa2 sa3", unrelated),
        ("pods p1 mirror", "yes"),
        ("pods p2 missing", unrelated),
    ] {
        let (resource, names) = objects.split_once(' ').expect("resource and names");
        for name in names.split(' ') {
            let decision =
                ask(&authorizer, &user("system:node:n1 system:nodes"), &format!("get {resource} dev/{name}"));
            assert_eq!(shown(&decision), want, "{resource} {name}");
            for namespace in ["prod", ""] {
                let request = format!("get {resource} {namespace}/{name}");
                let decision = ask(&authorizer, &user("system:node:n1 system:nodes"), &request);
                assert!(!decision.is_allowed(), "{request}");
            }
        }
    }
}

#[test]
fn nodes_do_their_work_and_nothing_else() {
    let authorizer = authorizer();
    let unrelated = "no no relationship found between node 'n1' and this object";
    let individual = "no can only get individual resources of this type";
    for (request, want) in [
        ("list secrets dev/s-env", "yes"),
        ("watch configmaps dev/c-env", "yes"),
        ("list secrets dev/", "no No Object name found"),
        ("list secrets -", "no can only read namespaced object of this type"),
        ("update secrets dev/s-env", "no can only read resources of this type"),
        ("get secrets/x dev/s-env", "no cannot read subresource"),
        ("get secrets store/s-stage", "yes"),
        ("get secrets store/s-controller", unrelated),
        ("get persistentvolumes /v1", "yes"),
        ("get persistentvolumes /v2", unrelated),
        ("get persistentvolumes /v3", unrelated),
        ("get persistentvolumes /v4", "yes"),
        ("get persistentvolumes /free", unrelated),
        ("get persistentvolumes dev/v1", unrelated),
        ("list persistentvolumes /v1", individual),
        ("list persistentvolumeclaims dev/claim1", individual),
        ("get persistentvolumeclaims/x dev/claim1", "no cannot get subresource"),
        ("patch persistentvolumeclaims/status dev/claim1", "yes"),
        ("update persistentvolumeclaims/status dev/claim2", unrelated),
        ("get persistentvolumeclaims/status dev/claim1", "no can only get/update/patch this type"),
        ("get storage.k8s.io/volumeattachments /own", "yes"),
        ("get storage.k8s.io/volumeattachments /other", unrelated),
        ("create serviceaccounts/token dev/sa1", "yes"),
        ("create serviceaccounts/token dev/sa2", unrelated),
        ("create serviceaccounts/token dev/", "no can only create tokens for individual service accounts"),
        ("create serviceaccounts dev/sa1", "no can only create token subresource of serviceaccount"),
        ("list serviceaccounts dev/", "no can only create tokens for individual service accounts"),
        ("create coordination.k8s.io/leases kube-node-lease/", "yes"),
        ("update coordination.k8s.io/leases kube-node-lease/n1", "yes"),
        (
            "update coordination.k8s.io/leases kube-node-lease/n2",
            "no can only access node lease with the same name as the requesting node",
        ),
        (
            "get coordination.k8s.io/leases kube-system/n1",
            r#"no can only access leases in the "kube-node-lease" system namespace"#,
        ),
        (
            "list coordination.k8s.io/leases kube-node-lease/",
            "no can only get, create, update, patch, or delete a node lease",
        ),
        ("create storage.k8s.io/csinodes /", "yes"),
        ("patch storage.k8s.io/csinodes /n1", "yes"),
        ("get storage.k8s.io/csinodes /n2", "no can only access CSINode with the same name as the requesting node"),
        ("watch storage.k8s.io/csinodes /n1", "no can only get, create, update, patch, or delete a CSINode"),
        ("get storage.k8s.io/csinodes/x /n1", "no cannot authorize CSINode subresources"),
        ("create resource.k8s.io/resourceslices /", "yes"),
        ("delete resource.k8s.io/resourceslices /own", "yes"),
        ("delete resource.k8s.io/resourceslices /other", unrelated),
        ("list resource.k8s.io/resourceslices / spec.nodeName=n1", "yes"),
        (
            "list resource.k8s.io/resourceslices / spec.nodeName=n2",
            "no can only list/watch/deletecollection resourceslices with nodeName field selector",
        ),
        ("get resource.k8s.io/resourceslices/x /own", "no cannot authorize ResourceSlice subresources"),
        (
            "approve resource.k8s.io/resourceslices /own",
            "no only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
        ),
        ("get nodes /n1", "yes"),
        ("watch nodes /n1 metadata.name=n1", "yes"),
        ("get nodes /n2", "no node 'n1' cannot read 'n2', only its own Node object"),
        ("list nodes /", "no node 'n1' cannot read all nodes, only its own Node object"),
        ("create nodes /", "yes"),
        ("patch nodes/status /n1", "yes"),
        ("delete nodes /n1", "no"),
        ("get nodes/proxy /n1", "no"),
        ("list pods / spec.nodeName=n1", "yes"),
        ("watch pods dev/ status.phase!=Failed,spec.nodeName==n1", "yes"),
        ("list pods / spec.nodeName!=n1", "no can only list/watch pods with spec.nodeName field selector"),
        ("list pods / spec.nodeName=n2", "no can only list/watch pods with spec.nodeName field selector"),
        ("list pods / spec.nodeName", "no can only list/watch pods with spec.nodeName field selector"),
        ("list pods /", "no can only list/watch pods with spec.nodeName field selector"),
        ("watch pods dev/p1", "yes"),
        ("watch pods dev/p2", unrelated),
        ("create pods dev/", "yes"),
        ("delete pods dev/p1", "yes"),
        ("patch pods/status dev/p1", "yes"),
        ("create pods/eviction dev/p1", "yes"),
        ("create pods/binding dev/p1", "no"),
        ("update pods dev/p1", "no"),
        ("get certificates.k8s.io/podcertificaterequests dev/x", "no"),
        // What does not depend on the object.
        ("list services /", "yes"),
        ("create events dev/", "yes"),
        ("create certificates.k8s.io/certificatesigningrequests /", "yes"),
        ("create authentication.k8s.io/tokenreviews /", "yes"),
        ("delete services dev/x", "no"),
        ("get /healthz", "no"),
    ] {
        let decision = ask(&authorizer, &user("system:node:n1 system:nodes"), request);
        assert_eq!(shown(&decision), want, "{request}");
    }
}

#[test]
fn only_nodes_are_nodes() {
    let authorizer = authorizer();
    for (who, want) in [
        ("system:node:n1 system:nodes", "yes"),
        ("system:node:n1", "no"),
        ("n1 system:nodes", "no"),
        ("system:node: system:nodes", r#"no unknown node for user "system:node:""#),
    ] {
        assert_eq!(shown(&ask(&authorizer, &user(who), "get secrets dev/s-env")), want, "{who}");
    }
    // Before the cluster is seen nothing is related.
    let blind = NodeAuthorizer::new();
    let decision = ask(&blind, &user("system:node:n1 system:nodes"), "get secrets dev/s-env");
    assert_eq!(shown(&decision), "no no relationship found between node 'n1' and this object");
}
