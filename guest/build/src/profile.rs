//! `[profile.guest]`, which must not depend on any other profile.
//!
//! Cargo has every profile inherit from `release` or `dev`: first the settings that it
//! does not set itself, then the overrides for certain packages and for build scripts and
//! procedural macros, which even take precedence over its own settings. Any of these would
//! change the bytes of the guests when somebody tunes the host; those of a macro do so
//! because the names of symbols depend on the settings of all dependencies. So
//! `[profile.guest]` sets everything, and [`overrides`] overrides the overrides.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use crate::workspace::find;

/// The settings that change the output of the compiler.
const SETTINGS: [&str; 11] = [
    "codegen-units",
    "debug",
    "debug-assertions",
    "incremental",
    "lto",
    "opt-level",
    "overflow-checks",
    "panic",
    "rpath",
    "split-debuginfo",
    "strip",
];

/// The settings that cargo does not accept in a package override.
const GLOBAL: [&str; 3] = ["lto", "panic", "rpath"];

/// The table `[profile.guest]` of the root `Cargo.toml`.
///
/// # Errors
/// If it is missing, or leaves a setting to the profile that it inherits from.
pub fn guest(manifest: &Table) -> Result<&Table> {
    let profile = find(manifest, &["profile", "guest"]).and_then(Value::as_table);
    let profile = profile.context("`Cargo.toml` has no `[profile.guest]`")?;
    for setting in SETTINGS {
        if !profile.contains_key(setting) {
            bail!("`[profile.guest]` in `Cargo.toml` has to set `{setting}`");
        }
    }
    Ok(profile)
}

/// The text of a configuration file for cargo that applies `[profile.guest]` to every
/// dependency, whatever overrides it inherits.
///
/// A package with an override is named, because its override takes precedence over that of
/// `"*"`. Every setting is set again, not only those that an override changes: cargo resets
/// `strip` for a package whose override does not set it.
///
/// # Errors
/// Those of [`guest`].
pub fn overrides(manifest: &Table) -> Result<String> {
    let guest = guest(manifest)?;
    let mut text = String::new();
    for package in ["*"].into_iter().chain(overridden(manifest, guest)) {
        writeln!(text, "[profile.guest.package.{package:?}]")?;
        for setting in SETTINGS {
            if !GLOBAL.contains(&setting) {
                // A string, number or boolean is the same in JSON and TOML.
                writeln!(
                    text,
                    "{setting} = {}",
                    serde_json::to_string(&guest[setting])?
                )?;
            }
        }
    }
    Ok(text)
}

/// The packages for which the profiles that `[profile.guest]` inherits from have overrides,
/// and it has none.
fn overridden<'a>(manifest: &'a Table, guest: &'a Table) -> BTreeSet<&'a str> {
    let mut packages = BTreeSet::new();
    let mut profile = guest;
    while let Some(base) = profile.get("inherits").and_then(Value::as_str)
        && let Some(base) = find(manifest, &["profile", base]).and_then(Value::as_table)
    {
        packages.extend(package_names(base));
        profile = base;
    }
    packages.remove("*");
    for own in package_names(guest) {
        packages.remove(own);
    }
    packages
}

fn package_names(profile: &Table) -> impl Iterator<Item = &str> {
    let packages = profile.get("package").and_then(Value::as_table);
    let names = packages.into_iter().flat_map(Table::keys);
    names.map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A profile with all settings, and `more` after it.
    fn manifest(more: &str) -> Table {
        let mut text = "[profile.guest]\ninherits = \"release\"\n".to_owned();
        for setting in SETTINGS {
            text += &format!("{setting} = \"own\"\n");
        }
        (text + more).parse().unwrap()
    }

    #[test]
    fn a_setting_that_is_left_to_release_is_an_error() {
        let text = "[profile.guest]\ninherits = \"release\"\n";
        let error = guest(&text.parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("`codegen-units`"), "{error}");
        assert!(guest(&manifest("")).is_ok());
    }

    #[test]
    fn overrides_that_release_has_are_undone() {
        let release = "
            [profile.release.package.memchr]
            opt-level = 1
            [profile.release.package.'sha2@0.11.1']
            debug = true
            [profile.release.package.own]
            opt-level = 1
            [profile.guest.package.own]
            opt-level = 2
            [profile.dev.package.other]
            strip = true
        ";
        let text = overrides(&manifest(release)).unwrap();
        let table: Table = text.parse().unwrap();
        let packages = find(&table, &["profile", "guest", "package"]).unwrap();
        let packages = packages.as_table().unwrap();
        assert_eq!(
            packages.keys().collect::<Vec<_>>(),
            ["*", "memchr", "sha2@0.11.1"]
        );
        for settings in packages.values() {
            assert_eq!(settings["opt-level"].as_str(), Some("own"));
            assert_eq!(settings["strip"].as_str(), Some("own"));
            assert!(settings.get("lto").is_none());
        }
    }
}
