//! Generates `tests/MATRIX.md`, which says which scenario runs on which runner, and the table
//! in `wit/SEMANTICS.md` that says which scenarios prove which rule. Every "yes" stands for a
//! trial of this suite.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, ensure};
use halfopen_tests::runner::{Runner, root};
use halfopen_tests::scenario::{Node, Play};
use halfopen_tests::scenarios;
use halfopen_tests::semantics::{Rule, rules};

use crate::{CASES, Case};

const WRITE: &str = "HALFOPEN_WRITE_MATRIX";

/// The heading in `wit/SEMANTICS.md` from which the text is generated.
const PROOFS: &str = "## What proves each rule\n";

/// Checks that the files are up to date; with `HALFOPEN_WRITE_MATRIX` set, writes them.
pub(crate) fn is_current() -> Result<()> {
    let (matrix, proofs) = texts()?;
    let semantics = fs::read_to_string(root().join("wit/SEMANTICS.md"))?;
    let (oracle, _) = semantics
        .split_once(PROOFS)
        .with_context(|| format!("wit/SEMANTICS.md has no `{}`", PROOFS.trim_end()))?;
    for (path, text) in [
        ("tests/MATRIX.md", matrix),
        ("wit/SEMANTICS.md", format!("{oracle}{PROOFS}{proofs}")),
    ] {
        let file = root().join(path);
        if std::env::var_os(WRITE).is_some() {
            fs::write(file, text)?;
            continue;
        }
        let there = fs::read_to_string(file).with_context(|| format!("{path} cannot be read"))?;
        ensure!(
            there == text,
            "{path} is out of date: run this suite with {WRITE}=1 and commit the file"
        );
    }
    Ok(())
}

/// Returns the matrix, and the table of rules and scenarios.
fn texts() -> Result<(String, String)> {
    let mut text = format!(
        "# What is proven where\n\n\
         Generated from the scenarios of the conformance suite, which fails when this file is\n\
         out of date; `{WRITE}=1` writes it. \"yes\" stands for a trial that must pass: it\n\
         checks bytes, ends and printed lines, and for scripts also the packets. \"same\" in the\n\
         last column means that Node does the same under the same script.\n\n| scenario |"
    );
    for runner in Runner::ALL {
        write!(text, " {} |", runner.name())?;
    }
    text += " Node |\n|---|";
    text += &"---|".repeat(Runner::ALL.len() + 1);
    text += "\n";
    let mut proofs: BTreeMap<(char, u32), Vec<&str>> = BTreeMap::new();
    let mut prove = |rules: &[&str], name: &'static str| -> Result<()> {
        for rule in rules {
            proofs.entry(key(rule)?).or_default().push(name);
        }
        Ok(())
    };
    for scenario in scenarios::all() {
        prove(scenario.rules, scenario.name)?;
        write!(text, "| {} |", scenario.name)?;
        for &runner in Runner::ALL {
            if runner.guest(scenario.guest).is_none() {
                text += " no: no such service in its style |";
                continue;
            }
            match scenario.other(runner) {
                Some((why, _)) => write!(text, " yes, other: {why} |")?,
                None => text += " yes |",
            }
        }
        match (scenario.node, scenario.play) {
            (Node::Same, Play::Script(..)) => text += " same |\n",
            (Node::Differs(why), _) => writeln!(text, " differs: {why} |")?,
            (Node::None | Node::Same, _) => text += " not compared |\n",
        }
    }
    for case in CASES.iter().flat_map(|(_, cases)| cases.iter()) {
        let Case {
            runners, elsewhere, ..
        } = case;
        prove(case.rules, case.name)?;
        write!(text, "| {} |", case.name)?;
        for &runner in Runner::ALL {
            if runners(runner) {
                text += " yes |";
            } else {
                write!(text, " no: {elsewhere} |")?;
            }
        }
        text += " not compared |\n";
    }
    let mut table = String::from(
        "\nGenerated, like `tests/MATRIX.md`, which says on which runners each scenario runs.\n\n\
         | rule | scenarios |\n|---|---|\n",
    );
    for Rule { name: rule, .. } in rules()? {
        let names = proofs
            .get(&key(&rule)?)
            .with_context(|| format!("no scenario proves {rule}"))?;
        writeln!(table, "| {rule} | {} |", names.join(", "))?;
    }
    Ok((text, table))
}

/// Returns a key that sorts `W9` before `W10`.
fn key(rule: &str) -> Result<(char, u32)> {
    let mut letters = rule.chars();
    let letter = letters.next().context("a rule has no name")?;
    Ok((letter, letters.as_str().parse()?))
}
