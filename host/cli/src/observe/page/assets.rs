//! The files of the page, which are part of the binary.

/// A file.
#[derive(Debug)]
pub(super) struct Asset {
    path: &'static str,
    /// Its content type.
    pub(super) kind: &'static str,
    pub(super) text: &'static str,
}

impl Asset {
    /// The file at a path.
    pub(super) fn at(path: &str) -> Option<&'static Asset> {
        ASSETS.iter().find(|asset| asset.path == path)
    }
}

/// A script of the page.
macro_rules! script {
    ($name:literal) => {
        Asset {
            path: concat!("/watch/", $name),
            kind: "text/javascript; charset=utf-8",
            text: include_str!(concat!("assets/", $name)),
        }
    };
}

const ASSETS: [Asset; 12] = [
    Asset {
        path: "/watch",
        kind: "text/html; charset=utf-8",
        text: include_str!("assets/index.html"),
    },
    Asset {
        path: "/watch/page.css",
        kind: "text/css; charset=utf-8",
        text: include_str!("assets/page.css"),
    },
    script!("actions.js"),
    script!("dom.js"),
    script!("keys.js"),
    script!("ladder.js"),
    script!("list.js"),
    script!("main.js"),
    script!("model.js"),
    script!("search.js"),
    script!("source.js"),
    script!("words.js"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever a file imports or links to is a file as well.
    #[test]
    fn every_file_that_is_named_is_there() {
        let mut named = 0;
        for asset in &ASSETS {
            for part in asset.text.split(['"', '\'']) {
                let path = match part.strip_prefix("./") {
                    Some(name) if part.ends_with(".js") => format!("/watch/{name}"),
                    _ if part.starts_with("/watch/") => part.to_owned(),
                    _ => continue,
                };
                named += 1;
                assert!(Asset::at(&path).is_some(), "{}: {path}", asset.path);
            }
        }
        assert!(named > ASSETS.len(), "{named}");
    }
}
