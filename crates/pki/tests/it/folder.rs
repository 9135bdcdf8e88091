//! The `pki` folder through its life: made, found complete, renewed, damaged, kept elsewhere.

use crate::{DAY, NOW, data};
use pki::{Certificate, KubeconfigUser, Pki, PkiError, Wanted, ensure};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

fn wanted(address: &str) -> Wanted {
    Wanted {
        advertise_address: Some(address.parse().unwrap()),
        bind_address: Some("0.0.0.0".parse().unwrap()),
        hostnames: vec!["node-1".to_owned(), "10.9.9.9".to_owned(), "node-1".to_owned()],
        kubeconfigs: vec![KubeconfigUser::admin("https://127.0.0.1:6443")],
        ..Wanted::default()
    }
}

/// Every file below the folder: its mode and content.
fn snapshot(dir: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut files = BTreeMap::new();
    for folder in [dir.to_owned(), dir.join("pki")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let mode = path.metadata().unwrap().permissions().mode() & 0o777;
                let name = path.strip_prefix(dir).unwrap().display().to_string();
                files.insert(name, (mode, std::fs::read(&path).unwrap()));
            }
        }
    }
    files
}

/// The names of the files that differ.
fn changed(before: &BTreeMap<String, (u32, Vec<u8>)>, dir: &Path) -> Vec<String> {
    let after = snapshot(dir);
    assert!(before.keys().all(|name| after.contains_key(name)), "a file vanished");
    after.iter().filter(|(name, file)| before.get(*name) != Some(file)).map(|(name, _)| name.clone()).collect()
}

fn written(dir: &Path, pki: &Pki) -> Vec<String> {
    let mut names: Vec<String> =
        pki.written.iter().map(|path| path.strip_prefix(dir).unwrap().display().to_string()).collect();
    names.sort();
    names
}

#[test]
fn an_empty_folder_becomes_complete_with_keys_for_their_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let pki = ensure(dir.path(), &wanted("192.0.2.1"), NOW).unwrap();
    let files = snapshot(dir.path());
    let modes: Vec<String> = files.iter().map(|(name, (mode, _))| format!("{name} {mode:o}")).collect();
    assert_eq!(
        modes,
        [
            "admin.kubeconfig 600",
            "pki/apiserver-kubelet-client.crt 644",
            "pki/apiserver-kubelet-client.key 600",
            "pki/apiserver.crt 644",
            "pki/apiserver.key 600",
            "pki/ca.crt 644",
            "pki/ca.key 600",
            "pki/front-proxy-ca.crt 644",
            "pki/front-proxy-ca.key 600",
            "pki/front-proxy-client.crt 644",
            "pki/front-proxy-client.key 600",
            "pki/sa.key 600",
            "pki/sa.pub 644",
        ]
    );
    assert_eq!(written(dir.path(), &pki).len(), files.len());
    let names = &pki.apiserver.chain[0].names;
    assert_eq!(
        names.dns,
        [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
            "node-1"
        ]
    );
    let ips: Vec<String> = names.ips.iter().map(ToString::to_string).collect();
    assert_eq!(ips, ["127.0.0.1", "::1", "10.96.0.1", "192.0.2.1", "10.9.9.9"]);
    let ca = pki.ca.authority.as_ref().unwrap().certificate();
    assert_eq!((ca.subject.common_name.as_str(), ca.is_ca, ca.not_after), ("kubernetes", true, NOW + 3650 * DAY));
    for (pair, authority, name) in [
        (&pki.apiserver, &pki.ca, "kube-apiserver"),
        (&pki.apiserver_kubelet_client, &pki.ca, "kube-apiserver-kubelet-client"),
        (&pki.front_proxy_client, &pki.front_proxy_ca, "front-proxy-client"),
    ] {
        assert!(pair.chain[0].is_signed_by(&authority.certificates[0]), "{name}");
        assert_eq!(pair.chain[0].subject.common_name, name);
        assert_eq!(pair.chain[0].not_after, NOW + 365 * DAY);
    }
    assert_eq!(pki.service_account_public_keys, [pki.service_account_key.public_key().clone()]);
}

#[test]
fn a_complete_folder_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let first = ensure(dir.path(), &wanted("192.0.2.1"), NOW).unwrap();
    let before = snapshot(dir.path());
    for now in [NOW, NOW + 200 * DAY] {
        let again = ensure(dir.path(), &wanted("192.0.2.1"), now).unwrap();
        assert_eq!(again.written, Vec::<PathBuf>::new());
        assert_eq!(changed(&before, dir.path()), Vec::<String>::new());
        assert_eq!(again.apiserver.chain, first.apiserver.chain);
        assert_eq!(again.service_account_key.public_key(), first.service_account_key.public_key());
    }
}

#[test]
fn what_must_change_changes_and_nothing_else() {
    let check = |case: &str, harm: &dyn Fn(&Path), wanted: &Wanted, now: i64, want: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path(), &self::wanted("192.0.2.1"), NOW).unwrap();
        harm(dir.path());
        let before = snapshot(dir.path());
        let pki = ensure(dir.path(), wanted, now).unwrap();
        assert_eq!(changed(&before, dir.path()), want, "{case}");
        assert_eq!(written(dir.path(), &pki), want, "{case}");
        let settled = ensure(dir.path(), wanted, now).unwrap();
        assert_eq!(settled.written, Vec::<PathBuf>::new(), "{case}: must settle");
    };
    let same = wanted("192.0.2.1");
    let nothing = |_: &Path| {};
    let remove = |name: &'static str| move |dir: &Path| std::fs::remove_file(dir.join(name)).unwrap();
    let mut moved_server = same.clone();
    moved_server.kubeconfigs = vec![KubeconfigUser::admin("https://10.0.0.1:6443")];
    let leaves =
        ["admin.kubeconfig", "pki/apiserver-kubelet-client.crt", "pki/apiserver.crt", "pki/front-proxy-client.crt"];
    check("another address", &nothing, &wanted("192.0.2.2"), NOW, &["pki/apiserver.crt"]);
    check("another server", &nothing, &moved_server, NOW, &["admin.kubeconfig"]);
    check("leaves due", &nothing, &same, NOW + 256 * DAY, &leaves);
    check("leaves expired", &nothing, &same, NOW + 400 * DAY, &leaves);
    check(
        "authorities due",
        &nothing,
        &same,
        NOW + 2600 * DAY,
        &[
            "admin.kubeconfig",
            "pki/apiserver-kubelet-client.crt",
            "pki/apiserver.crt",
            "pki/ca.crt",
            "pki/front-proxy-ca.crt",
            "pki/front-proxy-client.crt",
        ],
    );
    check("no leaf", &remove("pki/apiserver.crt"), &same, NOW, &["pki/apiserver.crt"]);
    check("no leaf key", &remove("pki/apiserver.key"), &same, NOW, &["pki/apiserver.crt", "pki/apiserver.key"]);
    check("no kubeconfig", &remove("admin.kubeconfig"), &same, NOW, &["admin.kubeconfig"]);
    check("no sa.pub", &remove("pki/sa.pub"), &same, NOW, &["pki/sa.pub"]);
    // The key is still there, so the new authority vouches for what the old one issued; kubeconfigs name it.
    check("no ca.crt", &remove("pki/ca.crt"), &same, NOW, &["admin.kubeconfig", "pki/ca.crt"]);
    let replace_ca = |dir: &Path| {
        for name in ["ca.crt", "ca.key"] {
            std::fs::copy(dir.join("pki/front-proxy-ca").with_extension(&name[3..]), dir.join("pki").join(name))
                .unwrap();
        }
    };
    check(
        "another authority",
        &replace_ca,
        &same,
        NOW,
        &["admin.kubeconfig", "pki/apiserver-kubelet-client.crt", "pki/apiserver.crt"],
    );
    let crash_debris = |dir: &Path| {
        std::fs::write(dir.join("pki/.apiserver.crt.new"), "half").unwrap();
        std::fs::remove_file(dir.join("pki/apiserver.crt")).unwrap();
    };
    let dir = tempfile::tempdir().unwrap();
    ensure(dir.path(), &same, NOW).unwrap();
    crash_debris(dir.path());
    ensure(dir.path(), &same, NOW).unwrap();
    assert!(!dir.path().join("pki/.apiserver.crt.new").exists());
}

#[test]
fn the_folder_tells_when_it_is_due() {
    let dir = tempfile::tempdir().unwrap();
    let first = ensure(dir.path(), &wanted("192.0.2.1"), NOW).unwrap();
    let due = first.renewal_due_at;
    assert!((NOW + 255 * DAY..NOW + 256 * DAY).contains(&due), "70 % of a year: {due}");
    let before = ensure(dir.path(), &wanted("192.0.2.1"), due - 1).unwrap();
    assert_eq!((before.written.len(), before.renewal_due_at), (0, due));
    let at = ensure(dir.path(), &wanted("192.0.2.1"), due).unwrap();
    assert_eq!(at.written.len(), 4);
    assert!(at.renewal_due_at > due + 200 * DAY);
    for name in ["ca.key", "front-proxy-ca.key"] {
        std::fs::remove_file(dir.path().join("pki").join(name)).unwrap();
    }
    assert_eq!(ensure(dir.path(), &wanted("192.0.2.1"), due).unwrap().renewal_due_at, i64::MAX, "not ours to renew");
}

#[test]
fn damaged_files_are_named_and_left_as_they_are() {
    for (name, content) in [
        ("pki/ca.crt", "garbage"),
        ("pki/ca.key", ""),
        ("pki/apiserver.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("pki/apiserver.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        ("pki/sa.key", "garbage"),
        ("pki/sa.pub", "garbage"),
        ("admin.kubeconfig", "apiVersion: v1\nkind: Config\n"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path(), &wanted("192.0.2.1"), NOW).unwrap();
        std::fs::write(dir.path().join(name), content).unwrap();
        let before = snapshot(dir.path());
        let error = ensure(dir.path(), &wanted("192.0.2.1"), NOW + 400 * DAY).unwrap_err();
        assert!(matches!(&error, PkiError::Unusable { path, .. } if *path == dir.path().join(name)), "{name}: {error}");
        let text = error.to_string();
        assert!(!text.contains('\n') && text.contains(name), "{text}");
        assert_eq!(changed(&before, dir.path()), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn a_key_that_others_depend_on_is_never_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    ensure(dir.path(), &wanted("192.0.2.1"), NOW).unwrap();
    std::fs::remove_file(dir.path().join("pki/sa.key")).unwrap();
    let error = ensure(dir.path(), &wanted("192.0.2.1"), NOW).unwrap_err().to_string();
    assert!(error.contains("sa.pub") && error.contains("sa.key"), "{error}");
    assert!(!dir.path().join("pki/sa.key").exists());
}

#[test]
fn the_authoritys_key_may_be_kept_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    ensure(dir.path(), &wanted("192.0.2.1"), NOW).unwrap();
    std::fs::remove_file(dir.path().join("pki/ca.key")).unwrap();
    let before = snapshot(dir.path());
    // Due, but nobody can issue: good until the end.
    let pki = ensure(dir.path(), &wanted("192.0.2.1"), NOW + 364 * DAY).unwrap();
    assert!(pki.ca.authority.is_none());
    assert_eq!(changed(&before, dir.path()), ["pki/front-proxy-client.crt"]);
    let before = snapshot(dir.path());
    for (wanted, now, why) in [
        (wanted("192.0.2.1"), NOW + 366 * DAY, "it expires"),
        (wanted("192.0.2.2"), NOW, "it does not cover 192.0.2.2"),
    ] {
        let error = ensure(dir.path(), &wanted, now).unwrap_err();
        assert!(matches!(&error, PkiError::AuthorityKeyMissing { reason, .. } if reason == why), "{error}");
        assert_eq!(changed(&before, dir.path()), Vec::<String>::new());
    }
}

#[test]
fn users_may_bring_an_rsa_authority() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("pki");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("ca.crt"), data("rsa-ca.crt")).unwrap();
    std::fs::write(folder.join("ca.key"), data("rsa-pkcs1.key")).unwrap();
    let pki = ensure(dir.path(), &wanted("192.0.2.1"), NOW).unwrap();
    assert_eq!(std::fs::read(folder.join("ca.crt")).unwrap(), data("rsa-ca.crt"));
    assert!(pki.apiserver.chain[0].is_signed_by(&Certificate::from_pem(&data("rsa-ca.crt")).unwrap()[0]));
}

#[test]
fn a_pair_that_does_not_belong_together_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    ensure(dir.path(), &wanted("192.0.2.1"), NOW).unwrap();
    let file = |name: &str| dir.path().join("pki").join(name);
    assert!(pki::load_key_pair(&file("apiserver.crt"), &file("apiserver.key"), NOW).is_ok());
    let mixed = pki::load_key_pair(&file("apiserver.crt"), &file("ca.key"), NOW);
    assert!(matches!(mixed, Err(PkiError::Given { .. })), "{mixed:?}");
    assert!(matches!(pki::load_certificates(&file("nothing")), Err(PkiError::Given { .. })));
    std::fs::copy(file("front-proxy-ca.key"), file("ca.key")).unwrap();
    let error = ensure(dir.path(), &wanted("192.0.2.1"), NOW).unwrap_err();
    assert!(matches!(&error, PkiError::Unusable { path, .. } if path.ends_with("ca.crt")), "{error}");
}

#[test]
fn what_has_expired_is_refused_with_its_date() {
    let dir = tempfile::tempdir().unwrap();
    ensure(dir.path(), &wanted("192.0.2.1"), NOW).unwrap();
    let file = |name: &str| dir.path().join("pki").join(name);
    let later = NOW + 20 * 365 * 24 * 3600;
    let says = |error: PkiError, path: &str| {
        let text = error.to_string();
        assert!(text.contains(path) && text.contains("it expired at 20"), "{text}");
    };
    says(pki::load_authorities(&file("ca.crt"), later).unwrap_err(), "ca.crt");
    says(pki::load_key_pair(&file("apiserver.crt"), &file("apiserver.key"), later).unwrap_err(), "apiserver.crt");
    std::fs::remove_file(file("ca.key")).unwrap();
    says(ensure(dir.path(), &wanted("192.0.2.1"), later).unwrap_err(), "ca.crt");
}

#[test]
fn a_kubeconfig_may_trust_more_than_our_authority() {
    let dir = tempfile::tempdir().unwrap();
    let mut wanted = wanted("192.0.2.1");
    let pki = ensure(dir.path(), &wanted, NOW).unwrap();
    let before = std::fs::read_to_string(dir.path().join("admin.kubeconfig")).unwrap();
    wanted.kubeconfigs[0].trusted = vec![pki.front_proxy_ca.certificates[0].clone(), pki.ca.certificates[0].clone()];
    let written = ensure(dir.path(), &wanted, NOW).unwrap().written;
    assert_eq!(written, [dir.path().join("admin.kubeconfig")]);
    let after = std::fs::read_to_string(dir.path().join("admin.kubeconfig")).unwrap();
    assert!(after.len() > before.len() + 300, "one more certificate is in it, and the one known already is not twice");
    assert!(ensure(dir.path(), &wanted, NOW).unwrap().written.is_empty());
}

#[test]
fn the_kubeconfig_holds_all_that_a_client_needs() {
    use base64::Engine as _;
    let dir = tempfile::tempdir().unwrap();
    let pki = ensure(dir.path(), &wanted("192.0.2.1"), NOW).unwrap();
    let text = std::fs::read_to_string(dir.path().join("admin.kubeconfig")).unwrap();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap();
        let decoded = base64::engine::general_purpose::STANDARD.decode(line.trim()).unwrap();
        String::from_utf8(decoded).unwrap()
    };
    assert_eq!(value("certificate-authority-data:"), pki.ca.certificates[0].to_pem());
    let client = Certificate::from_pem(value("client-certificate-data:").as_bytes()).unwrap().remove(0);
    assert_eq!(client.subject, pki::Subject::new("kubernetes-admin", &["system:masters"]));
    let key = pki::PrivateKey::from_pem(value("client-key-data:").as_bytes()).unwrap();
    assert!(client.has_key(key.public_key()) && client.is_signed_by(&pki.ca.certificates[0]));
    let shape: Vec<&str> = text.lines().map(|line| line.split_once("-data: ").map_or(line, |(key, _)| key)).collect();
    assert_eq!(
        shape,
        [
            "apiVersion: v1",
            "kind: Config",
            "clusters:",
            "- name: kubox",
            "  cluster:",
            "    certificate-authority",
            "    server: https://127.0.0.1:6443",
            "contexts:",
            "- name: kubernetes-admin@kubox",
            "  context:",
            "    cluster: kubox",
            "    user: kubernetes-admin",
            "current-context: kubernetes-admin@kubox",
            "preferences: {}",
            "users:",
            "- name: kubernetes-admin",
            "  user:",
            "    client-certificate",
            "    client-key",
        ]
    );
}
