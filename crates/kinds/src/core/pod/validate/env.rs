//! Environment variables and where their values come from.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

use crate::checks::invalid_text;

use super::super::look::{Look, all_containers};
use super::super::resources;
use super::no_backsteps;

/// The fields of a pod that an environment variable may show.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// The fields of a pod that a file may show.
pub(super) const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// All fields of a pod that have a label for the downward API.
const CONVERTIBLE_FIELDS: [&str; 14] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const RESOURCE_FIELDS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// A container's `env`.
pub(super) fn variables(errors: &mut ErrorList, variables: &[Value], path: &Path<'_>) {
    for (at, variable) in variables.iter().enumerate() {
        let variable_path = path.index(at);
        match variable.text("name") {
            "" => errors.push(Error::required(&variable_path.child("name"), "")),
            name => invalid_text(errors, &variable_path.child("name"), name, names::env_var_name(name)),
        }
        if let Some(source) = variable.get("valueFrom") {
            let has_value = !variable.text("value").is_empty();
            value_from(errors, source, has_value, &variable_path.child("valueFrom"));
        }
    }
}

fn value_from(errors: &mut ErrorList, source: &Value, has_value: bool, path: &Path<'_>) {
    let mut sources = 0;
    if let Some(reference) = source.get("fieldRef") {
        sources += 1;
        field_ref(errors, reference, &ENV_FIELDS, &path.child("fieldRef"));
    }
    if let Some(reference) = source.get("resourceFieldRef") {
        sources += 1;
        resource_field_ref(errors, reference, &path.child("resourceFieldRef"), false);
    }
    for field in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(reference) = source.get(field) {
            sources += 1;
            key_ref(errors, reference, &path.child(field));
        }
    }
    if let Some(reference) = source.get("fileKeyRef") {
        sources += 1;
        file_key_ref(errors, reference, &path.child("fileKeyRef"));
    }
    if sources == 0 {
        let why =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.push(Error::invalid(path, "", why));
    } else if has_value {
        errors.push(Error::invalid(path, "", "may not be specified when `value` is not empty"));
    } else if sources > 1 {
        errors.push(Error::invalid(path, "", "may not have more than one field specified at a time"));
    }
}

fn key_ref(errors: &mut ErrorList, reference: &Value, path: &Path<'_>) {
    let name = reference.text("name");
    invalid_text(errors, &path.child("name"), name, names::dns1123_subdomain(name, false));
    match reference.text("key") {
        "" => errors.push(Error::required(&path.child("key"), "")),
        key => invalid_text(errors, &path.child("key"), key, names::config_map_key(key)),
    }
}

/// A key of a file in a volume of the pod.
fn file_key_ref(errors: &mut ErrorList, reference: &Value, path: &Path<'_>) {
    match reference.text("key") {
        "" => errors.push(Error::required(&path.child("key"), "")),
        key => invalid_text(errors, &path.child("key"), key, names::env_var_name(key)),
    }
    match reference.text("volumeName") {
        "" => errors.push(Error::required(&path.child("volumeName"), "")),
        volume => invalid_text(errors, &path.child("volumeName"), volume, names::dns1123_label(volume, false)),
    }
    match reference.text("path") {
        "" => errors.push(Error::required(&path.child("path"), "")),
        file => no_backsteps(errors, file, &path.child("path")),
    }
}

/// Files with variables stand in volumes that live and die with the pod.
pub(super) fn file_volumes(errors: &mut ErrorList, spec: &Value, path: &Path<'_>) {
    for (list, at, container) in all_containers(spec) {
        let list_path = path.child(list);
        let container_path = list_path.index(at);
        let variables = container_path.child("env");
        for (variable_at, variable) in container.items("env").iter().enumerate() {
            let Some(reference) = variable.at(&["valueFrom", "fileKeyRef"]) else { continue };
            let name = reference.text("volumeName");
            let variable_path = variables.index(variable_at);
            let name_path = variable_path.child("valueFrom.fileKeyRef.volumeName");
            match spec.items("volumes").iter().rfind(|volume| volume.text("name") == name) {
                None => errors.push(Error::not_found(&name_path, name)),
                Some(volume) if !volume.has("emptyDir") => {
                    errors.push(Error::invalid(&name_path, name, "referenced volume must be of type emptyDir"));
                }
                Some(_) => {}
            }
        }
    }
}

/// A reference to a field of the pod.
pub(super) fn field_ref(errors: &mut ErrorList, reference: &Value, fields: &[&str], path: &Path<'_>) {
    if reference.text("apiVersion").is_empty() {
        errors.push(Error::required(&path.child("apiVersion"), ""));
        return;
    }
    let field = reference.text("fieldPath");
    let field_path = path.child("fieldPath");
    if field.is_empty() {
        errors.push(Error::required(&field_path, ""));
        return;
    }
    match internal_field(reference.text("apiVersion"), field) {
        Err(why) => errors.push(Error::invalid(&field_path, field, format!("error converting fieldPath: {why}"))),
        Ok(field) => match subscript(field) {
            Some(("metadata.annotations", key)) => {
                invalid_text(errors, path, &key.to_lowercase(), names::qualified_name(&key.to_lowercase()));
            }
            Some((_, key)) => invalid_text(errors, path, key, names::qualified_name(key)),
            None if fields.contains(&field) => {}
            None => errors.push(Error::not_supported(&field_path, field, fields)),
        },
    }
}

/// The field that a version's label stands for.
fn internal_field<'a>(version: &str, field: &'a str) -> Result<&'a str, String> {
    if version != "v1" {
        return Err(format!("unsupported pod version: {version}"));
    }
    match subscript(field) {
        Some(("metadata.annotations" | "metadata.labels", _)) => Ok(field),
        Some(_) => Err(format!("field label does not support subscript: {field}")),
        None if field == "spec.host" => Ok("spec.nodeName"),
        None if CONVERTIBLE_FIELDS.contains(&field) => Ok(field),
        None => Err(format!("field label not supported: {field}")),
    }
}

/// Cuts `metadata.labels['key']` in two.
fn subscript(field: &str) -> Option<(&str, &str)> {
    field.strip_suffix("']")?.split_once("['").filter(|(path, _)| !path.is_empty())
}

/// A reference to a resource of a container.
pub(super) fn resource_field_ref(errors: &mut ErrorList, reference: &Value, path: &Path<'_>, is_volume: bool) {
    let resource = reference.text("resource");
    let is_huge = resource.starts_with("requests.hugepages-") || resource.starts_with("limits.hugepages-");
    if is_volume && reference.text("containerName").is_empty() {
        errors.push(Error::required(&path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(Error::required(&path.child("resource"), ""));
    } else if !RESOURCE_FIELDS.contains(&resource) && !is_huge {
        errors.push(Error::not_supported(&path.child("resource"), resource, &RESOURCE_FIELDS));
    }
    let Some(divisor) = reference.get("divisor").filter(|divisor| !resources::quantity(divisor).is_zero()) else {
        return;
    };
    const SIZES: &str = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei";
    let divisor = resources::quantity(divisor).to_string();
    let (kind, sizes, name) = match resource {
        "limits.cpu" | "requests.cpu" => ("cpu", "1m and 1", "the cpu"),
        "limits.memory" | "requests.memory" => ("size", SIZES, "the memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => ("size", SIZES, "the local ephemeral storage"),
        _ if is_huge => ("size", SIZES, "the hugepages"),
        _ => return,
    };
    let is_good = match kind {
        "cpu" => matches!(divisor.as_str(), "1m" | "1"),
        _ => SIZES.split(", ").any(|size| size == divisor),
    };
    if !is_good {
        let why = format!("only divisor's values {sizes} are supported with {name} resource");
        errors.push(Error::invalid(&path.child("divisor"), resource, why));
    }
}

/// A container's `envFrom`.
pub(super) fn sources(errors: &mut ErrorList, sources: &[Value], path: &Path<'_>) {
    for (at, source) in sources.iter().enumerate() {
        let source_path = path.index(at);
        let prefix = source.text("prefix");
        if !prefix.is_empty() {
            invalid_text(errors, &source_path.child("prefix"), prefix, names::env_var_name(prefix));
        }
        let mut count = 0;
        for field in ["configMapRef", "secretRef"] {
            let Some(reference) = source.get(field) else { continue };
            count += 1;
            let reference_path = source_path.child(field);
            match reference.text("name") {
                "" => errors.push(Error::required(&reference_path.child("name"), "")),
                name => invalid_text(errors, &reference_path.child("name"), name, names::dns1123_subdomain(name, true)),
            }
        }
        if count == 0 {
            errors.push(Error::invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"));
        } else if count > 1 {
            errors.push(Error::invalid(path, "", "may not have more than one field specified at a time"));
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::core::pod::tests::pods;

    #[test]
    fn variables_have_names_and_one_source() {
        pods(&expect![[r#"
                containers[0].env = [{"name":""}]
                  spec.containers[0].env[0].name: Required value
                containers[0].env = [{"name":"a=b","value":"x"}]
                  spec.containers[0].env[0].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='
                containers[0].env = [{"name":"A","valueFrom":{}}]
                  spec.containers[0].env[0].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`
                containers[0].env = [{"name":"A","value":"x","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}]
                  spec.containers[0].env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty
                containers[0].env = [{"name":"A","valueFrom":{"fieldRef":{"fieldPath":""}}}]
                  spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Required value
                containers[0].env = [{"name":"A","valueFrom":{"fieldRef":{"fieldPath":"spec.foo"}}}]
                  spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.foo": error converting fieldPath: field label not supported: spec.foo
                containers[0].env = [{"name":"A","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels"}}}]
                  spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "metadata.labels": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"
                containers[0].env = [{"name":"A","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels['a b']"}}}]
                  spec.containers[0].env[0].valueFrom.fieldRef: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
                containers[0].env = [{"name":"A","valueFrom":{"resourceFieldRef":{"resource":""}}}]
                  spec.containers[0].env[0].valueFrom.resourceFieldRef.resource: Required value
                containers[0].env = [{"name":"A","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu","divisor":"2"}}}]
                  spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor's values 1m and 1 are supported with the cpu resource
                containers[0].env = [{"name":"A","valueFrom":{"resourceFieldRef":{"resource":"limits.foo"}}}]
                  spec.containers[0].env[0].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.foo": supported values: "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"
                containers[0].env = [{"name":"A","valueFrom":{"configMapKeyRef":{"name":"","key":""}}}]
                  spec.containers[0].env[0].valueFrom.configMapKeyRef.name: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character
                  spec.containers[0].env[0].valueFrom.configMapKeyRef.key: Required value
                containers[0].env = [{"name":"A","valueFrom":{"secretKeyRef":{"name":"a","key":"a/b"}}}]
                  spec.containers[0].env[0].valueFrom.secretKeyRef.key: Invalid value: "a/b": a valid config key must consist of alphanumeric characters, '-', '_' or '.'
                containers[0].env = [{"name":"A","valueFrom":{"fileKeyRef":{"volumeName":"","path":"","key":""}}}]
                  spec.containers[0].env[0].valueFrom.fileKeyRef.key: Required value
                  spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName: Required value
                  spec.containers[0].env[0].valueFrom.fileKeyRef.path: Required value
                  spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName: Not found: ""
                volumes = [{"name":"v","configMap":{"name":"a"}}] ; containers[0].env = [{"name":"A","valueFrom":{"fileKeyRef":{"volumeName":"v","path":"p","key":"K"}}}]
                  spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName: Invalid value: "v": referenced volume must be of type emptyDir
                containers[0].envFrom = [{}]
                  spec.containers[0].envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`
                containers[0].envFrom = [{"configMapRef":{}}]
                  spec.containers[0].envFrom[0].configMapRef.name: Required value
                containers[0].envFrom = [{"secretRef":{"name":"a"},"configMapRef":{"name":"a"}}]
                  spec.containers[0].envFrom: Invalid value: "": may not have more than one field specified at a time
                containers[0].envFrom = [{"prefix":"a=b","secretRef":{"name":"a"}}]
                  spec.containers[0].envFrom[0].prefix: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='
            "#]]);
    }
}
