//! One-time codes: the right to enrol one device.
//!
//! A code has 65 random bits and is stored as its hash only, so neither the store nor a backup gives one away. It is used
//! once: whoever takes it writes his device into it, and only that device may repeat its enrolment (its answer may have
//! been lost).

use aws_lc_rs::digest::{SHA256, digest};
use buslane_chassis::clock;
use buslane_shared::UnixMs;
use buslane_shared::id::{DeviceId, UserId};
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire;
use buslane_store::{Mutation, StoreError, Table};
use prost::Message as _;

use crate::core::Core;
use crate::refuse;
use crate::table;

/// How long a code of a user lives: he holds both phones.
const USER_CODE_MS: u32 = 10 * 60 * 1000;

/// How long a code of the operator lives: it travels by letter or by e-mail.
const OPERATOR_CODE_MS: u32 = 24 * 3600 * 1000;

/// Characters of a code, 5 bits each.
const CHARACTERS: usize = 13;

/// Crockford's base 32: no I, L, O and U, so that nothing is misread.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Codes read from the store at a time.
const SCAN_PAGE: usize = 1_000;

/// Who makes a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Issuer {
    User,
    Operator,
}

impl Core {
    /// Makes a code with which one device of `user` may be enrolled.
    pub(crate) async fn make_code(&self, user: &UserId, issuer: Issuer) -> Result<wire::EnrolCode, Refusal> {
        let valid_ms = match issuer {
            Issuer::User => {
                self.pace.code(user)?;
                USER_CODE_MS
            }
            Issuer::Operator => OPERATOR_CODE_MS,
        };
        let code = write(clock::random());
        let expires_ms = self.now_ms() + u64::from(valid_ms);
        let stored = wire::StoredCode { user: user.as_str().to_owned(), expires_ms, ..Default::default() };
        let key = table::code(&hash(&code));
        let put = Mutation::Put { table: Table::System, key, value: stored.encode_to_vec().into() };
        self.engine.write(vec![put]).await.map_err(refuse::write_failed)?;
        tracing::info!(%user, ?issuer, "enrolment code made");
        Ok(wire::EnrolCode { code, valid_ms })
    }

    /// Uses a code up. Every failure looks the same: a guess learns nothing. Only failures are counted, so whoever guesses
    /// at somebody's name does not keep him from using his own code.
    pub(crate) async fn use_code(&self, user: &UserId, device: DeviceId, code: &str) -> Result<(), Refusal> {
        let used = self.try_code(user, device, code).await?;
        if used {
            return Ok(());
        }
        self.pace.guess(user)?;
        Err(Refusal::of(Code::BadCode))
    }

    async fn try_code(&self, user: &UserId, device: DeviceId, code: &str) -> Result<bool, Refusal> {
        let Some(code) = normal(code) else { return Ok(false) };
        let key = table::code(&hash(&code));
        let Some(found) = self.engine.get(Table::System, &key).map_err(refuse::not_done)? else {
            return Ok(false);
        };
        let mut stored =
            wire::StoredCode::decode(found.value).map_err(|_| refuse::damaged("a code does not decode"))?;
        if stored.user != user.as_str() || stored.expires_ms <= self.now_ms() {
            return Ok(false);
        }
        if !stored.used_by.is_empty() {
            // Nor may it bring back a device that was revoked since.
            return Ok(stored.used_by == device.to_wire() && !self.revocations.holds(device));
        }
        stored.used_by = device.to_wire();
        let value = stored.encode_to_vec().into();
        match self.engine.compare_and_set(Table::System, key, Some(found.revision), value).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict) => Ok(false),
            Err(error) => Err(refuse::write_failed(error)),
        }
    }

    /// Forgets codes that have expired.
    pub(crate) async fn forget_codes(&self, now_ms: UnixMs) -> Result<(), Refusal> {
        let mut after = None;
        loop {
            let page = self.engine.scan(Table::System, table::CODES, after.as_deref(), SCAN_PAGE);
            let page = page.map_err(refuse::not_done)?;
            let over = page.iter().filter(|(_, value)| {
                wire::StoredCode::decode(value.value.clone()).is_ok_and(|code| code.expires_ms <= now_ms)
            });
            let batch: Vec<Mutation> =
                over.map(|(key, _)| Mutation::Delete { table: Table::System, key: key.clone() }).collect();
            if !batch.is_empty() {
                self.engine.write(batch).await.map_err(refuse::write_failed)?;
            }
            after = match page.last() {
                Some((key, _)) if page.len() == SCAN_PAGE => Some(key.clone()),
                _ => return Ok(()),
            };
        }
    }
}

/// Writes random bits as a code: `XXXX-XXXX-XXXXX`.
fn write(random: [u8; CHARACTERS]) -> String {
    let mut code = String::with_capacity(CHARACTERS + 2);
    for (at, byte) in random.into_iter().enumerate() {
        if at == 4 || at == 8 {
            code.push('-');
        }
        code.extend(ALPHABET.get(usize::from(byte & 31)).copied().map(char::from));
    }
    code
}

/// A code as a person typed it, in its one form. `None`: it is not a code.
fn normal(typed: &str) -> Option<String> {
    if typed.len() > 4 * CHARACTERS {
        return None;
    }
    let mut values = [0; CHARACTERS];
    let mut count = 0;
    for typed in typed.bytes().filter(|b| !matches!(b, b'-' | b' ')) {
        let meant = match typed.to_ascii_uppercase() {
            b'O' => b'0',
            b'I' | b'L' => b'1',
            other => other,
        };
        *values.get_mut(count)? = ALPHABET.iter().position(|c| *c == meant)? as u8;
        count += 1;
    }
    (count == CHARACTERS).then(|| write(values))
}

fn hash(code: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, code.as_bytes()).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_code_is_read_as_it_was_written_however_it_is_typed(random: [u8; CHARACTERS]) {
            let code = write(random);
            prop_assert_eq!(code.len(), CHARACTERS + 2);
            let typed = code.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
            prop_assert_eq!(normal(&typed), Some(code.clone()));
            prop_assert_eq!(normal(&code.replace('-', "")), Some(code));
        }

        #[test]
        fn anything_else_is_no_code(text in ".{0,80}") {
            if let Some(code) = normal(&text) {
                prop_assert_eq!(code.len(), CHARACTERS + 2);
            }
        }
    }

    #[test]
    fn too_short_too_long_and_foreign_characters() {
        for bad in ["", "0000-0000-0000", "0000-0000-000000", "U000-0000-00000", "0000-0000-0000é"] {
            assert_eq!(normal(bad), None, "{bad}");
        }
    }
}
