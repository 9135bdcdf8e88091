//! What tests need that kubox does not have yet, from a list beside this file.

use anyhow::{Context, Result, ensure};

/// The list: first a line with what is missing, then, indented, the tests that need it, each by a part of its name.
#[derive(Debug)]
pub(super) struct Needs {
    /// What is missing, and a part of a test's name.
    rules: Vec<(String, String)>,
}

impl Needs {
    pub(super) fn read() -> Result<Needs> {
        Needs::parse(include_str!("needs.txt"))
    }

    fn parse(text: &str) -> Result<Needs> {
        let mut rules = Vec::new();
        let mut reason = None;
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            match line.strip_prefix("  ") {
                Some(part) => {
                    let reason: &str = reason.with_context(|| format!("nothing is missing for {part:?}"))?;
                    rules.push((reason.to_owned(), part.trim().to_owned()));
                }
                None => reason = Some(line.trim()),
            }
        }
        Ok(Needs { rules })
    }

    /// Why a test cannot pass yet: the first rule that names it.
    pub(super) fn of(&self, name: &str) -> Option<&str> {
        let rule = self.rules.iter().find(|(_, part)| name.contains(part.as_str()))?;
        Some(&rule.0)
    }

    /// Refuses rules that no test follows any more.
    pub(super) fn check(&self, tests: &[String]) -> Result<()> {
        let stale: Vec<&str> = self
            .rules
            .iter()
            .map(|(_, part)| part.as_str())
            .filter(|part| !tests.iter().any(|name| name.contains(part)))
            .collect();
        ensure!(stale.is_empty(), "needs.txt names tests that do not exist: {stale:#?}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_names_a_test_counts() -> Result<()> {
        let needs = Needs::parse("# why\nwebhooks\n  hook\n\na running Pod\n  Pod should\n  hooked Pod\n")?;
        assert_eq!(needs.of("a Pod should run"), Some("a running Pod"));
        assert_eq!(needs.of("a hooked Pod"), Some("webhooks"));
        assert_eq!(needs.of("a Service"), None);
        assert!(needs.check(&["a Pod should run".to_owned()]).is_err());
        assert!(needs.check(&["a Pod should run".to_owned(), "hooked Pod".to_owned()]).is_ok());
        assert!(Needs::parse("  no heading\n").is_err());
        Needs::read().map(|_| ())
    }
}
