//! `[oidc]` in the configuration file: who is asked for people, and what they may do here.
//!
//! Why it exists: a wrong word here would lock everybody out, or let everybody in; it is found before anything is listened on. The settings are read by
//! every binary, so that one that cannot sign anybody in says so. It must never give a role to somebody whom no line names.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::Uri;
use garde::Validate;
use serde::{Deserialize, Serialize};

use super::super::principal::Role;
use super::{Back, CALLBACK};

/// Longest name on the button.
const NAME_CHARS_MAX: usize = 40;

/// Longest value that a provider knows us or anything of ours by.
const WORD_CHARS_MAX: usize = 256;

/// Scopes that are asked for, besides `openid`.
const SCOPES_MAX: usize = 16;

/// Values that have a role. More of them belong into a group at the provider.
const ROLES_MAX: usize = 256;

/// Settings: `[oidc]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What the provider is called on the button; otherwise the host of `issuer`.
    #[serde(default)]
    #[garde(inner(custom(is_a_name)))]
    pub name: Option<String>,
    /// The address of the provider, exactly as it writes it itself. `https`; `http` for a loopback host only.
    #[garde(custom(is_an_issuer))]
    pub issuer: String,
    /// What this system is called at the provider.
    #[garde(custom(is_a_word))]
    pub client_id: String,
    /// File with the secret of this system at the provider; none for a public client. Paths are relative to the configuration file.
    #[serde(default)]
    #[garde(inner(custom(is_a_path)))]
    pub client_secret_file: Option<PathBuf>,
    /// Where the provider sends browsers back to, ending in `/v1/login/oidc/callback`; otherwise the admin address.
    #[serde(default)]
    #[garde(inner(custom(leads_back)))]
    pub redirect_url: Option<String>,
    /// PEM file with the authority of the provider's certificate, where that is none of the public ones.
    #[serde(default)]
    #[garde(custom(fits_the_scheme(&self.issuer)))]
    pub ca: Option<PathBuf>,
    /// What the provider is asked to tell, besides `openid`.
    #[serde(default = "usual_scopes")]
    #[garde(custom(are_scopes))]
    pub scopes: Vec<String>,
    /// The claim that says what somebody is: a text or a list of texts. `a.b` is `b` in `a` where there is no claim `a.b`.
    #[serde(default = "usual_claim")]
    #[garde(custom(is_a_word))]
    pub role_claim: String,
    /// The role for each value of that claim. Whoever has several has the highest; whoever has none does not get in.
    #[garde(custom(let_somebody_in))]
    pub roles: BTreeMap<String, Role>,
    /// Minutes that a page session lives: what changes at the provider is not seen before.
    #[serde(default = "usual_minutes")]
    #[garde(range(min = 1, max = 720))]
    pub session_minutes: u32,
}

fn usual_scopes() -> Vec<String> {
    ["profile", "email"].map(str::to_owned).to_vec()
}

fn usual_claim() -> String {
    "groups".to_owned()
}

fn usual_minutes() -> u32 {
    240
}

impl Settings {
    /// Makes the paths relative to the folder of the configuration file.
    pub fn relative_to(&mut self, folder: &Path) {
        for path in [self.client_secret_file.as_mut(), self.ca.as_mut()].into_iter().flatten() {
            *path = folder.join(&*path);
        }
    }

    /// What the provider is called.
    pub fn shown_name(&self) -> String {
        let host = || self.issuer.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
        self.name.clone().or_else(host).unwrap_or_default()
    }

    /// How long a page session lives.
    pub fn session(&self) -> Duration {
        Duration::from_secs(u64::from(self.session_minutes) * 60)
    }

    /// Where browsers come back to; why they cannot, with what to do about it.
    pub fn back(&self, admin: SocketAddr, speaks_tls: bool) -> Result<Back, String> {
        if let Some(url) = &self.redirect_url {
            return Ok(Back::Url(url.clone()));
        }
        let write =
            format!("write redirect_url = \"https://HOST{CALLBACK}\" with the name that browsers use");
        if admin.ip().is_unspecified() {
            return Err(format!(
                "redirect_url is missing, and no browser can be sent back to {admin}: {write}"
            ));
        }
        if !speaks_tls && !admin.ip().is_loopback() {
            return Err(format!(
                "redirect_url is missing, and {admin} speaks plain HTTP, which is read on the way: write [admin_tls], or put it behind a \
                 proxy with TLS and {write}"
            ));
        }
        Ok(Back::Address { scheme: if speaks_tls { "https" } else { "http" } })
    }
}

/// Whether what is sent to this address is read by nobody on the way: `https`, or `http` to this machine itself.
pub fn is_private(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => is_loopback(host),
        _ => false,
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    address.parse::<IpAddr>().map_or(host.eq_ignore_ascii_case("localhost"), |ip| ip.is_loopback())
}

/// A web address without user, question or fragment.
fn web_address(text: &str) -> Result<Uri, garde::Error> {
    let uri: Uri = text.parse().map_err(|_| wrong("is no web address: write https://HOST/PATH"))?;
    if uri.host().is_none_or(str::is_empty) || uri.scheme().is_none() {
        return Err(wrong("is no web address: write https://HOST/PATH"));
    }
    if text.contains(['?', '#', '@']) {
        return Err(wrong("has a user, a question or a fragment: write https://HOST/PATH alone"));
    }
    if !is_private(&uri) {
        return Err(wrong("must begin with https://; http:// is for 127.0.0.1, [::1] and localhost alone"));
    }
    Ok(uri)
}

fn is_an_issuer(issuer: &str, (): &()) -> garde::Result {
    web_address(issuer).map(|_| ())
}

fn leads_back(url: &str, (): &()) -> garde::Result {
    let uri = web_address(url)?;
    if uri.path() == CALLBACK {
        return Ok(());
    }
    Err(wrong(&format!(
        "must end in {CALLBACK}: write https://{}{CALLBACK}",
        uri.authority().map_or("", |a| a.as_str())
    )))
}

/// Who authenticates nothing needs no authority.
fn fits_the_scheme(issuer: &str) -> impl FnOnce(&Option<PathBuf>, &()) -> garde::Result {
    move |ca, ()| match ca {
        Some(ca) => {
            is_a_path(ca, &())?;
            if issuer.starts_with("http://") {
                return Err(wrong(
                    "is not used, because issuer is plain HTTP: remove it, or write https:// there",
                ));
            }
            Ok(())
        }
        None => Ok(()),
    }
}

fn is_a_path(path: &Path, (): &()) -> garde::Result {
    if path.as_os_str().is_empty() {
        Err(wrong("is empty: write the path of a file, or remove it"))
    } else {
        Ok(())
    }
}

fn is_a_name(name: &str, (): &()) -> garde::Result {
    if (1..=NAME_CHARS_MAX).contains(&name.trim().chars().count()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(wrong(&format!("has 1 to {NAME_CHARS_MAX} printable characters")))
}

fn is_a_word(word: &str, (): &()) -> garde::Result {
    let is_word = (1..=WORD_CHARS_MAX).contains(&word.chars().count()) && !word.chars().any(char::is_control);
    if is_word { Ok(()) } else { Err(wrong(&format!("has 1 to {WORD_CHARS_MAX} printable characters"))) }
}

fn are_scopes(scopes: &[String], (): &()) -> garde::Result {
    if scopes.len() > SCOPES_MAX {
        return Err(wrong(&format!(
            "has more than {SCOPES_MAX} entries: name those that tell name and groups"
        )));
    }
    // RFC 6749, section 3.3.
    let is_scope = |scope: &String| {
        (1..=WORD_CHARS_MAX).contains(&scope.len())
            && scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
    };
    match scopes.iter().find(|scope| !is_scope(scope)) {
        Some(scope) => {
            Err(wrong(&format!("{scope:?} is no scope: a scope is one word, each an entry of its own")))
        }
        None => Ok(()),
    }
}

fn let_somebody_in(roles: &BTreeMap<String, Role>, (): &()) -> garde::Result {
    if roles.is_empty() {
        return Err(wrong(
            "is empty, so nobody could get in: write [oidc.roles] with lines like \"a-group\" = \"operator\"",
        ));
    }
    if roles.len() > ROLES_MAX {
        return Err(wrong(&format!("has more than {ROLES_MAX} lines: make groups at the provider")));
    }
    if roles.keys().any(|value| value.trim().is_empty()) {
        return Err(wrong("gives a role to an empty value: write the value of the claim"));
    }
    Ok(())
}

fn wrong(why: &str) -> garde::Error {
    garde::Error::new(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[derive(Debug, Deserialize, Validate)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[garde(dive)]
        oidc: Settings,
    }

    const LEAST: &str = "[oidc]\nissuer = \"https://id.example/realms/ops\"\nclient_id = \"buslane\"\n";
    const ROLES: &str = "[oidc.roles]\noncall = \"operator\"\n";

    fn read(text: &str) -> Result<Settings, String> {
        config::parse::<File>(text, Path::new("c.toml")).map(|file| file.oidc).map_err(|e| e.to_string())
    }

    #[test]
    fn the_least_that_works() {
        let settings = read(&format!("{LEAST}{ROLES}")).unwrap();
        assert_eq!(settings.shown_name(), "id.example");
        assert_eq!(
            (settings.scopes.join(" ").as_str(), settings.role_claim.as_str()),
            ("profile email", "groups")
        );
        assert_eq!(settings.session(), Duration::from_secs(4 * 3_600));
        assert_eq!(settings.roles.get("oncall"), Some(&Role::Operator));
        let named = read(&format!("{LEAST}name = \"Example ID\"\n{ROLES}")).unwrap();
        assert_eq!(named.shown_name(), "Example ID");
    }

    #[test]
    fn a_wrong_issuer_is_named_with_a_remedy() {
        let https = "must begin with https://; http:// is for 127.0.0.1, [::1] and localhost alone";
        let web = "is no web address: write https://HOST/PATH";
        let alone = "has a user, a question or a fragment: write https://HOST/PATH alone";
        for (issuer, why) in [
            ("http://id.example", https),
            ("ftp://127.0.0.1", https),
            ("http://localhost.evil.example", https),
            ("id.example", web),
            ("/realms", web),
            ("", web),
            ("https://127.0.0.1@id.example/", alone),
            ("https://id.example/?a=b", alone),
            ("https://id.example/#a", alone),
        ] {
            let text = format!("[oidc]\nissuer = \"{issuer}\"\nclient_id = \"buslane\"\n{ROLES}");
            assert_eq!(read(&text).unwrap_err(), format!("c.toml:2: oidc.issuer: {why}"), "{issuer}");
        }
        for issuer in ["http://127.0.0.1:9/x", "http://[::1]:9", "http://LOCALHOST", "https://id.example/"] {
            let text = format!("[oidc]\nissuer = \"{issuer}\"\nclient_id = \"buslane\"\n{ROLES}");
            assert_eq!(read(&text).unwrap().issuer, issuer);
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_a_remedy() {
        for (line, expected) in [
            (
                "redirect_url = \"https://ops.example:8443/\"",
                "redirect_url: must end in /v1/login/oidc/callback: write https://ops.example:8443/v1/login/oidc/callback",
            ),
            (
                "redirect_url = \"http://ops.example/v1/login/oidc/callback\"",
                "redirect_url: must begin with https://; http:// is for 127.0.0.1, [::1] and localhost alone",
            ),
            (
                "scopes = [\"a b\"]",
                "scopes: \"a b\" is no scope: a scope is one word, each an entry of its own",
            ),
            ("role_claim = \"\"", "role_claim: has 1 to 256 printable characters"),
            ("name = \" \"", "name: has 1 to 40 printable characters"),
            ("session_minutes = 0", "session_minutes: lower than 1"),
            (
                "client_secret_file = \"\"",
                "client_secret_file: is empty: write the path of a file, or remove it",
            ),
            ("ca = \"\"", "ca: is empty: write the path of a file, or remove it"),
        ] {
            let error = read(&format!("{LEAST}{line}\n{ROLES}")).unwrap_err();
            assert_eq!(error, format!("c.toml:4: oidc.{expected}"));
        }
        let nobody = read(&format!("{LEAST}[oidc.roles]\n")).unwrap_err();
        assert!(
            nobody.contains("oidc.roles: is empty, so nobody could get in: write [oidc.roles]"),
            "{nobody}"
        );
        let missing = read(LEAST).unwrap_err();
        assert!(missing.contains("oidc.roles: it is missing"), "{missing}");
        let unused = LEAST.replace("https://id.example", "http://127.0.0.1:9");
        let unused = read(&format!("{unused}ca = \"ca.pem\"\n{ROLES}")).unwrap_err();
        assert!(unused.contains("oidc.ca: is not used, because issuer is plain HTTP: remove it"), "{unused}");
        let misspelt = read(&format!("{LEAST}clientid = \"x\"\n{ROLES}")).unwrap_err();
        assert!(misspelt.contains("did you mean `client_id`?"), "{misspelt}");
        let boss = read(&format!("{LEAST}[oidc.roles]\na = \"boss\"\n")).unwrap_err();
        assert!(boss.contains("oidc.roles.a") && boss.contains("`viewer`, `operator`"), "{boss}");
    }

    #[test]
    fn a_browser_comes_back_to_where_it_can() {
        let settings = read(&format!("{LEAST}{ROLES}")).unwrap();
        let back = |admin: &str, tls| settings.back(admin.parse().unwrap(), tls);
        assert_eq!(back("127.0.0.1:7480", false), Ok(Back::Address { scheme: "http" }));
        let port = "[::1]:81".parse().unwrap();
        assert_eq!(back("[::1]:0", false).unwrap().url(port), format!("http://[::1]:81{CALLBACK}"));
        assert_eq!(back("192.0.2.1:1", true).unwrap(), Back::Address { scheme: "https" });
        assert!(back("192.0.2.1:1", false).unwrap_err().contains("write [admin_tls], or"));
        assert!(back("0.0.0.0:1", true).unwrap_err().contains("write redirect_url ="));
        let url = format!("https://ops.example{CALLBACK}");
        let settings = read(&format!("{LEAST}redirect_url = \"{url}\"\n{ROLES}")).unwrap();
        let given = settings.back("0.0.0.0:1".parse().unwrap(), false).unwrap();
        assert_eq!(given.url(port), url);
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let text = format!("{LEAST}client_secret_file = \"a\"\nca = \"/b\"\n{ROLES}");
        let mut settings = read(&text).unwrap();
        settings.relative_to(Path::new("/etc/buslane"));
        assert_eq!(settings.client_secret_file, Some("/etc/buslane/a".into()));
        assert_eq!(settings.ca, Some("/b".into()));
    }
}
