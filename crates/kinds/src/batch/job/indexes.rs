//! Lists of completion indexes: `1,3-5,7`.

use api_semantics::field::quoted;

/// How many indexes a list has, all of which must be below `completions` and in order.
pub(super) fn count(list: &str, completions: i64) -> Result<i64, String> {
    let mut total = 0;
    let mut last = None;
    for text in list.split(',').filter(|_| !list.is_empty()) {
        let (first, end) = interval(text, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// The error if an index is in both lists. Intervals that cannot be read are left to [`count`].
pub(super) fn check_disjoint(completed: &str, failed: &str, completions: i64) -> Result<(), String> {
    let intervals = |list: &str| -> Vec<(i64, i64)> {
        list.split(',').filter_map(|text| interval(text, completions).ok()).collect()
    };
    let (completed, failed) = (intervals(completed), intervals(failed));
    let (mut c, mut f) = (completed.iter().peekable(), failed.iter().peekable());
    while let (Some((c_first, c_end)), Some((f_first, f_end))) = (c.peek(), f.peek()) {
        if c_first <= f_end && f_first <= c_end {
            return Err(format!("failedIndexes and completedIndexes overlap at index: {}", c_first.max(f_first)));
        }
        if c_first <= f_first {
            c.next();
        } else {
            f.next();
        }
    }
    Ok(())
}

fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let index = |text: &str| {
        let index: i64 =
            text.parse().map_err(|_| format!("cannot convert string to integer for index: {}", quoted(text)))?;
        if index >= completions { Err(format!("too large index: {}", quoted(text))) } else { Ok(index) }
    };
    match text.split('-').collect::<Vec<_>>()[..] {
        [only] => index(only).map(|only| (only, only)),
        [first, end] => match (index(first)?, index(end)?) {
            (first, end) if first >= end => Err(format!("non-increasing order, previous: {first}, current: {end}")),
            both => Ok(both),
        },
        _ => Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            quoted(text)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_counted_or_refused() {
        for (list, expect) in [
            ("", Ok(0)),
            ("1", Ok(1)),
            ("0,2-4,9", Ok(5)),
            ("3,1", Err("non-increasing order, previous: 3, current: 1")),
            ("3-3", Err("non-increasing order, previous: 3, current: 3")),
            ("10", Err("too large index: \"10\"")),
            ("1-x", Err("cannot convert string to integer for index: \"x\"")),
            (
                "1-2-3",
                Err(
                    "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts \
                     separated by '-'",
                ),
            ),
        ] {
            assert_eq!(count(list, 10), expect.map_err(str::to_owned), "{list}");
        }
    }

    #[test]
    fn no_index_completes_and_fails() {
        for (completed, failed, expect) in [
            ("0-2,5", "3,6-8", None),
            ("0-3", "3", Some(3)),
            ("0,4-6", "1,5", Some(5)),
            ("x,4", "4", Some(4)),
            ("", "1", None),
        ] {
            let expect = expect.map(|at| format!("failedIndexes and completedIndexes overlap at index: {at}"));
            assert_eq!(check_disjoint(completed, failed, 10).err(), expect, "{completed} {failed}");
        }
    }
}
