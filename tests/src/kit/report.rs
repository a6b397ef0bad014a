//! What became of each rule.

use std::fmt::{self, Write as _};

use anyhow::Result;
use serde_json::{Value, json};

use crate::semantics::{Rule, rules};

/// What became of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was as it must be.
    Passed,
    /// Something else came of it.
    Failed(String),
    /// It does not fit the command, for this reason.
    Skipped(String),
}

/// A scenario that was played, or left out.
#[derive(Clone, Debug)]
pub struct Played {
    /// Its name.
    pub name: &'static str,
    /// The rules that it is about.
    pub rules: &'static [&'static str],
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of each rule, and of each scenario.
#[derive(Debug)]
pub struct Report {
    rules: Vec<Rule>,
    played: Vec<Played>,
}

impl Report {
    /// Makes a report on what was played.
    ///
    /// # Errors
    ///
    /// If the rules cannot be read.
    pub(super) fn new(mut played: Vec<Played>) -> Result<Self> {
        played.sort_by_key(|played| played.name);
        Ok(Report {
            rules: rules()?,
            played,
        })
    }

    /// Leaves out the rules that no scenario of the report is about.
    pub(super) fn of_what_was_played(mut self) -> Self {
        let played = &self.played;
        let is_played = |rule: &Rule| {
            let mut rules = played.iter().flat_map(|played| played.rules);
            rules.any(|name| *name == rule.name)
        };
        self.rules.retain(is_played);
        self
    }

    /// Whether nothing has failed.
    #[must_use]
    pub fn passes(&self) -> bool {
        let failed = |played: &Played| matches!(played.outcome, Outcome::Failed(_));
        !self.played.iter().any(failed)
    }

    /// Returns the scenarios about a rule.
    fn about(&self, rule: &Rule) -> Vec<&Played> {
        let played = self.played.iter();
        played
            .filter(|played| played.rules.contains(&rule.name.as_str()))
            .collect()
    }

    /// Returns how many rules, or scenarios, pass, fail and are skipped.
    fn counts<'a>(words: impl Iterator<Item = &'a str>) -> [usize; 3] {
        words.fold([0; 3], |mut counts, word| {
            let at = match word {
                PASS => 0,
                FAIL => 1,
                _ => 2,
            };
            counts[at] += 1;
            counts
        })
    }

    /// Returns the report as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let scenario = |played: &Played| {
            let detail = match &played.outcome {
                Outcome::Passed => Value::Null,
                Outcome::Failed(detail) | Outcome::Skipped(detail) => json!(detail),
            };
            let outcome = played.outcome.word();
            json!({"name": played.name, "rules": played.rules, "result": outcome, "detail": detail})
        };
        let rule = |rule: &Rule| {
            let about = self.about(rule);
            let names: Vec<_> = about.iter().map(|played| played.name).collect();
            json!({"name": rule.name, "says": rule.says, "result": verdict(&about), "scenarios": names})
        };
        json!({
            "passes": self.passes(),
            "rules": self.rules.iter().map(rule).collect::<Vec<_>>(),
            "scenarios": self.played.iter().map(scenario).collect::<Vec<_>>(),
        })
    }
}

const PASS: &str = "pass";
const FAIL: &str = "fail";
const SKIPPED: &str = "skipped";

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Outcome::Passed => PASS,
            Outcome::Failed(_) => FAIL,
            Outcome::Skipped(_) => SKIPPED,
        }
    }
}

/// Returns what became of a rule: it fails with one of its scenarios.
fn verdict(about: &[&Played]) -> &'static str {
    let has = |word| about.iter().any(|played| played.outcome.word() == word);
    if has(FAIL) {
        FAIL
    } else if has(PASS) {
        PASS
    } else {
        SKIPPED
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rule in &self.rules {
            let about = self.about(rule);
            let verdict = verdict(&about);
            writeln!(f, "{:<4}{verdict:<9}{}", rule.name, rule.says)?;
            match verdict {
                PASS => {
                    let passed = about
                        .iter()
                        .filter(|played| played.outcome == Outcome::Passed);
                    let names: Vec<_> = passed.map(|played| played.name).collect();
                    writeln!(f, "             {}", names.join(", "))?;
                }
                SKIPPED if about.is_empty() => {
                    writeln!(f, "             nothing of this kit is about it")?;
                }
                _ => {
                    for played in about {
                        played.write(f)?;
                    }
                }
            }
        }
        let verdicts = self.rules.iter().map(|rule| verdict(&self.about(rule)));
        let [pass, fail, skipped] = Report::counts(verdicts);
        writeln!(
            f,
            "\nrules: {pass} pass, {fail} fail, {skipped} are skipped"
        )?;
        let outcomes = self.played.iter().map(|played| played.outcome.word());
        let [pass, fail, skipped] = Report::counts(outcomes);
        write!(
            f,
            "scenarios: {pass} pass, {fail} fail, {skipped} are skipped"
        )
    }
}

impl Played {
    /// Writes the name and the details, if there are any.
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, detail) = match &self.outcome {
            Outcome::Passed => return Ok(()),
            Outcome::Failed(detail) => (FAIL, detail),
            Outcome::Skipped(detail) => (SKIPPED, detail),
        };
        let mut text = String::new();
        for (number, line) in detail.lines().enumerate() {
            let indent = if number > 0 { "\n               " } else { "" };
            write!(text, "{indent}{line}")?;
        }
        writeln!(f, "             {} ({word}): {text}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(name: &'static str, rules: &'static [&'static str], outcome: Outcome) -> Played {
        Played {
            name,
            rules,
            outcome,
        }
    }

    #[test]
    fn a_rule_fails_with_one_of_its_scenarios() {
        let failed = Outcome::Failed("expected a\nseen b".to_owned());
        let report = Report::new(vec![
            played("one", &["R1", "R2"], Outcome::Passed),
            played("two", &["R2"], failed),
            played("three", &["R3"], Outcome::Skipped("no flag".to_owned())),
        ])
        .unwrap();
        assert!(!report.passes());
        let text = report.to_string();
        assert!(
            text.contains("R1  pass     Bytes arrive in the order"),
            "{text}"
        );
        assert!(text.contains("R2  fail     "), "{text}");
        assert!(
            text.contains("two (fail): expected a\n               seen b"),
            "{text}"
        );
        assert!(text.contains("R3  skipped  "), "{text}");
        assert!(text.contains("three (skipped): no flag"), "{text}");
        assert!(
            text.ends_with("scenarios: 1 pass, 1 fail, 1 are skipped"),
            "{text}"
        );
        let json = report.json();
        assert_eq!(json["passes"], false);
        let rule = |name| {
            let rules = json["rules"].as_array().unwrap().iter();
            rules.clone().find(|rule| rule["name"] == name).unwrap()["result"].clone()
        };
        assert_eq!(
            [rule("R1"), rule("R2"), rule("R3")],
            ["pass", "fail", "skipped"]
        );
    }

    #[test]
    fn what_is_skipped_fails_nothing() {
        let skipped = Outcome::Skipped(String::new());
        assert!(
            Report::new(vec![played("one", &["R1"], skipped)])
                .unwrap()
                .passes()
        );
    }
}
