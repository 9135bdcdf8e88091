//! Lists and tables of objects that are not stored.

use api_schema::{Map, Value};
use api_semantics::status::Status;
use registry::table;

use crate::api::{Answer, ApiRequest};
use crate::encode::typed;
use crate::negotiate::{Offer, Transform};

/// Answers with one object (in full) or a list of objects (without apiVersion and kind) of a core kind, as a table
/// if the client wants one.
pub(crate) fn answer(request: &ApiRequest, kind: &str, mut objects: Vec<Value>, list: bool) -> Result<Answer, Status> {
    let form = request.form(Offer { transforms: true, protobuf: true })?;
    let value = match form.transform {
        Transform::Table { beta } => {
            let behaviour = kinds::all::find("", &request.info.resource);
            let now = 0;
            let rows = objects
                .iter()
                .map(|object| {
                    let cells = behaviour
                        .and_then(|kind| kind.cells(object, now))
                        .unwrap_or_else(|| vec![object.str_at(&["metadata", "name"]).into(), "<unknown>".into()]);
                    let mut row = Map::new();
                    row.insert("cells", cells);
                    row.insert("object", table::partial(object, beta));
                    row.into()
                })
                .collect();
            table::table(Some(table::columns_of(kind)), rows, Map::new(), beta)
        }
        _ if list => {
            let mut value = Value::from([("apiVersion", "v1"), ("kind", &*format!("{kind}List"))]);
            value.set(&["metadata"], Map::new());
            value.set(&["items"], objects);
            value
        }
        _ => objects.pop().unwrap_or_default(),
    };
    Ok(Answer::whole(200, form, typed(&value, form)))
}
