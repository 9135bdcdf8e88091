//! Service accounts of Pods.

use crate::support::{Cluster, Request, json, only};

fn cluster() -> Cluster {
    let cluster = Cluster::default();
    let account = |name: &str, rest: &str| {
        cluster.add("serviceaccounts", &format!(r#"{{"metadata":{{"name":"{name}","namespace":"dev"{rest}}}"#));
    };
    account("default", r#"},"imagePullSecrets":[{"name":"pull"}]"#);
    account("silent", r#"},"automountServiceAccountToken":false"#);
    account(
        "strict",
        r#","annotations":{"kubernetes.io/enforce-mountable-secrets":"true"}},
        "secrets":[{"name":"own"}],"imagePullSecrets":[{"name":"pull"}]"#,
    );
    cluster.add_fresh("serviceaccounts", r#"{"metadata":{"name":"default","namespace":"new"}}"#);
    cluster.add_fresh("serviceaccounts", r#"{"metadata":{"name":"fresh","namespace":"dev"}}"#);
    cluster
}

const MOUNT: &str = r#"{"name":"NAME","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}"#;
// As a 1.36 server adds it.
const VOLUME: &str = r#"{"name":"NAME","projected":{"sources":[
    {"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},
    {"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},
    {"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}],
    "defaultMode":420}}"#;

#[test]
fn pods_get_an_account_and_its_token() {
    let own = r#"{"name":"x","mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}"#;
    let (default, pull) =
        (r#""serviceAccountName":"default","serviceAccount":"default""#, r#""imagePullSecrets":[{"name":"pull"}]"#);
    for (namespace, before, after) in [
        (
            "dev",
            r#""containers":[{"name":"a"},{"name":"b","volumeMounts":[{"name":"v","mountPath":"/v"}]}],
               "initContainers":[{"name":"i"}],"volumes":[{"name":"v"}]"#
                .to_string(),
            format!(
                r#"{default},{pull},"containers":[{{"name":"a","volumeMounts":[{MOUNT}]}},
                   {{"name":"b","volumeMounts":[{{"name":"v","mountPath":"/v"}},{MOUNT}]}}],
                   "initContainers":[{{"name":"i","volumeMounts":[{MOUNT}]}}],"volumes":[{{"name":"v"}},{VOLUME}]"#
            ),
        ),
        // The Pod's own secrets for pulling stay; no mount in ephemeral containers.
        (
            "dev",
            r#""containers":[{"name":"a"}],"imagePullSecrets":[{"name":"mine"}],"ephemeralContainers":[{"name":"e"}]"#
                .into(),
            format!(
                r#"{default},"containers":[{{"name":"a","volumeMounts":[{MOUNT}]}}],"imagePullSecrets":[{{"name":"mine"}}],
                   "ephemeralContainers":[{{"name":"e"}}],"volumes":[{VOLUME}]"#
            ),
        ),
        // Something is mounted there already.
        (
            "dev",
            format!(r#""containers":[{{"name":"a","volumeMounts":[{own}]}}]"#),
            format!(r#"{default},{pull},"containers":[{{"name":"a","volumeMounts":[{own}]}}]"#),
        ),
        // The volume is there already, as when a Pod is copied.
        (
            "dev",
            r#""containers":[{"name":"a"}],"volumes":[{"name":"kube-api-access-copy1"}]"#.into(),
            format!(
                r#"{default},{pull},"containers":[{{"name":"a","volumeMounts":[{}]}}],"volumes":[{{"name":"kube-api-access-copy1"}}]"#,
                MOUNT.replace("NAME", "kube-api-access-copy1")
            ),
        ),
        (
            "dev",
            r#""containers":[{"name":"a"}],"automountServiceAccountToken":false"#.into(),
            format!(r#"{default},{pull},"containers":[{{"name":"a"}}],"automountServiceAccountToken":false"#),
        ),
        (
            "dev",
            r#""containers":[{"name":"a"}],"serviceAccountName":"silent""#.into(),
            r#""containers":[{"name":"a"}],"serviceAccountName":"silent""#.into(),
        ),
        (
            "dev",
            r#""containers":[{"name":"a"}],"serviceAccountName":"silent","automountServiceAccountToken":true"#.into(),
            format!(
                r#""containers":[{{"name":"a","volumeMounts":[{MOUNT}]}}],"serviceAccountName":"silent",
                   "automountServiceAccountToken":true,"volumes":[{VOLUME}]"#
            ),
        ),
        // An account that no cache shows yet.
        ("new", String::new(), default.into()),
        ("dev", r#""serviceAccountName":"fresh""#.into(), r#""serviceAccountName":"fresh""#.into()),
    ] {
        let request =
            Request::new(&format!("create pods {namespace}/p")).object(&format!(r#"{{"spec":{{{before}}}}}"#));
        let result = request.run(&only("ServiceAccount"), &cluster()).expect("admitted");
        let mut volumes = result.list_at(&["spec", "volumes"]).iter().map(|volume| volume.str_at(&["name"]).to_owned());
        let name = volumes.rfind(|name| name.starts_with("kube-api-access-")).unwrap_or_default();
        assert!(name.is_empty() || name.len() == "kube-api-access-".len() + 5, "{name}");
        assert_eq!(result, json(&format!(r#"{{"spec":{{{after}}}}}"#).replace("NAME", &name)), "{before}");
    }
}

#[test]
fn names_of_volumes_differ() {
    let chain = only("ServiceAccount");
    let name = || {
        let request = Request::new("create pods dev/p").object(r#"{"spec":{"containers":[{}]}}"#);
        let pod = request.run(&chain, &cluster()).expect("admitted");
        pod.list_at(&["spec", "volumes"])[0].str_at(&["name"]).to_owned()
    };
    assert_ne!(name(), name());
}

#[test]
fn pods_may_not_have_any_account_and_any_secret() {
    let strict = |why: &str| {
        format!(
            r#"403 pods "p" is forbidden: {why} is not allowed because service account strict does not reference that "#
        )
    };
    for (what, pod, want) in [
        (
            "create pods dev/p",
            r#"{"spec":{"serviceAccountName":"none"}}"#,
            r#"403 pods "p" is forbidden: error looking up service account dev/none: serviceaccount "none" not found"#.into(),
        ),
        (
            "create pods lost/p",
            "{}",
            r#"403 pods "p" is forbidden: error looking up service account lost/default: serviceaccount "default" not found"#.into(),
        ),
        ("update pods dev/p", r#"{"spec":{"serviceAccountName":"none"}}"#, "ok".to_string()),
        (
            "create pods dev/p",
            r#"{"spec":{"serviceAccountName":"strict","volumes":[{"secret":{"secretName":"own"}}]}}"#,
            "ok".into(),
        ),
        (
            "create pods dev/p",
            r#"{"spec":{"serviceAccountName":"strict","volumes":[{"secret":{"secretName":"s"}}]}}"#,
            strict(r#"volume with secret.secretName="s""#) + "secret",
        ),
        (
            "create pods dev/p",
            r#"{"spec":{"serviceAccountName":"strict","containers":[{"name":"c","env":[{"name":"E","valueFrom":{"secretKeyRef":{"name":"s"}}}]}]}}"#,
            strict(r#"container c with envVar E referencing secret.secretName="s""#) + "secret",
        ),
        (
            "create pods dev/p",
            r#"{"spec":{"serviceAccountName":"strict","initContainers":[{"name":"c","envFrom":[{"secretRef":{"name":"own"}},{"secretRef":{"name":"s"}}]}]}}"#,
            strict(r#"init container c with envFrom referencing secret.secretName="s""#) + "secret",
        ),
        (
            "create pods dev/p",
            r#"{"spec":{"serviceAccountName":"strict","imagePullSecrets":[{"name":"pull"},{"name":"s"}]}}"#,
            strict(r#"imagePullSecrets[1].name="s""#) + "imagePullSecret",
        ),
        (
            "update pods/ephemeralcontainers dev/p",
            r#"{"spec":{"serviceAccountName":"strict","ephemeralContainers":[{"name":"e","envFrom":[{"secretRef":{"name":"s"}}]}]}}"#,
            strict(r#"ephemeral container e with envFrom referencing secret.secretName="s""#) + "secret",
        ),
        (
            "update pods/ephemeralcontainers dev/p",
            r#"{"metadata":{"name":"p"},"spec":{}}"#,
            r#"403 pods "p" is forbidden: no service account specified for pod dev/p"#.into(),
        ),
    ] {
        assert_eq!(Request::new(what).object(pod).verdict(&only("ServiceAccount"), &cluster()), want, "{what} {pod}");
    }
}

#[test]
fn mirror_pods_get_nothing() {
    let mirror = |spec: &str| {
        format!(r#"{{"metadata":{{"annotations":{{"kubernetes.io/config.mirror":"x"}}}},"spec":{{{spec}}}}}"#)
    };
    let refused = |why: &str| format!(r#"403 pods "p" is forbidden: a mirror pod may not {why}"#);
    for (spec, want) in [
        (r#""containers":[{"name":"c"}]"#, "ok".to_string()),
        (r#""serviceAccountName":"default""#, refused("reference service accounts")),
        (r#""volumes":[{"secret":{"secretName":"s"}}]"#, refused("reference secrets")),
        (
            r#""volumes":[{"projected":{"sources":[{"serviceAccountToken":{"path":"t"}}]}}]"#,
            refused("use ServiceAccountToken volume projections"),
        ),
    ] {
        let request = Request::new("create pods dev/p").object(&mirror(spec));
        let result = request.run(&only("ServiceAccount"), &cluster());
        match result {
            Ok(pod) => assert_eq!((pod, "ok"), (json(&mirror(spec)), &*want)),
            Err(status) => assert_eq!(format!("{} {}", status.code, status.message), want),
        }
    }
}
