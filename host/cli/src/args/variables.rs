//! The files of `--env-file`.

use std::path::{Path, PathBuf};

use halfopen::Grants;

use crate::args::values::{Misfit, variable};

/// The key of the flag.
pub(crate) const ENV_FILE: &str = "env-file";

/// Adds the variables of files to `grants`, but none that `set` has: a flag overrides a file, and a
/// later file an earlier one.
///
/// # Errors
/// If a file cannot be read, or a line of it is not `NAME=VALUE`.
pub(crate) fn add_from(
    files: &[PathBuf],
    set: &[(String, String)],
    grants: Grants,
) -> Result<Grants, Misfit> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for file in files {
        let wrong = |why: String| {
            Misfit::new(
                ENV_FILE,
                format!("cannot read variables from `{}`: {why}", file.display()),
            )
        };
        for (name, value) in read(file).map_err(wrong)? {
            variables.retain(|(earlier, _)| *earlier != name);
            variables.push((name, value));
        }
    }
    let is_new = |name: &String| set.iter().all(|(flag, _)| flag != name);
    let variables = variables.into_iter().filter(|(name, _)| is_new(name));
    Ok(variables.fold(grants, |grants, (name, value)| grants.env(name, value)))
}

fn read(file: &Path) -> Result<Vec<(String, String)>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|(index, line)| variable(line).map_err(|why| format!("line {}: {why}", index + 1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_variable_on_each_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("env");
        std::fs::write(&file, "# a comment\n\nA=1\nB=x = y\n").unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read(&file), Ok(vec![pair("A", "1"), pair("B", "x = y")]));
        std::fs::write(&file, "A=1\nB\n").unwrap();
        assert_eq!(read(&file), Err("line 2: write NAME=VALUE".to_owned()));
        let error = add_from(&[folder.path().join("none")], &[], Grants::new()).unwrap_err();
        assert!(error.to_string().contains("No such file"), "{error}");
    }
}
