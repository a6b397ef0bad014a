//! A stream of events to a browser: server-sent events, by the HTML standard.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt::Write;
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{once, unfold};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::HeaderMap;
use hyper::body::{Bytes, Frame};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use crate::watch::feed::Feed;
use crate::watch::json::{Event, Line};

/// How long a stream may be silent, so that proxies keep it.
const SILENCE: Duration = Duration::from_secs(15);
/// How long a client that does not read keeps its place.
const STALLED: Duration = Duration::from_secs(60);
/// How many bytes of a chunk are sent: more than the page shows.
const PAYLOAD: usize = 1024;
/// The browser connects again after a second.
const FIRST: &str = "retry: 1000\n\n";

/// How long a client that watches may stay; shared by its stream and its connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stay(Arc<Mutex<Option<Instant>>>);

impl Stay {
    /// The end of its time, if the client watches. It moves on while the client reads.
    pub(crate) fn until(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prolong(&self) {
        let until = Instant::now() + STALLED;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }
}

/// The last event that a client has, if this process sent it.
pub(super) fn last_event(headers: &HeaderMap, identity: &str) -> Option<u64> {
    let id = headers.get("last-event-id")?.to_str().ok()?;
    let seq = id.strip_prefix(identity)?.strip_prefix('-')?;
    seq.parse().ok()
}

/// Where a stream's lines come from.
trait Lines: Send + 'static {
    /// Waits for the next lines; `None` if there are no more. Nothing is lost if the future is
    /// dropped.
    fn next(&mut self) -> impl Future<Output = Option<Vec<Line>>> + Send;
}

impl Lines for Feed {
    async fn next(&mut self) -> Option<Vec<Line>> {
        Feed::next(self).await
    }
}

/// The body of a stream, which gives `place` back when it ends, and leaves out the events that the
/// client has: those until `after`. hyper asks for more only when the client reads; meanwhile the
/// feed loses events, and says how many.
pub(super) fn body(
    feed: Feed,
    after: Option<u64>,
    identity: String,
    place: OwnedSemaphorePermit,
    stay: Stay,
) -> UnsyncBoxBody<Bytes, Infallible> {
    stay.prolong();
    let text = Text { after, identity };
    sent(feed, text, SILENCE, stay, place)
}

fn sent(
    lines: impl Lines,
    text: Text,
    silence: Duration,
    stay: Stay,
    place: OwnedSemaphorePermit,
) -> UnsyncBoxBody<Bytes, Infallible> {
    let state = (lines, text, stay, place);
    let rest = unfold(state, move |(mut lines, text, stay, place)| async move {
        stay.prolong();
        let sent = match timeout(silence, lines.next()).await {
            Ok(lines) => text.of(&lines?),
            Err(_) => ": nothing new\n\n".to_owned(),
        };
        Some((sent, (lines, text, stay, place)))
    });
    let all = once(ready(FIRST.to_owned())).chain(rest);
    let frames = all.map(|text| Ok(Frame::data(Bytes::from(text))));
    StreamBody::new(frames).boxed_unsync()
}

/// How lines are written.
struct Text {
    after: Option<u64>,
    identity: String,
}

impl Text {
    fn of(&self, lines: &[Line]) -> String {
        let mut text = String::new();
        for line in lines {
            if line.seq.is_some() && line.seq <= self.after {
                continue;
            }
            let line = shortened(line);
            // Nothing that a line consists of fails, nor does writing to a string.
            let Ok(json) = serde_json::to_string(&line) else {
                continue;
            };
            if let Some(seq) = line.seq {
                let _ = writeln!(text, "id: {}-{seq}", self.identity);
            }
            let _ = write!(text, "data: {json}\n\n");
        }
        text
    }
}

/// Cuts what the page would keep and never show.
fn shortened(line: &Line) -> Cow<'_, Line> {
    match &line.event {
        Event::Data {
            payload: Some(payload),
            ..
        } if payload.0.len() > PAYLOAD => {
            let mut line = line.clone();
            if let Event::Data { payload, cut, .. } = &mut line.event {
                if let Some(payload) = payload {
                    payload.0.truncate(PAYLOAD);
                }
                *cut = true;
            }
            Cow::Owned(line)
        }
        _ => Cow::Borrowed(line),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::watch::json::{Dir, Payload};

    /// Lines that come at once, and then none.
    struct Canned(Option<Vec<Line>>);

    impl Lines for Canned {
        async fn next(&mut self) -> Option<Vec<Line>> {
            match self.0.take() {
                Some(lines) => Some(lines),
                None => std::future::pending().await,
            }
        }
    }

    #[test]
    fn bytes_that_the_page_would_not_show_are_cut() {
        let data = |length: usize, cut| Event::Data {
            dir: Dir::In,
            length: 5000,
            offset: 0,
            payload: Some(Payload(vec![b'x'; length])),
            cut,
        };
        let sent = |event| shortened(&Line::of(event)).event.clone();
        assert_eq!(sent(data(5000, false)), data(PAYLOAD, true));
        assert_eq!(sent(data(PAYLOAD, false)), data(PAYLOAD, false));
    }

    fn line(seq: Option<u64>) -> Line {
        Line {
            seq,
            ..Line::of(Event::Paused)
        }
    }

    fn streamed(
        lines: Option<Vec<Line>>,
    ) -> (UnsyncBoxBody<Bytes, Infallible>, Stay, Arc<Semaphore>) {
        let places = Arc::new(Semaphore::new(1));
        let place = places.clone().try_acquire_owned().unwrap();
        let stay = Stay::default();
        let text = Text {
            after: Some(6),
            identity: "a.b".to_owned(),
        };
        let silence = Duration::from_millis(10);
        let body = sent(Canned(lines), text, silence, stay.clone(), place);
        (body, stay, places)
    }

    async fn next(body: &mut UnsyncBoxBody<Bytes, Infallible>) -> String {
        let frame = body.frame().await.unwrap().unwrap();
        String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn events_come_with_their_numbers_and_silence_with_comments() {
        let lines = [None, Some(5), Some(6), Some(7)].map(line);
        let (mut body, _, places) = streamed(Some(lines.to_vec()));
        assert_eq!(next(&mut body).await, FIRST);
        assert_eq!(
            next(&mut body).await,
            "data: {\"event\":\"paused\"}\n\nid: a.b-7\ndata: {\"event\":\"paused\",\"seq\":7}\n\n"
        );
        assert_eq!(next(&mut body).await, ": nothing new\n\n");
        assert_eq!(places.available_permits(), 0);
        drop(body);
        assert_eq!(places.available_permits(), 1);
    }

    /// A client that reads stays as long as it likes; one that does not has its time.
    #[tokio::test]
    async fn only_reading_prolongs_the_stay() {
        let (mut body, stay, _places) = streamed(None);
        assert_eq!(next(&mut body).await, FIRST);
        let mut before = stay.until();
        for _ in 0..3 {
            next(&mut body).await;
            assert!(stay.until() > before);
            before = stay.until();
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(stay.until(), before);
    }

    #[test]
    fn only_numbers_of_this_process_count() {
        for (id, expected) in [
            ("a.b-7", Some(7)),
            ("a.c-7", None),
            ("7", None),
            ("a.b7", None),
            ("a.b-x", None),
            ("", None),
        ] {
            let headers = [("last-event-id".parse().unwrap(), id.parse().unwrap())];
            let headers = HeaderMap::from_iter(headers);
            assert_eq!(last_event(&headers, "a.b"), expected, "{id}");
        }
    }
}
