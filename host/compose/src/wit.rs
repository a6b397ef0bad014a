//! The WIT of this project, as text that the binary carries.

use include_dir::{Dir, include_dir};
use wit_parser::{PackageId, Resolve, SourceMap};

use crate::{Error, one_line};

/// The folder `wit/`, with the packages of WASI below it.
static WIT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/wit");

/// The folder of the packages that `halfopen:tcp` depends on. Each file is one of them.
const DEPENDENCIES: &str = "deps";

/// Returns the files of the package `halfopen:tcp`: their names, and what is in them.
pub fn files() -> impl Iterator<Item = (&'static str, &'static str)> {
    wit_files(&WIT)
}

/// Returns the files of the packages of WASI that halfopen is built with, one file each.
pub fn dependencies() -> impl Iterator<Item = (&'static str, &'static str)> {
    WIT.get_dir(DEPENDENCIES).into_iter().flat_map(wit_files)
}

fn wit_files(dir: &'static Dir<'_>) -> impl Iterator<Item = (&'static str, &'static str)> {
    dir.files().filter_map(|file| {
        let name = file.path().file_name()?.to_str()?;
        Some((name, file.contents_utf8()?)).filter(|_| name.ends_with(".wit"))
    })
}

/// Resolves a package that uses interfaces of `halfopen:tcp` and of its dependencies.
pub(crate) fn resolve(package: &str) -> Result<(Resolve, PackageId), Error> {
    let mut tcp = SourceMap::new();
    for (name, text) in files() {
        tcp.push_str(name, text);
    }
    let mut own = SourceMap::new();
    own.push_str("component.wit", package);
    let others = dependencies().map(|(name, text)| {
        let mut map = SourceMap::new();
        map.push_str(name, text);
        map
    });
    let parse = |map: SourceMap| map.parse().map_err(|(_, error)| unresolved(&error));
    let groups: Result<Vec<_>, Error> = others.chain([tcp]).map(parse).collect();
    let mut resolve = Resolve::default();
    let package = resolve
        .push_groups(parse(own)?, groups?)
        .map_err(|error| unresolved(&error))?;
    Ok((resolve, package))
}

fn unresolved(error: &impl ToString) -> Error {
    Error::Module(one_line(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_package_is_there_and_resolves() {
        let names: Vec<_> = files().map(|(name, _)| name).collect();
        for name in ["sockets.wit", "events.wit", "types.wit", "package.wit"] {
            assert!(names.contains(&name), "{names:?}");
        }
        let world = "package a:b; world w { include halfopen:tcp/callbacks@0.1.0; }";
        let (resolve, package) = resolve(world).unwrap();
        assert_eq!(resolve.packages[package].worlds.len(), 1);
    }
}
