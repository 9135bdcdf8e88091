//! Every decoder.

use crate::mutate::Dialect;
use crate::{Decoder, json, patches, protobuf, requests, scalars, selectors, tokens, yaml};

/// Every decoder: what reads bodies, then what reads the rest of a request, then what reads values.
pub const ALL: &[Decoder] = &[
    Decoder { name: "json", seeds: json::seeds, dialect: Dialect::Lines(json::WORDS), rounds: 600, check: json::check },
    Decoder { name: "yaml", seeds: yaml::seeds, dialect: Dialect::Yaml, rounds: 300, check: yaml::check },
    Decoder {
        name: "protobuf",
        seeds: protobuf::seeds,
        dialect: Dialect::Message,
        rounds: 1500,
        check: protobuf::check,
    },
    Decoder {
        name: "json-patch",
        seeds: patches::json_seeds,
        dialect: Dialect::Lines(patches::WORDS),
        rounds: 500,
        check: patches::check_json,
    },
    Decoder {
        name: "merge-patch",
        seeds: patches::merge_seeds,
        dialect: Dialect::Lines(patches::WORDS),
        rounds: 500,
        check: patches::check_merge,
    },
    Decoder {
        name: "strategic-patch",
        seeds: patches::strategic_seeds,
        dialect: Dialect::Lines(patches::WORDS),
        rounds: 500,
        check: patches::check_strategic,
    },
    Decoder {
        name: "apply",
        seeds: patches::apply_seeds,
        dialect: Dialect::Lines(patches::WORDS),
        rounds: 300,
        check: patches::check_apply,
    },
    Decoder {
        name: "requests",
        seeds: requests::seeds,
        dialect: Dialect::Lines(requests::WORDS),
        rounds: 800,
        check: requests::check,
    },
    Decoder {
        name: "label-selectors",
        seeds: selectors::label_seeds,
        dialect: Dialect::Lines(selectors::WORDS),
        rounds: 4000,
        check: selectors::check_labels,
    },
    Decoder {
        name: "field-selectors",
        seeds: selectors::field_seeds,
        dialect: Dialect::Lines(selectors::WORDS),
        rounds: 4000,
        check: selectors::check_fields,
    },
    Decoder {
        name: "tokens",
        seeds: tokens::seeds,
        dialect: Dialect::Lines(tokens::WORDS),
        rounds: 600,
        check: tokens::check,
    },
    Decoder {
        name: "continue-tokens",
        seeds: tokens::continue_seeds,
        dialect: Dialect::Lines(tokens::WORDS),
        rounds: 2000,
        check: tokens::check_continue,
    },
    Decoder {
        name: "quantities",
        seeds: scalars::quantity_seeds,
        dialect: Dialect::Lines(scalars::WORDS),
        rounds: 4000,
        check: scalars::check_quantity,
    },
    Decoder {
        name: "times",
        seeds: scalars::time_seeds,
        dialect: Dialect::Lines(scalars::WORDS),
        rounds: 4000,
        check: scalars::check_time,
    },
];
