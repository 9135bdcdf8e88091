//! The store of images: which are here, what they are called, and what of the disk's content still belongs to one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::blobs::Blobs;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::files::{Usage, make_folder, replace_file, usage};
use crate::layers::Layers;
use crate::manifest::{DOCUMENT_LENGTH_MAX, Descriptor, ImageConfig, Manifest, chain_ids};
use crate::overlay::Overlay;
use crate::pull::Pulls;
use crate::reference::Reference;
use crate::registry::RegistryConfig;
use crate::snapshots::{Snapshot, Snapshots};
use crate::trash::Trash;

const RECORDS: &str = "images.json";
const RECORDS_VERSION: u32 = 1;
/// How long a store that is in use is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// A shorter piece of an id is more likely a name.
const ID_PREFIX_LENGTH_MIN: usize = 8;

/// How a store behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// The store's folder: not on overlayfs.
    pub root: PathBuf,
    /// Keep layers as they were downloaded after they are unpacked? They take room and serve only other layers' reuse.
    pub keep_packed_layers: bool,
    /// How registries are spoken to.
    pub registry: RegistryConfig,
}

impl Config {
    /// The usual store in a folder.
    pub fn new(root: impl Into<PathBuf>) -> Config {
        Config { root: root.into(), keep_packed_layers: false, registry: RegistryConfig::default() }
    }
}

/// An image that is here whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The digest of its config.
    pub id: Digest,
    /// Its names with tags: `docker.io/library/nginx:1.27`.
    pub repo_tags: Vec<String>,
    /// Its names with digests: `docker.io/library/nginx@sha256:...`.
    pub repo_digests: Vec<String>,
    /// Bytes of its documents and packed layers, as registries count.
    pub size: u64,
    /// The config's user: empty, a name or an id, perhaps with a group.
    pub user: String,
    /// Is it kept from garbage collection?
    pub pinned: bool,
    /// Its layers' chain ids, the lowest first.
    pub chain_ids: Vec<Digest>,
}

/// What is kept of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    id: Digest,
    /// Its config, manifests and indexes: several, if it was got in several packings.
    documents: BTreeSet<Digest>,
    layers: BTreeSet<Digest>,
    chain_ids: Vec<Digest>,
    size: u64,
    user: String,
    pinned: bool,
}

/// `images.json`, and what is held meanwhile.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    version: u32,
    images: BTreeMap<Digest, Record>,
    /// From a completed name to an image's id.
    names: BTreeMap<String, Digest>,
    #[serde(skip)]
    leases: HashMap<u64, Held>,
}

/// What a lease protects.
#[derive(Debug, Default)]
struct Held {
    blobs: HashSet<Digest>,
    chain_ids: HashSet<Digest>,
}

/// What garbage collection found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Blobs removed.
    pub blobs: usize,
    /// Layers removed.
    pub layers: usize,
    /// Bytes of both.
    pub bytes: u64,
}

/// A store of images, layers and snapshots in one folder. Clones share it.
#[derive(Clone, Debug)]
pub struct Images(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) layers: Layers,
    pub(crate) pulls: Pulls,
    snapshots: Snapshots,
    state: Mutex<State>,
    next_lease: AtomicU64,
    /// Held as long as the store is open.
    _lock: File,
}

impl Images {
    /// Opens a store, or makes one. Whatever was half done when the last process ended is cleared away.
    pub fn open(config: Config) -> Result<Images> {
        let root = config.root.clone();
        make_folder(&root)?;
        // Layers hold setuid programs of strangers: no user of this machine may reach them.
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700))
            .map_err(|source| Error::io("change mode of", &root, source))?;
        let lock = lock(&root)?;
        let trash = Arc::new(Trash::open(&root)?);
        let snapshots = Snapshots::open(&root, Arc::clone(&trash))?;
        let blobs = Arc::new(Blobs::open(&root)?);
        let layers = Layers::open(&root, trash)?;
        let mut state = read_state(&root.join(RECORDS))?;
        if state.drop_incomplete(&blobs, &layers) {
            // Archives may bring them back.
            let dropped = root.join(crate::drop_folder::RECORD);
            match fs::remove_file(&dropped) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", dropped, source));
                }
                _ => {}
            }
        }
        let images = Images(Arc::new(Inner {
            config,
            blobs,
            layers,
            pulls: Pulls::default(),
            snapshots,
            state: Mutex::new(state),
            next_lease: AtomicU64::new(0),
            _lock: lock,
        }));
        images.sweep()?;
        Ok(images)
    }

    /// All images, by id.
    pub fn list(&self) -> Vec<Image> {
        let state = self.0.state.lock();
        let mut images: BTreeMap<&Digest, Image> =
            state.images.iter().map(|(id, record)| (id, record.shown())).collect();
        for (name, id) in &state.names {
            if let Some(image) = images.get_mut(id) {
                image.add_name(name);
            }
        }
        images.into_values().collect()
    }

    /// The image of that name, `sha256:...` id, or beginning of an id.
    pub fn get(&self, name: &str) -> Option<Image> {
        let state = self.0.state.lock();
        let record = state.find(name)?;
        let mut image = record.shown();
        for (name, _) in state.names.iter().filter(|(_, id)| **id == record.id) {
            image.add_name(name);
        }
        Some(image)
    }

    /// What an image says of its containers. It can be asked by id as long as a snapshot of the image is there, even if
    /// the image itself was removed.
    pub fn image_config(&self, name: &str) -> Result<ImageConfig> {
        let id = self.find_id(name)?;
        let text = self.0.blobs.read(&id, DOCUMENT_LENGTH_MAX)?;
        serde_json::from_slice(&text).map_err(|source| Error::Json { what: format!("image config {id}"), source })
    }

    /// An image's config as it was published, byte for byte.
    pub fn image_config_text(&self, name: &str) -> Result<Vec<u8>> {
        self.0.blobs.read(&self.find_id(name)?, DOCUMENT_LENGTH_MAX)
    }

    fn find_id(&self, name: &str) -> Result<Digest> {
        if let Some(record) = self.0.state.lock().find(name) {
            return Ok(record.id.clone());
        }
        // A removed image that containers still stand on is known by its id only.
        let removed = Digest::parse(name).ok();
        let removed = removed.filter(|id| self.0.snapshots.all().iter().any(|snapshot| snapshot.image == *id));
        removed.ok_or_else(|| no_image(name))
    }

    /// Gives an image one more name.
    pub fn tag(&self, name: &str, new_name: &str) -> Result<()> {
        let new_name = parse_reference(new_name)?.canonical();
        self.0.change(|state| {
            let id = state.find(name).map(|record| record.id.clone()).ok_or_else(|| no_image(name))?;
            state.names.insert(new_name, id);
            Ok(())
        })
    }

    /// Takes one name away; an image without any name goes with its last one.
    pub fn untag(&self, name: &str) -> Result<Swept> {
        let name = parse_reference(name)?.canonical();
        self.0.change(|state| {
            let id = state.names.remove(&name).ok_or_else(|| no_image(&name))?;
            if !state.names.values().any(|other| *other == id) {
                state.images.remove(&id);
            }
            Ok(())
        })?;
        self.sweep()
    }

    /// Removes an image under all its names. Not there is fine, as CRI asks; its layers stay as long as a snapshot
    /// stands on them.
    pub fn remove(&self, name: &str) -> Result<Swept> {
        let known = self.0.state.lock().find(name).map(|record| record.id.clone());
        if let Some(id) = known {
            self.0.change(|state| {
                state.images.remove(&id);
                state.names.retain(|_, other| *other != id);
                Ok(())
            })?;
        }
        self.sweep()
    }

    /// Keeps an image from garbage collection, or no longer.
    pub fn pin(&self, name: &str, pinned: bool) -> Result<()> {
        self.0.change(|state| {
            let id = state.find(name).map(|record| record.id.clone()).ok_or_else(|| no_image(name))?;
            if let Some(record) = state.images.get_mut(&id) {
                record.pinned = pinned;
            }
            Ok(())
        })
    }

    /// Removes every image that is neither pinned nor under a snapshot.
    pub fn prune(&self) -> Result<(Vec<Image>, Swept)> {
        let used: HashSet<Digest> = self.0.snapshots.all().into_iter().map(|snapshot| snapshot.image).collect();
        let unused: Vec<Image> =
            self.list().into_iter().filter(|image| !image.pinned && !used.contains(&image.id)).collect();
        self.0.change(|state| {
            for image in &unused {
                state.images.remove(&image.id);
                state.names.retain(|_, other| *other != image.id);
            }
            Ok(())
        })?;
        Ok((unused, self.sweep()?))
    }

    /// Removes content that belongs to no image, no snapshot and nobody's work.
    pub fn sweep(&self) -> Result<Swept> {
        let state = self.0.state.lock();
        let marked = self.0.marked(&state);
        let mut swept = Swept::default();
        for (digest, size) in self.0.blobs.all() {
            if !marked.blobs.contains(&digest) {
                self.0.blobs.remove(&digest)?;
                swept.blobs += 1;
                swept.bytes += size;
            }
        }
        for chain_id in self.0.layers.all() {
            if !marked.chain_ids.contains(&chain_id) {
                swept.bytes += self.0.layers.usage(&chain_id).unwrap_or_default().bytes;
                self.0.layers.remove(&chain_id)?;
                swept.layers += 1;
            }
        }
        Ok(swept)
    }

    /// What all images take on the disk.
    pub fn usage(&self) -> Usage {
        let blobs = self.0.blobs.all().into_iter().map(|(_, size)| Usage { bytes: size, inodes: 1 });
        let layers = self.0.layers.all().into_iter().filter_map(|chain_id| self.0.layers.usage(&chain_id));
        blobs.chain(layers).fold(Usage::default(), |sum, part| Usage {
            bytes: sum.bytes + part.bytes,
            inodes: sum.inodes + part.inodes,
        })
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.0.config.root
    }

    /// Makes a container's writable view of an image.
    pub fn prepare(&self, key: &str, image: &str) -> Result<Snapshot> {
        self.create_snapshot(key, image, true)
    }

    /// Makes a read-only view of an image, as image volumes are.
    pub fn view(&self, key: &str, image: &str) -> Result<Snapshot> {
        self.create_snapshot(key, image, false)
    }

    fn create_snapshot(&self, key: &str, image: &str, writable: bool) -> Result<Snapshot> {
        // Under the lock, so that no sweep takes the layers away before the snapshot stands on them.
        let state = self.0.state.lock();
        let record = state.find(image).ok_or_else(|| no_image(image))?;
        let snapshot =
            Snapshot { key: key.to_owned(), image: record.id.clone(), chain_ids: record.chain_ids.clone(), writable };
        self.0.snapshots.create(snapshot.clone(), &self.0.layers)?;
        Ok(snapshot)
    }

    /// The snapshot of that name.
    pub fn snapshot(&self, key: &str) -> Option<Snapshot> {
        self.0.snapshots.get(key)
    }

    /// All snapshots, by name.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.0.snapshots.all()
    }

    /// What to mount for a snapshot.
    pub fn overlay(&self, key: &str) -> Result<Overlay> {
        self.0.snapshots.overlay(key, &self.0.layers)
    }

    /// Mounts a snapshot in the caller's mount namespace. See [`crate::unmount`].
    pub fn mount(&self, key: &str, target: &Path) -> Result<()> {
        self.overlay(key)?.mount(target)
    }

    /// What a container wrote. Walks its folder: not for the async threads.
    pub fn snapshot_usage(&self, key: &str) -> Result<Usage> {
        self.0.snapshots.upper(key)?.map_or(Ok(Usage::default()), |upper| usage(&upper))
    }

    /// Removes a snapshot with all that its container wrote; unmount it first. Gone already is fine.
    pub fn remove_snapshot(&self, key: &str) -> Result<()> {
        let snapshot = self.snapshot(key);
        self.0.snapshots.remove(key)?;
        // The last container of a removed image frees its layers.
        match snapshot {
            Some(snapshot) if !self.0.state.lock().images.contains_key(&snapshot.image) => self.sweep().map(drop),
            _ => Ok(()),
        }
    }

    /// Protects what the holder is about to bring in.
    pub(crate) fn lease(&self) -> Lease {
        let id = self.0.next_lease.fetch_add(1, Ordering::Relaxed);
        self.0.state.lock().leases.insert(id, Held::default());
        Lease { images: self.clone(), id }
    }

    /// Makes an image whose content is all here known, under some names.
    pub(crate) fn install(&self, arrival: Arrival<'_>) -> Result<Image> {
        let Arrival { documents, manifest, config, names, pinned } = arrival;
        let id = manifest.config.digest.clone();
        let size = documents.iter().filter_map(|digest| self.0.blobs.size(digest)).sum::<u64>()
            + manifest.layers.iter().map(|layer| layer.size).sum::<u64>();
        self.0.change(|state| {
            let old = state.images.remove(&id);
            let mut record = Record {
                id: id.clone(),
                documents: documents.into_iter().collect(),
                layers: manifest.layers.iter().map(|layer| layer.digest.clone()).collect(),
                chain_ids: chain_ids(&config.rootfs.diff_ids),
                size,
                user: config.config.user.clone(),
                pinned,
            };
            if let Some(old) = old {
                record.documents.extend(old.documents);
                record.layers.extend(old.layers);
                record.pinned |= old.pinned;
            }
            state.images.insert(id.clone(), record);
            for name in names {
                state.names.insert(name, id.clone());
            }
            Ok(())
        })?;
        self.get(id.as_str()).ok_or_else(|| no_image(id.as_str()))
    }
}

/// An image whose content is all here.
pub(crate) struct Arrival<'a> {
    /// Its config, manifest, and index if it came by one.
    pub(crate) documents: Vec<Digest>,
    pub(crate) manifest: &'a Manifest,
    pub(crate) config: &'a ImageConfig,
    pub(crate) names: Vec<String>,
    pub(crate) pinned: bool,
}

impl Inner {
    /// Changes the records and writes them; what cannot be written is not changed.
    fn change(&self, change: impl FnOnce(&mut State) -> Result<()>) -> Result<()> {
        let mut state = self.state.lock();
        let before = (state.images.clone(), state.names.clone());
        let result = change(&mut state).and_then(|()| {
            if before.0 == state.images && before.1 == state.names {
                return Ok(());
            }
            let text =
                serde_json::to_vec(&*state).map_err(|source| Error::Json { what: RECORDS.to_owned(), source })?;
            replace_file(&self.config.root.join(RECORDS), &text)
        });
        if result.is_err() {
            (state.images, state.names) = before;
        }
        result
    }

    /// Everything that must stay.
    fn marked(&self, state: &State) -> Held {
        let mut marked = Held::default();
        for record in state.images.values() {
            marked.blobs.extend(record.documents.iter().cloned());
            if self.config.keep_packed_layers {
                marked.blobs.extend(record.layers.iter().cloned());
            }
            marked.chain_ids.extend(record.chain_ids.iter().cloned());
        }
        for snapshot in self.snapshots.all() {
            // A container may start again after its image is gone, and asks the config then.
            marked.blobs.insert(snapshot.image);
            marked.chain_ids.extend(snapshot.chain_ids);
        }
        for held in state.leases.values() {
            marked.blobs.extend(held.blobs.iter().cloned());
            marked.chain_ids.extend(held.chain_ids.iter().cloned());
        }
        marked
    }
}

impl State {
    fn find(&self, name: &str) -> Option<&Record> {
        if let Ok(id) = Digest::parse(name) {
            return self.images.get(&id);
        }
        let by_name = Reference::parse(name).ok().and_then(|reference| self.names.get(&reference.canonical()));
        if let Some(id) = by_name {
            return self.images.get(id);
        }
        let prefix = name.strip_prefix("sha256:").unwrap_or(name);
        if prefix.len() < ID_PREFIX_LENGTH_MIN || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut matches = self.images.values().filter(|record| record.id.hex().starts_with(prefix));
        // A beginning that fits several ids names none.
        matches.next().filter(|_| matches.next().is_none())
    }

    /// Forgets images of which something is missing, so that they are got again rather than fail at each use.
    fn drop_incomplete(&mut self, blobs: &Blobs, layers: &Layers) -> bool {
        let before = self.images.len();
        self.images.retain(|id, record| {
            let whole = record.documents.iter().all(|digest| blobs.size(digest).is_some())
                && record.chain_ids.iter().all(|chain_id| layers.contains(chain_id));
            if !whole {
                tracing::warn!(image = %id, "part of an image is missing on the disk: it must be pulled again");
            }
            whole
        });
        let images = &self.images;
        self.names.retain(|_, id| images.contains_key(id));
        self.images.len() != before
    }
}

impl Record {
    fn shown(&self) -> Image {
        Image {
            id: self.id.clone(),
            repo_tags: Vec::new(),
            repo_digests: Vec::new(),
            size: self.size,
            user: self.user.clone(),
            pinned: self.pinned,
            chain_ids: self.chain_ids.clone(),
        }
    }
}

impl Image {
    fn add_name(&mut self, name: &str) {
        let names = if name.contains('@') { &mut self.repo_digests } else { &mut self.repo_tags };
        names.push(name.to_owned());
    }
}

/// Protects content that is on its way in until it belongs to an image.
#[derive(Debug)]
pub(crate) struct Lease {
    images: Images,
    id: u64,
}

impl Lease {
    pub(crate) fn hold_blob(&self, digest: &Digest) {
        if let Some(held) = self.images.0.state.lock().leases.get_mut(&self.id) {
            held.blobs.insert(digest.clone());
        }
    }

    pub(crate) fn hold_layers(&self, chain_ids: &[Digest]) {
        if let Some(held) = self.images.0.state.lock().leases.get_mut(&self.id) {
            held.chain_ids.extend(chain_ids.iter().cloned());
        }
    }

    /// Ends the lease of work that is done: what it brought in and nobody keeps (packed layers, mostly) goes.
    pub(crate) fn finish(self) -> Result<()> {
        let inner = &self.images.0;
        let mut state = inner.state.lock();
        let held = state.leases.remove(&self.id).unwrap_or_default();
        let marked = inner.marked(&state);
        for digest in held.blobs.difference(&marked.blobs) {
            inner.blobs.remove(digest)?;
        }
        for chain_id in held.chain_ids.difference(&marked.chain_ids) {
            inner.layers.remove(chain_id)?;
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // What a failed pull has downloaded whole is left for the next try; a sweep takes it otherwise.
        self.images.0.state.lock().leases.remove(&self.id);
    }
}

/// Reads a name as people write it.
pub(crate) fn parse_reference(text: &str) -> Result<Reference> {
    Reference::parse(text).map_err(|source| Error::Reference { reference: text.to_owned(), source })
}

pub(crate) fn no_image(name: &str) -> Error {
    Error::not_found(format!("image {name:?}"))
}

/// Reads a document of the store.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(
    blobs: &Blobs,
    what: &str,
    descriptor: &Descriptor,
) -> Result<T> {
    let text = blobs.read(&descriptor.digest, DOCUMENT_LENGTH_MAX)?;
    serde_json::from_slice(&text)
        .map_err(|source| Error::Json { what: format!("{what} {}", descriptor.digest), source })
}

/// One process at a time: two would sweep each other's work away.
fn lock(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let file = File::create(&path).map_err(|source| Error::io("create", &path, source))?;
    let begun = Instant::now();
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            // A former process may still be dying, or a child of it be on its way to another program.
            Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(LOCK_PATIENCE / 100);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::Unusable { what: format!("{} is in use by another process", root.display()) });
            }
            Err(source) => return Err(Error::io("lock", path, source)),
        }
    }
}

fn read_state(path: &Path) -> Result<State> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(State { version: RECORDS_VERSION, ..State::default() });
        }
        Err(source) => return Err(Error::io("read", path, source)),
    };
    let state: State =
        serde_json::from_slice(&text).map_err(|source| Error::Json { what: path.display().to_string(), source })?;
    if state.version != RECORDS_VERSION {
        return Err(Error::Unusable {
            what: format!("{} has version {}, not {RECORDS_VERSION}", path.display(), state.version),
        });
    }
    Ok(state)
}
