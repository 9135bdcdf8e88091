//! A map that forgets what was not used for longest.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

pub(crate) struct Lru<K, V> {
    entries_max: usize,
    uses: u64,
    entries: HashMap<K, (u64, V)>,
    by_use: BTreeMap<u64, K>,
}

impl<K: Clone + Eq + Hash, V> Lru<K, V> {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { entries_max, uses: 0, entries: HashMap::new(), by_use: BTreeMap::new() }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<&mut V> {
        let (used, value) = self.entries.get_mut(key)?;
        self.uses += 1;
        self.by_use.remove(used);
        self.by_use.insert(self.uses, key.clone());
        *used = self.uses;
        Some(value)
    }

    pub(crate) fn get_or(&mut self, key: &K, make: impl FnOnce() -> V) -> &mut V {
        if !self.entries.contains_key(key) {
            self.insert(key.clone(), make());
        }
        self.get(key).expect("it is there now")
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.uses += 1;
        if let Some((used, _)) = self.entries.insert(key.clone(), (self.uses, value)) {
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.uses, key);
        if self.entries.len() > self.entries_max
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.entries.remove(&oldest);
        }
    }

    /// Keeps the entries for which `keep` says so.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        // In the order of use, not of hashes: who is asked in which order may show.
        let entries = &mut self.entries;
        self.by_use.retain(|_, key| {
            let kept = entries.get_mut(key).is_some_and(|(_, value)| keep(key, value));
            if !kept {
                entries.remove(key);
            }
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_is_forgotten() {
        let mut lru = Lru::new(2);
        lru.insert("a", 1);
        lru.insert("b", 2);
        assert_eq!(lru.get(&"a").copied(), Some(1));
        lru.insert("c", 3);
        assert_eq!((lru.get(&"a").copied(), lru.get(&"b").copied(), lru.get(&"c").copied()), (Some(1), None, Some(3)));
        assert_eq!(*lru.get_or(&"a", || 9), 1);
        lru.insert("d", 4);
        lru.retain(|key, _| *key == "d");
        assert_eq!((lru.entries.len(), lru.by_use.len()), (1, 1));
    }
}
