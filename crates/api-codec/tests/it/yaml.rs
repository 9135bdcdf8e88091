//! YAML in both directions.

use api_codec::{builtin, json, yaml};

use crate::golden::all;

fn to_json(text: &str) -> Result<String, String> {
    yaml::to_json(text.as_bytes()).map(|json| String::from_utf8(json).expect("text")).map_err(|error| error.to_string())
}

fn check(text: &str, expected: &str) {
    assert_eq!(to_json(text).as_deref(), Ok(expected), "{text}");
}

fn check_error(text: &str, expected: &str) {
    assert_eq!(to_json(text).expect_err(text), expected, "{text}");
}

fn check_written(json: &str, expected: &str) {
    let mut out = Vec::new();
    yaml::from_json(json.as_bytes(), &mut out);
    assert_eq!(String::from_utf8_lossy(&out), expected, "{json}");
    // What is written reads as what it was.
    let again = to_json(&String::from_utf8_lossy(&out)).expect("what we wrote");
    let (again, json) =
        [again, json.to_owned()].map(|text| serde_json::from_str::<serde_json::Value>(&text).expect("JSON")).into();
    assert_eq!(again, json);
}

#[test]
fn golden_objects_survive_yaml() {
    for golden in all() {
        let value = json::decode(Some(golden.ty()), &golden.json, json::Options::STRICT).expect("JSON").value;
        let mut text = Vec::new();
        yaml::encode(Some(golden.ty()), &value, &mut text);
        let again = yaml::decode(Some(golden.ty()), &text, json::Options::STRICT).expect("YAML");
        assert_eq!(again, json::Decoded { value, problems: Vec::new() }, "{}", golden.name);
    }
}

#[test]
fn scalars_mean_what_go_yaml_thinks() {
    check("yes", "true");
    check("[y, n, on, Off, TRUE, False]", "[true,false,true,false,true,false]");
    check("[~, null, Null, '', \"null\"]", "[null,null,null,\"\",\"null\"]");
    check("[1, -1, +1, 0x1F, 0o17, 017, 0b101, 1_000, 08]", "[1,-1,1,31,15,15,5,1000,8]");
    check("[18446744073709551615, 1e3, 1.5, .5, 1., -0]", "[18446744073709551615,1000,1.5,0.5,1,0]");
    check("[1e400, 0x, 1:30, 2001-01-01, 1.2.3, .]", "[\"1e400\",\"0x\",\"1:30\",\"2001-01-01\",\"1.2.3\",\".\"]");
    check("[!!str 5, !!int '5', !!float 5, !custom x, !!binary aGk=]", "[\"5\",5,5,\"x\",\"hi\"]");
    check("{1: a, true: b, 1.5: c}", "{\"1\":\"a\",\"1.5\":\"c\",\"true\":\"b\"}");
    check("", "null");
    check("a: 1\n---\nb: 2\n", "{\"a\":1}");
}

/// To YAML 1.1 the separators of lines and paragraphs are new lines, to 1.2 they are not.
#[test]
fn separators_of_lines_are_read_as_go_yaml_means_them() {
    check_written("{\"a\":\"b\\u2028c\"}", "a: 'b\u{2028}  c'\n");
    check_written("{\"a\":\"b\\u2028 c\"}", "a: \"b\\L c\"\n");
    check_written("{\"a\":\"b\\nc\\u2029d\"}", "a: \"b\\nc\\Pd\"\n");
    check_written("{\"a\":{\"b\\u2028c\":1}}", "a:\n  ? 'b\u{2028}    c'\n  : 1\n");
}

#[test]
fn anchors_and_merges_are_followed() {
    check("a: &x {b: 1}\nc: *x\n", "{\"a\":{\"b\":1},\"c\":{\"b\":1}}");
    check("a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  c: 3\n", "{\"a\":{\"b\":1,\"c\":2},\"d\":{\"b\":1,\"c\":3}}");
    check("- &x {a: 1}\n- &y {a: 2, b: 2}\n- <<: [*x, *y]\n", "[{\"a\":1},{\"a\":2,\"b\":2},{\"a\":1,\"b\":2}]");
    check_error("a: &x [*x]", "yaml: anchor 'x' value contains itself");
    check_error("a: *nobody", "yaml: unknown anchor 'nobody' referenced");
    check_error("<<: 5", "yaml: map merge requires map or sequence of maps as the value");
}

#[test]
fn alias_bombs_are_refused() {
    let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
    for (name, of) in ('b'..='i').zip('a'..='h') {
        bomb += &format!("{name}: &{name} [*{of},*{of},*{of},*{of},*{of},*{of},*{of},*{of},*{of}]\n");
    }
    check_error(&bomb, "yaml: document contains excessive aliasing");
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a,".repeat(1000));
    check_error(&long, "yaml: document contains excessive aliasing");
}

#[test]
fn doubled_keys_are_problems_in_go_yaml_s_words() {
    let ty = builtin().find("io.k8s.api.core.v1.ConfigMap");
    let text = "data:\n  a: x\n  a: z\n1: x\n1: y\nfoo: 1\n";
    let decoded = yaml::decode(ty, text.as_bytes(), json::Options::STRICT).expect("YAML");
    let problems: Vec<String> = decoded.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "yaml: unmarshal errors:\n  line 3: key \"a\" already set in map\n  line 5: key 1 already set in map",
            "unknown field \"1\"",
            "unknown field \"foo\"",
        ]
    );
    assert_eq!(decoded.value.str_at(&["data", "a"]), "z");
    assert!(yaml::decode(ty, text.as_bytes(), json::Options::default()).expect("YAML").problems.is_empty());
}

#[test]
fn json_is_read_as_the_yaml_that_it_is() {
    let ty = builtin().find("io.k8s.api.apps.v1.Deployment");
    let check = |text: &str| {
        let decoded = yaml::decode(ty, text.as_bytes(), json::Options::STRICT).map_err(|error| error.to_string());
        // A space before it makes sure that it is not taken for JSON.
        let spaced = format!(" {text}");
        assert_eq!(
            decoded,
            yaml::decode(ty, spaced.as_bytes(), json::Options::STRICT).map_err(|error| error.to_string()),
            "{text}"
        );
    };
    check(r#"{"spec":{"replicas":1.0,"foo":1,"bar":2}}"#);
    check(r#"{"spec":{"replicas":1,"foo":1}}"#);
    check(r#"{"spec":{"replicas":1,"replicas":2}}"#);
    check(r#"{"metadata":{"labels":{"a":"1.0e5","b":"x\ty","c":5}}}"#);
}

#[test]
fn objects_are_laid_out_as_go_yaml_does() {
    check_written("{}", "{}\n");
    check_written("null", "null\n");
    check_written("[]", "[]\n");
    check_written("[[1,[2]],{}]", "- - 1\n  - - 2\n- {}\n");
    check_written(
        r#"{"b":[{"x":1,"z":[]},2],"a":{"d":null,"c":true},"e":[]}"#,
        "a:\n  c: true\n  d: null\nb:\n- x: 1\n  z: []\n- 2\ne: []\n",
    );
    check_written(r#"{"a10":1,"a9":2,"a":3,"A":4,"-":5}"#, "'-': 5\nA: 4\na: 3\na9: 2\na10: 1\n");
}

#[test]
fn strings_are_quoted_where_they_must_be() {
    let check = |string: &str, expected: &str| {
        let json = serde_json::json!({ "k": string }).to_string();
        check_written(&json, &format!("k: {expected}\n"));
    };
    check("plain text", "plain text");
    check("", "\"\"");
    check("true", "\"true\"");
    check("1.5", "\"1.5\"");
    check("0x10", "\"0x10\"");
    check("1:30", "\"1:30\"");
    check("2001-01-01", "\"2001-01-01\"");
    check("a: b", "'a: b'");
    check("it's: so", "'it''s: so'");
    check("# no", "'# no'");
    check("- no", "'- no'");
    check("-yes", "-yes");
    check(" padded", "' padded'");
    check("tab\there", "\"tab\\there\"");
    check("two\nlines", "|-\n  two\n  lines");
    check("two\nlines\n", "|\n  two\n  lines");
    check("two\nlines\n\n", "|+\n  two\n  lines\n");
    check("  indented\nlines", "|2-\n    indented\n  lines");
    check("space \nbreak", "\"space \\nbreak\"");
    check("\u{1f600}", "\"\\U0001F600\"");
    check("é", "é");
    check(
        &"word ".repeat(30),
        "'word word word word word word word word word word word word word word word word\n  word word word word word word word word word word word word word word '",
    );
}
