//! The body of a list: encoded piece by piece, as it is sent.
//!
//! A list of megabytes is never in memory as a whole: what is encoded is sent while it is still in the processor's
//! cache. A short list, which is one piece, is an answer like any other.

use std::io::Write as _;
use std::sync::Arc;

use api_schema::{SmolStr, Value, format_smolstr};
use api_semantics::status::Status;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use registry::codec;
use watch_cache::Object;

use crate::api::Content;
use crate::encode::{ListMeta, Show, Source, finish};
use crate::negotiate::Encoding;

/// A piece is sent once it is this large.
const PIECE_BYTES: usize = 64 * 1024;
/// What is larger than this is sent in pieces, and compressed for those who accept it (upstream's limit).
pub(crate) const WHOLE_BYTES_MAX: usize = 128 * 1024;
/// Room for the object that makes a piece large enough.
const PIECE_SLACK: usize = 8 * 1024;

/// An object of a list.
#[derive(Debug)]
pub enum Item {
    /// As it is stored.
    Stored(Arc<Object>),
    /// A tree in the stored version.
    Tree(Value),
    /// A protobuf message in the version that is served, without envelope.
    Message(Vec<u8>),
}

impl Item {
    /// Where its content comes from.
    pub(crate) fn source(&self) -> Source<'_> {
        match self {
            Self::Stored(object) => Source::from(&**object),
            Self::Tree(value) => Source::Tree(value),
            // Only this file makes messages, and it does not ask for their source.
            Self::Message(_) => Source::Tree(&Value::Null),
        }
    }

    /// The length of its protobuf message; a tree has none yet.
    fn message_len(&self) -> usize {
        match self {
            Self::Stored(object) => object.index.stamp.message_len(object.revision),
            Self::Tree(_) => 0,
            Self::Message(message) => message.len(),
        }
    }

    fn put_message(&self, out: &mut Vec<u8>) {
        match self {
            Self::Stored(object) => object.index.stamp.put_message(&object.bytes, object.revision, out),
            Self::Tree(_) => {}
            Self::Message(message) => out.extend_from_slice(message),
        }
    }

    fn stored_len(&self) -> usize {
        match self {
            Self::Stored(object) => object.bytes.len(),
            Self::Tree(_) => 0,
            Self::Message(message) => message.len(),
        }
    }
}

/// A stored object could not be read once half of the list was sent: all that is left is to break off.
#[derive(Debug, thiserror::Error)]
#[error("an object of the list could not be shown")]
pub struct Broken;

/// A list on its way.
#[derive(Debug)]
pub struct ListBody {
    show: Show,
    kind: SmolStr,
    metadata: ListMeta,
    items: std::vec::IntoIter<Item>,
    /// Written, not yet sent.
    ready: Vec<u8>,
    /// How many bytes are yet to come, where that is known.
    left: Option<u64>,
    gzip: Option<GzEncoder<Vec<u8>>>,
    stage: Stage,
    /// Some of it was sent before all of it was written.
    in_pieces: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    FirstItem,
    Items,
    Done,
}

impl ListBody {
    /// Begins a list of items that are shown without transformation.
    fn new(show: Show, mut items: Vec<Item>, metadata: ListMeta) -> Result<Self, Status> {
        let kind = format_smolstr!("{}List", show.served.info.kind);
        // JSON has about 1.6 times the bytes of protobuf.
        let about = items.iter().map(Item::stored_len).sum::<usize>() * 8 / 5;
        let mut ready = Vec::with_capacity(about.min(WHOLE_BYTES_MAX) + PIECE_SLACK);
        let mut left = None;
        if show.form.encoding == Encoding::Protobuf {
            // Lengths come first: what is not stored as it is shown has to be written to know its length.
            for item in items.iter_mut().filter(|item| !(show.is_direct() && matches!(item, Item::Stored(_)))) {
                *item = Item::Message(show.raw_message(item.source())?);
            }
            let lengths = items.iter().map(Item::message_len);
            codec::list_protobuf_head(&show.served, &kind, metadata.view(), lengths.clone(), &mut ready);
            let mut tail = Vec::new();
            codec::list_protobuf_tail(&mut tail);
            let items: usize = lengths.map(codec::list_protobuf_item_len).sum();
            left = Some((ready.len() + items + tail.len()) as u64);
        } else {
            codec::list_json_head(&show.served, &kind, metadata.view(), &mut ready);
        }
        let (items, stage) = (items.into_iter(), Stage::FirstItem);
        Ok(Self { show, kind, metadata, items, ready, left, gzip: None, stage, in_pieces: false })
    }

    /// The answer's content: a list that is short, or wanted in a form that cannot be made piece by piece, is whole.
    pub(crate) fn content(show: Show, items: Vec<Item>, metadata: ListMeta) -> Result<Content, Status> {
        let form = show.form;
        let mut list = Self::new(show, items, metadata)?;
        let in_pieces = match form.encoding {
            Encoding::Protobuf => true,
            Encoding::Json => !form.pretty,
            Encoding::Yaml => false,
        };
        list.fill(if in_pieces { WHOLE_BYTES_MAX + 1 } else { usize::MAX })?;
        if list.stage == Stage::Done {
            return Ok(Content::Whole(finish(form, list.ready)?));
        }
        list.in_pieces = true;
        Ok(Content::List(Box::new(list)))
    }

    /// Sends it compressed. The length is not known then.
    pub(crate) fn compress(&mut self) {
        self.gzip = Some(GzEncoder::new(Vec::with_capacity(PIECE_BYTES), Compression::fast()));
        self.left = None;
    }

    /// How many bytes are yet to come, where that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        self.left
    }

    /// The next piece; none at the end.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            if self.ready.is_empty() {
                if self.stage == Stage::Done {
                    return self.end_of_gzip();
                }
                self.ready = Vec::with_capacity(PIECE_BYTES + PIECE_SLACK);
                self.fill(PIECE_BYTES).map_err(|status| {
                    tracing::error!(error = %status.message, "a list is broken off");
                    Broken
                })?;
            }
            let piece = std::mem::take(&mut self.ready);
            let Some(gzip) = &mut self.gzip else {
                self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
                return Ok(Some(piece.into()));
            };
            // It writes into memory, and that does not fail.
            gzip.write_all(&piece).map_err(|_| Broken)?;
            if gzip.get_ref().len() >= PIECE_BYTES {
                return Ok(Some(std::mem::take(gzip.get_mut()).into()));
            }
        }
    }

    fn end_of_gzip(&mut self) -> Result<Option<Bytes>, Broken> {
        let Some(gzip) = self.gzip.take() else { return Ok(None) };
        Ok(Some(gzip.finish().map_err(|_| Broken)?.into()))
    }

    /// Writes items until there are so many bytes, and the end of the list behind the last one.
    fn fill(&mut self, bytes_min: usize) -> Result<(), Status> {
        while self.ready.len() < bytes_min {
            let Some(item) = self.items.next() else {
                self.stage = Stage::Done;
                if self.show.form.encoding == Encoding::Protobuf {
                    codec::list_protobuf_tail(&mut self.ready);
                } else {
                    codec::list_json_tail(&self.show.served, &self.kind, self.metadata.view(), &mut self.ready);
                    if self.in_pieces {
                        self.ready.push(b'\n');
                    }
                }
                return Ok(());
            };
            if self.show.form.encoding == Encoding::Protobuf {
                codec::list_protobuf_item_head(item.message_len(), &mut self.ready);
                item.put_message(&mut self.ready);
            } else {
                if self.stage == Stage::Items {
                    self.ready.push(b',');
                }
                self.show.write_item(item.source(), &mut self.ready)?;
            }
            self.stage = Stage::Items;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::path::Path;

    use registry::{Hooks, Registry, Served, Services};
    use world::{ManualClock, SeededRandom, SimDisk, Timestamp, World};

    use super::*;
    use crate::negotiate::Form;

    async fn config_maps() -> Arc<Served> {
        let world = World {
            clock: Arc::new(ManualClock::new(Timestamp::default())),
            random: Arc::new(SeededRandom::new(1)),
            disk: SimDisk::new(1).attach(),
        };
        let store = store_embedded::EmbeddedStore::open(&world, Path::new("/data"), Default::default());
        let hooks = Hooks::new(Services::new(Vec::new(), 30_000..=32_767));
        let all = |resource: &api_types::Resource| resource.resource == "configmaps";
        let store = Arc::new(store.expect("a store"));
        let registry = Registry::start(store, world, Default::default(), hooks, Vec::new(), all).await;
        registry.expect("started").served("", "v1", "configmaps").expect("served")
    }

    fn item(served: &Served, revision: u64, bytes: Bytes) -> Item {
        let index = served.storage.cache.index(&bytes).expect("an object");
        Item::Stored(Arc::new(Object { revision, bytes, index }))
    }

    fn items(served: &Served, count: usize) -> Vec<Item> {
        let object = |number: usize| {
            let mut object = Value::from([("apiVersion", "v1"), ("kind", "ConfigMap")]);
            object.set(&["metadata", "name"], format_smolstr!("c{number}"));
            object.set(&["data", "text"], SmolStr::from("x".repeat(1000)));
            let bytes = codec::encode_stored(&served.storage, &object).expect("encoded");
            item(served, number as u64 + 1, bytes)
        };
        (0..count).map(object).collect()
    }

    fn show(served: &Arc<Served>, encoding: Encoding) -> Show {
        let form = Form { encoding, ..Form::JSON };
        Show { served: Arc::clone(served), form, include: Default::default(), now: 0 }
    }

    /// All bytes of a list, and in how many pieces they came.
    fn sent(content: Content, compressed: bool) -> (usize, Vec<u8>) {
        match content {
            Content::Whole(bytes) => (1, bytes.into()),
            Content::List(mut list) => {
                if compressed {
                    list.compress();
                }
                let (mut pieces, mut all, expected) = (0, Vec::new(), list.left());
                while let Some(piece) = list.next_piece().expect("good objects") {
                    pieces += 1;
                    all.extend_from_slice(&piece);
                    assert_eq!(list.left(), expected.map(|total| total - all.len() as u64));
                }
                (pieces, all)
            }
            Content::Watch(_) => panic!("no watch was asked for"),
        }
    }

    fn decoded(bytes: &[u8]) -> Value {
        let ty = api_codec::builtin().find("io.k8s.api.core.v1.ConfigMapList").expect("a type");
        match api_codec::proto::envelope::is_enveloped(bytes) {
            true => api_codec::proto::decode_object(ty, bytes).expect("protobuf"),
            false => api_codec::json::decode(Some(ty), bytes, api_codec::json::Options::STRICT).expect("JSON").value,
        }
    }

    #[tokio::test]
    async fn lists_say_the_same_in_any_form_and_in_any_number_of_pieces() {
        let served = config_maps().await;
        for (count, in_pieces) in [(0, false), (1, false), (3, false), (1000, true)] {
            let metadata = ListMeta::new(7, "next".to_owned(), Some(3));
            let list = |encoding, compressed| {
                let content = show(&served, encoding).list(items(&served, count), metadata.clone()).expect("a list");
                let (pieces, bytes) = sent(content, compressed);
                assert!(compressed || (pieces > 1) == in_pieces, "{count} in {pieces}");
                bytes
            };
            let json = list(Encoding::Json, false);
            assert!(json.ends_with(b"}\n"));
            let expected = decoded(&json);
            assert_eq!(expected.list_at(&["items"]).len(), count);
            assert_eq!(expected.str_at(&["metadata", "continue"]), "next");
            for (number, item) in expected.list_at(&["items"]).iter().enumerate() {
                assert_eq!(item.str_at(&["metadata", "resourceVersion"]), (number + 1).to_string());
                assert_eq!(item.str_at(&["metadata", "name"]), format!("c{number}"));
            }
            let mut read = decoded(&list(Encoding::Protobuf, false));
            if count == 0 {
                // Protobuf does not tell an empty list from none.
                read.set(&["items"], Vec::<Value>::new());
            }
            assert_eq!(read, expected);
            if in_pieces {
                for encoding in [Encoding::Json, Encoding::Protobuf] {
                    let mut unpacked = Vec::new();
                    let packed = list(encoding, true);
                    flate2::read::GzDecoder::new(&*packed).read_to_end(&mut unpacked).expect("gzip");
                    assert!(packed.len() < unpacked.len() / 4);
                    assert_eq!(unpacked, list(encoding, false));
                }
            }
            let trees = expected.list_at(&["items"]).iter().cloned().map(Item::Tree).collect();
            let (_, bytes) = sent(show(&served, Encoding::Protobuf).list(trees, metadata).expect("a list"), false);
            assert_eq!(decoded(&bytes).list_at(&["items"]), expected.list_at(&["items"]));
        }
    }

    #[tokio::test]
    async fn an_object_that_cannot_be_shown_fails_the_list_or_breaks_it_off() {
        let served = config_maps().await;
        let bad = |items: &mut Vec<Item>| {
            // Metadata that reads well, and data that does not.
            let message = [&[0x0a, 3, 0x0a, 1, b'n'][..], &[0x12, 3, 0x0a, 9, 9]].concat();
            let bytes = api_codec::proto::envelope::wrap("v1", "ConfigMap", &message);
            items.push(item(&served, 1, bytes.into()));
        };
        let mut short = items(&served, 1);
        bad(&mut short);
        let refused = show(&served, Encoding::Json).list(short, ListMeta::default());
        assert_eq!(refused.err().map(|status| status.code), Some(500));
        let mut long = items(&served, 500);
        bad(&mut long);
        let Ok(Content::List(mut list)) = show(&served, Encoding::Json).list(long, ListMeta::default()) else {
            panic!("it begins well")
        };
        let broken = std::iter::repeat_with(|| list.next_piece()).find(|piece| !matches!(piece, Ok(Some(_))));
        assert!(matches!(broken, Some(Err(Broken))));
    }
}
