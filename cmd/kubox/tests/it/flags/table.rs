//! The table as a whole: nothing of upstream's is missing, and what is not honoured says why.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::{kubox, refusal};
use crate::harness::run;

/// The flags of kube-apiserver 1.36, as its `--help` and its source have them.
const UPSTREAM: &str = include_str!("kube-apiserver-flags.txt");

/// Honoured flags, by the test that shows what they do.
const SHOWN: &[(&str, &str)] = &[
    (
        "users::a_cluster_with_an_operators_own_keys",
        "advertise-address anonymous-auth api-audiences authorization-mode bind-address client-ca-file \
         enable-bootstrap-token-auth external-hostname feature-gates kubelet-certificate-authority \
         kubelet-client-certificate kubelet-client-key kubelet-preferred-address-types \
         requestheader-allowed-names requestheader-client-ca-file requestheader-extra-headers-prefix \
         requestheader-group-headers requestheader-uid-headers requestheader-username-headers secure-port \
         service-account-issuer service-account-key-file service-account-signing-key-file service-cluster-ip-range \
         service-node-port-range tls-cert-file tls-private-key-file token-auth-file data-dir",
    ),
    (
        "users::pods_and_tokens_as_flags_want_them",
        "default-not-ready-toleration-seconds default-unreachable-toleration-seconds disable-admission-plugins \
         enable-admission-plugins endpoint-reconciler-type runtime-config service-account-extend-token-expiration \
         service-account-jwks-uri service-account-max-token-expiration",
    ),
    ("users::events_end_when_their_time_is_over", "event-ttl"),
    (
        "serving::tls_is_spoken_as_flags_say",
        "tls-cipher-suites tls-curve-preferences tls-min-version tls-san tls-sni-cert-key disable-http2-serving",
    ),
    (
        "serving::browsers_and_balancers_are_told",
        "cors-allowed-origins strict-transport-security-directives goaway-chance http2-max-streams-per-connection",
    ),
    (
        "serving::requests_have_limits",
        "request-timeout min-request-timeout max-requests-inflight max-mutating-requests-inflight",
    ),
    ("serving::a_server_that_ends_says_so_first", "shutdown-delay-duration permit-port-sharing v"),
    ("bad_files::what_operators_bring_must_be_good", "proxy-client-cert-file proxy-client-key-file"),
    ("table::the_version_is_that_of_kubernetes", "version"),
];

/// Values that say what is so anyway, and values that do not.
const ONLY: &[(&str, &str, &str)] = &[
    ("aggregator-reject-forwarding-redirect", "true", "false"),
    ("allow-privileged", "true", "false"),
    ("apiserver-count", "1", "2"),
    ("contention-profiling", "false", "true"),
    ("default-watch-cache-size", "100", "0"),
    ("emulated-version", "1.36", "1.35"),
    ("emulation-forward-compatible", "false", "true"),
    ("enable-aggregator-routing", "false", "true"),
    ("enable-garbage-collector", "true", "false"),
    ("enable-logs-handler", "false", "true"),
    ("enable-priority-and-fairness", "false", "true"),
    ("encryption-provider-config-automatic-reload", "false", "true"),
    ("kubelet-port", "10250", "10251"),
    ("kubernetes-service-node-port", "0", "30001"),
    ("log-json-info-buffer-size", "0", "1Ki"),
    ("log-json-split-stream", "false", "true"),
    ("log-text-info-buffer-size", "0", "1Ki"),
    ("log-text-split-stream", "false", "true"),
    ("logging-format", "text", "json"),
    ("max-connection-bytes-per-sec", "0", "1"),
    ("min-compatibility-version", "kube=1.35", "1.33"),
    ("profiling", "false", "true"),
    ("runtime-config-emulation-forward-compatible", "false", "true"),
    ("service-account-lookup", "true", "false"),
    ("show-hidden-metrics-for-version", "1.35", "1.34"),
    ("shutdown-send-retry-after", "false", "true"),
    ("shutdown-watch-termination-grace-period", "0s", "5s"),
    ("storage-media-type", "application/vnd.kubernetes.protobuf", "application/json"),
    ("vmodule", "", "a=2"),
    ("watch-cache", "true", "false"),
    ("watch-cache-sizes", "pods#100", "pods#0"),
];

/// What `--help` says of each flag: how its value is written, and what becomes of it.
fn verdicts() -> BTreeMap<String, (String, String)> {
    let (code, help, _) = kubox(&["server", "--help"]);
    assert_eq!(code, Some(0));
    let lines: Vec<&str> = help.lines().collect();
    let flags = lines.windows(2).filter_map(|pair| {
        let flag = pair[0].trim().strip_prefix("-v, ").unwrap_or(pair[0].trim()).strip_prefix("--")?;
        let at = flag.find([' ', '[']).unwrap_or(flag.len());
        Some((flag[..at].to_owned(), (flag[at..].to_owned(), pair[1].trim().to_owned())))
    });
    flags.collect()
}

#[test]
fn every_flag_of_upstream_has_a_verdict() {
    let verdicts = verdicts();
    let names: BTreeSet<&str> = verdicts.keys().map(String::as_str).collect();
    let upstream: BTreeSet<&str> = UPSTREAM.lines().collect();
    assert_eq!(upstream.difference(&names).collect::<Vec<_>>(), Vec::<&&str>::new(), "flags that are missing");
    assert_eq!(names.difference(&upstream).collect::<Vec<_>>(), [&"data-dir", &"tls-san"], "flags of our own");

    let of = |prefix: &str| -> BTreeSet<&str> {
        verdicts.iter().filter(|(_, (_, text))| text.starts_with(prefix)).map(|(name, _)| name.as_str()).collect()
    };
    let (refused, only, moot) = (of("refused: "), of("cannot be changed: "), of("accepted; changes nothing: "));
    assert_eq!(only, ONLY.iter().map(|(name, ..)| *name).collect(), "flags with one possible value");
    let shown: BTreeSet<&str> = SHOWN.iter().flat_map(|(_, names)| names.split_whitespace()).collect();
    let honoured: BTreeSet<&str> = names
        .into_iter()
        .filter(|name| !(refused.contains(name) || only.contains(name) || moot.contains(name)))
        .collect();
    assert_eq!(honoured, shown, "honoured flags, and those that a test shows the effect of");
}

/// A value of the form that `--help` shows.
fn sample(form: &str) -> &'static str {
    match form.trim() {
        "" => "true",
        "N" | "X" | "N,N" | "BYTES" => "1",
        "DURATION" => "1s",
        "KEY=VALUE,..." => "a=b",
        _ => "x",
    }
}

#[test]
fn what_is_refused_says_why_in_one_line() {
    for (name, (form, text)) in verdicts() {
        let Some(why) = text.strip_prefix("refused: ") else { continue };
        let line = refusal(&["--data-dir=/nonexistent", &format!("--{name}={}", sample(&form))]);
        assert_eq!(line, format!("--{name} cannot be honoured: {why}"));
    }
}

#[test]
fn what_can_only_be_one_way_may_be_said_to_be_so() {
    for (name, good, bad) in ONLY {
        let line = refusal(&["--data-dir=/nonexistent", &format!("--{name}={bad}")]);
        assert!(line.starts_with(&format!("--{name}={bad} cannot be honoured: ")), "{line}");
        // Behind it comes what is refused in any case, so that no server starts.
        let line = refusal(&[&format!("--{name}={good}"), "--etcd-prefix=x"]);
        assert!(line.starts_with("--etcd-prefix cannot be honoured: "), "{name}: {line}");
    }
}

#[test]
fn what_does_not_matter_is_accepted_in_its_form_only() {
    for (name, (form, text)) in verdicts() {
        if !text.starts_with("accepted; changes nothing: ") {
            continue;
        }
        let line = refusal(&[&format!("--{name}={}", sample(&form)), "--etcd-prefix=x"]);
        assert!(line.starts_with("--etcd-prefix cannot be honoured: "), "{name}: {line}");
        let line = refusal(&[&format!("--{name}=?")]);
        assert!(line.starts_with(&format!("invalid argument \"?\" for \"--{name}\" flag: ")), "{line}");
    }
}

#[test]
fn bad_command_lines_are_refused_in_upstreams_words() {
    for (args, line) in [
        (&[][..], "--data-dir is needed: the folder where everything is kept"),
        (&["--nonsense"], "unknown flag: --nonsense"),
        (
            &["--secure-port", "x"],
            "invalid argument \"x\" for \"--secure-port\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (&["--bind_address=x"], "invalid argument \"x\" for \"--bind-address\" flag: failed to parse IP: \"x\""),
        (
            &["--request-timeout=x"],
            "invalid argument \"x\" for \"--request-timeout\" flag: time: invalid duration \"x\"",
        ),
        (
            &["--anonymous-auth=x"],
            "invalid argument \"x\" for \"--anonymous-auth\" flag: strconv.ParseBool: parsing \"x\": invalid syntax",
        ),
        (&["--data-dir"], "flag needs an argument: --data-dir"),
        (&["x"], "\"kubox server\" does not take any arguments, got [\"x\"]"),
        (&["--secure-port=70000"], "--secure-port 70000 must be between 0 and 65535, inclusive"),
        (&["--goaway-chance=1"], "--goaway-chance can not be less than 0 or greater than 0.02"),
        (&["--max-requests-inflight=-1"], "--max-requests-inflight can not be negative value"),
        (
            &["--tls-min-version=VersionTLS10"],
            "--tls-min-version=VersionTLS10 cannot be honoured: TLS 1.2 is the oldest version that is spoken",
        ),
        (&["--data-dir=x", "--tls-cert-file=x"], "--tls-cert-file needs --tls-private-key-file"),
        (&["--data-dir=x", "--kubelet-client-key=x"], "--kubelet-client-key needs --kubelet-client-certificate"),
        (&["--version=v1.2.3"], "--version=v1.2.3 cannot be honoured: the version is what it is"),
    ] {
        assert_eq!(refusal(args), line, "{args:?}");
    }
    let (code, _, complaint) = kubox(&["nonsense"]);
    assert_eq!(
        (code, complaint.trim()),
        (Some(1), "Error: unknown command \"nonsense\" for \"kubox\"; see `kubox help`")
    );
}

#[test]
fn what_only_the_server_can_judge_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let data = format!("--data-dir={}", dir.path().join("data").display());
    for (flags, line) in [
        (&["--enable-admission-plugins=X"][..], "enable-admission-plugins plugin \"X\" is unknown"),
        (
            &["--enable-admission-plugins=Priority", "--disable-admission-plugins=Priority"],
            "[Priority] in enable-admission-plugins and disable-admission-plugins overlapped",
        ),
        (&["--cors-allowed-origins=^($"], "--cors-allowed-origins: "),
        (&["--tls-cipher-suites=X"], "tls: cipher suite X is not supported; supported are "),
        (&["--tls-curve-preferences=4588"], "tls: curve 4588 is not supported; supported are 29, 23, 24"),
        (&["--token-auth-file=/nonexistent"], "--token-auth-file /nonexistent: "),
    ] {
        let said = refusal(&[&[&data, "--secure-port=0"], flags].concat());
        assert!(said.starts_with(line), "{flags:?}: {said}");
        assert!(!dir.path().join("data").exists(), "{flags:?} left something behind");
    }
}

#[test]
fn the_version_is_that_of_kubernetes() {
    let (code, out, _) = kubox(&["server", "--version"]);
    assert_eq!(code, Some(0));
    assert!(out.starts_with("Kubernetes v1.36."), "{out}");
    let (_, raw, _) = kubox(&["server", "--version=raw"]);
    assert!(raw.contains("\"gitVersion\": \"v1.36."), "{raw}");
}

#[test]
fn the_name_kube_apiserver_is_the_server() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubox"));
    let (good, _, complaint) = run(command.arg0("/usr/local/bin/kube-apiserver").arg("x"));
    assert!(!good);
    assert_eq!(complaint.trim(), "Error: \"kube-apiserver\" does not take any arguments, got [\"x\"]");
}
