mod running;

use std::io::{Read, Write};
use std::net::Shutdown;

#[test]
fn each_line_has_an_answer() {
    let service = running::Service::start();
    let mut client = service.connect();
    client
        .write_all(b"upper hello\nreverse abc\ncount four")
        .unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "HELLO\ncba\n4\n");
}
