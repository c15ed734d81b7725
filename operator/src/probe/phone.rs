//! A device of the probe: a key and a credential that are kept, passes that are not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use buslane_chassis::secret;
use buslane_client::Error;
use buslane_client::raw::{Door, Entry, Gate, Hello, Identity, Right, Session, Token, Transport};
use buslane_shared::id::UserId;
use buslane_shared::mark::MARK_BYTES;
use buslane_shared::refusal::Code;
use buslane_shared::wire;
use bytes::Bytes;
use tokio::time::Instant;

use super::Target;

/// Shown in the user's list of devices.
const DEVICE_NAME: &str = "probe";

/// The file of the credential, beside the key.
const CREDENTIAL_FILE: &str = "credential";

/// A pass is not shown any more when it ends within this: its packet has to arrive in time.
const MARGIN: Duration = Duration::from_secs(5);

/// A device.
pub struct Phone {
    user: UserId,
    folder: PathBuf,
    kept: Option<Kept>,
    /// For the next visit to the gateway, and until when it serves.
    pass: Option<(Bytes, Instant)>,
}

/// What is on the disk.
struct Kept {
    identity: Identity,
    credential: Option<Bytes>,
}

/// The right to open a session.
pub struct Ticket(wire::Ticket);

impl Phone {
    /// A device whose state is in `folder`.
    pub fn new(user: UserId, folder: PathBuf) -> Self {
        Self { user, folder, kept: None, pass: None }
    }

    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Asks the gateway for a ticket; enrols before where it has to.
    pub async fn enter(
        &mut self,
        transport: &Transport,
        target: &Target,
        limit: Duration,
    ) -> Result<Ticket, Error> {
        let entered = self.enter_once(transport, target, limit).await;
        match entered {
            Err(Error::Refused(refused)) if is_of_another_system(refused.code) => {
                self.keep(None).await?;
                self.enter_once(transport, target, limit).await
            }
            entered => entered,
        }
    }

    async fn enter_once(
        &mut self,
        transport: &Transport,
        target: &Target,
        limit: Duration,
    ) -> Result<Ticket, Error> {
        let pass = self.pass.take().filter(|(_, until)| Instant::now() < *until);
        let pass: Option<&[u8]> = pass.as_ref().map(|(pass, _)| pass.as_ref());
        let address = target.address().to_string();
        let gate = Gate::connect_with_mark(transport, &address, pass).await?;
        let credential = match self.load().await?.credential.clone() {
            Some(credential) => credential,
            None => self.enrol(&gate, target, limit).await?,
        };
        let entry = Entry {
            credential: &credential,
            app_state: wire::AppState::Foreground,
            reason: wire::Reason::Opened,
            slot: Bytes::new(),
        };
        let ticket = gate.enter(&self.load().await?.identity, entry, limit).await?;
        gate.close();
        if !ticket.credential.is_empty() {
            self.keep(Some(Bytes::copy_from_slice(&ticket.credential))).await?;
        }
        self.pass = spare_pass(&ticket, Instant::now());
        Ok(Ticket(ticket))
    }

    async fn enrol(&mut self, gate: &Gate, target: &Target, limit: Duration) -> Result<Bytes, Error> {
        let right = match &target.code {
            Some(make) => {
                let made = make(self.user.as_str()).await;
                Right::Code(made.map_err(|detail| Error::NoToken { detail })?)
            }
            None => Right::Open,
        };
        let user = self.user.clone();
        let identity = &self.load().await?.identity;
        let made = gate.enrol(identity, &user, DEVICE_NAME, right, limit).await?;
        self.keep(Some(made.bytes.clone())).await?;
        Ok(made.bytes)
    }

    async fn load(&mut self) -> Result<&Kept, Error> {
        if self.kept.is_none() {
            let folder = self.folder.clone();
            let read = tokio::task::spawn_blocking(move || Kept::read(&folder)).await;
            self.kept = Some(read.unwrap_or_else(|e| Err(unusable(&self.folder, &e)))?);
        }
        self.kept.as_ref().ok_or_else(|| unusable(&self.folder, &"it was not read"))
    }

    async fn keep(&mut self, credential: Option<Bytes>) -> Result<(), Error> {
        let path = self.folder.join(CREDENTIAL_FILE);
        let bytes = credential.clone().unwrap_or_default();
        let written = tokio::task::spawn_blocking(move || secret::write(&path, &bytes)).await;
        if let Some(kept) = &mut self.kept {
            kept.credential = credential;
        }
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(unusable(&self.folder, &error)),
            Err(error) => Err(unusable(&self.folder, &error)),
        }
    }
}

impl Kept {
    fn read(folder: &Path) -> Result<Self, Error> {
        let identity = Identity::load(folder)?;
        let credential = match std::fs::read(folder.join(CREDENTIAL_FILE)) {
            Ok(bytes) if bytes.is_empty() => None,
            Ok(bytes) => Some(Bytes::from(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(unusable(folder, &e)),
        };
        Ok(Self { identity, credential })
    }
}

impl Ticket {
    /// Opens a session at the first session manager of the ticket that takes it, as a person's phone would.
    pub async fn open(&self, transport: &Transport, limit: Duration) -> Result<Session, Error> {
        let nobody = "the gateway named no session manager";
        let mut last = Error::Unreachable { detail: nobody.to_owned() };
        let mut passes = self.front_passes();
        for address in &self.0.addresses {
            let pass = passes.next();
            // Where passes are known, the foreground port is silent to whoever shows none.
            let is_front = pass.is_some() || self.0.passes.is_none();
            let door = Door {
                address: if is_front { &address.front } else { &address.wake },
                server_name: &address.server_name,
                mark: pass,
                hello: self.hello(),
                limit,
            };
            match Session::open(transport, door).await {
                Ok(session) => return Ok(session),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn hello(&self) -> Hello<'_> {
        Hello {
            token: Token::Ticket(self.0.ticket.clone()),
            proof_key: &self.0.proof_key,
            app_state: wire::AppState::Foreground,
            reason: wire::Reason::Opened,
            slot: Bytes::new(),
        }
    }

    /// All but the last, which is for the gateway.
    fn front_passes(&self) -> impl Iterator<Item = Bytes> + '_ {
        let all = self.0.passes.iter().flat_map(|passes| &passes.marks);
        let front = all.filter(|mark| is_for_front(mark)).cloned();
        let count = front.clone().count();
        front.take(count.saturating_sub(1).max(1))
    }
}

/// The last pass of a ticket, if there are several.
fn spare_pass(ticket: &wire::Ticket, now: Instant) -> Option<(Bytes, Instant)> {
    let passes = ticket.passes.as_ref().filter(|passes| passes.marks.len() > 1)?;
    let mark = passes.marks.last().filter(|mark| mark.len() == MARK_BYTES)?;
    let valid = Duration::from_millis(passes.valid_ms.into()).saturating_sub(MARGIN);
    Some((Bytes::copy_from_slice(mark), now + valid))
}

/// The upper two bits of a mark say for which port it is.
fn is_for_front(mark: &Bytes) -> bool {
    mark.len() == MARK_BYTES && mark.first().is_some_and(|head| head >> 6 == 0)
}

/// The system does not know this device any more: it was revoked, or the store is another one. It enrols again.
fn is_of_another_system(code: Code) -> bool {
    matches!(code, Code::BadCredential | Code::CredentialExpired | Code::Revoked | Code::UnknownDevice)
}

fn unusable(folder: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::StateUnusable { path: folder.display().to_string(), detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(head: u8, n: u8) -> Bytes {
        let mut mark = vec![n; MARK_BYTES];
        mark[0] = head;
        mark.into()
    }

    fn ticket(marks: Vec<Bytes>) -> Ticket {
        Ticket(wire::Ticket { passes: Some(wire::Passes { marks, valid_ms: 60_000 }), ..Default::default() })
    }

    #[test]
    fn one_pass_is_left_for_the_gateway() {
        let many = ticket(vec![mark(1, 1), mark(0x41, 2), mark(2, 3), mark(3, 4)]);
        let shown: Vec<Bytes> = many.front_passes().collect();
        assert_eq!(shown, [mark(1, 1), mark(2, 3)]);
        let now = Instant::now();
        let (spare, until) = spare_pass(&many.0, now).unwrap();
        assert_eq!((spare, until - now), (mark(3, 4), Duration::from_secs(55)));
        let single = ticket(vec![mark(1, 1)]);
        assert_eq!(single.front_passes().count(), 1);
        assert!(spare_pass(&single.0, now).is_none());
    }

    #[test]
    fn a_file_without_a_credential_is_no_enrolment() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Kept::read(folder.path()).unwrap().credential.is_none());
        std::fs::write(folder.path().join(CREDENTIAL_FILE), b"").unwrap();
        assert!(Kept::read(folder.path()).unwrap().credential.is_none());
        std::fs::write(folder.path().join(CREDENTIAL_FILE), b"c").unwrap();
        assert_eq!(Kept::read(folder.path()).unwrap().credential.unwrap(), "c");
    }
}
