//! The page at `/watch` of the admin address, which shows connections as they are.
//!
//! `assets` has what the browser loads, `stream` sends events to it, `doors` keeps pages of other
//! sites out, `headers` protects it in the browser, `route` reads the paths.

mod assets;
mod doors;
mod headers;
mod route;
mod stream;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode};
use tokio::sync::Semaphore;

use crate::watch::feed::Watching;
use doors::{Denied, Doors};
use route::Route;

pub(crate) use stream::Stay;

/// An answer of the admin address.
pub(crate) type Response = hyper::Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The limit on streams of events at once. It is below that of all watchers, so that the control
/// socket has places that browsers cannot take.
const WATCHERS: usize = 8;

/// Answers requests of the page, and the page's own.
pub(crate) struct Page {
    watching: Watching,
    doors: Doors,
    /// Resets and bans are allowed.
    may_write: bool,
    /// Another one than that of any process before, so that events of theirs are not taken for
    /// this one's.
    identity: String,
    places: Arc<Semaphore>,
}

/// Why a request is not answered as it wants to be.
enum Refused {
    Denied(Denied),
    Method(&'static str),
    Full,
}

impl Page {
    /// A page for `hosts`, beside addresses and the names of this machine.
    pub(crate) fn new(watching: Watching, hosts: &[String], may_write: bool) -> Self {
        let began = SystemTime::now().duration_since(UNIX_EPOCH);
        let began = began.unwrap_or_default().as_nanos();
        Page {
            watching,
            doors: Doors::new(hosts),
            may_write,
            identity: format!("{:x}.{began:x}", std::process::id()),
            places: Arc::new(Semaphore::new(WATCHERS)),
        }
    }

    /// The answer, if the path is one of the page's. A stream of events prolongs the client's
    /// `stay` while the client reads it.
    pub(crate) fn respond<B>(&self, request: &Request<B>, stay: &Stay) -> Option<Response> {
        let route = Route::of(request.uri().path())?;
        let answer = self.answer(&route, request, stay);
        let mut response = answer.unwrap_or_else(Refused::response);
        headers::protect(response.headers_mut());
        Some(response)
    }

    fn answer<B>(
        &self,
        route: &Route,
        request: &Request<B>,
        stay: &Stay,
    ) -> Result<Response, Refused> {
        self.doors.admit(request)?;
        let methods = route.methods();
        if !methods.split(", ").any(|method| request.method() == method) {
            return Err(Refused::Method(methods));
        }
        match route {
            Route::Asset(asset) => Ok(typed(StatusCode::OK, asset.kind, asset.text)),
            Route::Connections => Ok(typed(StatusCode::OK, "application/json", self.open())),
            Route::Events => self.watch(request, stay),
            Route::Bans => Ok(self.follow(request)),
            Route::Order(_) => {
                if !self.may_write {
                    return Err(Denied::ReadOnly.into());
                }
                doors::admit_order(request.headers())?;
                Ok(self.follow(request))
            }
        }
    }

    /// The open connections, as a list.
    fn open(&self) -> String {
        // Nothing that a line consists of fails.
        serde_json::to_string(&self.watching.open()).unwrap_or_default()
    }

    fn watch<B>(&self, request: &Request<B>, stay: &Stay) -> Result<Response, Refused> {
        let place = self.places.clone().try_acquire_owned();
        let feed = self.watching.feed(self.may_write);
        let (Ok(place), Some(feed)) = (place, feed) else {
            return Err(Refused::Full);
        };
        let after = stream::last_event(request.headers(), &self.identity);
        let body = stream::body(feed, after, self.identity.clone(), place, stay.clone());
        let mut response = Response::new(body);
        let kind = HeaderValue::from_static("text/event-stream");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        Ok(response)
    }

    fn follow<B>(&self, request: &Request<B>) -> Response {
        let uri = request.uri();
        // A browser gets what the methods of the route allow; HEAD is answered as GET is.
        let method = match request.method() {
            &Method::HEAD => &Method::GET,
            method => method,
        };
        match self.watching.follow(method, uri.path(), uri.query()) {
            Some((status, text)) => plain(status, text),
            None => plain(StatusCode::NOT_FOUND, "there is no such order\n"),
        }
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page")
            .field("may_write", &self.may_write)
            .finish_non_exhaustive()
    }
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        Refused::Denied(denied)
    }
}

impl Refused {
    fn response(self) -> Response {
        match self {
            Refused::Denied(denied) => plain(StatusCode::FORBIDDEN, format!("{denied}\n")),
            Refused::Method(allowed) => {
                let text = format!("use {}\n", allowed.replace(", ", " or "));
                let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, text);
                let allowed = HeaderValue::from_static(allowed);
                response.headers_mut().insert(ALLOW, allowed);
                response
            }
            Refused::Full => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{WATCHERS} clients watch already; close one of them\n"),
            ),
        }
    }
}

/// A response of plain text.
pub(crate) fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response {
    typed(status, "text/plain; charset=utf-8", text)
}

/// A response with a body of some type.
pub(crate) fn typed(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
