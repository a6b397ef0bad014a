//! `tests/MATRIX.md`: which scenario is played on which way of running; and in
//! `wit/SEMANTICS.md`, which rule it proves. Generated from the scenarios; every cell stands for a trial of this suite.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, ensure};
use halfopen_tests::runner::{Runner, root};
use halfopen_tests::scenario::{Node, Play};
use halfopen_tests::scenarios;

use crate::{errors, hostile, node_host, programs, proxy, server};

const WRITE: &str = "HALFOPEN_WRITE_MATRIX";

/// What stands in `wit/SEMANTICS.md` from here on is generated.
const PROOFS: &str = "## What proves each rule\n";

/// Makes sure that the files are what the scenarios give, or writes them if told to.
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
            "{path} is stale: run this suite with {WRITE}=1 and commit the file"
        );
    }
    Ok(())
}

/// The matrix, and which scenario proves which rule.
fn texts() -> Result<(String, String)> {
    let mut text = format!(
        "# What is proven where\n\n\
         Generated from the scenarios of the conformance suite, which fails when this file\n\
         is stale; `{WRITE}=1` writes it. \"yes\" is a trial that has to pass: bytes, ends\n\
         and printed lines, and for scripts the packets. \"same\" in the last column is\n\
         the same script against Node, with the same result.\n\n| scenario |"
    );
    for runner in Runner::SERVICE {
        write!(text, " {} |", runner.name())?;
    }
    text += " Node |\n|---|";
    text += &"---|".repeat(Runner::SERVICE.len() + 1);
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
        for runner in Runner::SERVICE {
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
    for case in [
        programs::CASES,
        errors::CASES,
        proxy::CASES,
        server::CASES,
        hostile::CASES,
        node_host::CASES,
    ]
    .concat()
    {
        prove(case.rules, case.name)?;
        write!(text, "| {} |", case.name)?;
        for runner in Runner::SERVICE {
            if case.runners.contains(&runner) {
                text += " yes |";
            } else {
                write!(text, " no: {} |", case.elsewhere)?;
            }
        }
        text += " not compared |\n";
    }
    let mut table = String::from(
        "\nGenerated, like `tests/MATRIX.md`, which says where each scenario is played.\n\n\
         | rule | scenarios |\n|---|---|\n",
    );
    for rule in rules()? {
        let names = proofs
            .get(&key(&rule)?)
            .with_context(|| format!("no scenario proves {rule}"))?;
        writeln!(table, "| {rule} | {} |", names.join(", "))?;
    }
    Ok((text, table))
}

/// `W9` before `W10`.
fn key(rule: &str) -> Result<(char, u32)> {
    let mut letters = rule.chars();
    let letter = letters.next().context("a rule without a name")?;
    Ok((letter, letters.as_str().parse()?))
}

/// The rules, in their order: `- **R1** ...`.
fn rules() -> Result<Vec<String>> {
    let text = fs::read_to_string(root().join("wit/SEMANTICS.md"))?;
    Ok(text
        .lines()
        .filter_map(|line| Some(line.strip_prefix("- **")?.split_once("**")?.0.to_owned()))
        .collect())
}
