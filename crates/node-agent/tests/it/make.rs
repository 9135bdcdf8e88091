//! What containers are made with: environment, names, resources, security.

use std::sync::Arc;

use api_codec::json;
use api_schema::Value;
use expect_test::{Expect, expect};
use node_agent::dns::{NodeDns, hosts_file, names, parse_resolv_conf, pod_dns};
use node_agent::env::{Env, Facts, Lookups, environment, expand};
use node_agent::images::with_default_tag;
use node_agent::pod::Pod;
use node_agent::resources::{container_resources, pod_resources, qos_class};
use node_agent::security::{ImageUser, container_context};

fn parse(text: &str) -> Value {
    json::decode(None, text.as_bytes(), json::Options::default()).expect("JSON").value
}

/// A Pod with this spec.
fn pod(spec: &str) -> Pod {
    let mut object = parse(
        r#"{"metadata":{"namespace":"ns","name":"web-0","uid":"u1","labels":{"b":"2","a":"1"},"annotations":{"note":"x\"y"}}}"#,
    );
    object.set(&["spec"], parse(spec));
    Pod::new(Arc::new(object))
}

struct Objects;

impl Lookups for Objects {
    fn config_map(&self, name: &str) -> Option<Arc<Value>> {
        (name == "config").then(|| Arc::new(parse(r#"{"data":{"KEY":"value","other":"thing"}}"#)))
    }
    fn secret(&self, name: &str) -> Option<Arc<Value>> {
        (name == "secret").then(|| Arc::new(parse(r#"{"data":{"PASS":"c2VzYW1l"}}"#)))
    }
    fn services(&self) -> Vec<Arc<Value>> {
        let service = |namespace: &str, name: &str, ip: &str, ports: &str| {
            Arc::new(parse(&format!(
                r#"{{"metadata":{{"namespace":"{namespace}","name":"{name}"}},"spec":{{"clusterIP":"{ip}","ports":{ports}}}}}"#
            )))
        };
        vec![
            service("default", "kubernetes", "10.96.0.1", r#"[{"name":"https","port":443,"protocol":"TCP"}]"#),
            service("ns", "my-db", "10.96.0.7", r#"[{"port":5432},{"name":"adm","port":1,"protocol":"UDP"}]"#),
            service("ns", "headless", "None", r#"[{"port":1}]"#),
            service("other", "hidden", "10.96.0.8", r#"[{"port":1}]"#),
        ]
    }
}

fn check_env(spec: &str, expected: Expect) {
    let pod = pod(spec);
    let facts = Facts {
        pod_ips: vec!["10.1.0.5".into(), "fd00::5".into()],
        host_ips: vec!["192.168.0.1".into()],
        allocatable: parse(r#"{"cpu":"3500m","memory":"2Gi"}"#).as_map().expect("a map").clone(),
    };
    let container = pod.containers().next().expect("a container");
    let shown = match environment(&pod, container, &facts, &Objects) {
        Ok(env) => env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("\n"),
        Err(error) => error,
    };
    expected.assert_eq(&shown);
}

#[test]
fn services_are_told_in_the_old_styles() {
    check_env(
        r#"{"containers":[{"name":"a"}],"enableServiceLinks":false}"#,
        expect![[r#"
        KUBERNETES_PORT=tcp://10.96.0.1:443
        KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443
        KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1
        KUBERNETES_PORT_443_TCP_PORT=443
        KUBERNETES_PORT_443_TCP_PROTO=tcp
        KUBERNETES_SERVICE_HOST=10.96.0.1
        KUBERNETES_SERVICE_PORT=443
        KUBERNETES_SERVICE_PORT_HTTPS=443"#]],
    );
    check_env(
        r#"{"containers":[{"name":"a"}]}"#,
        expect![[r#"
        KUBERNETES_PORT=tcp://10.96.0.1:443
        KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443
        KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1
        KUBERNETES_PORT_443_TCP_PORT=443
        KUBERNETES_PORT_443_TCP_PROTO=tcp
        KUBERNETES_SERVICE_HOST=10.96.0.1
        KUBERNETES_SERVICE_PORT=443
        KUBERNETES_SERVICE_PORT_HTTPS=443
        MY_DB_PORT=tcp://10.96.0.7:5432
        MY_DB_PORT_1_UDP=udp://10.96.0.7:1
        MY_DB_PORT_1_UDP_ADDR=10.96.0.7
        MY_DB_PORT_1_UDP_PORT=1
        MY_DB_PORT_1_UDP_PROTO=udp
        MY_DB_PORT_5432_TCP=tcp://10.96.0.7:5432
        MY_DB_PORT_5432_TCP_ADDR=10.96.0.7
        MY_DB_PORT_5432_TCP_PORT=5432
        MY_DB_PORT_5432_TCP_PROTO=tcp
        MY_DB_SERVICE_HOST=10.96.0.7
        MY_DB_SERVICE_PORT=5432
        MY_DB_SERVICE_PORT_ADM=1"#]],
    );
}

#[test]
fn the_environment_comes_from_everywhere() {
    let env = |env: &str| {
        format!(
            r#"{{"enableServiceLinks":false,"containers":[{{"name":"a","resources":{{"limits":{{"memory":"64Mi"}},"requests":{{"cpu":"250m"}}}},{env}}}]}}"#
        )
    };
    check_env(
        &env(
            r#""envFrom":[{"configMapRef":{"name":"config"},"prefix":"C_"},{"secretRef":{"name":"secret"}},{"secretRef":{"name":"none","optional":true}}]"#,
        ),
        expect![[r#"
            C_KEY=value
            C_other=thing
            KUBERNETES_PORT=tcp://10.96.0.1:443
            KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443
            KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1
            KUBERNETES_PORT_443_TCP_PORT=443
            KUBERNETES_PORT_443_TCP_PROTO=tcp
            KUBERNETES_SERVICE_HOST=10.96.0.1
            KUBERNETES_SERVICE_PORT=443
            KUBERNETES_SERVICE_PORT_HTTPS=443
            PASS=sesame"#]],
    );
    check_env(
        &env(
            r#""env":[{"name":"A","value":"1"},{"name":"B","value":"$(A)-$(UNKNOWN)-$$(A)-$(KUBERNETES_SERVICE_HOST)"}]"#,
        ),
        expect![[r#"
            A=1
            B=1-$(UNKNOWN)-$(A)-10.96.0.1
            KUBERNETES_PORT=tcp://10.96.0.1:443
            KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443
            KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1
            KUBERNETES_PORT_443_TCP_PORT=443
            KUBERNETES_PORT_443_TCP_PROTO=tcp
            KUBERNETES_SERVICE_HOST=10.96.0.1
            KUBERNETES_SERVICE_PORT=443
            KUBERNETES_SERVICE_PORT_HTTPS=443"#]],
    );
    check_env(
        &env(
            r#""env":[{"name":"N","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}},{"name":"L","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels['a']"}}},{"name":"ALL","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels"}}},{"name":"IPS","valueFrom":{"fieldRef":{"fieldPath":"status.podIPs"}}},{"name":"HOST","valueFrom":{"fieldRef":{"fieldPath":"status.hostIP"}}}]"#,
        ),
        expect![[r#"
            ALL=a="1"
            b="2"
            HOST=192.168.0.1
            IPS=10.1.0.5,fd00::5
            KUBERNETES_PORT=tcp://10.96.0.1:443
            KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443
            KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1
            KUBERNETES_PORT_443_TCP_PORT=443
            KUBERNETES_PORT_443_TCP_PROTO=tcp
            KUBERNETES_SERVICE_HOST=10.96.0.1
            KUBERNETES_SERVICE_PORT=443
            KUBERNETES_SERVICE_PORT_HTTPS=443
            L=1
            N=web-0"#]],
    );
    check_env(
        &env(
            r#""env":[{"name":"MEM","valueFrom":{"resourceFieldRef":{"resource":"limits.memory","divisor":"1Mi"}}},{"name":"CPU","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu"}}},{"name":"REQ","valueFrom":{"resourceFieldRef":{"resource":"requests.cpu","divisor":"1m"}}}]"#,
        ),
        expect![[r#"
            CPU=4
            KUBERNETES_PORT=tcp://10.96.0.1:443
            KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443
            KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1
            KUBERNETES_PORT_443_TCP_PORT=443
            KUBERNETES_PORT_443_TCP_PROTO=tcp
            KUBERNETES_SERVICE_HOST=10.96.0.1
            KUBERNETES_SERVICE_PORT=443
            KUBERNETES_SERVICE_PORT_HTTPS=443
            MEM=64
            REQ=250"#]],
    );
    check_env(
        &env(
            r#""env":[{"name":"K","valueFrom":{"configMapKeyRef":{"name":"config","key":"KEY"}}},{"name":"P","valueFrom":{"secretKeyRef":{"name":"secret","key":"PASS"}}}]"#,
        ),
        expect![[r#"
            K=value
            KUBERNETES_PORT=tcp://10.96.0.1:443
            KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443
            KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1
            KUBERNETES_PORT_443_TCP_PORT=443
            KUBERNETES_PORT_443_TCP_PROTO=tcp
            KUBERNETES_SERVICE_HOST=10.96.0.1
            KUBERNETES_SERVICE_PORT=443
            KUBERNETES_SERVICE_PORT_HTTPS=443
            P=sesame"#]],
    );
}

#[test]
fn what_is_missing_is_said_in_upstreams_words() {
    let env = |from: &str| format!(r#"{{"containers":[{{"name":"a","env":[{{"name":"K","valueFrom":{from}}}]}}]}}"#);
    check_env(&env(r#"{"configMapKeyRef":{"name":"nope","key":"k"}}"#), expect![[r#"configmap "nope" not found"#]]);
    check_env(&env(r#"{"secretKeyRef":{"name":"nope","key":"k"}}"#), expect![[r#"secret "nope" not found"#]]);
    check_env(
        &env(r#"{"configMapKeyRef":{"name":"config","key":"k"}}"#),
        expect!["couldn't find key k in ConfigMap ns/config"],
    );
    check_env(
        &env(r#"{"secretKeyRef":{"name":"secret","key":"k"}}"#),
        expect!["couldn't find key k in Secret ns/secret"],
    );
    check_env(&env(r#"{"fieldRef":{"fieldPath":"spec.nothing"}}"#), expect!["unsupported fieldPath: spec.nothing"]);
}

#[test]
fn references_expand_as_in_kubernetes() {
    let known: Env = [("A".to_owned(), "1".to_owned())].into();
    for (text, expected) in [
        ("$(A)", "1"),
        ("$(A)$(A)", "11"),
        ("$$(A)", "$(A)"),
        ("$(B)", "$(B)"),
        ("$A", "$A"),
        ("$", "$"),
        ("$(A", "$(A"),
        ("a$$b", "a$b"),
    ] {
        assert_eq!(expand(text, &known), expected, "{text}");
    }
}

#[test]
fn names_are_found_by_policy() {
    let node = NodeDns {
        cluster_servers: vec!["10.96.0.10".to_owned()],
        cluster_domain: "cluster.local".to_owned(),
        host: parse_resolv_conf("# hi\nnameserver 1.1.1.1\nsearch a.example b.example\noptions timeout:2\n"),
    };
    let check = |spec: &str, expected: Expect| {
        let config = pod_dns(&pod(spec), &node);
        expected.assert_eq(&format!("{:?} {:?} {:?}", config.servers, config.searches, config.options));
    };
    check(
        r#"{"dnsPolicy":"ClusterFirst"}"#,
        expect![[
            r#"["10.96.0.10"] ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "a.example", "b.example"] ["ndots:5"]"#
        ]],
    );
    check(
        r#"{"dnsPolicy":"ClusterFirst","hostNetwork":true}"#,
        expect![[r#"["1.1.1.1"] ["a.example", "b.example"] ["timeout:2"]"#]],
    );
    check(
        r#"{"dnsPolicy":"ClusterFirstWithHostNet","hostNetwork":true}"#,
        expect![[
            r#"["10.96.0.10"] ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "a.example", "b.example"] ["ndots:5"]"#
        ]],
    );
    check(r#"{"dnsPolicy":"Default"}"#, expect![[r#"["1.1.1.1"] ["a.example", "b.example"] ["timeout:2"]"#]]);
    check(
        r#"{"dnsPolicy":"None","dnsConfig":{"nameservers":["9.9.9.9"],"searches":["x"],"options":[{"name":"ndots","value":"2"},{"name":"edns0"}]}}"#,
        expect![[r#"["9.9.9.9"] ["x"] ["ndots:2", "edns0"]"#]],
    );
    check(
        r#"{"dnsPolicy":"ClusterFirst","dnsConfig":{"nameservers":["10.96.0.10","9.9.9.9"],"options":[{"name":"ndots","value":"2"}]}}"#,
        expect![[
            r#"["10.96.0.10", "9.9.9.9"] ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "a.example", "b.example"] ["ndots:2"]"#
        ]],
    );
}

#[test]
fn a_pod_knows_its_own_name() {
    let check = |spec: &str, expected: Expect| {
        let pod = pod(spec);
        let names = names(&pod, "cluster.local").expect("names");
        expected.assert_eq(&hosts_file(&pod, &["10.1.0.5".into()], &names, None));
    };
    check(
        "{}",
        expect![[r#"
        # Kubernetes-managed hosts file.
        127.0.0.1	localhost
        ::1	localhost ip6-localhost ip6-loopback
        fe00::0	ip6-localnet
        fe00::0	ip6-mcastprefix
        fe00::1	ip6-allnodes
        fe00::2	ip6-allrouters
        10.1.0.5	web-0
    "#]],
    );
    check(
        r#"{"hostname":"h","subdomain":"sub","hostAliases":[{"ip":"1.2.3.4","hostnames":["x","y"]}]}"#,
        expect![[r#"
        # Kubernetes-managed hosts file.
        127.0.0.1	localhost
        ::1	localhost ip6-localhost ip6-loopback
        fe00::0	ip6-localnet
        fe00::0	ip6-mcastprefix
        fe00::1	ip6-allnodes
        fe00::2	ip6-allrouters
        10.1.0.5	h.sub.ns.svc.cluster.local	h

        # Entries added by HostAliases.
        1.2.3.4	x	y
    "#]],
    );
    let long = format!(r#"{{"hostname":"{}","subdomain":"sub","setHostnameAsFQDN":true}}"#, "h".repeat(60));
    assert!(names(&pod(&long), "cluster.local").is_err());
}

#[test]
fn resources_become_the_kernels_figures() {
    let check = |resources: &str, expected: Expect| {
        let pod = pod(&format!(r#"{{"containers":[{{"name":"a","resources":{resources}}}]}}"#));
        let container = pod.containers().next().expect("a container");
        let own = container_resources(&pod, container, 4 << 30);
        let all = pod_resources(&pod);
        expected.assert_eq(&format!(
            "{}: shares {} quota {} memory {} oom {}; pod: shares {} quota {} memory {}",
            qos_class(&pod).name(),
            own.cpu_shares,
            own.cpu_quota,
            own.memory_limit_in_bytes,
            own.oom_score_adj,
            all.cpu_shares,
            all.cpu_quota,
            all.memory_limit_in_bytes,
        ));
    };
    check("{}", expect!["BestEffort: shares 2 quota 0 memory 0 oom 1000; pod: shares 2 quota 0 memory 0"]);
    check(
        r#"{"requests":{"cpu":"100m","memory":"1Gi"}}"#,
        expect!["Burstable: shares 102 quota 0 memory 0 oom 750; pod: shares 102 quota 0 memory 0"],
    );
    check(
        r#"{"requests":{"cpu":"500m","memory":"64Mi"},"limits":{"cpu":"500m","memory":"64Mi"}}"#,
        expect![
            "Guaranteed: shares 512 quota 50000 memory 67108864 oom -997; pod: shares 512 quota 50000 memory 67108864"
        ],
    );
    check(
        r#"{"limits":{"cpu":"1m","memory":"64Mi"}}"#,
        expect!["Guaranteed: shares 2 quota 1000 memory 67108864 oom -997; pod: shares 2 quota 1000 memory 67108864"],
    );
}

#[test]
fn init_containers_and_sidecars_count_for_the_pod() {
    let pod = pod(
        r#"{"initContainers":[{"name":"s","restartPolicy":"Always","resources":{"limits":{"memory":"10Mi","cpu":"1"}}},
            {"name":"i","resources":{"limits":{"memory":"100Mi","cpu":"1"}}}],
            "containers":[{"name":"a","resources":{"limits":{"memory":"50Mi","cpu":"2"}}}]}"#,
    );
    let all = pod_resources(&pod);
    assert_eq!((all.memory_limit_in_bytes >> 20, all.cpu_quota), (110, 300_000));
}

#[test]
fn nobody_is_root_who_must_not_be() {
    let check = |pod_context: &str, context: &str, user: ImageUser, expected: Expect| {
        let pod = pod(&format!(
            r#"{{"securityContext":{pod_context},"containers":[{{"name":"a","securityContext":{context}}}]}}"#
        ));
        let container = pod.containers().next().expect("a container");
        let shown = match container_context(&pod, container, &user, None, &[], true) {
            Ok(context) => {
                let uid = context.run_as_user.map(|uid| uid.value);
                let seccomp = context.seccomp.map(|profile| profile.profile_type);
                format!(
                    "uid {uid:?} user {:?} groups {:?} seccomp {seccomp:?}",
                    context.run_as_username, context.supplemental_groups
                )
            }
            Err(error) => error,
        };
        expected.assert_eq(&shown);
    };
    let image = |uid: Option<i64>, username: &str| ImageUser { uid, username: username.to_owned() };
    check("{}", "{}", image(None, ""), expect![[r#"uid None user "" groups [] seccomp Some(0)"#]]);
    check("{}", "{}", image(Some(7), ""), expect![[r#"uid Some(7) user "" groups [] seccomp Some(0)"#]]);
    check(
        r#"{"runAsNonRoot":true}"#,
        "{}",
        image(None, ""),
        expect![[r#"container has runAsNonRoot and image will run as root (pod: "web-0_ns(u1)", container: a)"#]],
    );
    check(
        r#"{"runAsNonRoot":true}"#,
        "{}",
        image(Some(0), ""),
        expect![[r#"container has runAsNonRoot and image will run as root (pod: "web-0_ns(u1)", container: a)"#]],
    );
    check(
        r#"{"runAsNonRoot":true}"#,
        "{}",
        image(None, "nginx"),
        expect![[
            r#"container has runAsNonRoot and image has non-numeric user (nginx), cannot verify user is non-root (pod: "web-0_ns(u1)", container: a)"#
        ]],
    );
    check(
        r#"{"runAsNonRoot":true}"#,
        "{}",
        image(Some(101), ""),
        expect![[r#"uid Some(101) user "" groups [] seccomp Some(0)"#]],
    );
    check(
        r#"{"runAsNonRoot":true,"runAsUser":0}"#,
        "{}",
        image(None, ""),
        expect![[r#"container's runAsUser breaks non-root policy (pod: "web-0_ns(u1)", container: a)"#]],
    );
    check(
        r#"{"runAsNonRoot":true}"#,
        r#"{"runAsUser":5}"#,
        image(None, ""),
        expect![[r#"uid Some(5) user "" groups [] seccomp Some(0)"#]],
    );
    check(
        r#"{"fsGroup":9,"supplementalGroups":[1,2]}"#,
        r#"{"privileged":true}"#,
        image(None, ""),
        expect![[r#"uid None user "" groups [9, 1, 2] seccomp Some(1)"#]],
    );
}

#[test]
fn names_of_images_get_a_version_or_an_error() {
    let check = |image: &str, expected: Expect| {
        expected.assert_eq(&with_default_tag(image).unwrap_or_else(|error| error));
    };
    check("busybox", expect!["busybox:latest"]);
    check("busybox:1.36", expect!["busybox:1.36"]);
    check("localhost:5000/busybox", expect!["localhost:5000/busybox:latest"]);
    check(
        "registry.k8s.io/pause@sha256:7031c1b283388d2c2e09b57badb803c05ebed362dc88d84b480cc47f72a21097",
        expect!["registry.k8s.io/pause@sha256:7031c1b283388d2c2e09b57badb803c05ebed362dc88d84b480cc47f72a21097"],
    );
    check(
        "Busybox",
        expect![[
            r#"couldn't parse image name "Busybox": invalid reference format: repository name (Busybox) must be lowercase"#
        ]],
    );
    check("busy box", expect![[r#"couldn't parse image name "busy box": invalid reference format"#]]);
    check("busybox:", expect![[r#"couldn't parse image name "busybox:": invalid reference format"#]]);
}
