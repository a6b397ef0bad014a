//! Who may use the page: no page of another site, neither to read nor to give orders.
//!
//! The address has no authentication, so a browser that can reach it must not lend that to others.
//! A name that an attacker points at this machine (DNS rebinding) makes his page the same site as
//! this address: `Host` then has his name. Requests from his own site have `Origin` or, where the
//! browser trusts the address, `Sec-Fetch-Site`.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use hyper::header::{HOST, HeaderName, ORIGIN};
use hyper::{HeaderMap, Method, Request};

/// Says that an order does not come from a form or a script of another site, which cannot set it.
const ORDER: HeaderName = HeaderName::from_static("x-halfopen");

/// Why a request is not answered.
#[derive(Debug, PartialEq)]
pub(super) enum Denied {
    /// There is no `Host`, or more than one.
    NoHost,
    /// The page is not here under this name.
    Host(String),
    /// A page of another site asks.
    Site,
    /// Orders are not allowed at all.
    ReadOnly,
    /// Nothing shows where the order comes from.
    Order,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denied::NoHost => write!(f, "the request needs one header Host"),
            Denied::Host(name) => write!(
                f,
                "the page is not served under the name `{name}`; --admin-host {name} allows it"
            ),
            Denied::Site => write!(
                f,
                "the request comes from a page of another site; open /watch of this address"
            ),
            Denied::ReadOnly => write!(
                f,
                "this address only shows connections; --admin-write allows to reset and ban them"
            ),
            Denied::Order => write!(f, "an order needs the header `{ORDER}`, with any value"),
        }
    }
}

/// The names under which the page is served.
#[derive(Debug)]
pub(super) struct Doors {
    /// Beside addresses and localhost.
    hosts: Vec<String>,
}

impl Doors {
    pub(super) fn new(hosts: &[String]) -> Self {
        Doors {
            hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
        }
    }

    /// Checks where a request comes from.
    pub(super) fn admit<B>(&self, request: &Request<B>) -> Result<(), Denied> {
        let headers = request.headers();
        let host = only(headers, &HOST).ok_or(Denied::NoHost)?;
        let name = name_of(host);
        if !self.knows(&name) {
            return Err(Denied::Host(printable(&name)));
        }
        if headers.contains_key(ORIGIN) {
            let origin = only(headers, &ORIGIN).ok_or(Denied::Site)?;
            let origin = origin
                .strip_prefix("http://")
                .or_else(|| origin.strip_prefix("https://"));
            if !origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host)) {
                return Err(Denied::Site);
            }
        }
        match fetched(headers, "sec-fetch-site") {
            None | Some("same-origin" | "none") => Ok(()),
            // Somebody follows a link to the page.
            Some(_) if is_visit(request) => Ok(()),
            Some(_) => Err(Denied::Site),
        }
    }

    /// Whether the page is served under this name. No DNS stands behind an address, so nobody can
    /// point one at this machine.
    fn knows(&self, name: &str) -> bool {
        let is_local = name == "localhost" || name.ends_with(".localhost");
        let v6 = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'));
        is_local
            || name.parse::<Ipv4Addr>().is_ok()
            || v6.is_some_and(|name| name.parse::<Ipv6Addr>().is_ok())
            || self.hosts.iter().any(|host| host == name)
    }
}

/// Checks that an order can only come from the page or from a program. A browser sends `Origin`
/// with every order, and `admit` has compared it.
pub(super) fn admit_order(headers: &HeaderMap) -> Result<(), Denied> {
    match headers.contains_key(ORIGIN) || headers.contains_key(ORDER) {
        true => Ok(()),
        false => Err(Denied::Order),
    }
}

/// Whether the browser opens the page, as opposed to a page that loads something of it.
fn is_visit<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    request.method() == Method::GET
        && request.uri().path() == "/watch"
        && fetched(headers, "sec-fetch-mode") == Some("navigate")
        && fetched(headers, "sec-fetch-dest") == Some("document")
}

fn fetched<'a>(headers: &'a HeaderMap, name: &'static str) -> Option<&'a str> {
    // What is not text is no value that a browser sends: it fits nothing.
    let value = headers.get(name)?;
    Some(value.to_str().unwrap_or_default())
}

/// The value of a header that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// The name of a host, without its port, in small letters.
fn name_of(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.to_ascii_lowercase()
}

/// The name as it may stand in an answer.
fn printable(name: &str) -> String {
    let is_plain = |char: &char| char.is_ascii_alphanumeric() || "-._:[]".contains(*char);
    name.chars().filter(is_plain).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn admitted(headers: &[(&str, &str)]) -> Result<(), Denied> {
        Doors::new(&["Admin.Example".to_owned()]).admit(&request("/events", headers))
    }

    #[test]
    fn only_names_of_this_machine_are_hosts() {
        for host in [
            "127.0.0.1:9464",
            "127.0.0.1",
            "[::1]:9464",
            "192.0.2.7:80",
            "localhost:9464",
            "LOCALHOST",
            "a.localhost:1",
            "admin.example:9464",
        ] {
            assert_eq!(admitted(&[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "attacker.example",
            "attacker.example:9464",
            "127.0.0.1.attacker.example",
            "localhost.attacker.example",
            "notlocalhost",
            "::1",
            "[::1",
            "admin.example.attacker.example",
            "127.0.0.1:9464:9464",
            "",
        ] {
            let denied = admitted(&[("host", host)]);
            assert!(matches!(denied, Err(Denied::Host(_))), "{host}: {denied:?}");
        }
        assert_eq!(admitted(&[]), Err(Denied::NoHost));
        let twice = [("host", "localhost"), ("host", "attacker.example")];
        assert_eq!(admitted(&twice), Err(Denied::NoHost));
    }

    #[test]
    fn a_page_of_another_site_is_denied() {
        let host = ("host", "localhost:9464");
        for origin in ["http://localhost:9464", "https://LOCALHOST:9464"] {
            assert_eq!(admitted(&[host, ("origin", origin)]), Ok(()), "{origin}");
        }
        for origin in [
            "null",
            "http://localhost:3000",
            "http://localhost",
            "http://attacker.example",
            "ftp://localhost:9464",
            "",
        ] {
            let denied = admitted(&[host, ("origin", origin)]);
            assert_eq!(denied, Err(Denied::Site), "{origin}");
        }
        for (site, expected) in [
            ("same-origin", Ok(())),
            ("none", Ok(())),
            ("same-site", Err(Denied::Site)),
            ("cross-site", Err(Denied::Site)),
            ("else", Err(Denied::Site)),
        ] {
            assert_eq!(
                admitted(&[host, ("sec-fetch-site", site)]),
                expected,
                "{site}"
            );
        }
    }

    /// A link in a chat opens the page; a frame, a script and an image of it do not load.
    #[test]
    fn a_link_opens_the_page_and_nothing_else() {
        let visit = |path, mode, dest| {
            let headers = [
                ("host", "localhost"),
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", mode),
                ("sec-fetch-dest", dest),
            ];
            Doors::new(&[]).admit(&request(path, &headers))
        };
        assert_eq!(visit("/watch", "navigate", "document"), Ok(()));
        for (path, mode, dest) in [
            ("/watch", "navigate", "iframe"),
            ("/watch", "no-cors", "image"),
            ("/watch/main.js", "no-cors", "script"),
            ("/events", "navigate", "document"),
            ("/connections", "navigate", "document"),
        ] {
            assert_eq!(
                visit(path, mode, dest),
                Err(Denied::Site),
                "{path} {mode} {dest}"
            );
        }
    }

    #[test]
    fn an_order_shows_where_it_comes_from() {
        for (headers, expected) in [
            (&[][..], Err(Denied::Order)),
            (&[("content-type", "text/plain")], Err(Denied::Order)),
            (&[("x-halfopen", "")], Ok(())),
            (&[("origin", "http://localhost")], Ok(())),
        ] {
            let request = request("/connections/1/reset", headers);
            assert_eq!(admit_order(request.headers()), expected, "{headers:?}");
        }
    }
}
