//! The scenarios.

mod cases;
mod services;

use crate::scenario::Scenario;

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    services::SERVICES.iter().chain(cases::CASES)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The oracle, and the rules in it: `- **R1** ...`.
    fn rules() -> Vec<String> {
        let path = crate::runner::root().join("wit/SEMANTICS.md");
        std::fs::read_to_string(path)
            .unwrap()
            .lines()
            .filter_map(|line| Some(line.strip_prefix("- **")?.split_once("**")?.0.to_owned()))
            .collect()
    }

    #[test]
    fn scenarios_cite_rules_that_exist() {
        let rules = rules();
        assert!(rules.len() > 30, "{rules:?}");
        for scenario in all() {
            assert!(!scenario.rules.is_empty(), "{}", scenario.name);
            for rule in scenario.rules {
                assert!(
                    rules.contains(&(*rule).to_owned()),
                    "{}: {rule}",
                    scenario.name
                );
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
