//! The registry as admission plugins see it.

use std::sync::Arc;

use admission::{BoxFuture, View};
use api_schema::Value;
use api_semantics::status::{GroupResource, Status};
use authn::UserInfo;
use watch_cache::{FieldTest, Object, Selection};

use crate::codec;
use crate::options::WriteOptions;
use crate::registry::Registry;
use crate::write::{Context, Existing, Part};

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

    fn change_status<'a>(
        &'a self,
        group: &'a str,
        resource: &'a str,
        namespace: &'a str,
        name: &'a str,
        change: &'a mut (dyn FnMut(&Value) -> Result<Option<Value>, Status> + Send),
    ) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let missing = || Status::not_found(&GroupResource::new(group, resource), name);
            let storage = self.storage(group, resource).ok_or_else(missing)?;
            // The stored version is the only one in which plugins see objects.
            let mut all = self.all_served().into_iter();
            let served = all.find(|served| Arc::ptr_eq(&served.storage, &storage)).ok_or_else(missing)?;
            let user = UserInfo::new("system:apiserver", &["system:masters"]);
            let mut cx = Context::new(Arc::new(user), WriteOptions::default());
            // Nobody becomes the owner of the fields.
            cx.applies = true;
            let make = |existing: &Existing, _: &mut Context| match change(&existing.value)? {
                Some(new) => codec::normalize(&storage, new),
                None => Ok(existing.value.clone()),
            };
            self.modify(&served, &mut cx, namespace, name, Part::Status, make).await.map(drop)
        })
    }

    fn now(&self) -> i64 {
        self.world().clock.now().seconds
    }
}
