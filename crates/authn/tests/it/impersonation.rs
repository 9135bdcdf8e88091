//! Acting as somebody else.

use authn::UserInfo;
use authn::impersonation::{Check, Impersonation, LastWays};
use http::{HeaderMap, HeaderName, HeaderValue};

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap()))
        .collect()
}

fn impersonation(pairs: &[(&str, &str)]) -> Impersonation {
    Impersonation::from_headers(&mut headers(pairs)).unwrap().unwrap()
}

/// A check as `verb group/resource/subresource namespace/name`.
fn show(check: &Check) -> String {
    match check {
        Check::Request { verb } => format!("{verb} (request)"),
        Check::Resource(of) => {
            let subresource = if of.subresource.is_empty() { String::new() } else { format!("/{}", of.subresource) };
            let namespace = if of.namespace.is_empty() { String::new() } else { format!("{}/", of.namespace) };
            format!("{} {}/{}{subresource} {namespace}{}", of.verb, of.api_group, of.resource, of.name)
        }
    }
}

fn show_user(user: &UserInfo) -> String {
    format!("{} {} {:?} {:?}", user.name, user.uid, user.groups, user.extra)
}

#[test]
fn headers_are_read_and_taken_out() {
    let mut request = headers(&[
        ("accept", "x"),
        ("Impersonate-User", "jane"),
        ("Impersonate-Uid", "u1"),
        ("Impersonate-Group", "dev"),
        ("Impersonate-Group", "ops"),
        ("Impersonate-Extra-Scopes", "view"),
        ("Impersonate-Extra-Scopes", "edit"),
        ("Impersonate-Extra-Acme.com%2fProject", "p"),
    ]);
    let wanted = Impersonation::from_headers(&mut request).unwrap().unwrap().wanted().clone();
    assert_eq!(show_user(&wanted), r#"jane u1 ["dev", "ops"] {"acme.com/project": ["p"], "scopes": ["view", "edit"]}"#);
    assert_eq!(request.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    assert_eq!(Impersonation::from_headers(&mut headers(&[("accept", "x")])), Ok(None));
}

#[test]
fn headers_without_a_user_are_a_bad_request() {
    for (pairs, want) in [
        (
            &[("Impersonate-Group", "dev")][..],
            r#"requested &user.DefaultInfo{Name:"", UID:"", Groups:[]string{"dev"}, Extra:map[string][]string(nil)} without impersonating a user name"#,
        ),
        (
            &[("Impersonate-Uid", "u"), ("Impersonate-Extra-A", "b"), ("Impersonate-User", "")],
            r#"requested &user.DefaultInfo{Name:"", UID:"u", Groups:[]string(nil), Extra:map[string][]string{"a":[]string{"b"}}} without impersonating a user name"#,
        ),
    ] {
        let mut request = headers(pairs);
        assert_eq!(Impersonation::from_headers(&mut request).unwrap_err().to_string(), want);
        assert_eq!(request.len(), pairs.len(), "a refused request stays as it is");
    }
    let mut request = HeaderMap::new();
    request.insert("impersonate-user", HeaderValue::from_bytes(b"\xff").unwrap());
    assert!(Impersonation::from_headers(&mut request).is_err());
}

#[test]
fn the_old_way_asks_for_each_part_and_gives_the_groups() {
    for (pairs, checks, user) in [
        (&[("Impersonate-User", "jane")][..], &["impersonate /users jane"][..], r#"jane  ["system:authenticated"] {}"#),
        (
            &[
                ("Impersonate-User", "jane"),
                ("Impersonate-Uid", "u1"),
                ("Impersonate-Group", "system:masters"),
                ("Impersonate-Extra-K", "v"),
                ("Impersonate-Extra-K", "w"),
            ],
            &[
                "impersonate /users jane",
                "impersonate authentication.k8s.io/uids u1",
                "impersonate /groups system:masters",
                "impersonate authentication.k8s.io/userextras/k v",
                "impersonate authentication.k8s.io/userextras/k w",
            ],
            r#"jane u1 ["system:masters", "system:authenticated"] {"k": ["v", "w"]}"#,
        ),
        (
            &[("Impersonate-User", "system:serviceaccount:ns:robot")],
            &["impersonate /serviceaccounts ns/robot"],
            r#"system:serviceaccount:ns:robot  ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"] {}"#,
        ),
        (
            &[("Impersonate-User", "system:serviceaccount:ns:robot"), ("Impersonate-Group", "dev")],
            &["impersonate /serviceaccounts ns/robot", "impersonate /groups dev"],
            r#"system:serviceaccount:ns:robot  ["dev", "system:authenticated"] {}"#,
        ),
        (
            &[("Impersonate-User", "system:serviceaccount:no good")],
            &["impersonate /users system:serviceaccount:no good"],
            r#"system:serviceaccount:no good  ["system:authenticated"] {}"#,
        ),
        (
            &[("Impersonate-User", "system:node:n1")],
            &["impersonate /users system:node:n1"],
            r#"system:node:n1  ["system:authenticated"] {}"#,
        ),
        (
            &[("Impersonate-User", "system:anonymous")],
            &["impersonate /users system:anonymous"],
            r#"system:anonymous  ["system:unauthenticated"] {}"#,
        ),
        (
            &[("Impersonate-User", "jane"), ("Impersonate-Group", "system:unauthenticated")],
            &["impersonate /users jane", "impersonate /groups system:unauthenticated"],
            r#"jane  ["system:unauthenticated"] {}"#,
        ),
    ] {
        let mut asked = Vec::new();
        let got =
            impersonation(pairs).resolve(&UserInfo::new("admin", &[]), "get", &LastWays::default(), |who, check| {
                assert_eq!(who.name, "admin");
                let shown = show(check);
                if shown.starts_with("impersonate ") {
                    asked.push(shown);
                    Ok(())
                } else {
                    Err("no".to_owned())
                }
            });
        let got = got.unwrap();
        assert_eq!((show_user(&got.user).as_str(), got.constraint.as_str()), (user, ""));
        assert_eq!(asked, checks);
    }
}

#[test]
fn the_limited_ways_are_tried_first() {
    let robot = || {
        let mut robot = UserInfo::service_account("ns", "agent", "u");
        robot.extra.insert("authentication.kubernetes.io/node-name".into(), vec!["n1".into()]);
        robot
    };
    let admin = || UserInfo::new("admin", &["ops"]);
    // Everything asked when nothing is allowed, by way.
    let all_first_checks = |requestor: &UserInfo, pairs: &[(&str, &str)]| {
        let ways = impersonation(pairs).ways(requestor, "list");
        let shown: Vec<String> = ways
            .iter()
            .map(|way| {
                let steps: Vec<String> = way
                    .steps
                    .iter()
                    .map(|step| match step {
                        authn::impersonation::Step::Check(check) => show(check),
                        authn::impersonation::Step::AllOrEach { all, each } => {
                            format!("{} or {} more", show(all), each.len())
                        }
                        authn::impersonation::Step::Refuse { check, reason } => {
                            format!("never {}: {reason}", show(check))
                        }
                    })
                    .collect();
                steps.join("; ")
            })
            .collect();
        shown
    };
    assert_eq!(
        all_first_checks(&admin(), &[("Impersonate-User", "jane")]),
        [
            "impersonate-on:user-info:list (request); impersonate:user-info authentication.k8s.io/users jane",
            "impersonate /users jane",
        ]
    );
    assert_eq!(
        all_first_checks(&robot(), &[("Impersonate-User", "system:node:n1")]),
        [
            "impersonate-on:associated-node:list (request); impersonate:associated-node authentication.k8s.io/nodes *",
            "impersonate-on:arbitrary-node:list (request); impersonate:arbitrary-node authentication.k8s.io/nodes n1",
            "impersonate /users system:node:n1",
        ]
    );
    assert_eq!(
        all_first_checks(&robot(), &[("Impersonate-User", "system:node:n2")]).len(),
        2,
        "another node is not the associated one"
    );
    assert_eq!(
        all_first_checks(&admin(), &[("Impersonate-User", "system:serviceaccount:ns:x")]),
        [
            "impersonate-on:serviceaccount:list (request); impersonate:serviceaccount authentication.k8s.io/serviceaccounts ns/x",
            "impersonate /serviceaccounts ns/x",
        ]
    );
    assert_eq!(
        all_first_checks(&admin(), &[("Impersonate-User", "system:node:n1"), ("Impersonate-Group", "system:nodes")]),
        ["impersonate /users system:node:n1; impersonate /groups system:nodes"],
        "of nodes and service accounts only the name can be asked for"
    );
    let many = [
        ("Impersonate-User", "jane"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Group", "c"),
        ("Impersonate-Group", "d"),
    ];
    assert!(
        all_first_checks(&admin(), &many)[0]
            .ends_with("impersonate:user-info authentication.k8s.io/groups * or 4 more")
    );
    for (name, value, reason) in [
        ("Impersonate-Group", "system:masters", "impersonating the system:masters group is not allowed"),
        ("Impersonate-Group", "", "impersonating the empty string group is not allowed"),
        ("Impersonate-Extra-Acme.io%2fx", "", "impersonating the empty string value in extra is not allowed"),
        (
            "Impersonate-Extra-Scopes",
            "x",
            "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: \"scopes\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ),
    ] {
        let first = &all_first_checks(&admin(), &[("Impersonate-User", "jane"), (name, value)])[0];
        assert!(first.contains(&format!(": {reason}")), "{first}");
    }

    let allow = |allowed: &'static [&'static str]| {
        move |_: &UserInfo, check: &Check| {
            if allowed.contains(&show(check).as_str()) { Ok(()) } else { Err("no".to_owned()) }
        }
    };
    let node = impersonation(&[("Impersonate-User", "system:node:n1")]);
    let got = node
        .resolve(&robot(), "list", &LastWays::default(), |who, check| {
            assert!(who.extra.contains_key("authentication.kubernetes.io/associated-node-keys"));
            allow(&[
                "impersonate-on:associated-node:list (request)",
                "impersonate:associated-node authentication.k8s.io/nodes *",
            ])(who, check)
        })
        .unwrap();
    assert_eq!(got.constraint, "impersonate:associated-node");
    assert_eq!(got.user.groups, ["system:nodes", "system:authenticated"]);
    assert_eq!(got.user.as_node(), Some("n1"));

    let jane = impersonation(&[("Impersonate-User", "jane")]);
    let refusal = jane.resolve(&admin(), "list", &LastWays::default(), allow(&[])).unwrap_err();
    assert_eq!(
        (show(&refusal.check).as_str(), refusal.reason.as_str()),
        ("impersonate-on:user-info:list (request)", "no")
    );
    let half = jane
        .resolve(&admin(), "list", &LastWays::default(), allow(&["impersonate-on:user-info:list (request)"]))
        .unwrap_err();
    assert_eq!(show(&half.check), "impersonate:user-info authentication.k8s.io/users jane");
    let masters = impersonation(&[("Impersonate-User", "jane"), ("Impersonate-Group", "system:masters")]);
    let old = masters.resolve(&admin(), "list", &LastWays::default(), |_, _| Ok(())).unwrap();
    assert_eq!(old.constraint, "", "only the old way leads to system:masters");
    let wide = impersonation(&many);
    let got = wide.resolve(
        &admin(),
        "list",
        &LastWays::default(),
        allow(&[
            "impersonate-on:user-info:list (request)",
            "impersonate:user-info authentication.k8s.io/users jane",
            "impersonate:user-info authentication.k8s.io/groups *",
        ]),
    );
    assert_eq!(got.unwrap().user.groups, ["a", "b", "c", "d", "system:authenticated"]);
}

#[test]
fn the_way_that_led_there_is_taken_again() {
    let last = LastWays::default();
    let groups_of = |pairs: &[(&str, &str)]| {
        impersonation(pairs).resolve(&UserInfo::new("admin", &[]), "list", &last, |_, _| Ok(())).unwrap().user.groups
    };
    let node = [("Impersonate-User", "system:node:n1")];
    assert_eq!(groups_of(&node), ["system:nodes", "system:authenticated"]);
    // Only the old way leads to system:masters; it leads to the node as well, and adds no groups.
    groups_of(&[("Impersonate-User", "jane"), ("Impersonate-Group", "system:masters")]);
    assert_eq!(groups_of(&node), ["system:authenticated"]);
}
