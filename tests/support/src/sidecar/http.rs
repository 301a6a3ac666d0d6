//! One HTTP GET over a connection of its own.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);

/// Gets a path from a port of 127.0.0.1. HTTP/1.0 keeps the answer free of chunks.
pub(super) fn get(port: u16, path: &str, headers: &str) -> io::Result<(u16, String)> {
    let (head, body) = answer(port, path, headers)?;
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| io::Error::other("not an HTTP answer"))?, body))
}

/// Gets a path as [`get`] does, with further header lines; returns the answer's head and body.
pub(super) fn answer(port: u16, path: &str, headers: &str) -> io::Result<(String, String)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n{headers}\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer)).ok_or_else(|| io::Error::other("not an HTTP answer"))
}

fn parse(answer: &str) -> Option<(String, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.to_owned(), body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn head_and_body_are_found() {
        let answer = "HTTP/1.0 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno";
        let (head, body) = parse(answer).unwrap();
        assert!(head.starts_with("HTTP/1.0 503 ") && body == "no");
        assert_eq!(parse(""), None);
    }
}
