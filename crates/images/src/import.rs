//! Taking images from archives: OCI layouts (folder or tar) and what `docker save` writes, of one image or many, packed
//! with gzip or zstd or not.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde::Deserialize;

use crate::cancel::{Cancel, blocking};
use crate::compression::decompress;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::files::open_folder;
use crate::manifest::{DOCUMENT_LENGTH_MAX, Descriptor, ImageConfig, Index, Manifest, chain_ids, media_type};
use crate::platform;
use crate::reference::Reference;
use crate::store::{Arrival, Image, Images, Lease, read_json};
use crate::tar::{Archive, EntryKind};

/// containerd's note of an image's whole name.
const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// The OCI layout's own: a whole name, or a tag only.
const REF_NAME_ANNOTATION: &str = "org.opencontainers.image.ref.name";
/// Indexes within indexes are followed so far.
const INDEX_DEPTH_MAX: usize = 4;
const ARCHIVE_FILES_MAX: usize = 100_000;
const COPY_BUFFER: usize = 128 * 1024;

/// How an archive's images are taken in.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// A name for images of which the archive tells a tag only.
    pub base_name: Option<String>,
    /// Keep them from garbage collection, for nobody can pull them again.
    pub pinned: bool,
}

/// One image of `docker save`'s `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// An image found in an archive, its documents in the store.
struct Found {
    documents: Vec<Digest>,
    manifest: Manifest,
    config: ImageConfig,
    names: Vec<String>,
}

impl Images {
    /// Imports all images of an archive or layout folder that run on this machine.
    pub async fn import(&self, path: &Path, options: ImportOptions) -> Result<Vec<Image>> {
        let (images, path) = (self.clone(), path.to_owned());
        blocking(move |cancel| images.import_now(&path, &options, cancel)).await
    }

    /// The same, on this thread.
    pub(crate) fn import_now(&self, path: &Path, options: &ImportOptions, cancel: &Cancel) -> Result<Vec<Image>> {
        let lease = self.lease();
        self.import_under(&lease, path, options, cancel.flag())
            .and_then(|images| lease.finish().map(|()| images))
            .map_err(|source| Error::Import { path: path.to_owned(), source: Box::new(source) })
    }

    fn import_under(
        &self,
        lease: &Lease,
        path: &Path,
        options: &ImportOptions,
        cancelled: &AtomicBool,
    ) -> Result<Vec<Image>> {
        let files = if path.is_dir() {
            Files::Folder(open_folder(path)?)
        } else {
            let file = File::open(path).map_err(|source| Error::io("open", path, source))?;
            Files::Archive(self.ingest_archive(lease, file, cancelled)?)
        };
        let source = Source { images: self, lease, files, cancelled };
        let mut images = BTreeMap::new();
        for found in source.find(options)? {
            let chain = chain_ids(&found.config.rootfs.diff_ids);
            lease.hold_layers(&chain);
            self.0.layers.unpack_stack(&found.config.rootfs.diff_ids, &chain, cancelled, &mut |n| {
                let layer = &found.manifest.layers[n];
                Ok(Box::new(self.0.blobs.open_blob(&layer.digest)?))
            })?;
            let image = self.install(Arrival {
                documents: found.documents,
                manifest: &found.manifest,
                config: &found.config,
                names: found.names,
                pinned: options.pinned,
            })?;
            images.insert(image.id.clone(), image);
        }
        Ok(images.into_values().collect())
    }

    /// Reads an archive once, start to end, and keeps every file of it as a blob for the time being.
    fn ingest_archive(&self, lease: &Lease, file: File, cancelled: &AtomicBool) -> Result<HashMap<String, Member>> {
        let plain = decompress(file).map_err(|source| Error::Tar(source.into()))?;
        let mut archive = Archive::new(plain);
        let mut members = HashMap::new();
        while let Some(entry) = archive.next().map_err(Error::Tar)? {
            let name = plain_path(&String::from_utf8_lossy(&entry.path));
            let member = match entry.kind {
                EntryKind::File => {
                    let (digest, size) = self.ingest_stream(
                        lease,
                        archive.data(),
                        digest_of_path(&name).map(|digest| (digest, entry.size)),
                        cancelled,
                    )?;
                    Member::Blob(digest, size)
                }
                EntryKind::Hardlink => Member::Link(plain_path(&String::from_utf8_lossy(&entry.link))),
                // Old versions of docker save link layers that images share.
                EntryKind::Symlink => {
                    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                    Member::Link(plain_path(&format!("{folder}/{}", String::from_utf8_lossy(&entry.link))))
                }
                _ => continue,
            };
            members.insert(name, member);
            if members.len() > ARCHIVE_FILES_MAX {
                return Err(Error::corrupt(format!("archive holds more than {ARCHIVE_FILES_MAX} files")));
            }
        }
        Ok(members)
    }

    fn ingest_stream(
        &self,
        lease: &Lease,
        mut stream: impl Read,
        expected: Option<(Digest, u64)>,
        cancelled: &AtomicBool,
    ) -> Result<(Digest, u64)> {
        let mut ingest = self.0.blobs.ingest(expected)?;
        let mut buffer = vec![0; COPY_BUFFER];
        loop {
            if cancelled.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let count = stream.read(&mut buffer).map_err(|source| Error::Tar(source.into()))?;
            if count == 0 {
                break;
            }
            ingest.write(&buffer[..count])?;
        }
        // Held before it is there, so that no sweep comes between.
        lease.hold_blob(&ingest.digest());
        ingest.commit()
    }
}

/// A file of an archive.
enum Member {
    Blob(Digest, u64),
    Link(String),
}

enum Files {
    Folder(OwnedFd),
    Archive(HashMap<String, Member>),
}

/// An archive or folder from which images are taken.
struct Source<'a> {
    images: &'a Images,
    lease: &'a Lease,
    files: Files,
    cancelled: &'a AtomicBool,
}

impl Source<'_> {
    /// The blob of a file of the archive.
    fn blob(&self, name: &str) -> Result<Option<(Digest, u64)>> {
        match &self.files {
            Files::Archive(members) => {
                let mut name = plain_path(name);
                // Links to links are followed a few times only: they may go in circles.
                for _ in 0..8 {
                    match members.get(&name) {
                        Some(Member::Blob(digest, size)) => return Ok(Some((digest.clone(), *size))),
                        Some(Member::Link(target)) => name.clone_from(target),
                        None => return Ok(None),
                    }
                }
                Ok(None)
            }
            Files::Folder(folder) => {
                let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
                match rustix::fs::openat2(folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), resolve) {
                    Ok(file) => {
                        let file = File::from(file);
                        let size = file.metadata().map_err(|source| Error::io("stat", name, source))?.len();
                        let expected = digest_of_path(name).map(|digest| (digest, size));
                        self.images.ingest_stream(self.lease, file, expected, self.cancelled).map(Some)
                    }
                    Err(rustix::io::Errno::NOENT) => Ok(None),
                    Err(source) => Err(Error::io("open", name, source)),
                }
            }
        }
    }

    /// Brings a blob of an OCI layout in; none if the layout does not have it.
    fn content(&self, descriptor: &Descriptor) -> Result<Option<Digest>> {
        let name = format!("blobs/{}/{}", descriptor.digest.algorithm().name(), descriptor.digest.hex());
        match self.blob(&name)? {
            Some((digest, _)) if digest != descriptor.digest => {
                Err(Error::DigestMismatch { expected: descriptor.digest.clone(), actual: digest })
            }
            Some((_, size)) if size != descriptor.size => {
                Err(Error::SizeMismatch { expected: descriptor.size, actual: size })
            }
            found => Ok(found.map(|(digest, _)| digest)),
        }
    }

    fn find(&self, options: &ImportOptions) -> Result<Vec<Found>> {
        let saved = self.saved_images()?;
        let mut found = match self.blob("index.json")? {
            Some((digest, size)) if self.blob("oci-layout")?.is_some() => {
                let index: Index = self.document("index", &Descriptor::new(media_type::OCI_INDEX, digest, size))?;
                self.find_in_layout(&index, options)?
            }
            _ if saved.is_some() => Vec::new(),
            _ => return Err(Error::corrupt("neither an OCI layout (index.json) nor a Docker archive (manifest.json)")),
        };
        for image in saved.into_iter().flatten() {
            let names = saved_names(&image)?;
            let config_blob = self.blob(&image.config)?;
            let Some(config) = config_blob else {
                return Err(Error::corrupt(format!("archive lacks the config {:?}", image.config)));
            };
            // An archive of both sorts tells each image twice; the names of both count.
            match found.iter_mut().find(|found| found.manifest.config.digest == config.0) {
                Some(known) => known.names.extend(names),
                None => found.push(self.find_saved(&image, config, names)?),
            }
        }
        Ok(found)
    }

    /// `manifest.json` of `docker save`, if there is one.
    fn saved_images(&self) -> Result<Option<Vec<SavedImage>>> {
        let Some((digest, size)) = self.blob("manifest.json")? else { return Ok(None) };
        self.document("manifest.json", &Descriptor::new("", digest, size)).map(Some)
    }

    fn document<T: serde::de::DeserializeOwned>(&self, what: &str, descriptor: &Descriptor) -> Result<T> {
        if descriptor.size > DOCUMENT_LENGTH_MAX {
            return Err(Error::corrupt(format!("{what} is longer than {DOCUMENT_LENGTH_MAX} bytes")));
        }
        read_json(&self.images.0.blobs, what, descriptor)
    }

    fn find_saved(&self, image: &SavedImage, config: (Digest, u64), names: Vec<String>) -> Result<Found> {
        let descriptor = Descriptor::new(media_type::DOCKER_CONFIG, config.0, config.1);
        let parsed: ImageConfig = self.document("image config", &descriptor)?;
        let layers = image.layers.iter().map(|layer| match self.blob(layer)? {
            Some((digest, size)) => Ok(Descriptor::new(media_type::DOCKER_LAYER, digest, size)),
            None => Err(Error::corrupt(format!("archive lacks the layer {layer:?}"))),
        });
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::DOCKER_MANIFEST.to_owned(),
            config: descriptor,
            layers: layers.collect::<Result<_>>()?,
        };
        let text =
            serde_json::to_vec(&manifest).map_err(|source| Error::Json { what: "manifest".to_owned(), source })?;
        self.lease.hold_blob(&Digest::of(&text));
        let digest = self.images.0.blobs.put(&text)?;
        let documents = vec![digest, manifest.config.digest.clone()];
        checked(Found { documents, manifest, config: parsed, names })
    }

    fn find_in_layout(&self, index: &Index, options: &ImportOptions) -> Result<Vec<Found>> {
        let host = platform::host();
        let mut found: Vec<Found> = Vec::new();
        let mut refused = None;
        for descriptor in &index.manifests {
            if descriptor.platform.as_ref().is_some_and(|platform| !platform::runs(platform, &host)) {
                refused = Some(Error::NoMatchingPlatform { digest: descriptor.digest.clone() });
                continue;
            }
            let mut documents = Vec::new();
            let manifest = match self.manifest(descriptor, &mut documents, 0) {
                Err(error @ Error::NoMatchingPlatform { .. }) => {
                    refused = Some(error);
                    continue;
                }
                other => other?,
            };
            let names = layout_names(descriptor, options)?;
            match found.iter_mut().find(|known| known.manifest.config.digest == manifest.config.digest) {
                Some(known) => known.names.extend(names),
                None => {
                    let config = self.document("image config", &manifest.config)?;
                    found.push(checked(Found { documents, manifest, config, names })?);
                }
            }
        }
        match refused {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    /// Follows an index to the manifest for this machine and brings all its content in.
    fn manifest(&self, descriptor: &Descriptor, documents: &mut Vec<Digest>, depth: usize) -> Result<Manifest> {
        let lacks = |digest: &Digest| Error::corrupt(format!("layout lacks the content {digest}"));
        let digest = self.content(descriptor)?.ok_or_else(|| lacks(&descriptor.digest))?;
        documents.push(digest);
        if descriptor.is_index() {
            if depth == INDEX_DEPTH_MAX {
                return Err(Error::corrupt("indexes are nested too deep"));
            }
            let index: Index = self.document("index", descriptor)?;
            // docker save keeps the whole index of an image but only one platform's content.
            let mut present = Vec::new();
            for manifest in index.manifests {
                if self.content(&manifest)?.is_some() {
                    present.push(manifest);
                }
            }
            let picked = platform::pick(&present, &platform::host())
                .ok_or_else(|| Error::NoMatchingPlatform { digest: descriptor.digest.clone() })?;
            return self.manifest(picked, documents, depth + 1);
        }
        let manifest: Manifest = self.document("manifest", descriptor)?;
        for content in std::iter::once(&manifest.config).chain(&manifest.layers) {
            self.content(content)?.ok_or_else(|| lacks(&content.digest))?;
        }
        documents.push(manifest.config.digest.clone());
        Ok(manifest)
    }
}

/// An image whose config and manifest tell of the same layers.
fn checked(found: Found) -> Result<Found> {
    let (layers, diff_ids) = (found.manifest.layers.len(), found.config.rootfs.diff_ids.len());
    if layers == diff_ids {
        return Ok(found);
    }
    Err(Error::corrupt(format!("mismatched image rootfs and manifest layers: {diff_ids} and {layers}")))
}

fn saved_names(image: &SavedImage) -> Result<Vec<String>> {
    image
        .repo_tags
        .iter()
        .flatten()
        .map(|name| crate::store::parse_reference(name).map(|name| name.canonical()))
        .collect()
}

fn layout_names(descriptor: &Descriptor, options: &ImportOptions) -> Result<Vec<String>> {
    let note = |key| descriptor.annotations.get(key).filter(|value: &&String| !value.is_empty());
    if let Some(name) = note(NAME_ANNOTATION) {
        return Ok(vec![crate::store::parse_reference(name)?.canonical()]);
    }
    let Some(name) = note(REF_NAME_ANNOTATION) else { return Ok(Vec::new()) };
    // A name has a tag, a digest or a path; a bare word is a tag of a name that only the caller knows.
    if name.contains([':', '/', '@']) {
        // Notes of other tools may be anything: what is no name gives none.
        return Ok(Reference::parse(name).into_iter().map(|name| name.canonical()).collect());
    }
    match &options.base_name {
        Some(base) => Ok(vec![crate::store::parse_reference(&format!("{base}:{name}"))?.canonical()]),
        None => Ok(Vec::new()),
    }
}

/// `blobs/sha256/<hex>` promises what it holds.
fn digest_of_path(path: &str) -> Option<Digest> {
    let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
    Digest::parse(&format!("{algorithm}:{hex}")).ok()
}

/// A member's name without `.`, `..` and needless slashes.
fn plain_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
