//! The paths of the page.

use super::assets::Asset;

/// What a path names.
#[derive(Debug)]
pub(super) enum Route {
    Asset(&'static Asset),
    Events,
    Connections,
    Bans,
    /// A reset or a ban, with the methods that it has.
    Order(&'static str),
}

impl Route {
    /// The route of a path, if it is one of the page's.
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/events" => return Some(Route::Events),
            "/connections" => return Some(Route::Connections),
            "/bans" => return Some(Route::Bans),
            _ => {}
        }
        if let Some(asset) = Asset::at(path) {
            return Some(Route::Asset(asset));
        }
        let is = |before, after| {
            let rest = path.strip_prefix(before);
            rest.is_some_and(|rest| rest.strip_suffix(after).is_some())
        };
        if is("/connections/", "/reset") {
            return Some(Route::Order("POST"));
        }
        is("/peers/", "/ban").then_some(Route::Order("POST, DELETE"))
    }

    /// The methods that it has, as the header `Allow` lists them.
    pub(super) fn methods(&self) -> &'static str {
        match self {
            Route::Asset(_) | Route::Connections | Route::Bans => "GET, HEAD",
            Route::Events => "GET",
            Route::Order(methods) => methods,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_their_methods() {
        for (path, methods) in [
            ("/watch", "GET, HEAD"),
            ("/watch/main.js", "GET, HEAD"),
            ("/connections", "GET, HEAD"),
            ("/bans", "GET, HEAD"),
            ("/events", "GET"),
            ("/connections/1/reset", "POST"),
            ("/peers/10.0.0.0/8/ban", "POST, DELETE"),
            ("/peers/10.0.0.0%2F8/ban", "POST, DELETE"),
        ] {
            let route = Route::of(path).unwrap();
            assert_eq!(route.methods(), methods, "{path}");
        }
        for path in [
            "/",
            "/metrics",
            "/watching",
            "/watch/",
            "/watch/../x",
            "/connections/1",
            "/connections/reset",
            "/peers/ban",
        ] {
            assert!(Route::of(path).is_none(), "{path}");
        }
    }
}
