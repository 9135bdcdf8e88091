//! The registry as admission plugins see it.

use std::sync::Arc;

use admission::{BoxFuture, View};
use api_schema::Value;
use watch_cache::{FieldTest, Object, Selection};

use crate::codec;
use crate::registry::Registry;

impl View for Registry {
    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        self.cached(group, resource, namespace, name)
    }

    fn list(&self, group: &str, resource: &str, namespace: &str) -> Vec<Value> {
        self.cached_list(group, resource, namespace)
    }

    fn list_where(&self, group: &str, resource: &str, namespace: &str, field: &str, value: &str) -> Vec<Value> {
        let Some(storage) = self.storage(group, resource) else { return Vec::new() };
        let Some(at) = storage.kind.selectable_fields().iter().position(|known| *known == field) else {
            return Vec::new();
        };
        let selection = Selection {
            namespace: namespace.into(),
            fields: vec![FieldTest { field: at, value: value.into(), equal: true }],
            ..Selection::default()
        };
        let snapshot = storage.cache.list(&selection, None, 0);
        let decode = |object: &Arc<Object>| codec::decode_stored(&storage, &object.bytes, object.revision).ok();
        snapshot.objects.iter().filter_map(decode).collect()
    }

    fn get_fresh<'a>(
        &'a self,
        group: &'a str,
        resource: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Option<Value>> {
        Box::pin(async move {
            let storage = self.storage(group, resource)?;
            self.existing(&storage, namespace, name).await.ok().flatten().map(|existing| existing.value)
        })
    }

    fn get_soon<'a>(
        &'a self,
        group: &'a str,
        resource: &'a str,
        namespace: &'a str,
        name: &'a str,
        wait_ms_max: u64,
    ) -> BoxFuture<'a, Option<Value>> {
        Box::pin(async move {
            let storage = self.storage(group, resource)?;
            let key = storage.suffix(namespace, name);
            let wait = std::time::Duration::from_millis(wait_ms_max);
            let object = tokio::time::timeout(wait, storage.cache.appears(&key)).await.ok()?;
            codec::decode_stored(&storage, &object.bytes, object.revision).ok()
        })
    }

    fn now(&self) -> i64 {
        self.world().clock.now().seconds
    }
}
