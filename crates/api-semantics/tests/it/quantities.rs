//! Quantities against a record of Go's `resource.Quantity` (see the head of `quantities.tsv`).

use std::cmp::Ordering;

use api_semantics::quantity::Quantity;

#[test]
fn quantities_behave_as_gos_do() {
    let mut wrong = Vec::new();
    for row in include_str!("quantities.tsv").lines().filter(|row| !row.starts_with('#')) {
        let got = behave(row.split('\t').next().unwrap_or_default());
        if got.trim_end() != row.trim_end() && !is_known(row, &got) {
            wrong.push(format!("want {row}\n got {got}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// The row that our quantity gives for a text.
fn behave(text: &str) -> String {
    let quantity = match Quantity::parse(text) {
        Ok(quantity) => quantity,
        Err(error) => return format!("{text}\terror\t{error}"),
    };
    assert_eq!(api_semantics::quantity::canonical(text), Some(quantity.canonical()), "the fast path for {text}");
    let parse = |text| Quantity::parse(text).unwrap_or_default();
    let (mut sum, mut difference) = (quantity.clone(), parse("1Gi"));
    sum.add(&parse("1500m"));
    difference.sub(&quantity);
    let order = match quantity.cmp(&parse("1500m")) {
        Ordering::Less => -1,
        Ordering::Equal => 0,
        Ordering::Greater => 1,
    };
    format!("{text}\tok\t{quantity}\t{}\t{sum}\t{difference}\t{order}", quantity.value())
}

/// Where we differ on purpose: `Value()` of what does not fit 64 bits is the nearest that does, where Go gives 0 or
/// wraps around; and negative fractions with more digits than 64 bits hold round as all others do.
fn is_known(row: &str, got: &str) -> bool {
    let (want, got): (Vec<_>, Vec<_>) = (row.split('\t').collect(), got.split('\t').collect());
    let same_but_value = want.len() == got.len() && (0..want.len()).all(|at| at == 3 || want[at] == got[at]);
    let big = got.get(3).is_some_and(|value| *value == i64::MAX.to_string() || *value == i64::MIN.to_string());
    same_but_value && (big || want[0].starts_with('-'))
}
