//! What upstream's own code answers to the same input.
//!
//! `tests/oracle/main.go` feeds requests to Go's structs, sigs.k8s.io/json and sigs.k8s.io/yaml. Its answers to the
//! cases of `tests/data/cases.tsv` are kept in `tests/data/answers.jsonl` and compared in every run. With the program
//! at hand (`KUBOX_CODEC_ORACLE=path`), the answers are taken anew and thousands of mutated objects are compared too.
//! The answers are of the types of Kubernetes 1.24, the oldest that builds without network; where a later version
//! differs the comparison says so.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use api_codec::{TypeCodec, builtin, json, proto, transcode, yaml};
use api_schema::{UNKNOWN, Value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json as value};

use crate::golden;
use crate::mutate::Mutator;

/// One question.
#[derive(Clone, Debug)]
struct Request {
    /// `json`, `proto`, `yaml2json` or `json2yaml`.
    op: String,
    /// The full type name; empty for none.
    ty: String,
    data: Vec<u8>,
}

/// What Go said.
#[derive(Clone, Debug, Default, PartialEq)]
struct Answer {
    error: String,
    problems: Vec<String>,
    text: String,
    proto: Vec<u8>,
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The types that the oracle knows.
const TYPES: &[&str] = &[
    "io.k8s.api.core.v1.Pod",
    "io.k8s.api.core.v1.Service",
    "io.k8s.api.core.v1.Secret",
    "io.k8s.api.core.v1.ConfigMap",
    "io.k8s.api.core.v1.Node",
    "io.k8s.api.core.v1.Event",
    "io.k8s.api.core.v1.PersistentVolume",
    "io.k8s.api.core.v1.Namespace",
    "io.k8s.api.core.v1.ResourceQuota",
    "io.k8s.api.core.v1.LimitRange",
    "io.k8s.api.core.v1.Endpoints",
    "io.k8s.api.core.v1.PersistentVolumeClaim",
    "io.k8s.api.apps.v1.Deployment",
    "io.k8s.api.apps.v1.StatefulSet",
    "io.k8s.api.apps.v1.DaemonSet",
    "io.k8s.api.apps.v1.ControllerRevision",
    "io.k8s.api.batch.v1.Job",
    "io.k8s.api.batch.v1.CronJob",
    "io.k8s.api.coordination.v1.Lease",
    "io.k8s.api.rbac.v1.Role",
    "io.k8s.api.rbac.v1.ClusterRole",
    "io.k8s.api.networking.v1.Ingress",
    "io.k8s.api.networking.v1.NetworkPolicy",
    "io.k8s.api.policy.v1.PodDisruptionBudget",
    "io.k8s.api.discovery.v1.EndpointSlice",
    "io.k8s.api.storage.v1.StorageClass",
    "io.k8s.api.storage.v1.CSINode",
    "io.k8s.api.authorization.v1.SubjectAccessReview",
    "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
    "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
];

/// The cases: operation, type without its leading `io.k8s.api.`, and the text, with ⏎ for a new line, ⇥ for a tab and
/// <FF> for that byte.
fn cases() -> Vec<Request> {
    let table = std::fs::read_to_string(file("cases.tsv")).expect("the cases");
    table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut columns = line.splitn(3, '\t');
            let mut next = || columns.next().expect("three columns");
            let (op, ty, text) = (next(), next(), next());
            let ty = match ty {
                "-" => String::new(),
                "CRD" => TYPES[TYPES.len() - 1].into(),
                ty => format!("io.k8s.api.{ty}"),
            };
            let mut data = text.replace('⏎', "\n").replace('⇥', "\t").into_bytes();
            while let Some(at) = data.windows(4).position(|window| window == b"<FF>") {
                data.splice(at..at + 4, [0xff]);
            }
            Request { op: op.into(), ty, data }
        })
        .collect()
}

fn ask(oracle: &str, requests: &[Request]) -> Vec<Answer> {
    let mut child = Command::new(oracle)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the oracle that KUBOX_CODEC_ORACLE names");
    let mut stdin = child.stdin.take().expect("its input");
    let lines: Vec<String> = requests
        .iter()
        .map(|request| {
            value!({"Op": request.op, "Type": request.ty, "Data": STANDARD.encode(&request.data)}).to_string()
        })
        .collect();
    let writer = std::thread::spawn(move || {
        for line in lines {
            writeln!(stdin, "{line}").expect("write");
        }
    });
    let output = child.wait_with_output().expect("its answers");
    writer.join().expect("the writer");
    let answers: Vec<Answer> =
        String::from_utf8(output.stdout).expect("text").lines().map(|line| parse(&read(line))).collect();
    assert_eq!(answers.len(), requests.len());
    answers
}

fn read(line: &str) -> Json {
    serde_json::from_str(line).expect("JSON")
}

/// Stands for an answer that is no text: Go copies embedded JSON with all its bytes, we keep to UTF-8.
const NO_TEXT: &str = "no text";

fn parse(answer: &Json) -> Answer {
    let bytes = |key: &str| STANDARD.decode(answer[key].as_str().unwrap_or_default()).expect("base64");
    Answer {
        error: answer["err"].as_str().unwrap_or_default().into(),
        problems: answer["strict"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|problem| problem.as_str().unwrap_or_default().into())
            .collect(),
        text: String::from_utf8(bytes("json")).unwrap_or_else(|_| NO_TEXT.into()),
        proto: bytes("proto"),
    }
}

fn ty(request: &Request) -> Option<TypeCodec<'static>> {
    (!request.ty.is_empty()).then(|| builtin().find(&request.ty).expect("a known type"))
}

/// What we say.
fn ours(request: &Request) -> Answer {
    let shown = |decoded: Result<json::Decoded, json::DecodeError>| match decoded {
        Err(error) => Answer { error: error.to_string(), ..Answer::default() },
        Ok(decoded) => {
            let mut text = Vec::new();
            json::encode(ty(request), &decoded.value, &mut text);
            Answer {
                error: String::new(),
                problems: decoded.problems.iter().map(ToString::to_string).collect(),
                text: String::from_utf8(text).expect("text"),
                proto: ty(request)
                    .map(|ty| {
                        let mut message = Vec::new();
                        proto::encode(ty, &decoded.value, &mut message).expect("what was read can be written");
                        message
                    })
                    .unwrap_or_default(),
            }
        }
    };
    let text_of = |text: Result<Vec<u8>, String>| match text {
        Ok(text) => Answer { text: String::from_utf8(text).expect("text"), ..Answer::default() },
        Err(error) => Answer { error, ..Answer::default() },
    };
    match request.op.as_str() {
        "json" => shown(json::decode(ty(request), &request.data, json::Options::STRICT)),
        "proto" => {
            let ty = ty(request).expect("a type");
            match proto::decode(ty, &request.data) {
                Err(error) => Answer { error: error.to_string(), ..Answer::default() },
                Ok(value) => {
                    let (mut text, mut again, mut message) = (Vec::new(), Vec::new(), Vec::new());
                    json::encode(Some(ty), &value, &mut text);
                    transcode::proto_to_json(ty, "", "", &request.data, &mut again).expect("what was read");
                    assert_eq!(String::from_utf8_lossy(&text), String::from_utf8_lossy(&again));
                    proto::encode(ty, &value, &mut message).expect("what was read can be written");
                    Answer { text: String::from_utf8(text).expect("text"), proto: message, ..Answer::default() }
                }
            }
        }
        "yaml2json" => {
            let mut answer = text_of(yaml::to_json(&request.data).map_err(|error| error.to_string()));
            if answer.error.is_empty()
                && let Ok(decoded) = yaml::decode(None, &request.data, json::Options::STRICT)
            {
                answer.problems = decoded.problems.iter().map(ToString::to_string).collect();
            }
            answer
        }
        "json2yaml" => {
            let mut out = Vec::new();
            yaml::from_json(&request.data, &mut out);
            text_of(Ok(out))
        }
        other => panic!("no operation {other}"),
    }
}

/// What of an answer is of 1.24 and not of 1.36: an absent creationTimestamp was shown as null, an absent address of a
/// host alias was not shown.
fn modern(text: &str) -> String {
    text.replace("\"creationTimestamp\":null,", "")
        .replace(",\"creationTimestamp\":null}", "}")
        .replace("\"creationTimestamp\":null", "")
        .replace("\"hostAliases\":[{}", "\"hostAliases\":[{\"ip\":\"\"}")
        .replace("\"hostAliases\":[{\"hostnames", "\"hostAliases\":[{\"ip\":\"\",\"hostnames")
}

/// A message with the names that types had in 1.24.
fn of_old_types(error: &str) -> String {
    [
        ("VolumeResourceRequirements", "ResourceRequirements"),
        ("TypedObjectReference", "TypedLocalObjectReference"),
        ("IngressLoadBalancer", "LoadBalancer"),
        ("IngressPortStatus", "PortStatus"),
        ("v1.ServiceExternalTrafficPolicy", "v1.ServiceExternalTrafficPolicyType"),
        ("v1.ServiceInternalTrafficPolicy", "v1.ServiceInternalTrafficPolicyType"),
        // Later decoders name the embedded struct on the way to a field.
        ("livenessProbe.ProbeHandler.", "livenessProbe."),
        ("volumes.VolumeSource.", "volumes."),
    ]
    .iter()
    .fold(error.to_owned(), |error, (new, old)| error.replace(new, old))
}

/// Removes fields that only 1.24 has.
fn forget_unknown(value: &mut Value) {
    match value {
        Value::Map(map) => {
            map.retain(|key, _| !key.starts_with(UNKNOWN));
            map.iter_mut().for_each(|(_, value)| forget_unknown(value));
        }
        Value::List(items) => items.iter_mut().for_each(forget_unknown),
        _ => {}
    }
}

/// Whether two answers say the same.
fn compare(request: &Request, ours: &Answer, theirs: &Answer) -> Result<(), String> {
    let differ = |what: &str, ours: &str, theirs: &str| {
        let at = ours.chars().zip(theirs.chars()).take_while(|(a, b)| a == b).count();
        let around = |text: &str| text.chars().skip(at.saturating_sub(80)).take(160).collect::<String>();
        let (ours, theirs) = (around(ours), around(theirs));
        let data = String::from_utf8_lossy(&request.data[..request.data.len().min(200)]);
        Err(format!("{} {} {data:?}\n  {what} at {at}\n  ours   {ours:?}\n  theirs {theirs:?}", request.op, request.ty))
    };
    if request.ty.is_empty() && theirs.error.ends_with("of type map[string]interface {}") {
        // Upstream reads custom resources as maps; we read any JSON.
        return Ok(());
    }
    if matches!(&*request.op, "yaml2json" | "json2yaml") && !theirs.error.is_empty() {
        // Where two YAML parsers give up is their own affair.
        return Ok(());
    }
    if of_old_types(&ours.error) != theirs.error {
        return differ("error", &ours.error, &theirs.error);
    }
    if ours.problems != theirs.problems {
        return differ("problems", &ours.problems.join("; "), &theirs.problems.join("; "));
    }
    if theirs.text == NO_TEXT {
        return Ok(());
    }
    if ours.text != modern(&theirs.text) && ours.text != theirs.text {
        return differ("text", &ours.text, &modern(&theirs.text));
    }
    // The messages of 1.36 have fields that 1.24 does not write: compare what they mean.
    if let Some(ty) = ty(request).filter(|_| theirs.error.is_empty()) {
        let read = |bytes: &[u8]| -> Result<Value, String> {
            let mut value = proto::decode(ty, bytes).map_err(|error| error.to_string())?;
            forget_unknown(&mut value);
            Ok(value)
        };
        let (ours, theirs) = (read(&ours.proto), read(&theirs.proto));
        if ours != theirs {
            return differ("protobuf", &format!("{ours:?}"), &format!("{theirs:?}"));
        }
    }
    Ok(())
}

fn oracle() -> Option<String> {
    std::env::var("KUBOX_CODEC_ORACLE").ok()
}

#[test]
fn recorded_answers_are_ours() {
    let cases = cases();
    if let Some(oracle) = oracle() {
        let lines: Vec<String> = cases
            .iter()
            .zip(ask(&oracle, &cases))
            .map(|(case, answer)| {
                value!({
                    "op": case.op,
                    "type": case.ty,
                    "data": String::from_utf8_lossy(&case.data),
                    "err": answer.error,
                    "strict": answer.problems,
                    "text": answer.text,
                    "proto": STANDARD.encode(&answer.proto),
                })
                .to_string()
            })
            .collect();
        std::fs::write(file("answers.jsonl"), lines.join("\n") + "\n").expect("write the answers");
    }
    let recorded = std::fs::read_to_string(file("answers.jsonl")).expect("the recorded answers");
    let recorded: Vec<Json> = recorded.lines().map(read).collect();
    assert_eq!(recorded.len(), cases.len(), "record the answers again");
    let mut failed = Vec::new();
    for (case, recorded) in cases.iter().zip(&recorded) {
        assert_eq!(recorded["data"].as_str(), Some(&*String::from_utf8_lossy(&case.data)), "record the answers again");
        let theirs = Answer { text: recorded["text"].as_str().unwrap_or_default().into(), ..parse_recorded(recorded) };
        failed.extend(compare(case, &ours(case), &theirs).err());
    }
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

fn parse_recorded(recorded: &Json) -> Answer {
    let mut recorded = recorded.clone();
    recorded["json"] = Json::Null;
    parse(&recorded)
}

/// Objects that both versions of the types know: the golden ones as 1.24 writes them again.
fn bases(oracle: &str) -> Vec<Request> {
    let requests: Vec<Request> = golden::all()
        .into_iter()
        .filter(|golden| TYPES.contains(&golden.ty().name()))
        .map(|golden| Request { op: "json".into(), ty: golden.ty().name().into(), data: golden.json })
        .collect();
    assert!(requests.len() > 25);
    let answers = ask(oracle, &requests);
    requests
        .into_iter()
        .zip(answers)
        .filter(|(_, answer)| answer.error.is_empty())
        .map(|(request, answer)| Request { data: answer.text.into_bytes(), ..request })
        .collect()
}

/// Compares mutated objects with the oracle; without it there is nothing to compare with, and the recorded answers
/// must do.
#[test]
fn mutated_objects_mean_the_same_to_upstream() {
    let Some(oracle) = oracle() else { return };
    let bases = bases(&oracle);
    let rounds: u64 = std::env::var("KUBOX_LONG").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    let mut failed = Vec::new();
    for seed in 0..rounds {
        let mut mutator = Mutator::new(seed);
        let mut requests = Vec::new();
        for base in &bases {
            for _ in 0..40 {
                let tree = mutator.tree(&base.data);
                requests.push(Request { data: tree.clone(), ..base.clone() });
                requests.push(Request { data: mutator.text(&tree), ..base.clone() });
                requests.push(Request { ty: String::new(), data: mutator.text(&tree), ..base.clone() });
            }
            for _ in 0..10 {
                let tree = mutator.tree(&base.data);
                requests.push(Request { op: "json2yaml".into(), ty: String::new(), data: tree.clone() });
                let mut written = Vec::new();
                yaml::from_json(&tree, &mut written);
                let written = mutator.yaml(&written);
                // To YAML 1.1 a line separator is a new line, and go-yaml takes an empty list for a key.
                if written.windows(3).any(|bytes| bytes == "\u{2028}".as_bytes()) || written.starts_with(b"[]: ") {
                    continue;
                }
                requests.push(Request { op: "yaml2json".into(), ty: String::new(), data: written });
            }
        }
        let messages: Vec<Request> = requests
            .iter()
            .filter(|request| request.op == "json" && !request.ty.is_empty())
            .filter_map(|request| {
                let ty = builtin().find(&request.ty)?;
                let value = json::decode(Some(ty), &request.data, json::Options::default()).ok()?.value;
                let mut data = Vec::new();
                proto::encode(ty, &value, &mut data).expect("what was read can be written");
                Some(Request { op: "proto".into(), ty: request.ty.clone(), data })
            })
            .collect();
        requests.extend(messages);
        let answers = ask(&oracle, &requests);
        for (request, theirs) in requests.iter().zip(&answers) {
            failed.extend(compare(request, &ours(request), theirs).err());
        }
    }
    let shown: Vec<&str> = failed.iter().take(25).map(String::as_str).collect();
    assert!(failed.is_empty(), "{}:\n{}", failed.len(), shown.join("\n"));
}
