//! Answers queries about people (finger, RFC 1288) from files: a name gets the file of that name
//! in the folder `people`, and an empty query the list of names.
//!
//! ```text
//! halfopen serve guest/dist/finger.wasm --dir /srv/people::people:ro --listen '*:79'
//! ```

use halfopen_guest::{Events, LineBuffer, Socket, callbacks, files, log};

callbacks!(|_socket| Client(LineBuffer::new().limit(512)));

struct Client(LineBuffer);

impl Events for Client {
    fn data(&mut self, socket: &Socket, chunk: Vec<u8>) {
        if !socket.is_writable() {
            return; // what follows the query
        }
        self.0.push(&chunk);
        if let Some(query) = self.0.next_line() {
            socket.write(match query {
                Ok(query) => answer(&query),
                Err(error) => format!("{error}\r\n"),
            });
            socket.end();
        }
    }
}

fn answer(query: &str) -> String {
    // `/W` asks for more than there is.
    let name = query.strip_prefix("/W").unwrap_or(query).trim();
    if name.contains('@') {
        return "Queries are not forwarded.\r\n".to_owned();
    }
    if name.is_empty() {
        return match files::list("people") {
            Ok(mut names) => {
                names.sort();
                names.retain(|name| is_name(name));
                lines(&names.join("\n"))
            }
            Err(error) => unavailable(&error),
        };
    }
    match is_name(name).then(|| files::read(&format!("people/{name}"))) {
        Some(Ok(text)) => lines(&String::from_utf8_lossy(&text)),
        Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => unavailable(&error),
        _ => format!("There is nobody named {}.\r\n", name.escape_default()),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '-')
}

/// Ends lines as the protocol does, and leaves out what terminals obey (RFC 1288, section 3.3).
fn lines(text: &str) -> String {
    let plain = |line: &str| line.replace(|c: char| c.is_control() && c != '\t', "") + "\r\n";
    text.lines().map(plain).collect()
}

fn unavailable(error: &std::io::Error) -> String {
    log!("cannot read `people`: {error}");
    "The answer is not available.\r\n".to_owned()
}
