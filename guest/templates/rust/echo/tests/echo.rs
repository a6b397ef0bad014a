mod running;

use std::io::{Read, Write};
use std::net::Shutdown;

#[test]
fn it_sends_back_what_it_gets_and_ends_after_the_peer() {
    let mut service = running::Service::start();
    let mut client = service.connect();
    client.write_all(b"hi").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "hi");
    assert!(service.line().starts_with("new connection 127.0.0.1 "));
    assert_eq!(service.line(), "data: <Buffer 68 69>");
    assert_eq!(service.line(), "EOF.");
}
