//! What all kinds with a pod template share: defaults, preparation, checks, warnings, cells.

use api_schema::{Map, SmolStr, Value, format_smolstr};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::selector::{self, Selector};

use super::look::Look;
use super::validate::{self, Leniency, Options};
use super::{prepare, warnings};

/// Where most kinds keep their template.
pub(crate) const TEMPLATE: &[&str] = &["spec", "template"];

/// Fills the template of an object.
pub(crate) fn default(object: &mut Value, path: &[&str]) {
    if let Some(template) = object.at_mut(path) {
        super::defaults::template(template);
    }
}

/// Clears what belongs to features that are off.
pub(crate) fn prepare(new: &mut Value, old: Option<&Value>, path: &[&str]) {
    let old_spec = old.and_then(|old| old.at(path)).and_then(|template| template.get("spec"));
    if let Some(spec) = new.at_mut(path).and_then(|template| template.at_mut(&["spec"])) {
        prepare::drop_disabled(spec, old_spec);
    }
}

/// The options for checking a template; what the old one did wrong may go on.
pub(crate) fn options<'a>(old: Option<&Value>, path: &[&str]) -> Options<'a> {
    let old_spec = old.and_then(|old| old.at(path)).and_then(|template| template.get("spec"));
    Options { lenient: Leniency::of(old_spec), ..Options::default() }
}

/// Checks the template at `path`, whose pods must match the selector and run for ever.
pub(crate) fn long_running(
    errors: &mut ErrorList,
    template: &Value,
    selector: &Selector,
    kind: &str,
    path: &Path<'_>,
    options: Options<'_>,
) {
    matches_selector(errors, template, selector, path);
    validate::template(errors, template, path, options);
    restarts_always(errors, template, kind, path);
}

/// The template's labels must match the selector, unless that selects everything.
pub(crate) fn matches_selector(errors: &mut ErrorList, template: &Value, selector: &Selector, path: &Path<'_>) {
    let labels = template.at(&["metadata", "labels"]);
    if !selector.is_everything() && !selector.matches_labels(labels.and_then(Value::as_map)) {
        let why = "`selector` does not match template `labels`";
        errors.push(Error::invalid(&path.child("metadata.labels"), labels.cloned().unwrap_or_default(), why));
    }
}

/// The pods of controllers that replace them restart always and have no deadline.
pub(crate) fn restarts_always(errors: &mut ErrorList, template: &Value, kind: &str, path: &Path<'_>) {
    let spec = template.get("spec").unwrap_or(&Value::Null);
    if spec.text("restartPolicy") != "Always" {
        let policy = spec.text("restartPolicy");
        errors.push(Error::not_supported(&path.child("spec.restartPolicy"), policy, &["Always"]));
    }
    if spec.has("activeDeadlineSeconds") {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(Error::forbidden(&path.child("spec.activeDeadlineSeconds"), why));
    }
}

/// Checks a required LabelSelector, which must select something.
pub(crate) fn required_selector(errors: &mut ErrorList, selector: Option<&Value>, path: &Path<'_>, kind: &str) {
    let Some(selector) = selector else {
        errors.push(Error::required(path, ""));
        return;
    };
    errors.extend(selector::validate(Some(selector), path, selector::Leniency::default()));
    if selects_nothing_in_particular(selector) {
        let why = format!("empty selector is invalid for {kind}");
        errors.push(Error::invalid(path, selector.clone(), why));
    }
}

/// Whether a selector has no condition.
pub(crate) fn selects_nothing_in_particular(selector: &Value) -> bool {
    selector.entries("matchLabels").is_empty() && selector.items("matchExpressions").is_empty()
}

/// The warnings for the template of an object: of a new one, and of one whose generation moved on.
pub(crate) fn template_warnings(new: &Value, old: Option<&Value>, path: &[&str]) -> Vec<String> {
    let generation = |object: &Value| object.int_at(&["metadata", "generation"]);
    match (new.at(path), old) {
        (None, _) => Vec::new(),
        (_, Some(old)) if generation(old) == generation(new) => Vec::new(),
        (Some(template), _) => warnings::template(template, &Path::new(&path.join("."))),
    }
}

/// The warnings for an object whose name its pods' names are made of, and its template.
pub(crate) fn named_warnings(new: &Value, old: Option<&Value>, path: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    if old.is_none() {
        all.extend(warnings::name(new, "Pod names and hostnames"));
    }
    all.extend(template_warnings(new, old, path));
    all
}

/// The cells `Containers` and `Images` of a template.
pub(crate) fn container_cells(template: Option<&Value>) -> [Value; 2] {
    let containers = template.and_then(|template| template.get("spec")).map(|spec| spec.items("containers"));
    ["name", "image"].map(|field| {
        let texts: Vec<&str> = containers.unwrap_or_default().iter().map(|container| container.text(field)).collect();
        Value::from(texts.join(","))
    })
}

/// A map of labels as cells show it: `a=b,c=d`, or `<none>`.
pub(crate) fn labels_cell(labels: Option<&Map>) -> Value {
    let pairs: Vec<SmolStr> = labels
        .into_iter()
        .flat_map(Map::iter)
        .map(|(key, value)| format_smolstr!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    Value::from(if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") })
}

/// A cell with a number of the object; 0 where absent.
pub(crate) fn number_cell(object: &Value, path: &[&str]) -> Value {
    Value::Int(object.int_at(path).unwrap_or(0))
}

/// Checks counters of a status: none is negative.
pub(crate) fn counters(errors: &mut ErrorList, status: &Value, path: &Path<'_>, fields: &[&str]) {
    for field in fields {
        crate::checks::not_negative(errors, &path.child(field), status.int(field));
    }
}

/// Checks that counters of a status are not greater than another one.
pub(crate) fn not_greater(
    errors: &mut ErrorList,
    status: &Value,
    path: &Path<'_>,
    fields: &[&str],
    (than, shown): (&str, &str),
) {
    for field in fields {
        let number = status.int(field).unwrap_or(0);
        if number > status.int(than).unwrap_or(0) {
            errors.push(Error::invalid(&path.child(field), number, format!("cannot be greater than {shown}")));
        }
    }
}

/// A hash collision count only grows.
pub(crate) fn collision_count(errors: &mut ErrorList, new: &Value, old: &Value) {
    let count = |object: &Value| object.int_at(&["status", "collisionCount"]);
    let is_less = match (count(new), count(old)) {
        (None, Some(_)) => true,
        (Some(new), Some(old)) => new < old,
        (_, None) => false,
    };
    if is_less {
        let path = Path::new("status.collisionCount");
        errors.push(Error::invalid(&path, count(new).unwrap_or(0), "cannot be decremented"));
    }
}

/// Sets the labels of the template on the object if it has none.
pub(crate) fn labels_from_template(object: &mut Value, path: &[&str]) {
    let labels = object.at(path).and_then(|template| template.map_at(&["metadata", "labels"])).cloned();
    let has_labels = object.map_at(&["metadata", "labels"]).is_some_and(|labels| !labels.is_empty());
    if let (Some(labels), false) = (labels, has_labels) {
        object.set(&["metadata", "labels"], labels);
    }
}
