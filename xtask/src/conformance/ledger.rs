//! The ledger: one row for each conformance test, kept in a Markdown file that people read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// How many characters of a failure's message are kept.
const NOTE_MAX: usize = 200;

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Passed,
    Failed,
    /// It needs something that kubox does not have yet.
    NotYet,
    /// It should be possible, but no run has been recorded.
    NotRun,
}

impl Outcome {
    const ALL: [Outcome; 4] = [Outcome::Passed, Outcome::Failed, Outcome::NotYet, Outcome::NotRun];

    pub(super) fn word(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "failed",
            Outcome::NotYet => "not yet possible",
            Outcome::NotRun => "not run",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) outcome: Outcome,
    pub(super) date: String,
    pub(super) seconds: Option<f64>,
    pub(super) note: String,
}

impl Row {
    /// `| name | outcome | date | seconds | note |`
    fn parse(line: &str) -> Option<(String, Row)> {
        let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split(" | ").map(str::trim).collect();
        let [name, outcome, date, seconds, note] = cells.as_slice() else { return None };
        let outcome = Outcome::ALL.into_iter().find(|known| known.word() == *outcome)?;
        let row = Row { outcome, date: (*date).to_owned(), seconds: seconds.parse().ok(), note: (*note).to_owned() };
        Some(((*name).to_owned(), row))
    }

    fn show(&self, name: &str) -> String {
        let seconds = self.seconds.map(|seconds| format!("{seconds:.1}")).unwrap_or_default();
        // A space inside each empty cell keeps the separators apart.
        format!("| {name} | {} | {} | {seconds} | {} |", self.outcome.word(), self.date, self.note)
    }
}

#[derive(Debug)]
pub(super) struct Ledger {
    rows: BTreeMap<String, Row>,
}

impl Ledger {
    /// The ledger as it is, with exactly the rows of today's tests.
    pub(super) fn read(tests: &[String]) -> Result<Ledger> {
        let text = std::fs::read_to_string(path()).unwrap_or_default();
        Ok(Ledger::parse(&text, tests))
    }

    fn parse(text: &str, tests: &[String]) -> Ledger {
        let mut old: BTreeMap<String, Row> = text.lines().filter_map(Row::parse).collect();
        let not_run = || Row { outcome: Outcome::NotRun, date: String::new(), seconds: None, note: String::new() };
        let rows = tests.iter().map(|name| {
            let name = cell(name);
            let row = old.remove(&name).unwrap_or_else(not_run);
            (name, row)
        });
        Ledger { rows: rows.collect() }
    }

    pub(super) fn set(&mut self, name: &str, mut row: Row) {
        row.note = cell(&row.note);
        if let Some((end, _)) = row.note.char_indices().nth(NOTE_MAX) {
            row.note.truncate(end);
        }
        self.rows.insert(cell(name), row);
    }

    /// Notes why a test cannot pass yet; the date is when that was first said.
    pub(super) fn not_yet(&mut self, name: &str, reason: &str, today: &str) {
        let said = self.rows.get(&cell(name)).is_some_and(|row| row.outcome == Outcome::NotYet && row.note == reason);
        if !said {
            let note = reason.to_owned();
            self.set(name, Row { outcome: Outcome::NotYet, date: today.to_owned(), seconds: None, note });
        }
    }

    pub(super) fn summary(&self) -> String {
        let count = |outcome: Outcome| self.rows.values().filter(|row| row.outcome == outcome).count();
        let counts: Vec<String> = Outcome::ALL
            .into_iter()
            .filter(|outcome| *outcome != Outcome::NotRun || count(*outcome) > 0)
            .map(|outcome| format!("{} {}", count(outcome), outcome.word()))
            .collect();
        format!("{} conformance tests: {}.", self.rows.len(), counts.join(", "))
    }

    fn show(&self) -> Result<String> {
        let mut out = format!(
            "# Conformance ledger\n\n\
             Upstream's conformance tests (e2e.test of Kubernetes 1.36.2) against kubox, with upstream's\n\
             kube-controller-manager and kube-scheduler beside it and two Nodes that run nothing. Written by\n\
             `cargo xtask conformance`; what a test needs that kubox does not have yet is said in\n\
             `xtask/src/conformance/needs.txt`.\n\n\
             **{}**\n\n",
            self.summary()
        );
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for row in self.rows.values().filter(|row| row.outcome == Outcome::NotYet) {
            *reasons.entry(&row.note).or_default() += 1;
        }
        let mut reasons: Vec<(&str, usize)> = reasons.into_iter().collect();
        reasons.sort_by_key(|(reason, count)| (std::cmp::Reverse(*count), *reason));
        writeln!(out, "| not yet possible: what is needed | tests |\n|---|---|")?;
        for (reason, count) in reasons {
            writeln!(out, "| {reason} | {count} |")?;
        }
        writeln!(out, "\n| test | result | date | seconds | note |\n|---|---|---|---|---|")?;
        for (name, row) in &self.rows {
            writeln!(out, "{}", row.show(name))?;
        }
        Ok(out)
    }

    pub(super) fn write(&self) -> Result<()> {
        let path = path();
        std::fs::write(&path, self.show()?).with_context(|| format!("write {}", path.display()))
    }
}

fn path() -> PathBuf {
    crate::root().join("docs/conformance.md")
}

/// Text that fits into one cell of a table.
fn cell(text: &str) -> String {
    let out: String = text.chars().map(|c| if c == '|' || c.is_control() { '/' } else { c }).collect();
    out.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(outcome: Outcome, seconds: Option<f64>, note: &str) -> Row {
        Row { outcome, date: "2026-01-02".to_owned(), seconds, note: note.to_owned() }
    }

    #[test]
    fn rows_survive_a_round_trip() -> Result<()> {
        let tests = ["[sig-a] one".to_owned(), "[sig-b] two | three".to_owned(), "[sig-c] four".to_owned()];
        let mut ledger = Ledger::parse("", &tests);
        ledger.set(&tests[0], row(Outcome::Passed, Some(1.5), ""));
        ledger.set(&tests[1], row(Outcome::Failed, Some(60.0), "timed out | after\na minute"));
        ledger.not_yet(&tests[2], "a running Pod", "2026-01-02");
        let long = "x".repeat(2 * NOTE_MAX);
        ledger.set(&long, row(Outcome::Failed, Some(1.0), &long));
        assert_eq!(ledger.rows.remove(&long).map(|row| row.note.len()), Some(NOTE_MAX));
        let again = Ledger::parse(&ledger.show()?, &tests);
        assert_eq!(again.rows, ledger.rows);
        assert_eq!(again.summary(), "3 conformance tests: 1 passed, 1 failed, 1 not yet possible.");
        Ok(())
    }

    #[test]
    fn rows_of_other_tests_stay_and_those_of_gone_tests_go() -> Result<()> {
        let old = ["a".to_owned(), "b".to_owned()];
        let mut ledger = Ledger::parse("", &old);
        ledger.set("a", row(Outcome::Passed, Some(1.0), ""));
        ledger.set("b", row(Outcome::Passed, Some(2.0), ""));
        let mut ledger = Ledger::parse(&ledger.show()?, &["b".to_owned(), "c".to_owned()]);
        assert_eq!(ledger.rows["b"], row(Outcome::Passed, Some(2.0), ""));
        assert_eq!(ledger.rows["c"].outcome, Outcome::NotRun);
        assert!(!ledger.rows.contains_key("a"));
        ledger.not_yet("b", "a running Pod", "2026-02-03");
        ledger.not_yet("b", "a running Pod", "2026-03-04");
        assert_eq!(ledger.rows["b"].date, "2026-02-03");
        Ok(())
    }
}
