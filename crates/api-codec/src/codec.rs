//! A schema prepared for coding: field names with their quotes, tags as direct indexes, zero values ready made.

use std::collections::HashMap;

use api_schema::{Field, Map, Schema, SmolStr, StructId, Type, Value};

/// The field numbers that a [`StructPlan`] indexes directly; no type of the API comes near it.
const TAG_MAX: u32 = 4096;

/// The type of every object's metadata.
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// A [`Schema`] compiled for the readers and writers of this crate.
#[derive(Debug)]
pub struct Codec {
    pub(crate) structs: Vec<StructPlan>,
    by_id: HashMap<StructId, u32>,
    by_name: HashMap<SmolStr, u32>,
}

/// One type of a [`Codec`]: what the functions of this crate take to know the shape of an object.
#[derive(Clone, Copy, Debug)]
pub struct TypeCodec<'a> {
    pub(crate) codec: &'a Codec,
    pub(crate) plan: &'a StructPlan,
}

/// One struct, with the fields of flattened structs in their places.
#[derive(Debug, Default)]
pub(crate) struct StructPlan {
    /// The full name, `io.k8s.api.core.v1.Pod`.
    pub(crate) name: SmolStr,
    /// All JSON fields in declared order.
    pub(crate) fields: Vec<FieldPlan>,
    /// The same by name: a position here is a field's rank, the order of the tree.
    pub(crate) sorted: Vec<(SmolStr, u16)>,
    /// The fields that Go shows even when absent, by rank, with what it shows.
    pub(crate) filled: Vec<(u16, Value)>,
    /// The order in which JSON shows the fields of this message and of those nested in it.
    pub(crate) parts: Vec<Part>,
    /// The members of the protobuf message, by rising tag.
    pub(crate) members: Vec<Member>,
    /// Tag to the position in `members` plus one; 0 is unknown.
    pub(crate) by_tag: Vec<u16>,
    /// Tag to where the field stands in `parts`, for whoever writes JSON; empty if there are more parts than bits in
    /// a word.
    pub(crate) slots: Vec<Slot>,
    /// The parts that write something when the message has nothing of them: bit by position.
    pub(crate) always: u64,
    /// The position in `parts` of ObjectMeta's resourceVersion, as a bit; 0 in all other structs.
    pub(crate) version: u64,
    /// Whether unlisted JSON fields are kept.
    pub(crate) preserve_unknown: bool,
    /// Whether the struct begins with `kind` and `apiVersion` of the envelope.
    pub(crate) has_type_meta: bool,
    /// The struct with nothing set, as a tree.
    pub(crate) zero: Value,
}

/// One JSON field.
#[derive(Debug)]
pub(crate) struct FieldPlan {
    pub(crate) name: SmolStr,
    /// `"name":`
    pub(crate) key: Box<str>,
    /// `"name":"`
    pub(crate) key_of_string: Box<str>,
    /// The struct that declares the field.
    pub(crate) owner: SmolStr,
    pub(crate) kind: Kind,
    pub(crate) pointer: bool,
    /// A zero value is left out.
    pub(crate) omit_zero: bool,
    /// Where it stands by name.
    pub(crate) rank: u16,
    /// What Go shows when it is absent, as JSON with key and comma: `"containers":null,`; empty if nothing.
    pub(crate) absent: Box<str>,
}

/// A piece of a message, in the order of JSON output.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// The field at this position of `fields`; `key` is the tag with the wire type that Go writes.
    Field { at: u16, key: u32 },
    /// A nested message whose fields are flattened here.
    Inline { plan: u32 },
}

/// Where the JSON writer puts the field with a tag.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    /// The tag with the wire type that Go writes; 0 for a tag that is unknown.
    pub(crate) key: u32,
    /// The position in `parts`.
    pub(crate) place: u8,
    /// Whether each item of the field has the tag.
    pub(crate) repeats: bool,
}

/// A piece of a message, in the order of tags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) tag: u32,
    /// The tag with the wire type that Go writes.
    pub(crate) key: u32,
    /// Whether each item of the field has the tag.
    pub(crate) repeats: bool,
    pub(crate) part: MemberPart,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum MemberPart {
    /// The field at this position of `fields`.
    Field(u16),
    /// A nested message whose fields begin at this position of `fields`.
    Inline { plan: u32, first: u16 },
}

/// [`Type`], with structs as positions.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    String,
    Bool,
    Int32,
    Int64,
    Double,
    Bytes,
    Time,
    MicroTime,
    Duration,
    Quantity,
    IntOrString,
    FieldsV1,
    RawExtension,
    Json,
    SchemaOrArray(u32),
    SchemaOrBool(u32),
    SchemaOrStrings(u32),
    Any,
    Struct(u32),
    List(Box<Kind>),
    Wrapped(Box<Kind>),
    Map(Box<Kind>),
}

impl Codec {
    /// Prepares every struct of a schema.
    pub fn new(schema: &Schema) -> Self {
        let by_id: HashMap<_, _> = schema.structs().enumerate().map(|(at, (id, _))| (id, at as u32)).collect();
        let by_name = schema.structs().enumerate().map(|(at, (_, ty))| (ty.name.clone(), at as u32)).collect();
        let compiler = Compiler { schema, by_id: &by_id };
        let mut structs: Vec<_> = schema.structs().map(|(id, _)| compiler.plan(id)).collect();
        for at in 0..structs.len() {
            fill(&mut structs, at);
        }
        Self { structs, by_id, by_name }
    }

    /// The codec of a struct.
    ///
    /// # Panics
    /// If the id is not of the schema that this was made from.
    pub fn of(&self, id: StructId) -> TypeCodec<'_> {
        self.at(self.by_id[&id])
    }

    /// The codec of a struct by its full name.
    pub fn find(&self, name: &str) -> Option<TypeCodec<'_>> {
        self.by_name.get(name).map(|at| self.at(*at))
    }

    /// The codecs of all structs, in the order of the schema.
    pub fn types(&self) -> impl Iterator<Item = TypeCodec<'_>> {
        self.structs.iter().map(|plan| TypeCodec { codec: self, plan })
    }

    fn at(&self, at: u32) -> TypeCodec<'_> {
        TypeCodec { codec: self, plan: self.plan(at) }
    }

    pub(crate) fn plan(&self, at: u32) -> &StructPlan {
        &self.structs[at as usize]
    }
}

impl<'a> TypeCodec<'a> {
    /// The full name of the type, `io.k8s.api.core.v1.Pod`.
    pub fn name(self) -> &'a str {
        &self.plan.name
    }

    /// The object with nothing set, as Go would show it: `{"metadata":{},"spec":{...}}`.
    pub fn zero(self) -> Value {
        self.plan.zero.clone()
    }
}

impl StructPlan {
    /// The position in `fields` of a JSON name.
    pub(crate) fn field_named(&self, name: &str) -> Option<u16> {
        self.sorted.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok().map(|rank| self.sorted[rank].1)
    }

    /// The member with a protobuf tag.
    pub(crate) fn member(&self, tag: u32) -> Option<(u16, MemberPart)> {
        match self.by_tag.get(tag as usize) {
            None | Some(0) => None,
            Some(at) => Some((at - 1, self.members[usize::from(at - 1)].part)),
        }
    }

    /// The name without its package, `Pod`.
    pub(crate) fn short_name(&self) -> &str {
        short_name(&self.name)
    }
}

/// The last part of a type's full name.
pub(crate) fn short_name(full_name: &str) -> &str {
    full_name.rsplit('.').next().unwrap_or_default()
}

impl Kind {
    /// Whether Go's zero value of it is dropped by `omitempty`.
    fn can_be_empty(&self) -> bool {
        !matches!(
            self,
            Self::Time
                | Self::MicroTime
                | Self::Duration
                | Self::Quantity
                | Self::IntOrString
                | Self::FieldsV1
                | Self::RawExtension
                | Self::Json
                | Self::SchemaOrArray(_)
                | Self::SchemaOrBool(_)
                | Self::SchemaOrStrings(_)
                | Self::Struct(_)
        )
    }

    /// How protobuf writes it: 0 as a varint, 1 in eight bytes, 2 with its length.
    pub(crate) fn wire_type(&self) -> u32 {
        match self {
            Self::Bool | Self::Int32 | Self::Int64 => 0,
            Self::Double => 1,
            Self::List(item) => item.wire_type(),
            _ => 2,
        }
    }
}

struct Compiler<'a> {
    schema: &'a Schema,
    by_id: &'a HashMap<StructId, u32>,
}

impl Compiler<'_> {
    fn plan(&self, id: StructId) -> StructPlan {
        let ty = self.schema.get(id);
        let mut plan =
            StructPlan { name: ty.name.clone(), preserve_unknown: ty.preserve_unknown, ..StructPlan::default() };
        let mut parts = Vec::new();
        let type_meta = type_meta_fields(&ty.fields);
        plan.has_type_meta = type_meta > 0;
        for (index, field) in ty.fields.iter().enumerate() {
            let tag = if index < type_meta || field.tag > TAG_MAX { 0 } else { field.tag };
            match field.ty {
                Type::Struct(inner) if field.inline => {
                    let first = plan.fields.len() as u16;
                    let inner_at = self.by_id[&inner];
                    plan.fields.extend(self.plan(inner).fields);
                    parts.push((tag, MemberPart::Inline { plan: inner_at, first }));
                }
                _ => {
                    parts.push((tag, MemberPart::Field(plan.fields.len() as u16)));
                    plan.fields.push(self.field(&ty.name, field));
                }
            }
        }
        plan.members = parts
            .iter()
            .filter(|(tag, _)| *tag != 0)
            .map(|&(tag, part)| {
                let kind = match part {
                    MemberPart::Field(at) => Some(&plan.fields[usize::from(at)].kind),
                    MemberPart::Inline { .. } => None,
                };
                let repeats = matches!(kind, Some(Kind::List(_) | Kind::Map(_)));
                Member { tag, key: tag << 3 | kind.map_or(2, Kind::wire_type), repeats, part }
            })
            .collect();
        plan.members.sort_by_key(|member| member.tag);
        plan.by_tag = vec![0; plan.members.last().map_or(0, |member| member.tag as usize + 1)];
        for (at, member) in plan.members.iter().enumerate() {
            plan.by_tag[member.tag as usize] = at as u16 + 1;
        }
        plan.parts = parts
            .iter()
            .map(|&(tag, part)| {
                let member = if tag == 0 { 0 } else { plan.by_tag[tag as usize] };
                match part {
                    MemberPart::Field(at) => {
                        let key = member.checked_sub(1).map_or(0, |member| plan.members[usize::from(member)].key);
                        Part::Field { at, key }
                    }
                    MemberPart::Inline { plan, .. } => Part::Inline { plan },
                }
            })
            .collect();
        if parts.len() <= u64::BITS as usize {
            plan.slots = vec![Slot::default(); plan.by_tag.len()];
            for (place, (tag, _)) in parts.iter().enumerate().filter(|(_, (tag, _))| *tag != 0) {
                let Member { key, repeats, .. } = plan.members[usize::from(plan.by_tag[*tag as usize] - 1)];
                plan.slots[*tag as usize] = Slot { key, place: place as u8, repeats };
            }
        }
        plan.sorted = plan.fields.iter().enumerate().map(|(at, field)| (field.name.clone(), at as u16)).collect();
        plan.sorted.sort();
        for (rank, (_, at)) in plan.sorted.iter().enumerate() {
            plan.fields[usize::from(*at)].rank = rank as u16;
        }
        plan
    }

    fn field(&self, owner: &SmolStr, field: &Field) -> FieldPlan {
        let kind = self.kind(&field.ty);
        // Go's `omitzero`: of all API types only this field has it.
        let omit_zero_time = field.json == "creationTimestamp" && matches!(kind, Kind::Time) && field.omitempty;
        FieldPlan {
            key: format!("\"{}\":", field.json).into(),
            key_of_string: format!("\"{}\":\"", field.json).into(),
            name: field.json.clone(),
            owner: owner.clone(),
            pointer: field.pointer,
            omit_zero: field.omitempty && (field.pointer || kind.can_be_empty() || omit_zero_time),
            rank: 0,
            absent: "".into(),
            kind,
        }
    }

    fn kind(&self, ty: &Type) -> Kind {
        match ty {
            Type::String => Kind::String,
            Type::Bool => Kind::Bool,
            Type::Int32 => Kind::Int32,
            Type::Int64 => Kind::Int64,
            Type::Double => Kind::Double,
            Type::Bytes => Kind::Bytes,
            Type::Time => Kind::Time,
            Type::MicroTime => Kind::MicroTime,
            Type::Duration => Kind::Duration,
            Type::Quantity => Kind::Quantity,
            Type::IntOrString => Kind::IntOrString,
            Type::FieldsV1 => Kind::FieldsV1,
            Type::RawExtension => Kind::RawExtension,
            Type::Json => Kind::Json,
            Type::SchemaOrArray(id) => Kind::SchemaOrArray(self.by_id[id]),
            Type::SchemaOrBool(id) => Kind::SchemaOrBool(self.by_id[id]),
            Type::SchemaOrStrings(id) => Kind::SchemaOrStrings(self.by_id[id]),
            Type::Any => Kind::Any,
            Type::Struct(id) => Kind::Struct(self.by_id[id]),
            Type::List(item) => Kind::List(Box::new(self.kind(item))),
            Type::Wrapped(item) => Kind::Wrapped(Box::new(self.kind(item))),
            Type::Map(item) => Kind::Map(Box::new(self.kind(item))),
        }
    }
}

/// How many leading fields are Go's embedded TypeMeta, which is not in the protobuf message: the envelope has it. The
/// tables give them TypeMeta's own tags, so that another field has one of the tags too, or none has any.
fn type_meta_fields(fields: &[Field]) -> usize {
    match fields {
        [kind, api_version, rest @ ..]
            if (&*kind.json, kind.tag) == ("kind", 1) && (&*api_version.json, api_version.tag) == ("apiVersion", 2) =>
        {
            let doubled = rest.iter().any(|field| matches!(field.tag, 1 | 2));
            let untagged = !rest.is_empty() && rest.iter().all(|field| field.tag == 0);
            if doubled || untagged { 2 } else { 0 }
        }
        _ => 0,
    }
}

/// Works out what a struct shows when nothing is set; structs that are not behind a pointer come first.
fn fill(structs: &mut [StructPlan], at: usize) {
    if !structs[at].zero.is_null() {
        return;
    }
    let needed: Vec<u32> = structs[at]
        .fields
        .iter()
        .filter_map(|field| match field.kind {
            Kind::Struct(inner) if !field.pointer => Some(inner),
            _ => None,
        })
        .collect();
    for inner in needed {
        fill(structs, inner as usize);
    }
    let zeros: Vec<Option<Value>> = structs[at]
        .fields
        .iter()
        .map(|field| match &field.kind {
            _ if field.omit_zero => None,
            _ if field.pointer => Some(Value::Null),
            kind => Some(zero_of(structs, kind)),
        })
        .collect();
    let plan = &mut structs[at];
    let mut filled = Vec::new();
    for (field, zero) in plan.fields.iter_mut().zip(zeros) {
        if let Some(zero) = zero {
            filled.push((field.rank, zero));
        }
    }
    filled.sort_by_key(|(rank, _)| *rank);
    plan.zero = Value::Map(
        filled.iter().map(|(rank, zero)| (plan.sorted[usize::from(*rank)].0.clone(), zero.clone())).collect::<Map>(),
    );
    plan.filled = filled;
    let texts: Vec<Box<str>> = structs[at]
        .fields
        .iter()
        .map(|field| {
            let mut text = Vec::new();
            if !field.omit_zero {
                crate::json::encode::zero_field(structs, field, &mut text);
            }
            String::from_utf8(text).unwrap_or_default().into()
        })
        .collect();
    let plan = &mut structs[at];
    for (field, text) in plan.fields.iter_mut().zip(texts) {
        field.absent = text;
    }
    for (place, part) in plan.parts.iter().enumerate().take(u64::BITS as usize) {
        match part {
            Part::Field { at, .. } => {
                let field = &plan.fields[usize::from(*at)];
                plan.always |= u64::from(!field.absent.is_empty()) << place;
                let is_version = plan.name == OBJECT_META && field.name == "resourceVersion";
                plan.version |= u64::from(is_version) << place;
            }
            Part::Inline { .. } => plan.always |= 1 << place,
        }
    }
}

/// Go's zero value of a kind, as the tree shows it.
pub(crate) fn zero_of(structs: &[StructPlan], kind: &Kind) -> Value {
    match kind {
        Kind::String => Value::Str(SmolStr::default()),
        Kind::Bool => Value::Bool(false),
        Kind::Int32 | Kind::Int64 | Kind::IntOrString => Value::Int(0),
        Kind::Double => Value::Float(0.0),
        Kind::Duration => Value::str("0s"),
        Kind::Quantity => Value::str("0"),
        Kind::SchemaOrBool(_) => Value::Bool(false),
        Kind::Struct(inner) => structs[*inner as usize].zero.clone(),
        Kind::Bytes
        | Kind::Time
        | Kind::MicroTime
        | Kind::FieldsV1
        | Kind::RawExtension
        | Kind::Json
        | Kind::SchemaOrArray(_)
        | Kind::SchemaOrStrings(_)
        | Kind::Any
        | Kind::List(_)
        | Kind::Wrapped(_)
        | Kind::Map(_) => Value::Null,
    }
}

/// Gathers the fields of one struct and makes its map. Fields come in any order; the map is sorted by name.
pub(crate) struct Gathered<'a> {
    plan: &'a StructPlan,
    /// Rank and value of each field that has come.
    found: Vec<(u16, Value)>,
    /// Which ranks are in `found` or were and are left out; beyond 128 fields `found` is searched.
    seen: u128,
    /// The entries of maps that come one by one, by rank.
    maps: Vec<(u16, Vec<(SmolStr, Value)>)>,
}

/// How often a field that has come may come again and be read into the same value. No writer splits a value, so more
/// is an attack on our time: each of them touches all that has been read. From then on the last one stands alone.
const MERGES_MAX: u32 = 100;

/// Counts what [`MERGES_MAX`] limits.
#[derive(Debug, Default)]
pub(crate) struct Merges(std::cell::Cell<u32>);

impl Merges {
    /// Forgets what an earlier occurrence held when there have been too many.
    #[inline]
    pub(crate) fn limit(&self, before: &mut Value) {
        if !before.is_null() {
            self.0.set(self.0.get() + 1);
            if self.0.get() > MERGES_MAX {
                *before = Value::Null;
            }
        }
    }
}

impl<'a> Gathered<'a> {
    /// Begins a struct; `before` is what an earlier occurrence of it held.
    pub(crate) fn new(plan: &'a StructPlan, before: Value) -> Self {
        let mut gathered = Self { plan, found: Vec::with_capacity(8), seen: 0, maps: Vec::new() };
        if let Value::Map(before) = before {
            for (name, value) in before {
                if let Ok(rank) = plan.sorted.binary_search_by(|(known, _)| known.cmp(&name)) {
                    gathered.put(rank as u16, value);
                }
            }
        }
        gathered
    }

    fn bit(rank: u16) -> u128 {
        1u128.checked_shl(rank.into()).unwrap_or(0)
    }

    /// Takes out what an earlier occurrence of the field held.
    pub(crate) fn take(&mut self, rank: u16) -> Value {
        if self.seen & Self::bit(rank) == 0 && rank < 128 {
            return Value::Null;
        }
        match self.found.iter().position(|(r, _)| *r == rank) {
            Some(at) => self.found.swap_remove(at).1,
            None => Value::Null,
        }
    }

    /// Adds a field that [`Gathered::take`] has made room for.
    pub(crate) fn put(&mut self, rank: u16, value: Value) {
        self.seen |= Self::bit(rank);
        self.found.push((rank, value));
    }

    /// The entries of a map field, to add to.
    pub(crate) fn entries(&mut self, rank: u16) -> &mut Vec<(SmolStr, Value)> {
        let at = match self.maps.iter().position(|(known, _)| *known == rank) {
            Some(at) => at,
            None => {
                let earlier = match self.take(rank) {
                    Value::Map(map) => map.into_iter().collect(),
                    _ => Vec::new(),
                };
                self.maps.push((rank, earlier));
                self.maps.len() - 1
            }
        };
        &mut self.maps[at].1
    }

    /// The map, with `extra` entries that are no fields, absent fields filled as Go would.
    pub(crate) fn finish(mut self, extra: Vec<(SmolStr, Value)>) -> Value {
        for (rank, entries) in std::mem::take(&mut self.maps) {
            self.put(rank, Value::Map(map_of(entries)));
        }
        self.found.sort_unstable_by_key(|(rank, _)| *rank);
        let mut map = Map::with_capacity(self.found.len() + self.plan.filled.len() + extra.len());
        let mut filled = self.plan.filled.iter().peekable();
        for (rank, value) in self.found {
            while let Some((absent, zero)) = filled.next_if(|(absent, _)| *absent <= rank) {
                if *absent < rank {
                    map.insert(self.plan.sorted[usize::from(*absent)].0.clone(), zero.clone());
                }
            }
            map.insert(self.plan.sorted[usize::from(rank)].0.clone(), value);
        }
        for (absent, zero) in filled {
            map.insert(self.plan.sorted[usize::from(*absent)].0.clone(), zero.clone());
        }
        for (key, value) in extra {
            map.insert(key, value);
        }
        Value::Map(map)
    }
}

/// A map from entries in any order; the last of equal keys wins. Sorting once keeps large maps from going quadratic.
pub(crate) fn map_of(mut entries: Vec<(SmolStr, Value)>) -> Map {
    if !entries.is_sorted_by(|a, b| a.0 < b.0) {
        entries.sort_by(|a, b| a.0.cmp(&b.0));
    }
    let mut map = Map::with_capacity(entries.len());
    for (key, value) in entries {
        map.insert(key, value);
    }
    map
}
