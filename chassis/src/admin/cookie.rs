//! The cookie of a page session.
//!
//! Why it exists: browsers do not keep the cookies of different ports apart, so its name holds the port: the pages of two processes on one machine do
//! not log each other out. Scripts cannot read it, and it is not sent for foreign pages.

use axum::http::{HeaderMap, HeaderValue, header};

use super::pages::LIFE_MS;

/// Its name.
#[derive(Debug, Clone)]
pub(super) struct Cookie(String);

impl Cookie {
    /// Of the process that listens on this port.
    pub(super) fn of_port(port: u16) -> Self {
        Self(format!("buslane-{port}"))
    }

    /// Its value in a request.
    pub(super) fn shown<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.0).map(|(_, value)| value)
    }

    /// Sets it for as long as a page session lives.
    pub(super) fn set(&self, value: &str, tls: bool) -> Option<HeaderValue> {
        self.line(value, LIFE_MS / 1_000, tls)
    }

    /// Removes it.
    pub(super) fn clear(&self, tls: bool) -> Option<HeaderValue> {
        self.line("", 0, tls)
    }

    fn line(&self, value: &str, life_s: u64, tls: bool) -> Option<HeaderValue> {
        let (name, secure) = (&self.0, if tls { "; Secure" } else { "" });
        let line = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={life_s}{secure}");
        HeaderValue::from_str(&line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_among_others_and_only_whole() {
        let cookie = Cookie::of_port(7480);
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=1; buslane-74801=no; xbuslane-7480=no".parse().unwrap());
        assert_eq!(cookie.shown(&headers), None);
        headers.append(header::COOKIE, "b=2;buslane-7480=yes; buslane-7480=later".parse().unwrap());
        assert_eq!(cookie.shown(&headers), Some("yes"));
    }

    #[test]
    fn it_is_out_of_reach_of_scripts_and_foreign_pages() {
        let cookie = Cookie::of_port(1);
        let plain = cookie.set("v", false).unwrap();
        assert_eq!(plain, "buslane-1=v; Path=/; HttpOnly; SameSite=Strict; Max-Age=43200");
        assert_eq!(
            cookie.clear(true).unwrap(),
            "buslane-1=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0; Secure"
        );
    }
}
