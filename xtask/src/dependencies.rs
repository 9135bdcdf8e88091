//! What outside crates may be: the rules of `deny.toml`, checked without building cargo-deny, which takes longer than all
//! tests. cargo-deny reads the same file; whoever has it gets the same answer from `cargo deny check`.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Where crates come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The problems of all packages that the workspace is built from, itself included.
pub(crate) fn problems() -> Result<Vec<String>> {
    let metadata = crate::metadata(&["--locked", "--all-features"])?;
    let path = crate::root().join("deny.toml");
    let rules = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let allowed = allowed(&rules);
    ensure!(!allowed.is_empty(), "deny.toml allows no licence at all");
    let packages = metadata["packages"].as_array().context("packages are a list")?;
    Ok(packages.iter().flat_map(|package| judge(package, &allowed)).collect())
}

fn judge(package: &Value, allowed: &[String]) -> Vec<String> {
    let name =
        format!("{} {}", package["name"].as_str().unwrap_or_default(), package["version"].as_str().unwrap_or_default());
    let mut problems = Vec::new();
    match package["license"].as_str() {
        None => problems.push(format!("{name} states no licence")),
        Some(licence) if !is_allowed(licence, allowed) => {
            problems.push(format!("{name} has licence {licence}, which deny.toml does not allow"));
        }
        Some(_) => {}
    }
    // Without a source it is a folder of ours.
    if let Some(source) = package["source"].as_str().filter(|source| *source != REGISTRY) {
        problems.push(format!("{name} comes from {source}"));
    }
    problems
}

/// The texts in the list `allow` of the section `[licenses]`.
fn allowed(rules: &str) -> Vec<String> {
    let section = rules.split_once("[licenses]").map_or("", |(_, rest)| rest);
    let list = section.split_once("allow = [").and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
    let lines = list.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.flat_map(|line| line.split('"').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be met by licences that are allowed.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    // Cargo's old form has a slash for OR.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { words: &words, allowed };
    reader.any() && reader.words.is_empty()
}

struct Reader<'a> {
    words: &'a [&'a str],
    allowed: &'a [String],
}

impl Reader<'_> {
    fn next_is(&mut self, word: &str) -> bool {
        match self.words {
            [first, rest @ ..] if *first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }

    fn any(&mut self) -> bool {
        let mut met = self.all();
        while self.next_is("OR") {
            met |= self.all();
        }
        met
    }

    fn all(&mut self) -> bool {
        let mut met = self.one();
        while self.next_is("AND") {
            met &= self.one();
        }
        met
    }

    fn one(&mut self) -> bool {
        if self.next_is("(") {
            let met = self.any();
            return self.next_is(")") && met;
        }
        let [licence, rest @ ..] = self.words else { return false };
        self.words = rest;
        let mut name = (*licence).to_owned();
        if self.next_is("WITH")
            && let [exception, rest @ ..] = self.words
        {
            self.words = rest;
            name = format!("{name} WITH {exception}");
        }
        self.allowed.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_or_not() {
        let allowed = ["MIT", "Apache-2.0 WITH LLVM-exception", "ISC"].map(str::to_owned);
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("MIT OR GPL-3.0-only", true),
            ("GPL-3.0-only/MIT", true),
            ("MIT AND GPL-3.0-only", false),
            ("MIT AND ISC", true),
            ("Apache-2.0", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("(GPL-3.0-only OR ISC) AND MIT", true),
            ("GPL-3.0-only OR ISC AND MIT", true),
            ("(MIT", false),
            ("MIT ISC", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
        }
    }

    #[test]
    fn the_list_is_read_from_the_file() {
        let rules = "# [x]\n[licenses]\nallow = [\n  \"MIT\", # why\n  \"A WITH B\",\n]\n[bans]\nallow = [\"no\"]\n";
        assert_eq!(allowed(rules), ["MIT", "A WITH B"]);
    }

    #[test]
    fn packages_are_judged_by_licence_and_source() {
        let allowed = ["MIT".to_owned()];
        let package = |licence: &str, source: &str| serde_json::json!({"name": "p", "version": "1.0.0", "license": licence, "source": source});
        assert_eq!(judge(&package("MIT", REGISTRY), &allowed), Vec::<String>::new());
        assert_eq!(judge(&package("X", REGISTRY), &allowed), ["p 1.0.0 has licence X, which deny.toml does not allow"]);
        assert_eq!(judge(&package("MIT", "git+https://x"), &allowed), ["p 1.0.0 comes from git+https://x"]);
        assert_eq!(
            judge(&serde_json::json!({"name": "p", "version": "1.0.0"}), &allowed),
            ["p 1.0.0 states no licence"]
        );
    }
}
