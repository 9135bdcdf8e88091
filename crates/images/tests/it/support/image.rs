//! Images made in memory: layers, config and manifest, as archives or for a registry.

use std::io::Write;

use images::Digest;
use serde_json::{Value, json};

use super::tarball::Tar;

/// How a layer is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    pub(crate) fn pack(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Packing::Plain => bytes.to_vec(),
            Packing::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Packing::Zstd => ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest),
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Packing::Plain => "",
            Packing::Gzip => "+gzip",
            Packing::Zstd => "+zstd",
        }
    }
}

/// An image in memory.
#[derive(Clone)]
pub(crate) struct TestImage {
    pub(crate) config: Vec<u8>,
    /// Packed and plain.
    pub(crate) layers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) manifest: Vec<u8>,
}

impl TestImage {
    /// An image of some layers, all packed alike.
    pub(crate) fn new(layers: &[Vec<u8>], packing: Packing) -> TestImage {
        TestImage::with_config(layers, packing, json!({"Cmd": ["sh"], "Env": ["A=1"]}), ("linux", "amd64"))
    }

    pub(crate) fn with_config(layers: &[Vec<u8>], packing: Packing, run: Value, platform: (&str, &str)) -> TestImage {
        let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
        let config = json!({
            "os": platform.0, "architecture": platform.1, "config": run,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string().into_bytes();
        let layers: Vec<(Vec<u8>, Vec<u8>)> = layers.iter().map(|layer| (packing.pack(layer), layer.clone())).collect();
        let layer_type = format!("application/vnd.oci.image.layer.v1.tar{}", packing.suffix());
        let described: Vec<Value> = layers.iter().map(|(packed, _)| descriptor(&layer_type, packed)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": described,
        });
        TestImage { config, layers, manifest: manifest.to_string().into_bytes() }
    }

    pub(crate) fn id(&self) -> Digest {
        Digest::of(&self.config)
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// Every blob of the image but its manifest.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.config.as_slice()).chain(self.layers.iter().map(|(packed, _)| packed.as_slice()))
    }
}

/// What `docker save` wrote before version 25.
pub(crate) fn docker_archive(images: &[(&TestImage, &[&str])]) -> Vec<u8> {
    let mut tar = Tar::new();
    let mut list = Vec::new();
    for (image, names) in images {
        let config = format!("{}.json", image.id().hex());
        tar = tar.file(&config, &image.config);
        let mut layers = Vec::new();
        for (_, plain) in &image.layers {
            let name = format!("{}/layer.tar", Digest::of(plain).hex());
            tar = tar.file(&name, plain);
            layers.push(name);
        }
        list.push(json!({"Config": config, "RepoTags": names, "Layers": layers}));
    }
    tar.file("manifest.json", Value::Array(list).to_string().as_bytes()).finish()
}

/// An OCI layout's files, with any index.
pub(crate) fn layout_files(index: &Value, content: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), index.to_string().into_bytes()),
    ];
    files.extend(content.iter().map(|bytes| (format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes.to_vec())));
    files
}

/// The OCI layout of one image with an annotation for its name.
pub(crate) fn layout(image: &TestImage, annotations: Value) -> Vec<(String, Vec<u8>)> {
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &image.manifest);
    entry["annotations"] = annotations;
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    let content: Vec<&[u8]> = image.blobs().chain(std::iter::once(image.manifest.as_slice())).collect();
    layout_files(&index, &content)
}

pub(crate) fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    files.iter().fold(Tar::new(), |tar, (name, content)| tar.file(name, content)).finish()
}

pub(crate) fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(content).as_str(), "size": content.len()})
}
