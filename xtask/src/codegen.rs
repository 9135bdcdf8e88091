//! Writes `crates/api-types/tables/*.tsv` from the API facts in `../shared/data/api`.
//!
//! The tables hold facts only (names, numbers, tags, flags); they are text so that a change of the API is a
//! readable diff, and are parsed once when a program starts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const APIEXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

/// Structs that the facts name but do not list, because they are aliases of other structs or have no fields.
const ALIASES: &[(&str, &str)] = &[
    ("io.k8s.api.admissionregistration.v1alpha1.MatchCondition", "io.k8s.api.admissionregistration.v1.MatchCondition"),
    (
        "io.k8s.api.admissionregistration.v1alpha1.RuleWithOperations",
        "io.k8s.api.admissionregistration.v1.RuleWithOperations",
    ),
    (
        "io.k8s.api.admissionregistration.v1beta1.RuleWithOperations",
        "io.k8s.api.admissionregistration.v1.RuleWithOperations",
    ),
];
const EMPTY: &[&str] = &[
    "io.k8s.api.apiserverinternal.v1alpha1.StorageVersionSpec",
    "io.k8s.api.scheduling.v1alpha2.BasicSchedulingPolicy",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceSubresourceStatus",
];
/// A field: its name, its tag, and what it holds.
type AddedField = (&'static str, u32, &'static str);

/// Small meta structs that the facts leave out: (type, [(field, tag, type)]).
const ADDED: &[(&str, &[AddedField])] = &[
    ("GroupResource", &[("group", 1, "string"), ("resource", 2, "string")]),
    ("GroupVersionKind", &[("group", 1, "string"), ("version", 2, "string"), ("kind", 3, "string")]),
    ("GroupVersionResource", &[("group", 1, "string"), ("version", 2, "string"), ("resource", 3, "string")]),
    ("WatchEvent", &[("type", 1, "string"), ("object", 2, "raw")]),
];

/// Named Go types that are neither structs nor strings.
const NAMED: &[(&str, &str)] = &[
    ("ResourceList", "map:quantity"),
    ("ExtraValue", "wrap:string"),
    ("Verbs", "wrap:string"),
    ("ValidationRules", "[]@ValidationRule"),
    ("JSONSchemaDefinitions", "map:@JSONSchemaProps"),
    ("JSONSchemaDependencies", "map:orStrings"),
    ("JSONSchemaPropsOrArray", "orArray"),
    ("JSONSchemaPropsOrBool", "orBool"),
    ("JSONSchemaPropsOrStringArray", "orStrings"),
    ("JSON", "json"),
    ("FieldsV1", "fieldsV1"),
    ("Time", "time"),
    ("MicroTime", "microTime"),
    ("Duration", "duration"),
    ("Quantity", "quantity"),
    ("IntOrString", "intOrString"),
    ("RawExtension", "raw"),
    ("interface{}", "any"),
];

/// One row of the field facts.
struct Row {
    json: String,
    go: String,
    pointer: bool,
    omitempty: bool,
    inline: bool,
    tag: u32,
    strategy: String,
    merge_key: String,
    markers: String,
}

/// Runs the chore: writes the tables, or with `--check` fails if they differ from what it would write.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut check = false;
    let mut data = PathBuf::from("../shared/data");
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--check" => check = true,
            "--data" => data = args.next().context("--data needs a folder")?.into(),
            other => bail!("codegen does not know {other:?}"),
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent folder")?;
    if data.is_relative() {
        data = root.join(data);
    }
    let tables = root.join("crates/api-types/tables");
    for (name, text) in generate(&data.join("api"))? {
        let path = tables.join(name);
        if check {
            let old = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            ensure!(old == text, "{} differs from what codegen writes; run `cargo xtask codegen`", path.display());
        } else {
            std::fs::create_dir_all(&tables)?;
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
    }
    Ok(())
}

fn generate(api: &Path) -> Result<Vec<(&'static str, String)>> {
    let swagger = read_gz_json(&api.join("swagger-1.36.json.gz"))?;
    let enums: Value = serde_json::from_str(&read(&api.join("enums-1.36.json"))?)?;
    Ok(vec![
        ("types.tsv", types(api, &swagger, &enums)?),
        ("enums.tsv", enum_table(&enums)?),
        ("resources.tsv", resources(&read(&api.join("resources-1.36.tsv"))?)),
        ("columns.tsv", columns(&read(&api.join("printer-columns-1.34.tsv"))?)),
    ])
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn read_gz_json(path: &Path) -> Result<Value> {
    let file = std::fs::File::open(path).with_context(|| format!("read {}", path.display()))?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

fn enum_table(enums: &Value) -> Result<String> {
    let mut out = String::from("# type\tvalues\n");
    for (name, values) in enums.as_object().context("enums are an object")? {
        let values: Vec<&str> = values.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        writeln!(out, "{name}\t{}", values.join(","))?;
    }
    Ok(out)
}

fn resources(facts: &str) -> String {
    let mut out = String::from(
        "# group\tversion\tresource\tkind\tsingular\tnamespaced\tverbs\tsubresources\tshortNames\tcategories\n",
    );
    for line in facts.lines().skip(1) {
        // `log` is served by pods, but its answer is text: the facts name the Pod kind for discovery only.
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// The kinds whose columns are others in 1.36 than the facts of 1.34 say, with the columns (name, type) that a 1.36.2
/// server printed. A kind without columns has the default table (Name, Created At).
const COLUMNS: &[(&str, &[(&str, &str)])] = &[
    // The facts name these two by a struct inside of them.
    ("MutatingWebhook", &[]),
    ("ValidatingWebhook", &[]),
    ("MutatingWebhookConfiguration", &[("Name", "string"), ("Webhooks", "integer"), ("Age", "string")]),
    ("ValidatingWebhookConfiguration", &[("Name", "string"), ("Webhooks", "integer"), ("Age", "string")]),
    // Printed by the aggregator, which the facts do not cover.
    ("APIService", &[("Name", "string"), ("Service", "string"), ("Available", "string"), ("Age", "string")]),
    (
        "CSIDriver",
        &[
            ("Name", "string"),
            ("AttachRequired", "boolean"),
            ("PodInfoOnMount", "boolean"),
            ("StorageCapacity", "boolean"),
            ("TokenRequests", "string"),
            ("RequiresRepublish", "boolean"),
            ("Modes", "string"),
            ("Age", "string"),
        ],
    ),
    ("CSIStorageCapacity", &[]),
    ("ServiceAccount", &[("Name", "string"), ("Age", "string")]),
];

fn columns(facts: &str) -> String {
    let mut out = String::from("# kind\tcolumn\ttype\tformat\tpriority\n");
    for line in facts.lines().skip(1) {
        let f: Vec<&str> = line.split('\t').collect();
        if f.len() >= 6 && !COLUMNS.iter().any(|(kind, _)| *kind == f[0]) {
            let _ = writeln!(out, "{}\t{}\t{}\t{}\t{}", f[0], f[2], f[3], f[4], f[5]);
        }
    }
    for (kind, columns) in COLUMNS {
        for (name, ty) in *columns {
            let format = if *name == "Name" { "name" } else { "" };
            let _ = writeln!(out, "{kind}\t{name}\t{ty}\t{format}\t0");
        }
    }
    out
}

fn types(api: &Path, swagger: &Value, enums: &Value) -> Result<String> {
    let mut structs: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for line in read(&api.join("fields-1.36.tsv"))?.lines().skip(1) {
        let f: Vec<&str> = line.split('\t').collect();
        ensure!(f.len() >= 9, "short row in fields: {line}");
        if f[1] == "-" {
            continue;
        }
        structs.entry(f[0].into()).or_default().push(Row {
            json: f[1].into(),
            go: f[2].into(),
            pointer: f[3] == "1",
            omitempty: f[4] == "1",
            inline: f[5] == "1",
            tag: f[6].parse().unwrap_or(0),
            strategy: f[7].into(),
            merge_key: f[8].into(),
            markers: f.get(9).copied().unwrap_or_default().into(),
        });
    }
    // A struct whose JSON form is not an object is a scalar here.
    for scalar in ["Time", "MicroTime", "FieldsV1", "Verbs"] {
        structs.remove(&format!("{META}.{scalar}"));
    }
    for union in ["JSON", "JSONSchemaPropsOrArray", "JSONSchemaPropsOrBool", "JSONSchemaPropsOrStringArray"] {
        structs.remove(&format!("{APIEXTENSIONS}.{union}"));
    }
    for name in EMPTY {
        structs.entry((*name).into()).or_default();
    }
    let lists = list_metadata(api)?;
    let names: BTreeSet<String> =
        structs.keys().cloned().chain(ADDED.iter().map(|(name, _)| format!("{META}.{name}"))).collect();

    let mut out = String::from(
        "# A struct: name, then `atomic` if server-side apply treats it as one value.\n\
         # A field: tab, JSON name, protobuf tag (0: not in protobuf), type, flags (p pointer, o omitempty,\n\
         # i flattened in JSON and nested in protobuf, r required), list or map type, list keys, patch strategy,\n\
         # patch merge key, default, enum.\n",
    );
    for (name, rows) in &structs {
        let pkg = name.rsplit_once('.').map_or("", |(pkg, _)| pkg);
        let atomic = lists.get(&(name.clone(), "(self)".into())).is_some_and(|l| l.map_type == "atomic");
        writeln!(out, "{name}{}", if atomic { "\tatomic" } else { "" })?;
        let properties = &swagger["definitions"][name];
        let required: BTreeSet<&str> =
            properties["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for row in flatten(rows, pkg, &structs, &names)? {
            write_field(
                &mut out,
                name,
                row.0,
                &row.1,
                &names,
                &required,
                lists.get(&(name.clone(), row.0.json.clone())),
                enums,
            )?;
        }
    }
    for (name, fields) in ADDED {
        writeln!(out, "{META}.{name}")?;
        for (field, tag, ty) in *fields {
            writeln!(out, "\t{field}\t{tag}\t{ty}\t\t\t\t\t\t\t")?;
        }
    }
    Ok(out)
}

/// Replaces structs embedded without a protobuf tag (TypeMeta) by their fields. Each row keeps the package
/// that its Go type is read in.
fn flatten<'a>(
    rows: &'a [Row],
    pkg: &str,
    structs: &'a BTreeMap<String, Vec<Row>>,
    names: &BTreeSet<String>,
) -> Result<Vec<(&'a Row, String)>> {
    let mut flat = Vec::new();
    for row in rows {
        if row.inline && row.tag == 0 {
            let ty = resolve(&row.go, pkg, names)?;
            let inner = ty.strip_prefix('@').with_context(|| format!("{} is embedded but no struct", row.go))?;
            let inner_pkg = inner.rsplit_once('.').map_or("", |(pkg, _)| pkg);
            flat.extend(flatten(&structs[inner], inner_pkg, structs, names)?);
        } else {
            flat.push((row, pkg.to_owned()));
        }
    }
    Ok(flat)
}

#[expect(clippy::too_many_arguments, reason = "one caller, one row of output")]
fn write_field(
    out: &mut String,
    owner: &str,
    row: &Row,
    pkg: &str,
    names: &BTreeSet<String>,
    required: &BTreeSet<&str>,
    list: Option<&ListMeta>,
    enums: &Value,
) -> Result<()> {
    let ty = resolve(&row.go, pkg, names).with_context(|| format!("{owner}.{}", row.json))?;
    let mut flags = String::new();
    for (set, flag) in
        [(row.pointer, 'p'), (row.omitempty, 'o'), (row.inline, 'i'), (required.contains(row.json.as_str()), 'r')]
    {
        if set {
            flags.push(flag);
        }
    }
    let marker = |key: &str| -> Vec<&str> { row.markers.split(' ').filter_map(|m| m.strip_prefix(key)).collect() };
    let (mut kind, mut keys) = (String::new(), Vec::new());
    if let Some(list) = list {
        kind = if list.list_type.is_empty() { list.map_type.clone() } else { list.list_type.clone() };
        keys = list.keys.clone();
    }
    if kind.is_empty() {
        kind = marker("+listType=").first().or(marker("+mapType=").first()).map_or(String::new(), |m| (*m).into());
        keys = marker("+listMapKey=").iter().map(|m| (*m).to_owned()).collect();
    }
    let default = match marker("+default=").first() {
        Some(&"ref(AzureDataDiskCachingReadWrite)") => "\"ReadWrite\"",
        Some(&"ref(AzureSharedBlobDisk)") => "\"Shared\"",
        Some(value) => value,
        None => "",
    };
    let base = row.go.trim_start_matches(['*', '[', ']']);
    let enum_name = [format!("{pkg}.{base}"), format!("io.k8s.api.core.v1.{}", base.trim_start_matches("v1."))]
        .into_iter()
        .find(|name| enums.get(name).is_some() && ty.ends_with("string"))
        .unwrap_or_default();
    writeln!(
        out,
        "\t{}\t{}\t{ty}\t{flags}\t{kind}\t{}\t{}\t{}\t{default}\t{enum_name}",
        row.json,
        row.tag,
        keys.join(","),
        row.strategy,
        row.merge_key,
    )?;
    Ok(())
}

/// The table's type expression for a Go type as written in package `pkg`.
fn resolve(go: &str, pkg: &str, names: &BTreeSet<String>) -> Result<String> {
    if let Some(inner) = go.strip_prefix('*') {
        return resolve(inner, pkg, names);
    }
    if go == "[]byte" {
        return Ok("bytes".into());
    }
    if let Some(inner) = go.strip_prefix("[]") {
        return Ok(format!("[]{}", resolve(inner, pkg, names)?));
    }
    if let Some(rest) = go.strip_prefix("map[") {
        let (_, value) = rest.split_once(']').context("map without a value type")?;
        return Ok(format!("map:{}", resolve(value, pkg, names)?));
    }
    match go {
        "string" | "bool" | "int32" | "int64" => return Ok(go.into()),
        "float64" => return Ok("double".into()),
        _ => {}
    }
    let base = go.rsplit('.').next().unwrap_or(go);
    if let Some((_, ty)) = NAMED.iter().find(|(name, _)| *name == base) {
        return Ok(match ty.find('@') {
            Some(at) => format!("{}@{pkg}.{}", &ty[..at], &ty[at + 1..]),
            None => (*ty).into(),
        });
    }
    let local = format!("{pkg}.{base}");
    let candidates: Vec<String> = if go.contains('.') {
        [
            "io.k8s.api.core.v1",
            META,
            "io.k8s.api.authentication.v1",
            "io.k8s.api.authorization.v1",
            "io.k8s.api.batch.v1",
        ]
        .iter()
        .map(|p| format!("{p}.{base}"))
        .collect()
    } else {
        vec![local]
    };
    for name in candidates {
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, target)| (*target).into());
        if names.contains(&name) {
            return Ok(format!("@{name}"));
        }
    }
    // What is left are named strings: phases, policies, types.
    Ok("string".into())
}

struct ListMeta {
    list_type: String,
    keys: Vec<String>,
    map_type: String,
}

fn list_metadata(api: &Path) -> Result<BTreeMap<(String, String), ListMeta>> {
    let mut lists = BTreeMap::new();
    for line in read(&api.join("list-metadata-1.36.tsv"))?.lines().skip(1) {
        let f: Vec<&str> = line.split('\t').collect();
        lists.insert(
            (f[0].to_owned(), f[1].to_owned()),
            ListMeta {
                list_type: f[2].into(),
                keys: f[3].split(',').filter(|k| !k.is_empty()).map(Into::into).collect(),
                map_type: f.get(4).copied().unwrap_or_default().into(),
            },
        );
    }
    Ok(lists)
}
