//! CustomResourceDefinition: a kind that a cluster adds.
//!
//! Names, versions, columns, subresources and conversion are checked here; the schemas themselves are not.

use std::collections::HashSet;

use api_schema::{SmolStr, Value, format_smolstr};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Kind;
use crate::admissionregistration::webhook;
use crate::checks::{default_field, default_text, immutable, internal, same, supported, texts};

/// Groups of the Kubernetes community need it.
const APPROVED: &str = "api-approved.kubernetes.io";

const DEPRECATION_WARNING_LEN_MAX: usize = 256;

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];

/// The formats of strings that schemas can ask for, without dashes.
const STRING_FORMATS: [&str; 26] = [
    "bsonobjectid",
    "byte",
    "cidr",
    "creditcard",
    "date",
    "datetime",
    "duration",
    "email",
    "hexcolor",
    "hostname",
    "ipv4",
    "ipv6",
    "isbn",
    "isbn10",
    "isbn13",
    "k8slongname",
    "k8sshortname",
    "mac",
    "password",
    "rgbcolor",
    "ssn",
    "uri",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
];

pub(crate) struct CustomResourceDefinition;

impl Kind for CustomResourceDefinition {
    fn group(&self) -> &str {
        "apiextensions.k8s.io"
    }

    fn resource(&self) -> &str {
        "customresourcedefinitions"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value) {
        let kind = SmolStr::new(object.str_at(&["spec", "names", "kind"]));
        if !kind.is_empty() {
            default_text(object, &["spec", "names", "singular"], &kind.to_lowercase());
            default_text(object, &["spec", "names", "listKind"], &format!("{kind}List"));
        }
        if object.at(&["spec", "conversion"]).is_none_or(Value::is_null) {
            default_field(object, &["spec", "conversion", "strategy"], "None");
        }
        webhook::default_service(object, &["spec", "conversion", "webhook", "clientConfig", "service"]);
        if object.list_at(&["status", "storedVersions"]).is_empty() {
            store_version(object);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        object.remove(&["status", "storedVersions"]);
        store_version(object);
    }

    fn prepare_update(&self, new: &mut Value, _old: &Value) {
        store_version(new);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        check(object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        check(new, Some(old))
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        check_names(&mut errors, &Path::new("status.acceptedNames"), new.at(&["status", "acceptedNames"]));
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let known: HashSet<SmolStr> = old.map(odd_formats).unwrap_or_default().into_iter().collect();
        let formats = odd_formats(new).into_iter().filter(|format| !known.contains(format));
        formats.map(|format| format!("unrecognized format \"{format}\"")).collect()
    }

    fn unconditional_update(&self) -> bool {
        false
    }
}

fn versions(object: &Value) -> &[Value] {
    object.list_at(&["spec", "versions"])
}

/// Notes that objects are stored in the present storage version.
fn store_version(object: &mut Value) {
    let storage = versions(object).iter().find(|version| version.bool_at(&["storage"]) == Some(true));
    let Some(storage) = storage.map(|version| SmolStr::new(version.str_at(&["name"]))) else { return };
    let mut stored = object.list_at(&["status", "storedVersions"]).to_vec();
    if !stored.iter().any(|version| version.as_str() == Some(&storage)) {
        stored.push(storage.into());
        object.set(&["status", "storedVersions"], Value::List(stored));
    }
}

fn is_true(object: &Value, path: &[&str]) -> bool {
    object.bool_at(path) == Some(true)
}

fn has_schema(version: &Value) -> bool {
    version.at(&["schema", "openAPIV3Schema"]).is_some_and(|schema| !schema.is_null())
}

fn is_established(object: &Value) -> bool {
    object
        .list_at(&["status", "conditions"])
        .iter()
        .any(|condition| condition.str_at(&["type"]) == "Established" && condition.str_at(&["status"]) == "True")
}

/// One message of many.
fn joined(errors: &mut ErrorList, path: &Path<'_>, value: &str, prefix: &str, wrong: &[String]) {
    if !wrong.is_empty() {
        errors.push(Error::invalid(path, value, format!("{prefix}{}", wrong.join(","))));
    }
}

fn check(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let nothing = Value::Null;
    let spec = object.get("spec").unwrap_or(&nothing);
    let name = object.str_at(&["metadata", "name"]);
    let (group, plural) = (spec.str_at(&["group"]), spec.str_at(&["names", "plural"]));
    if !name.is_empty() && name != format!("{plural}.{group}") {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.push(Error::invalid(&Path::new("metadata.name"), name, why));
    }
    let path = Path::new("spec");
    check_group(&mut errors, &path, group);
    let scope = path.child("scope");
    match spec.str_at(&["scope"]) {
        "" => errors.push(Error::required(&scope, "")),
        text => supported(&mut errors, &scope, text, &["Cluster", "Namespaced"]),
    }
    check_versions(&mut errors, &path, object, old);
    let names_path = path.child("names");
    for field in ["plural", "singular", "kind", "listKind"] {
        if spec.str_at(&["names", field]).is_empty() {
            errors.push(Error::required(&names_path.child(field), ""));
        }
    }
    check_names(&mut errors, &names_path, spec.get("names"));
    check_shared(&mut errors, &path, versions(object), true);
    check_conversion(&mut errors, &path.child("conversion"), object, old);
    if let Some(old) = old {
        let mut stays = |fields: &[&str], path: &Path<'_>| {
            let at = |object: &Value| SmolStr::new(object.str_at(fields));
            immutable(&mut errors, path, Some(&at(object).into()), Some(&at(old).into()));
        };
        if is_established(old) {
            stays(&["spec", "scope"], &scope);
            stays(&["spec", "names", "kind"], &names_path.child("kind"));
        }
        stays(&["spec", "group"], &path.child("group"));
        stays(&["spec", "names", "plural"], &names_path.child("plural"));
    }
    let status = Path::new("status");
    check_names(&mut errors, &status.child("acceptedNames"), object.at(&["status", "acceptedNames"]));
    check_stored_versions(&mut errors, &status.child("storedVersions"), object);
    check_approval(&mut errors, object, old);
    let preserves = |object: &Value| is_true(object, &["spec", "preserveUnknownFields"]);
    if preserves(object) && !old.is_some_and(preserves) {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema \
                   instead";
        errors.push(Error::invalid(&path.child("preserveUnknownFields"), true, why));
    }
    errors
}

fn check_group(errors: &mut ErrorList, path: &Path<'_>, group: &str) {
    let path = path.child("group");
    let wrong = names::dns1123_subdomain(group, false);
    if group.is_empty() {
        errors.push(Error::required(&path, ""));
    } else if !wrong.is_empty() {
        joined(errors, &path, group, "", &wrong);
    } else if !group.contains('.') {
        errors.push(Error::invalid(&path, group, "should be a domain with at least one dot"));
    }
}

fn check_versions(errors: &mut ErrorList, path: &Path<'_>, object: &Value, old: Option<&Value>) {
    let versions = versions(object);
    let path_of_versions = path.child("versions");
    let had_schemas = old.is_none_or(|old| self::versions(old).iter().all(has_schema));
    for (index, version) in versions.iter().enumerate().filter(|(_, version)| !has_schema(version)) {
        let item = path_of_versions.index(index);
        let schema = item.child("schema");
        if had_schemas {
            errors.push(Error::required(&schema.child("openAPIV3Schema"), ""));
        } else if is_true(version, &["served"]) && !is_true(object, &["spec", "preserveUnknownFields"]) {
            errors.push(Error::required(&schema.child("openAPIV3Schema"), "because otherwise all fields are pruned"));
        }
    }
    let mut seen = HashSet::new();
    let mut are_unique = true;
    for (index, version) in versions.iter().enumerate() {
        let item = path_of_versions.index(index);
        let name = version.str_at(&["name"]);
        are_unique &= seen.insert(name);
        joined(errors, &item.child("name"), name, "", &names::dns1035_label(name, false));
        check_deprecation(errors, &item.child("deprecationWarning"), version);
    }
    check_shared(errors, path, versions, false);
    if !are_unique {
        errors.push(Error::invalid(&path_of_versions, shown(versions), "must contain unique version names"));
    }
    if versions.iter().filter(|version| is_true(version, &["storage"])).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.push(Error::invalid(&path_of_versions, shown(versions), why));
    }
    if let Some(name) = versions.first().map(|version| version.str_at(&["name"])).filter(|name| !name.is_empty()) {
        joined(errors, &path.child("version"), name, "", &names::dns1035_label(name, false));
    }
}

/// Versions as upstream shows them: what is the same in all stands elsewhere.
fn shown(versions: &[Value]) -> Value {
    const TYPE: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionVersion";
    if versions.is_empty() {
        return Value::Null;
    }
    let mut versions = versions.to_vec();
    for field in ["schema", "subresources", "additionalPrinterColumns", "selectableFields"] {
        if are_same(&versions, field) {
            versions.iter_mut().for_each(|version| drop(version.remove(&[field])));
        }
    }
    Value::List(versions.iter().map(|version| internal(Some(version), TYPE)).collect())
}

fn are_same(versions: &[Value], field: &str) -> bool {
    versions.iter().all(|version| same(version.get(field), versions[0].get(field)))
}

type Check = fn(&mut ErrorList, &Path<'_>, &Value);

/// Subresources and columns. Upstream knows those that are the same in all versions by paths without a version.
fn check_shared(errors: &mut ErrorList, path: &Path<'_>, versions: &[Value], of_all: bool) {
    let Some(first) = versions.first() else { return };
    let path_of_versions = path.child("versions");
    let fields: [(&str, Check); 2] =
        [("subresources", check_subresources), ("additionalPrinterColumns", check_columns)];
    let shared = fields.map(|(field, _)| are_same(versions, field));
    if of_all {
        for ((field, check), _) in fields.into_iter().zip(shared).filter(|(_, is_shared)| *is_shared) {
            first.get(field).into_iter().for_each(|value| check(errors, &path.child(field), value));
        }
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        let item = path_of_versions.index(index);
        for ((field, check), _) in fields.into_iter().zip(shared).filter(|(_, is_shared)| !is_shared) {
            version.get(field).into_iter().for_each(|value| check(errors, &item.child(field), value));
        }
    }
}

fn check_deprecation(errors: &mut ErrorList, path: &Path<'_>, version: &Value) {
    let Some(warning) = version.get("deprecationWarning").and_then(Value::as_str) else { return };
    let mut refuse = |why: String| errors.push(Error::invalid(path, warning, why));
    if !is_true(version, &["deprecated"]) {
        return refuse("can only be set for deprecated versions".into());
    }
    if warning.len() > DEPRECATION_WARNING_LEN_MAX {
        refuse(format!("must be <= {DEPRECATION_WARNING_LEN_MAX} characters long"));
    }
    if warning.is_empty() {
        refuse("must not be an empty string".into());
    }
    if let Some((index, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
        let what = "must only contain printable UTF-8 characters; non-printable character found at index";
        refuse(format!("{what} {index}"));
    }
}

fn check_subresources(errors: &mut ErrorList, path: &Path<'_>, subresources: &Value) {
    let Some(scale) = subresources.get("scale") else { return };
    for (field, prefixes, place) in [
        ("specReplicasPath", &[".spec."][..], ".spec"),
        ("statusReplicasPath", &[".status."], ".status"),
        ("labelSelectorPath", &[".spec.", ".status."], "either .spec or .status"),
    ] {
        let scale_path = path.child("scale");
        let path = scale_path.child(field);
        let json_path = scale.str_at(&[field]);
        if json_path.is_empty() {
            if field != "labelSelectorPath" {
                errors.push(Error::required(&path, ""));
            }
        } else if !json_path.starts_with('.') {
            errors.push(Error::invalid(&path, json_path, "must be a simple json path starting with ."));
        } else if !prefixes.iter().any(|prefix| json_path.starts_with(prefix)) {
            errors.push(Error::invalid(&path, json_path, format!("should be a json path under {place}")));
        }
    }
}

fn check_columns(errors: &mut ErrorList, path: &Path<'_>, columns: &Value) {
    for (index, column) in columns.as_list().unwrap_or_default().iter().enumerate() {
        let item = path.index(index);
        let text = |field: &str| column.str_at(&[field]);
        let one_of = |values: &[&str]| format!("must be one of {}", values.join(","));
        if text("name").is_empty() {
            errors.push(Error::required(&item.child("name"), ""));
        }
        match text("type") {
            "" => errors.push(Error::required(&item.child("type"), one_of(&COLUMN_TYPES))),
            ty if !COLUMN_TYPES.contains(&ty) => {
                errors.push(Error::invalid(&item.child("type"), ty, one_of(&COLUMN_TYPES)));
            }
            _ => {}
        }
        let format = text("format");
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            errors.push(Error::invalid(&item.child("format"), format, one_of(&COLUMN_FORMATS)));
        }
        match text("jsonPath") {
            "" => errors.push(Error::required(&item.child("JSONPath"), "")),
            path if !path.starts_with('.') => {
                let why = "must be a simple json path starting with .";
                errors.push(Error::invalid(&item.child("JSONPath"), path, why));
            }
            _ => {}
        }
    }
}

fn check_names(errors: &mut ErrorList, path: &Path<'_>, names: Option<&Value>) {
    let nothing = Value::Null;
    let names = names.unwrap_or(&nothing);
    let (kind, list_kind) = (names.str_at(&["kind"]), names.str_at(&["listKind"]));
    let label = |text: &str| names::dns1035_label(text, false);
    for field in ["plural", "singular"] {
        let text = names.str_at(&[field]);
        if !text.is_empty() {
            joined(errors, &path.child(field), text, "", &label(text));
        }
    }
    for (field, text) in [("kind", kind), ("listKind", list_kind)] {
        if !text.is_empty() {
            let prefix = "may have mixed case, but should otherwise match: ";
            joined(errors, &path.child(field), text, prefix, &label(&text.to_lowercase()));
        }
    }
    let each = |errors: &mut ErrorList, field: &str| {
        for (index, text) in texts(names, &[field]).into_iter().enumerate() {
            joined(errors, &path.child(field).index(index), text, "", &label(text));
        }
    };
    each(errors, "shortNames");
    if !kind.is_empty() && kind == list_kind {
        errors.push(Error::invalid(&path.child("listKind"), list_kind, "kind and listKind may not be the same"));
    }
    each(errors, "categories");
}

fn check_conversion(errors: &mut ErrorList, path: &Path<'_>, object: &Value, old: Option<&Value>) {
    let Some(conversion) = object.at(&["spec", "conversion"]) else { return };
    let strategy = conversion.str_at(&["strategy"]);
    let strategy_path = path.child("strategy");
    if strategy != "None" && is_true(object, &["spec", "preserveUnknownFields"]) {
        errors.push(Error::invalid(&strategy_path, strategy, "must be None if spec.preserveUnknownFields is true"));
    }
    match strategy {
        "" => errors.push(Error::required(&strategy_path, "")),
        _ => supported(errors, &strategy_path, strategy, &["None", "Webhook"]),
    }
    let (config_path, versions_path) = (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    let config = conversion.at(&["webhook", "clientConfig"]).filter(|config| !config.is_null());
    let versions = texts(conversion, &["webhook", "conversionReviewVersions"]);
    if strategy != "Webhook" {
        let why = "should not be set when strategy is not set to Webhook";
        if config.is_some() {
            errors.push(Error::forbidden(&config_path, why));
        }
        if !versions.is_empty() {
            errors.push(Error::forbidden(&versions_path, why));
        }
        return;
    }
    match config {
        None => errors.push(Error::required(&config_path, "required when strategy is set to Webhook")),
        Some(config) => {
            webhook::check_client_config(errors, &config_path, Some(config));
            check_bundle(errors, &config_path.child("caBundle"), config.str_at(&["caBundle"]), old);
        }
    }
    if versions.is_empty() {
        errors.push(Error::required(&versions_path, ""));
    }
    let old_versions =
        old.map_or_else(Vec::new, |old| texts(old, &["spec", "conversion", "webhook", "conversionReviewVersions"]));
    let had_unknown =
        !old_versions.is_empty() && !old_versions.iter().any(|version| webhook::REVIEW_VERSIONS.contains(version));
    webhook::check_versions(errors, &versions_path, &versions, had_unknown);
}

/// Once objects are served, converters must stay reachable.
fn check_bundle(errors: &mut ErrorList, path: &Path<'_>, bundle: &str, old: Option<&Value>) {
    let is_valid = |bundle: &str| {
        let pem = STANDARD.decode(bundle).unwrap_or_default();
        bundle.is_empty() || pki::Certificate::from_pem(&pem).is_ok()
    };
    let Some(old) = old.filter(|old| is_established(old)) else { return };
    if is_valid(old.str_at(&["spec", "conversion", "webhook", "clientConfig", "caBundle"])) && !is_valid(bundle) {
        let why = "unable to load root certificates: unable to parse bytes as PEM block";
        errors.push(Error::invalid(path, bundle, why));
    }
}

fn check_stored_versions(errors: &mut ErrorList, path: &Path<'_>, object: &Value) {
    let stored = texts(object, &["status", "storedVersions"]);
    let shown = || Value::List(stored.iter().map(|version| Value::from(*version)).collect());
    if stored.is_empty() {
        errors.push(Error::invalid(path, Value::Null, "must have at least one stored version"));
        return;
    }
    let mut there = HashSet::new();
    for version in versions(object) {
        let name = version.str_at(&["name"]);
        there.insert(name);
        if is_true(version, &["storage"]) && !stored.contains(&name) {
            errors.push(Error::invalid(path, shown(), format!("must have the storage version {name}")));
        }
    }
    for (index, version) in stored.iter().enumerate().filter(|(_, version)| !there.contains(**version)) {
        let why = format!(
            "missing from spec.versions; {version} was previously a storage version, and must remain in \
             spec.versions until a storage migration ensures no data remains persisted in {version} and removes \
             {version} from status.storedVersions"
        );
        errors.push(Error::invalid(&path.index(index), *version, why));
    }
}

#[derive(PartialEq, Eq)]
enum Approval {
    Missing,
    Invalid,
    Bypassed,
    Approved,
}

fn approval(object: &Value) -> Approval {
    let text = object.str_at(&["metadata", "annotations", APPROVED]);
    match webhook::Url::parse(text) {
        _ if text.is_empty() => Approval::Missing,
        _ if text.starts_with("unapproved") => Approval::Bypassed,
        Ok(url) if !url.host.is_empty() && !url.scheme.is_empty() => Approval::Approved,
        _ => Approval::Invalid,
    }
}

fn check_approval(errors: &mut ErrorList, object: &Value, old: Option<&Value>) {
    const MORE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
    let group = object.str_at(&["spec", "group"]);
    let is_protected =
        ["k8s.io", "kubernetes.io"].iter().any(|own| group == *own || group.ends_with(&format!(".{own}")));
    let approval = approval(object);
    if !is_protected || old.is_some_and(|old| self::approval(old) == approval) {
        return;
    }
    let path = Path::new("metadata.annotations");
    let path = path.key(APPROVED);
    let needed = format!("protected groups must have approval annotation \"{APPROVED}\"");
    match approval {
        Approval::Missing => errors.push(Error::required(&path, format!("{needed}, {MORE}"))),
        Approval::Invalid => {
            let why = format!("{needed} with either a URL or a reason starting with \"unapproved\", {MORE}");
            errors.push(Error::invalid(&path, object.str_at(&["metadata", "annotations", APPROVED]), why));
        }
        Approval::Bypassed | Approval::Approved => {}
    }
}

/// The formats in the schemas that nobody checks.
fn odd_formats(object: &Value) -> Vec<SmolStr> {
    let mut found = Vec::new();
    for version in versions(object) {
        if let Some(schema) = version.at(&["schema", "openAPIV3Schema"]) {
            collect_formats(schema, &mut found);
        }
    }
    found
}

fn collect_formats(schema: &Value, found: &mut Vec<SmolStr>) {
    let format = schema.str_at(&["format"]);
    let is_known = match schema.str_at(&["type"]) {
        "" | "string" => STRING_FORMATS.contains(&format.replace('-', "").as_str()),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    };
    let format = format_smolstr!("{format}");
    if !format.is_empty() && !is_known && !found.contains(&format) {
        found.push(format);
    }
    for field in ["items", "allOf", "anyOf", "oneOf"] {
        match schema.get(field) {
            Some(Value::List(items)) => items.iter().for_each(|item| collect_formats(item, found)),
            Some(item) => collect_formats(item, found),
            None => {}
        }
    }
    for field in ["not", "additionalProperties", "additionalItems"] {
        schema.get(field).into_iter().for_each(|item| collect_formats(item, found));
    }
    for field in ["properties", "patternProperties", "definitions", "dependencies"] {
        let items = schema.map_at(&[field]).into_iter().flat_map(|map| map.iter());
        items.for_each(|(_, item)| collect_formats(item, found));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{create, defaults, json, update, update_status};

    const KIND: &dyn Kind = &CustomResourceDefinition;

    const SCHEMA: &str = r#""schema":{"openAPIV3Schema":{"type":"object"}}"#;

    /// A definition with one version.
    fn object(version: &str, spec: &str) -> String {
        format!(
            r#"{{"metadata":{{"name":"things.example.com"}},"spec":{{"group":"example.com","scope":"Namespaced",
                "names":{{"plural":"things","kind":"Thing"}},
                "versions":[{{"name":"v1","served":true,"storage":true,{SCHEMA}{version}}}]{spec}}}}}"#
        )
    }

    #[test]
    fn names_follow_from_the_kind() {
        defaults(
            KIND,
            r#"{"spec":{"names":{"kind":"MyKind"},"versions":[{"name":"a"},{"name":"b","storage":true}]}}"#,
            r#"{"spec":{"names":{"kind":"MyKind","singular":"mykind","listKind":"MyKindList"},
                "conversion":{"strategy":"None"},"versions":[{"name":"a"},{"name":"b","storage":true}]},
                "status":{"storedVersions":["b"]}}"#,
        );
        defaults(
            KIND,
            r#"{"spec":{"conversion":{"webhook":{"clientConfig":{"service":{}}}}}}"#,
            r#"{"spec":{"conversion":{"webhook":{"clientConfig":{"service":{"port":443}}}}}}"#,
        );
    }

    #[test]
    fn definitions_are_named() {
        create(KIND, &object("", ""), "");
        create(
            KIND,
            r#"{"metadata":{"name":"a.b"},"spec":{"versions":[{"name":"v1","served":true}],
                "conversion":{"strategy":"Odd"}}}"#,
            "metadata.name: Invalid value: \"a.b\": must be spec.names.plural+\".\"+spec.group\n\
             spec.group: Required value\n\
             spec.scope: Required value\n\
             spec.versions[0].schema.openAPIV3Schema: Required value\n\
             spec.versions: Invalid value: [{\"Name\":\"v1\",\"Served\":true,\"Storage\":false,\"Deprecated\":false,\
             \"DeprecationWarning\":null,\"Schema\":null,\"Subresources\":null,\"AdditionalPrinterColumns\":null,\
             \"SelectableFields\":null}]: must have exactly one version marked as storage version\n\
             spec.names.plural: Required value\n\
             spec.names.singular: Required value\n\
             spec.names.kind: Required value\n\
             spec.names.listKind: Required value\n\
             spec.conversion.strategy: Unsupported value: \"Odd\": supported values: \"None\", \"Webhook\"\n\
             status.storedVersions: Invalid value: null: must have at least one stored version",
        );
    }

    #[test]
    fn columns_and_subresources_have_paths() {
        let (column, scale) = (
            r#","additionalPrinterColumns":[{"type":"text","format":"odd","jsonPath":"a"}]"#,
            r#","subresources":{"scale":{"specReplicasPath":".status.a","labelSelectorPath":"b"}}"#,
        );
        let errors = |at: &str| {
            [
                format!("spec{at}.subresources.scale.specReplicasPath: Invalid value: \".status.a\": should be a json path under .spec"),
                format!("spec{at}.subresources.scale.statusReplicasPath: Required value"),
                format!("spec{at}.subresources.scale.labelSelectorPath: Invalid value: \"b\": must be a simple json path starting with ."),
                format!("spec{at}.additionalPrinterColumns[0].name: Required value"),
                format!("spec{at}.additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string"),
                format!("spec{at}.additionalPrinterColumns[0].format: Invalid value: \"odd\": must be one of byte,date,date-time,double,float,int32,int64,password"),
                format!("spec{at}.additionalPrinterColumns[0].JSONPath: Invalid value: \"a\": must be a simple json path starting with ."),
            ]
            .join("\n")
        };
        create(KIND, &object(&format!("{column}{scale}"), ""), &errors(""));
        let two = object(&format!(r#"{column}{scale}}},{{"name":"v2","served":true,"storage":false,{SCHEMA}"#), "");
        create(KIND, &two, &errors(".versions[0]"));
    }

    #[test]
    fn versions_are_labels_and_differ() {
        create(
            KIND,
            &object(
                &format!(
                    r#","deprecationWarning":"w"}},
                        {{"name":"v1","served":true,"storage":false,"deprecated":true,"deprecationWarning":"",{SCHEMA}"#
                ),
                "",
            ),
            "spec.versions[0].deprecationWarning: Invalid value: \"w\": can only be set for deprecated versions\n\
             spec.versions[1].deprecationWarning: Invalid value: \"\": must not be an empty string\n\
             spec.versions: Invalid value: [{\"Name\":\"v1\",\"Served\":true,\"Storage\":true,\"Deprecated\":false,\
             \"DeprecationWarning\":\"w\",\"Schema\":null,\"Subresources\":null,\"AdditionalPrinterColumns\":null,\
             \"SelectableFields\":null},{\"Name\":\"v1\",\"Served\":true,\"Storage\":false,\"Deprecated\":true,\
             \"DeprecationWarning\":\"\",\"Schema\":null,\"Subresources\":null,\"AdditionalPrinterColumns\":null,\
             \"SelectableFields\":null}]: must contain unique version names",
        );
    }

    #[test]
    fn converters_are_called_somewhere() {
        for (conversion, expect) in [
            (
                r#"{"strategy":"Webhook","webhook":{"clientConfig":{"url":"https://a"},
                    "conversionReviewVersions":["v1"]}}"#,
                "",
            ),
            (
                r#"{"strategy":"Webhook"}"#,
                "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook\n\
                 spec.conversion.conversionReviewVersions: Required value",
            ),
            (
                r#"{"strategy":"Webhook","webhook":{"clientConfig":{},"conversionReviewVersions":["v2","v2"]}}"#,
                "spec.conversion.webhookClientConfig: Required value: exactly one of url or service is required\n\
                 spec.conversion.conversionReviewVersions[1]: Invalid value: \"v2\": duplicate version\n\
                 spec.conversion.conversionReviewVersions: Invalid value: [\"v2\",\"v2\"]: must include at least one \
                 of v1, v1beta1",
            ),
            (
                r#"{"strategy":"None","webhook":{"clientConfig":{"url":"https://a"},"conversionReviewVersions":["v1"]}}"#,
                "spec.conversion.webhookClientConfig: Forbidden: should not be set when strategy is not set to \
                 Webhook\n\
                 spec.conversion.conversionReviewVersions: Forbidden: should not be set when strategy is not set to \
                 Webhook",
            ),
        ] {
            create(KIND, &object("", &format!(r#","conversion":{conversion}"#)), expect);
        }
    }

    #[test]
    fn names_are_labels() {
        let label = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                     alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', \
                     regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
        let names = r#""kind":"Th_ing","listKind":"Th_ing","singular":"A","shortNames":["B"],"categories":["C"]"#;
        create(
            KIND,
            &object("", "").replace(r#""kind":"Thing""#, names),
            &format!(
                "spec.names.singular: Invalid value: \"A\": {label}\n\
                 spec.names.kind: Invalid value: \"Th_ing\": may have mixed case, but should otherwise match: {label}\n\
                 spec.names.listKind: Invalid value: \"Th_ing\": may have mixed case, but should otherwise match: \
                 {label}\n\
                 spec.names.shortNames[0]: Invalid value: \"B\": {label}\n\
                 spec.names.listKind: Invalid value: \"Th_ing\": kind and listKind may not be the same\n\
                 spec.names.categories[0]: Invalid value: \"C\": {label}"
            ),
        );
        let base = object("", "");
        let accepted = r#"{"status":{"acceptedNames":{"plural":"A"},"storedVersions":["v1"]},"#;
        update_status(
            KIND,
            &base,
            &base.replacen('{', accepted, 1),
            &format!("status.acceptedNames.plural: Invalid value: \"A\": {label}"),
        );
    }

    #[test]
    fn community_groups_need_approval() {
        let with = |annotations: &str| {
            object("", "")
                .replace("example.com", "example.k8s.io")
                .replace(r#""metadata":{"#, &format!(r#""metadata":{{"annotations":{{{annotations}}},"#))
        };
        let needed = "protected groups must have approval annotation \"api-approved.kubernetes.io\"";
        let more = "see https://github.com/kubernetes/enhancements/pull/1111";
        let at = "metadata.annotations[api-approved.kubernetes.io]";
        for (annotations, expect) in [
            (r#""api-approved.kubernetes.io":"https://a/1""#, String::new()),
            (r#""api-approved.kubernetes.io":"unapproved, test""#, String::new()),
            ("", format!("{at}: Required value: {needed}, {more}")),
            (
                r#""api-approved.kubernetes.io":"yes""#,
                format!(
                    "{at}: Invalid value: \"yes\": {needed} with either a URL or a reason starting with \
                     \"unapproved\", {more}"
                ),
            ),
        ] {
            create(KIND, &with(annotations), &expect);
        }
        update(KIND, &with(""), &with(""), "");
    }

    #[test]
    fn storage_versions_are_remembered() {
        let old = json(&object("", ""));
        let mut new = json(&object("", "").replace(r#""name":"v1""#, r#""name":"v2""#));
        new.set(&["status", "storedVersions"], Value::List(vec!["v1".into()]));
        KIND.default(&mut new);
        KIND.prepare_update(&mut new, &old);
        assert_eq!(texts(&new, &["status", "storedVersions"]), ["v1", "v2"]);
        let errors = KIND.validate_update(&new, &old);
        assert_eq!(
            crate::checks::tests::lines(&errors),
            "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously a storage \
             version, and must remain in spec.versions until a storage migration ensures no data remains persisted \
             in v1 and removes v1 from status.storedVersions"
        );
    }

    #[test]
    fn established_names_stay() {
        let status = r#"{"status":{"storedVersions":["v1"],"conditions":[{"type":"Established","status":"True"}]},"#;
        let old = object("", "").replacen('{', status, 1);
        let new = old.replace("Namespaced", "Cluster").replace(r#""kind":"Thing""#, r#""kind":"Other""#);
        let (old, mut new) = (json(&old), json(&new));
        KIND.default(&mut new);
        let errors = KIND.validate_update(&new, &old);
        assert_eq!(
            crate::checks::tests::lines(&errors),
            "spec.scope: Invalid value: \"Cluster\": field is immutable\n\
             spec.names.kind: Invalid value: \"Other\": field is immutable"
        );
    }

    #[test]
    fn formats_that_nobody_checks_are_warned_about() {
        let with = |properties: &str| {
            json(&object("", "").replace(r#""type":"object""#, &format!(r#""properties":{{{properties}}}"#)))
        };
        let new = with(
            r#""a":{"format":"date-time"},"b":{"type":"integer","format":"date"},
                "c":{"type":"array","items":{"type":"string","format":"odd"}},"d":{"format":"k8s-short-name"}"#,
        );
        assert_eq!(KIND.warnings(&new, None), ["unrecognized format \"date\"", "unrecognized format \"odd\""]);
        let old = with(r#""b":{"type":"integer","format":"date"}"#);
        assert_eq!(KIND.warnings(&new, Some(&old)), ["unrecognized format \"odd\""]);
    }
}
