//! The cache itself: objects by key, and any number of indexes over them.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use client::SmolStr;
use parking_lot::RwLock;

use crate::object::{Key, Object};

/// Gives the values that an object is found by.
pub(crate) type IndexFn<T> = Box<dyn Fn(&Object<T>) -> Vec<SmolStr> + Send + Sync>;

pub(crate) struct Cache<T> {
    content: RwLock<Content<T>>,
}

struct Content<T> {
    objects: BTreeMap<Key, Arc<Object<T>>>,
    indexes: Vec<IndexContent<T>>,
}

struct IndexContent<T> {
    values: IndexFn<T>,
    keys: BTreeMap<SmolStr, BTreeSet<Key>>,
}

impl<T> IndexContent<T> {
    fn add(&mut self, key: &Key, object: &Object<T>) {
        for value in (self.values)(object) {
            self.keys.entry(value).or_default().insert(key.clone());
        }
    }

    fn remove(&mut self, key: &Key, object: &Object<T>) {
        for value in (self.values)(object) {
            if let Some(keys) = self.keys.get_mut(&value) {
                keys.remove(key);
                if keys.is_empty() {
                    self.keys.remove(&value);
                }
            }
        }
    }
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self { content: RwLock::new(Content { objects: BTreeMap::new(), indexes: Vec::new() }) }
    }
}

impl<T> Cache<T> {
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Object<T>>> {
        self.content.read().objects.get(key).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.content.read().objects.len()
    }

    /// Those that `keep` says, in one namespace or (empty) in all, by key.
    pub(crate) fn list(&self, namespace: &str, keep: impl Fn(&Object<T>) -> bool) -> Vec<Arc<Object<T>>> {
        let content = self.content.read();
        let from = Key::new(namespace, "");
        let objects = content.objects.range(from..).map(|(_, object)| object);
        let within = objects.take_while(|object| namespace.is_empty() || object.namespace == namespace);
        within.filter(|object| keep(object)).cloned().collect()
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.content.read().objects.keys().cloned().collect()
    }

    /// Puts an object in, and gives the one that was there.
    pub(crate) fn insert(&self, object: Arc<Object<T>>) -> Option<Arc<Object<T>>> {
        let key = object.key();
        let mut content = self.content.write();
        let Content { objects, indexes } = &mut *content;
        let old = objects.insert(key.clone(), Arc::clone(&object));
        for index in indexes {
            if let Some(old) = &old {
                index.remove(&key, old);
            }
            index.add(&key, &object);
        }
        old
    }

    pub(crate) fn remove(&self, key: &Key) -> Option<Arc<Object<T>>> {
        let mut content = self.content.write();
        let Content { objects, indexes } = &mut *content;
        let old = objects.remove(key)?;
        for index in indexes {
            index.remove(key, &old);
        }
        Some(old)
    }

    fn add_index(&self, values: IndexFn<T>) -> usize {
        let mut content = self.content.write();
        let mut index = IndexContent { values, keys: BTreeMap::new() };
        for (key, object) in &content.objects {
            index.add(key, object);
        }
        content.indexes.push(index);
        content.indexes.len() - 1
    }
}

/// Finds objects by values of their content. It keeps its informer following.
pub struct Index<T> {
    /// The informer.
    alive: Arc<dyn Any + Send + Sync>,
    cache: Arc<Cache<T>>,
    at: usize,
}

impl<T> Index<T> {
    pub(crate) fn new(alive: Arc<dyn Any + Send + Sync>, cache: &Arc<Cache<T>>, values: IndexFn<T>) -> Self {
        Self { alive, cache: Arc::clone(cache), at: cache.add_index(values) }
    }

    /// The objects with this value, by key.
    pub fn get(&self, value: &str) -> Vec<Arc<Object<T>>> {
        let content = self.cache.content.read();
        let keys = content.indexes[self.at].keys.get(value).into_iter().flatten();
        keys.filter_map(|key| content.objects.get(key).cloned()).collect()
    }

    /// How many objects have this value.
    pub fn count(&self, value: &str) -> usize {
        self.cache.content.read().indexes[self.at].keys.get(value).map_or(0, BTreeSet::len)
    }

    /// All values that some object has.
    pub fn values(&self) -> Vec<SmolStr> {
        self.cache.content.read().indexes[self.at].keys.keys().cloned().collect()
    }
}

impl<T> Clone for Index<T> {
    fn clone(&self) -> Self {
        Self { alive: Arc::clone(&self.alive), cache: Arc::clone(&self.cache), at: self.at }
    }
}

impl<T> std::fmt::Debug for Index<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index({})", self.at)
    }
}

#[cfg(test)]
mod tests {
    use client::Value;

    use super::*;

    fn object(namespace: &str, name: &str, node: &str) -> Arc<Object<Value>> {
        let mut value = Value::from([("node", node)]);
        value.set(&["metadata", "namespace"], namespace);
        value.set(&["metadata", "name"], name);
        Arc::new(Object::new(value))
    }

    fn shown(objects: &[Arc<Object<Value>>]) -> String {
        objects.iter().map(|object| object.key().to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn indexes_follow_the_objects() {
        let cache = Arc::new(Cache::default());
        cache.insert(object("a", "x", "n1"));
        let by_node =
            || -> IndexFn<Value> { Box::new(|object| object.str_at(&["node"]).split(',').map(SmolStr::new).collect()) };
        // Over what is there, and over what comes.
        let index = Index::new(Arc::new(()), &cache, by_node());
        cache.insert(object("a", "y", "n1,n2"));
        cache.insert(object("b", "x", "n2"));
        assert_eq!(shown(&index.get("n1")), "a/x a/y");
        assert_eq!(shown(&index.get("n2")), "a/y b/x");
        cache.insert(object("a", "y", "n3"));
        cache.remove(&Key::new("b", "x"));
        assert_eq!((index.count("n1"), index.count("n2")), (1, 0));
        assert_eq!(index.values(), ["n1", "n3"]);
        let later = Index::new(Arc::new(()), &cache, by_node());
        assert_eq!(later.values(), index.values());
    }

    #[test]
    fn lists_are_by_key_and_within_a_namespace() {
        let cache = Cache::default();
        for (namespace, name) in [("b", "x"), ("a", "y"), ("a", "x"), ("", "n"), ("ab", "z")] {
            cache.insert(object(namespace, name, ""));
        }
        assert_eq!(shown(&cache.list("", |_| true)), "n a/x a/y ab/z b/x");
        assert_eq!(shown(&cache.list("a", |_| true)), "a/x a/y");
        assert_eq!(shown(&cache.list("", |object| &*object.name == "x")), "a/x b/x");
    }
}
