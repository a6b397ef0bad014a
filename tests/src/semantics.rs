//! The rules of `wit/SEMANTICS.md`.

use std::fs;

use anyhow::{Context, Result};

use crate::runner::root;

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, such as `R1`.
    pub name: String,
    /// Its first sentence.
    pub says: String,
}

/// Returns the rules in the order of the text.
///
/// # Errors
///
/// If the text cannot be read.
pub fn rules() -> Result<Vec<Rule>> {
    let path = root().join("wit/SEMANTICS.md");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("`{}` cannot be read", path.display()))?;
    Ok(parse(&text))
}

/// Finds what looks like `- **R1** Bytes arrive …`, on as many lines as are indented.
fn parse(text: &str) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let begins = line
            .strip_prefix("- **")
            .and_then(|line| line.split_once("** "));
        if let Some((name, says)) = begins {
            rules.push(Rule {
                name: name.to_owned(),
                says: says.to_owned(),
            });
            open = true;
        } else if let (true, Some(rule)) = (open, rules.last_mut()) {
            open = line.starts_with("  ") && !line.trim_start().starts_with("- ");
            if open {
                rule.says.push(' ');
                rule.says.push_str(line.trim());
            }
        }
    }
    for rule in &mut rules {
        rule.says = first_sentence(&rule.says).to_owned();
    }
    rules
}

/// Returns the text up to the first full stop that a capital follows.
fn first_sentence(text: &str) -> &str {
    let ends = text.match_indices(". ").map(|(at, _)| at);
    let mut ends = ends.filter(|at| {
        let next = text[at + 2..].trim_start_matches(['`', '(']).chars().next();
        next.is_none_or(char::is_uppercase)
    });
    match ends.next() {
        Some(at) => &text[..=at],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_a_name_and_a_sentence() {
        let text = "- **R1** One. Two.\n\n- **W10** It closes (RFC 1122 section 4.2.\n  2.13) and\n  ends. (Node does not.)\n  - a part\n- other\n";
        let says = |name: &str, says: &str| Rule {
            name: name.to_owned(),
            says: says.to_owned(),
        };
        let expected = [
            says("R1", "One."),
            says("W10", "It closes (RFC 1122 section 4.2. 2.13) and ends."),
        ];
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn the_text_has_rules() {
        let rules = rules().unwrap();
        assert!(rules.len() > 30, "{rules:?}");
        for rule in rules {
            assert!(rule.says.len() > 20, "{rule:?}");
        }
    }
}
