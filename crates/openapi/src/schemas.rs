//! The definitions (v2) or component schemas (v3) of types.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use api_schema::{Field, ListKind, Schema, StructId, Type, Value};
use api_types::{Resource, schema};
use openapi_docs::Descriptions;
use smol_str::SmolStr;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW_EXTENSION: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";
/// What `/version` answers with.
pub(crate) const VERSION_INFO: &str = "io.k8s.apimachinery.pkg.version.Info";

/// Required fields that the tables do not mark, for they mark fields where the public documents list them: these are
/// of a flattened struct and of a type that no resource refers to.
const REQUIRED_TOO: &[(&str, &str)] = &[
    ("io.k8s.api.core.v1.EphemeralContainer", "name"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent", "type"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent", "object"),
];

/// Enumerations that the tables do not name at the field, sorted.
const ENUMS_TOO: &[(&str, &str, &[&str])] = &[
    (
        "io.k8s.api.core.v1.PersistentVolumeClaimStatus",
        "allocatedResourceStatuses",
        &[
            "ControllerResizeInProgress",
            "ControllerResizeInfeasible",
            "NodeResizeInProgress",
            "NodeResizeInfeasible",
            "NodeResizePending",
        ],
    ),
    ("io.k8s.api.discovery.v1.EndpointSlice", "addressType", &["FQDN", "IPv4", "IPv6"]),
    ("io.k8s.api.networking.v1.HTTPIngressPath", "pathType", &["Exact", "ImplementationSpecific", "Prefix"]),
    ("io.k8s.api.resource.v1.DeviceSubRequest", "allocationMode", &["All", "ExactCount"]),
    ("io.k8s.api.resource.v1.ExactDeviceRequest", "allocationMode", &["All", "ExactCount"]),
    ("io.k8s.api.scheduling.v1.PriorityClass", "preemptionPolicy", &["Never", "PreemptLowerPriority"]),
];

/// Structs of which one field is set at most: the discriminator, if any, and the fields that it tells apart.
const UNIONS: &[(&str, &str, &[&str])] = &[
    ("io.k8s.api.core.v1.AppArmorProfile", "type", &["localhostProfile"]),
    ("io.k8s.api.core.v1.PodSchedulingGroup", "", &["podGroupName"]),
    ("io.k8s.api.core.v1.SeccompProfile", "type", &["localhostProfile"]),
    ("io.k8s.api.flowcontrol.v1.LimitResponse", "type", &["queuing"]),
    ("io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationSpec", "type", &["exempt", "limited"]),
    ("io.k8s.api.flowcontrol.v1.Subject", "kind", &["group", "serviceAccount", "user"]),
    ("io.k8s.api.scheduling.v1alpha2.PodGroupSchedulingPolicy", "", &["basic", "gang"]),
    ("io.k8s.api.scheduling.v1alpha2.PodGroupTemplateReference", "", &["workload"]),
];

/// Which OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// Swagger 2.0.
    V2,
    /// OpenAPI 3.0.
    V3,
}

/// Builds definitions and remembers which others they refer to.
pub(crate) struct Schemas<'a> {
    pub(crate) version: Version,
    pub(crate) descriptions: &'a Descriptions,
    /// `io.k8s.api.apps.v1` to group and version.
    packages: HashMap<SmolStr, (SmolStr, SmolStr)>,
    /// The groups and versions whose requests take DeleteOptions and give WatchEvents.
    groups: Vec<(SmolStr, SmolStr)>,
    wanted: BTreeSet<SmolStr>,
}

impl<'a> Schemas<'a> {
    /// `served` tells which groups and versions the document is about.
    pub(crate) fn new<'r>(
        version: Version,
        descriptions: &'a Descriptions,
        served: impl Iterator<Item = &'r Resource>,
    ) -> Self {
        let packages = api_types::resources()
            .iter()
            .filter_map(|resource| {
                let (package, _) = resource.type_name.rsplit_once('.')?;
                Some((package.into(), (resource.group.clone(), resource.version.clone())))
            })
            .collect();
        let mut groups: BTreeSet<_> = served.map(|r| (r.group.clone(), r.version.clone())).collect();
        groups.insert(("".into(), "v1".into()));
        Self { version, descriptions, packages, groups: groups.into_iter().collect(), wanted: BTreeSet::new() }
    }

    /// `{"$ref": ...}` to a type, which thereby becomes part of the document.
    pub(crate) fn reference(&mut self, name: &str) -> Value {
        let prefix = match self.version {
            Version::V2 => "#/definitions/",
            Version::V3 => "#/components/schemas/",
        };
        self.wanted.insert(name.into());
        Value::from([("$ref", format!("{prefix}{name}"))])
    }

    /// A reference to a type of meta/v1.
    pub(crate) fn meta(&mut self, name: &str) -> Value {
        self.reference(&format!("{META}.{name}"))
    }

    /// Everything that was referred to, and what that refers to, each encoded as soon as it is built.
    pub(crate) fn finish(mut self, encode: impl Fn(&Value) -> Vec<u8>) -> BTreeMap<SmolStr, Vec<u8>> {
        let mut done = BTreeMap::new();
        while let Some(name) = self.wanted.pop_first() {
            if let Entry::Vacant(entry) = done.entry(name) {
                let definition = self.definition(entry.key());
                entry.insert(encode(&definition));
            }
        }
        done
    }

    fn definition(&mut self, name: &str) -> Value {
        let mut definition = match schema().find(name) {
            Some(id) => self.object(id),
            None => self.special(name),
        };
        let description = self.descriptions.get(name, "").or_else(|| {
            let (_, kind) = name.rsplit_once('.')?;
            Some(format!("A list of {} objects.", kind.strip_suffix("List")?))
        });
        if let Some(description) = description {
            definition.set(&["description"], description);
        }
        if let Some((_, discriminator, fields)) = UNIONS.iter().find(|(ty, ..)| *ty == name) {
            definition.set(&["x-kubernetes-unions"], union(discriminator, fields));
        }
        let kinds = self.kinds(name);
        if !kinds.is_empty() {
            definition.set(&["x-kubernetes-group-version-kind"], kinds);
        }
        definition
    }

    fn object(&mut self, id: StructId) -> Value {
        let schema: &'static Schema = schema();
        let ty = schema.get(id);
        let mut definition = Value::from([("type", "object")]);
        let mut required = Vec::new();
        let mut properties = BTreeMap::new();
        for field in schema.json_fields(id) {
            if field.required || REQUIRED_TOO.contains(&(ty.name.as_str(), field.json.as_str())) {
                required.push(Value::Str(field.json.clone()));
            }
            properties.insert(field.json.clone(), self.property(&ty.name, field));
        }
        if !required.is_empty() {
            definition.set(&["required"], required);
        }
        if !properties.is_empty() {
            definition.set(&["properties"], Value::Map(properties.into_iter().collect()));
        }
        if ty.atomic {
            definition.set(&["x-kubernetes-map-type"], "atomic");
        }
        definition
    }

    fn property(&mut self, owner: &str, field: &Field) -> Value {
        let mut property = self.of_type(&field.ty);
        if let Some(description) = self.descriptions.get(owner, &field.json).or_else(|| of_envelope(owner, field)) {
            property.set(&["description"], description);
        }
        if self.version == Version::V3
            && let Some(default) = default(field)
        {
            property.set(&["default"], default);
        }
        let values = enumeration(owner, field);
        if !values.is_empty() {
            let place: &[&str] = match field.ty {
                Type::List(_) => &["items", "enum"],
                Type::Map(_) => &["additionalProperties", "enum"],
                _ => &["enum"],
            };
            property.set(place, values.into_iter().map(Value::from).collect::<Vec<_>>());
        }
        extensions(field, &mut property);
        if self.version == Version::V3
            && property.as_map().is_some_and(|map| map.len() > 1)
            && let Some(reference) = property.remove(&["$ref"])
        {
            // Siblings of a $ref are ignored by readers of OpenAPI 3.0.
            property.set(&["allOf"], vec![Value::from([("$ref", reference)])]);
        }
        property
    }

    fn of_type(&mut self, ty: &Type) -> Value {
        match ty {
            Type::String | Type::Duration => scalar("string", ""),
            Type::Bool => scalar("boolean", ""),
            Type::Int32 => scalar("integer", "int32"),
            Type::Int64 => scalar("integer", "int64"),
            Type::Double => scalar("number", "double"),
            Type::Bytes => scalar("string", "byte"),
            Type::Any => scalar("object", ""),
            Type::Time => self.meta("Time"),
            Type::MicroTime => self.meta("MicroTime"),
            Type::FieldsV1 => self.meta("FieldsV1"),
            Type::Quantity => self.reference(QUANTITY),
            Type::IntOrString => self.reference(INT_OR_STRING),
            Type::RawExtension => self.reference(RAW_EXTENSION),
            Type::Json => self.reference(&format!("{EXTENSIONS}.JSON")),
            Type::SchemaOrArray(_) => self.reference(&format!("{EXTENSIONS}.JSONSchemaPropsOrArray")),
            Type::SchemaOrBool(_) => self.reference(&format!("{EXTENSIONS}.JSONSchemaPropsOrBool")),
            Type::SchemaOrStrings(_) => self.reference(&format!("{EXTENSIONS}.JSONSchemaPropsOrStringArray")),
            Type::Struct(id) => self.reference(&schema().get(*id).name),
            Type::List(item) | Type::Wrapped(item) => {
                Value::from([("type", Value::from("array")), ("items", self.of_type(item))])
            }
            Type::Map(item) => {
                Value::from([("type", Value::from("object")), ("additionalProperties", self.of_type(item))])
            }
        }
    }

    /// The types that are no structs of the tables.
    fn special(&self, name: &str) -> Value {
        let short = name.rsplit('.').next().unwrap_or(name);
        let one_of = |types: [&str; 2]| Value::List(types.into_iter().map(|ty| Value::from([("type", ty)])).collect());
        match (short, self.version) {
            ("Quantity", Version::V2) => scalar("string", ""),
            ("Quantity", Version::V3) => Value::from([("oneOf", one_of(["string", "number"]))]),
            ("IntOrString", Version::V2) => scalar("string", "int-or-string"),
            ("IntOrString", Version::V3) => {
                Value::from([("format", Value::from("int-or-string")), ("oneOf", one_of(["integer", "string"]))])
            }
            ("Time" | "MicroTime", _) => scalar("string", "date-time"),
            ("FieldsV1" | "Patch" | "RawExtension", _) => scalar("object", ""),
            ("Info", _) => self.version_info(),
            // JSON and its relatives hold anything.
            _ => Value::Map(api_schema::Map::new()),
        }
    }

    fn version_info(&self) -> Value {
        let always = [
            "major",
            "minor",
            "gitVersion",
            "gitCommit",
            "gitTreeState",
            "buildDate",
            "goVersion",
            "compiler",
            "platform",
        ];
        let sometimes = ["emulationMajor", "emulationMinor", "minCompatibilityMajor", "minCompatibilityMinor"];
        let property = |name: &str| {
            let mut property = scalar("string", "");
            if self.version == Version::V3 && always.contains(&name) {
                property.set(&["default"], "");
            }
            if let Some(description) = self.descriptions.get(VERSION_INFO, name) {
                property.set(&["description"], description);
            }
            (SmolStr::new(name), property)
        };
        Value::from([
            ("type", Value::from("object")),
            ("required", Value::List(always.into_iter().map(Value::from).collect())),
            ("properties", Value::Map(always.into_iter().chain(sometimes).map(property).collect())),
        ])
    }

    /// The group, version and kind that a type is the whole object of.
    fn kinds(&self, name: &str) -> Vec<Value> {
        let gvk = |(group, version): &(SmolStr, SmolStr), kind: &str| {
            Value::from([
                ("group", Value::Str(group.clone())),
                ("version", Value::Str(version.clone())),
                ("kind", Value::from(kind)),
            ])
        };
        let Some((package, kind)) = name.rsplit_once('.') else { return Vec::new() };
        if package == META {
            return match kind {
                "DeleteOptions" | "WatchEvent" => self.groups.iter().map(|group| gvk(group, kind)).collect(),
                "APIGroup" | "APIGroupList" | "APIResourceList" | "APIVersions" | "Status" => {
                    vec![gvk(&("".into(), "v1".into()), kind)]
                }
                _ => Vec::new(),
            };
        }
        // A whole object has TypeMeta, whose protobuf numbers are of another message: 1 then occurs twice.
        let whole = schema().find(name).is_some_and(|id| {
            let fields = &schema().get(id).fields;
            matches!(&fields[..], [first, second, ..] if first.json == "kind" && second.json == "apiVersion")
                && fields.iter().filter(|field| field.tag == 1).count() > 1
        });
        match self.packages.get(package) {
            Some(group) if whole => vec![gvk(group, kind)],
            _ => Vec::new(),
        }
    }
}

fn scalar(ty: &str, format: &str) -> Value {
    let mut value = Value::from([("type", ty)]);
    if !format.is_empty() {
        value.set(&["format"], format);
    }
    value
}

/// What the source of the descriptions does not have: TypeMeta, lists and watch events, which it models differently.
fn of_envelope(owner: &str, field: &Field) -> Option<String> {
    let text = match field.json.as_str() {
        "apiVersion" => "The group and version of this object's schema, such as apps/v1; v1 for core.",
        "kind" => "The kind of this object in CamelCase, such as Pod. It cannot change.",
        "items" if owner.ends_with("List") => "The objects.",
        "metadata" if owner.ends_with("List") => "The resource version of the list, and how to continue it.",
        "object" if owner.ends_with(".WatchEvent") => {
            "The object as it is now, or as it was when it was deleted; of a BOOKMARK only the resource version counts; \
             of an ERROR it is a Status."
        }
        _ => return None,
    };
    Some(text.into())
}

/// The values that a field allows, sorted; none if it is open.
fn enumeration<'a>(owner: &str, field: &Field) -> Vec<&'a str> {
    let too = || ENUMS_TOO.iter().find(|(ty, json, _)| *ty == owner && field.json == *json).map(|(.., values)| *values);
    let mut values = api_types::enum_values(&field.enumeration).or_else(too).unwrap_or_default().to_vec();
    values.sort_unstable();
    values
}

/// The statement about a struct of which one field is set at most.
fn union(discriminator: &str, fields: &[&str]) -> Value {
    let fields = fields.iter().map(|field| (*field, crate::names::title(field))).collect();
    let mut union = Value::from([("fields-to-discriminateBy", Value::Map(fields))]);
    if !discriminator.is_empty() {
        union.set(&["discriminator"], discriminator);
    }
    Value::List(vec![union])
}

/// The default that v3 states: the field's own, or the zero value where Go always writes one.
fn default(field: &Field) -> Option<Value> {
    if !field.default.is_empty() {
        return Some(Value::Raw(field.default.as_str().into()));
    }
    if field.pointer {
        return None;
    }
    match field.ty {
        Type::Struct(_) => Some(Value::Map(api_schema::Map::new())),
        _ if field.omitempty => None,
        Type::String => Some(Value::from("")),
        Type::Bool => Some(Value::Bool(false)),
        Type::Int32 | Type::Int64 | Type::Double => Some(Value::Int(0)),
        _ => None,
    }
}

/// How lists and maps merge.
fn extensions(field: &Field, property: &mut Value) {
    // Bytes are a list in Go.
    let listed = matches!(field.ty, Type::List(_) | Type::Bytes);
    let kind_of = if listed { "x-kubernetes-list-type" } else { "x-kubernetes-map-type" };
    match &field.list {
        ListKind::Unset => {}
        ListKind::Atomic => property.set(&[kind_of], "atomic"),
        ListKind::Set => property.set(&[kind_of], "set"),
        ListKind::Granular => property.set(&[kind_of], "granular"),
        ListKind::Map(keys) => {
            property.set(&[kind_of], "map");
            property.set(&["x-kubernetes-list-map-keys"], keys.iter().cloned().map(Value::Str).collect::<Vec<_>>());
        }
    }
    let patch = &field.patch;
    let strategies: Vec<&str> = [("merge", patch.merge), ("retainKeys", patch.retain_keys), ("replace", patch.replace)]
        .into_iter()
        .filter_map(|(name, stated)| stated.then_some(name))
        .collect();
    if !strategies.is_empty() {
        property.set(&["x-kubernetes-patch-strategy"], strategies.join(","));
    }
    if !patch.merge_key.is_empty() {
        property.set(&["x-kubernetes-patch-merge-key"], patch.merge_key.clone());
    }
}
