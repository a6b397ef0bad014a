mod running;

use std::io::{Read, Write};
use std::net::TcpStream;

fn expect(client: &mut TcpStream, text: &str) {
    let mut got = vec![0; text.len()];
    client.read_exact(&mut got).unwrap();
    assert_eq!(String::from_utf8_lossy(&got), text);
}

fn enter(service: &running::Service, name: &str) -> TcpStream {
    let mut client = service.connect();
    expect(&mut client, "What is your name?\n");
    client.write_all(format!("{name}\n").as_bytes()).unwrap();
    expect(&mut client, "Welcome. There are /who and /quit.\n");
    client
}

#[test]
fn everybody_hears_the_others() {
    let service = running::Service::start();
    let mut ann = enter(&service, "ann");
    let mut bob = enter(&service, "bob");
    expect(&mut ann, "* bob is here\n");
    bob.write_all(b"hello\n").unwrap();
    expect(&mut ann, "bob: hello\n");
    drop(bob);
    expect(&mut ann, "* bob has left\n");
}
