//! An admin address as people write it: `127.0.0.1:7480`, `https://node1.example:7480`.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// Host and port of an admin surface, and whether TLS is spoken there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name, or an address; one of IPv6 without its brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether it was written with `https://`.
    pub secure: bool,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => (false, text),
        };
        let rest = rest.trim_end_matches('/');
        let wrong = || format!("{text:?} is no address; write HOST:PORT or https://HOST:PORT");
        let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().map_err(|_| wrong())?;
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '@' | '?' | '#');
        if host.is_empty() || host.contains(odd) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port, secure })
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self { host: addr.ip().to_string(), port: addr.port(), secure: false }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, bool)> {
        text.parse::<Address>().ok().map(|a| (a.to_string(), a.secure))
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, shown, secure) in [
            ("127.0.0.1:7480", "127.0.0.1:7480", false),
            ("http://localhost:1/", "localhost:1", false),
            ("https://node1.example:7480/", "node1.example:7480", true),
            ("[::1]:7480", "[::1]:7480", false),
        ] {
            assert_eq!(read(text), Some((shown.to_owned(), secure)), "{text}");
        }
        for text in ["", "node1", ":7480", "node1:port", "https://a/b:1", "user@host:1", "a b:1"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
