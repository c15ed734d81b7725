//! What an operator can set on a gateway, with defaults that suit a public one.
//!
//! Why it exists: every limit is a number with a name and a reason, and a wrong one is found before a port is bound. It
//! must never have a value that means something only together with luck: what does not fit together is refused here.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use garde::Validate;
use serde::{Deserialize, Serialize};

/// The settings of a gateway.
#[derive(Debug, Clone, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
#[garde(custom(jwt_is_there_when_needed))]
pub struct Config {
    /// UDP address of the gate.
    #[garde(skip)]
    pub listen: SocketAddr,
    /// Who may enrol a device.
    #[garde(skip)]
    pub enrolment: Enrolment,
    /// Seconds for which a ticket is valid: as long as a phone may sleep and still come back without the gateway. A
    /// revoked device loses its session at once whatever this says.
    #[garde(range(min = 60, max = 86_400))]
    pub ticket_life_s: u32,
    /// The identity provider whose tokens are accepted in place of one-time codes.
    #[garde(dive)]
    pub jwt: Option<Jwt>,
    /// How often one address or user may come.
    #[garde(dive)]
    pub limits: Limits,
    /// How many may be at the door at a time.
    #[garde(dive)]
    pub door: Door,
    /// The lane passes that come with a ticket.
    #[garde(dive)]
    pub passes: Passes,
    /// The slots that are given out for session managers that are full.
    #[garde(dive)]
    pub slots: Slots,
}

impl Config {
    /// Makes the paths in it those of a file in `folder`: a configuration means the same wherever it is started from.
    pub fn relative_to(&mut self, folder: &Path) {
        let paths = self.jwt.iter_mut().flat_map(|jwt| [&mut jwt.jwks_file, &mut jwt.jwks_ca]);
        for path in paths.flatten() {
            *path = folder.join(&path);
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7400)),
            enrolment: Enrolment::default(),
            ticket_life_s: 3_600,
            jwt: None,
            limits: Limits::default(),
            door: Door::default(),
            passes: Passes::default(),
            slots: Slots::default(),
        }
    }
}

/// Who may enrol a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Enrolment {
    /// Anybody may take a name that nobody has; a further device of a name needs a code.
    Open,
    /// Every device needs a one-time code, or a token where an identity provider is configured.
    #[default]
    Code,
    /// Every device needs a token of the identity provider; codes are refused, so that whom the provider has locked out
    /// cannot come in through an older device.
    Jwt,
}

/// An identity provider (OpenID Connect or any other that publishes a JSON Web Key Set).
#[derive(Debug, Clone, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
#[garde(custom(one_source_of_keys))]
pub struct Jwt {
    /// The `iss` that a token must have, letter for letter.
    #[garde(length(min = 1))]
    pub issuer: String,
    /// A token must be meant for one of these (`aud`).
    #[garde(length(min = 1))]
    pub audience: Vec<String>,
    /// File with the provider's key set, relative to the configuration file; it is read again every `refresh_s` seconds.
    #[serde(default)]
    #[garde(skip)]
    pub jwks_file: Option<PathBuf>,
    /// Address of the provider's key set: https, or http to a loopback address.
    #[serde(default)]
    #[garde(skip)]
    pub jwks_url: Option<String>,
    /// Certificates (PEM) to trust for `jwks_url`, in place of the public ones; relative to the configuration file.
    #[serde(default)]
    #[garde(skip)]
    pub jwks_ca: Option<PathBuf>,
    /// The claim that is the user's name here. It must be something that users cannot choose freely at the provider.
    #[serde(default = "sub")]
    #[garde(length(min = 1))]
    pub user_claim: String,
    /// Seconds by which the provider's clock may differ.
    #[serde(default = "leeway_s")]
    #[garde(range(max = 300))]
    pub leeway_s: u64,
    /// Seconds after which the key set is fetched again. A token with an unknown key fetches it sooner.
    #[serde(default = "refresh_s")]
    #[garde(range(min = 10, max = 86_400))]
    pub refresh_s: u64,
    /// Seconds between two fetches that tokens with unknown keys cause: they come from strangers, so they must not make
    /// the gateway a hammer against the provider.
    #[serde(default = "refetch_s")]
    #[garde(range(min = 1, max = 3_600))]
    pub refetch_s: u64,
    /// Seconds for which a device that was enrolled with a token stays enrolled. It is not renewed: the device shows a
    /// fresh token instead, so the provider keeps the last word on who may stay.
    #[serde(default = "credential_life_s")]
    #[garde(range(min = 300, max = 31_536_000))]
    pub credential_life_s: u32,
}

fn sub() -> String {
    "sub".to_owned()
}

const fn leeway_s() -> u64 {
    60
}

const fn refresh_s() -> u64 {
    600
}

const fn refetch_s() -> u64 {
    15
}

const fn credential_life_s() -> u32 {
    7 * 86_400
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, Validate)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// As many may come at once.
    #[garde(range(min = 1, max = 10_000_000))]
    pub burst: u32,
    /// As many more come back in a minute.
    #[garde(range(min = 1, max = 10_000_000))]
    pub per_minute: u32,
}

/// How often one address or user may come. What goes beyond is refused with the time to come back.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests of one address (an IPv4 address, or the /64 of an IPv6 address). Thousands of phones share one behind a
    /// carrier's NAT, so it is wide: 100 a second cost a fiftieth of a core. Whoever shows a foreground pass has a share
    /// of the same size beside it, so that phones which wake do not use up what the people next to them need.
    #[garde(dive)]
    pub address: Rate,
    /// Tickets of one user for the foreground: all devices reconnect a few times and are not refused.
    #[garde(dive)]
    pub user: Rate,
    /// Tickets of one user for the background.
    #[garde(dive)]
    pub user_background: Rate,
    /// Batches of foreground passes of one user. Saying that somebody looks is only a claim: beyond this the passes are
    /// background ones.
    #[garde(dive)]
    pub claims: Rate,
    /// Enrolments tried under one name, from wherever: a person adds a device now and then.
    #[garde(dive)]
    pub enrol_name: Rate,
    /// Failed proofs, codes and tokens of one address before it is held off.
    #[garde(dive)]
    pub failures: Rate,
    /// Seconds for which it is held off then.
    #[garde(range(min = 1, max = 86_400))]
    pub hold_s: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            address: Rate { burst: 1_000, per_minute: 6_000 },
            user: Rate { burst: 60, per_minute: 60 },
            user_background: Rate { burst: 60, per_minute: 60 },
            claims: Rate { burst: 20, per_minute: 20 },
            enrol_name: Rate { burst: 10, per_minute: 10 },
            failures: Rate { burst: 20, per_minute: 20 },
            hold_s: 60,
        }
    }
}

/// How many may be at the door at a time.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Door {
    /// Handshakes in flight. A half-open one costs some 45 KiB, so this is a bound on memory (512: 23 MiB) as well as on
    /// work. From half of it on strangers must first prove their address; beyond it they hear nothing.
    #[garde(range(min = 2, max = 100_000))]
    pub handshakes_max: u32,
    /// Handshakes in flight from one address: one that opens and never ends them leaves room for all others.
    #[garde(range(min = 1, max = 100_000))]
    pub handshakes_per_address_max: u32,
    /// Connections after their handshake. Each lives for seconds; 4,096 of them are some 200 MiB at the very worst.
    #[garde(range(min = 1, max = 1_000_000))]
    pub connections_max: u32,
    /// Percent of the handshakes and connections that are kept for those who show a pass or a slot: strangers get what is
    /// left.
    #[garde(range(max = 90))]
    pub reserve_percent: u32,
}

impl Default for Door {
    fn default() -> Self {
        Self {
            handshakes_max: 512,
            handshakes_per_address_max: 64,
            connections_max: 4_096,
            reserve_percent: 25,
        }
    }
}

/// The lane passes that come with a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Passes {
    /// Passes of one batch: each serves one try to connect, so this is how often a phone with a bad network may try before
    /// it comes back to a gateway. A session in the foreground gets more.
    #[garde(range(min = 1, max = 16))]
    pub batch: u32,
}

impl Default for Passes {
    fn default() -> Self {
        Self { batch: 6 }
    }
}

/// The slots that are given out for session managers that are full. The same three are set at a session manager, for the
/// slots that it gives out itself.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Slots {
    /// Part of a manager's background rate for which slots are given out.
    #[garde(range(min = 0.1, max = 1.0))]
    pub fill: f64,
    /// Milliseconds that a client may be early or late.
    #[garde(range(min = 100, max = 60_000))]
    pub tolerance_ms: u32,
    /// No slot is further away than this many milliseconds; who would get a later one is told a time without a slot.
    #[garde(range(min = 1_000, max = 3_600_000))]
    pub horizon_ms: u32,
}

impl Default for Slots {
    fn default() -> Self {
        Self { fill: 0.95, tolerance_ms: 1_000, horizon_ms: 300_000 }
    }
}

fn jwt_is_there_when_needed(config: &Config, (): &()) -> garde::Result {
    if config.enrolment == Enrolment::Jwt && config.jwt.is_none() {
        return Err(garde::Error::new(
            "enrolment = \"jwt\" needs a [jwt] section with issuer, audience and jwks_file or jwks_url",
        ));
    }
    Ok(())
}

fn one_source_of_keys(jwt: &Jwt, (): &()) -> garde::Result {
    match (&jwt.jwks_file, &jwt.jwks_url) {
        (Some(_), None) | (None, Some(_)) => {}
        _ => return Err(garde::Error::new("set exactly one of jwks_file and jwks_url")),
    }
    if jwt.jwks_ca.is_some() && jwt.jwks_url.is_none() {
        return Err(garde::Error::new("jwks_ca belongs to jwks_url; remove it"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt() -> Jwt {
        Jwt {
            issuer: "https://id.example".into(),
            audience: vec!["buslane".into()],
            jwks_file: Some("keys.json".into()),
            jwks_url: None,
            jwks_ca: None,
            user_claim: sub(),
            leeway_s: leeway_s(),
            refresh_s: refresh_s(),
            refetch_s: refetch_s(),
            credential_life_s: credential_life_s(),
        }
    }

    fn complaint(config: &Config) -> String {
        config.validate().map_or_else(|report| report.to_string(), |()| String::new())
    }

    #[test]
    fn the_defaults_are_valid_and_closed() {
        let config = Config::default();
        assert_eq!(complaint(&config), "");
        assert_eq!(config.enrolment, Enrolment::Code);
        assert!(config.listen.ip().is_loopback());
    }

    #[test]
    fn what_does_not_fit_together_is_refused_and_the_message_says_what_to_write() {
        let needs_jwt = Config { enrolment: Enrolment::Jwt, ..Config::default() };
        assert!(complaint(&needs_jwt).contains("needs a [jwt] section"));
        let with = |jwt: Jwt| Config { jwt: Some(jwt), ..Config::default() };
        assert_eq!(complaint(&with(jwt())), "");
        let both = Jwt { jwks_url: Some("https://id.example/keys".into()), ..jwt() };
        let none = Jwt { jwks_file: None, ..jwt() };
        for wrong in [both, none] {
            assert!(complaint(&with(wrong)).contains("exactly one of jwks_file and jwks_url"));
        }
        let stray_ca = Jwt { jwks_ca: Some("ca.pem".into()), ..jwt() };
        assert!(complaint(&with(stray_ca)).contains("jwks_ca"));
        let nobody = Jwt { audience: vec![], ..jwt() };
        assert!(complaint(&with(nobody)).contains("jwt.audience"));
        let no_life = Config { ticket_life_s: 0, ..Config::default() };
        assert!(complaint(&no_life).contains("ticket_life_s"));
        let mut no_passes = Config::default();
        no_passes.passes.batch = 0;
        assert!(complaint(&no_passes).contains("passes.batch"));
        let mut overfull = Config::default();
        overfull.slots.fill = 1.5;
        assert!(complaint(&overfull).contains("slots.fill"));
        let mut no_rate = Config::default();
        no_rate.limits.user.burst = 0;
        assert!(complaint(&no_rate).contains("limits.user.burst"));
    }

    #[test]
    fn paths_are_those_of_the_file() {
        let mut config =
            Config { jwt: Some(Jwt { jwks_ca: Some("/etc/ca.pem".into()), ..jwt() }), ..Config::default() };
        config.relative_to(Path::new("/srv/system"));
        let jwt = config.jwt.unwrap();
        assert_eq!(jwt.jwks_file, Some("/srv/system/keys.json".into()));
        assert_eq!(jwt.jwks_ca, Some("/etc/ca.pem".into()), "an absolute path stays what it is");
    }
}
