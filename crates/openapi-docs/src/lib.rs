//! The descriptions of API types and fields, for OpenAPI and `kubectl explain`.
//!
//! The sentences are Kubernetes' own. They are not kept in this repository: the build script takes them from the
//! sources of the crate `k8s-openapi` and leaves one compressed blob, which this crate unpacks on demand.

use std::io::Read;

static BLOB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.deflate"));

/// Stands for a line break inside of a description.
const LINE_BREAK: char = '\u{1}';

/// All descriptions, unpacked: about a megabyte. Drop it when the document is built.
#[derive(Debug)]
pub struct Descriptions {
    /// Lines `type TAB field TAB description`, sorted; the field of a type's own description is empty.
    text: String,
    /// Where each line starts.
    lines: Vec<u32>,
}

impl Descriptions {
    /// Unpacks the blob, which takes a few milliseconds.
    pub fn unpack() -> Self {
        let mut text = String::new();
        flate2::read::DeflateDecoder::new(BLOB)
            .read_to_string(&mut text)
            .expect("the build script packed UTF-8 text into the blob");
        let mut start = 0;
        let lines = text
            .split_inclusive('\n')
            .map(|line| {
                let at = start;
                start += line.len() as u32;
                at
            })
            .collect();
        Self { text, lines }
    }

    /// The description of a field by the full name of its type and its JSON name; of the type itself if the field
    /// is empty.
    pub fn get(&self, type_name: &str, field: &str) -> Option<String> {
        let found = self.lines.binary_search_by(|&start| {
            let (ty, name, _) = self.line(start);
            (ty, name).cmp(&(type_name, field))
        });
        let (_, _, description) = self.line(self.lines[found.ok()?]);
        Some(description.replace(LINE_BREAK, "\n"))
    }

    /// How many types and fields are described.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether nothing is described, which the build script rules out.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn line(&self, start: u32) -> (&str, &str, &str) {
        let rest = &self.text[start as usize..];
        let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
        let mut parts = line.splitn(3, '\t');
        let mut next = || parts.next().unwrap_or_default();
        (next(), next(), next())
    }
}

/// One description, for callers that need no more than one: it unpacks all of them. See [`Descriptions::get`].
pub fn description(type_name: &str, field: &str) -> Option<String> {
    Descriptions::unpack().get(type_name, field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_types_are_described() {
        let descriptions = Descriptions::unpack();
        for (ty, field, part) in [
            ("io.k8s.api.core.v1.Container", "imagePullPolicy", "Image pull policy"),
            ("io.k8s.api.core.v1.PodSpec", "restartPolicy", "Restart policy"),
            ("io.k8s.api.apps.v1.Deployment", "", "Deployment enables"),
            ("io.k8s.apimachinery.pkg.api.resource.Quantity", "", "fixed-point"),
            ("io.k8s.apimachinery.pkg.apis.meta.v1.Time", "", "wrapper"),
            ("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "ownerReferences", "List of objects"),
            ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps", "default", "default"),
        ] {
            let text = descriptions.get(ty, field).unwrap_or_default();
            assert!(text.contains(part), "{ty} {field}: {text:?}");
        }
        assert_eq!(descriptions.get("io.k8s.api.core.v1.Container", "nonsense"), None);
        assert!(descriptions.len() > 3000, "only {} are described", descriptions.len());
    }

    #[test]
    fn rustdoc_escapes_are_undone() {
        let descriptions = Descriptions::unpack();
        for start in &descriptions.lines {
            let (ty, field, text) = descriptions.line(*start);
            assert!(!text.contains("\\[") && !text.contains("\\<"), "{ty} {field}: {text}");
        }
    }
}
