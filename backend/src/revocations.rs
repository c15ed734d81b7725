//! Devices whose credentials are worth nothing any more.
//!
//! A credential is checked without asking anybody, so a revocation must reach everybody: it is stored, and pushed through
//! every feed at once, and kept for as long as a credential from before it could live.

use std::collections::HashMap;

use buslane_shared::UnixMs;
use buslane_shared::id::{DeviceId, UserId};
use buslane_shared::refusal::Refusal;
use buslane_shared::wire;
use buslane_store::{Mutation, Table};
use parking_lot::RwLock;
use prost::Message as _;

use crate::core::Core;
use crate::refuse;
use crate::table;

/// Revocations read from the store at a time.
const SCAN_PAGE: usize = 1_000;

/// One revocation.
#[derive(Debug, Clone)]
struct Revocation {
    user: UserId,
    revoked_at_ms: UnixMs,
    until_ms: UnixMs,
    /// The device was enrolled again since: it may act, though its old credentials stay worthless.
    enrolled_again: bool,
}

/// All revocations that still matter.
#[derive(Default)]
pub(crate) struct Revocations(RwLock<HashMap<DeviceId, Revocation>>);

impl Revocations {
    /// Whether the device must not act.
    pub(crate) fn holds(&self, device: DeviceId) -> bool {
        self.0.read().get(&device).is_some_and(|r| !r.enrolled_again)
    }

    /// The device was enrolled again, with a right to be.
    pub(crate) fn lift(&self, device: DeviceId) {
        if let Some(revocation) = self.0.write().get_mut(&device) {
            revocation.enrolled_again = true;
        }
    }

    fn to_wire(&self) -> Vec<wire::RevokedDevice> {
        let known = self.0.read();
        let mut list: Vec<_> = known
            .iter()
            .map(|(device, r)| wire::RevokedDevice {
                user: r.user.as_str().to_owned(),
                device: device.to_wire(),
                revoked_at_ms: r.revoked_at_ms,
            })
            .collect();
        list.sort_by(|a, b| a.device.cmp(&b.device));
        list
    }
}

impl Core {
    /// Revokes a device: durable, and told to everybody, when it returns.
    pub(crate) async fn revoke(
        &self,
        user: &UserId,
        device: DeviceId,
        mut record: wire::StoredDevice,
    ) -> Result<(), Refusal> {
        let revoked_at_ms = self.now_ms();
        let until_ms = revoked_at_ms + self.config.credential_life_ms();
        record.revoked_at_ms = revoked_at_ms;
        let stored = wire::StoredRevocation { revoked_at_ms, until_ms };
        // The revocation first: a device record that says so is of no use to anybody who does not ask.
        let batch = vec![
            Mutation::Put {
                table: Table::System,
                key: table::revocation(user, device),
                value: stored.encode_to_vec().into(),
            },
            Mutation::Put {
                table: Table::Devices,
                key: table::device(user, device),
                value: record.encode_to_vec().into(),
            },
        ];
        self.engine.write(batch).await.map_err(refuse::write_failed)?;
        let revocation = Revocation { user: user.clone(), revoked_at_ms, until_ms, enrolled_again: false };
        self.revocations.0.write().insert(device, revocation);
        self.feed.set_revoked(|| self.revocations.to_wire());
        tracing::info!(%user, %device, "device revoked");
        Ok(())
    }

    /// Reads all revocations at the start.
    pub(crate) fn load_revocations(&self) -> Result<(), Refusal> {
        let mut after = None;
        loop {
            let page = self.engine.scan(Table::System, table::REVOCATIONS, after.as_deref(), SCAN_PAGE);
            let page = page.map_err(refuse::not_done)?;
            for (key, value) in &page {
                let owner = table::split_user(key, table::REVOCATIONS);
                let owner = owner.and_then(|(user, device)| Some((user, DeviceId::try_from(device).ok()?)));
                let stored = wire::StoredRevocation::decode(value.value.clone()).ok();
                let Some(((user, device), stored)) = owner.zip(stored) else {
                    return Err(refuse::damaged("a revocation does not decode"));
                };
                let enrolled_again =
                    self.device(&user, device)?.is_some_and(|d| d.enrolled_at_ms > stored.revoked_at_ms);
                let (revoked_at_ms, until_ms) = (stored.revoked_at_ms, stored.until_ms);
                let revocation = Revocation { user, revoked_at_ms, until_ms, enrolled_again };
                self.revocations.0.write().insert(device, revocation);
            }
            after = match page.last() {
                Some((key, _)) if page.len() == SCAN_PAGE => Some(key.clone()),
                _ => break,
            };
        }
        self.feed.set_revoked(|| self.revocations.to_wire());
        Ok(())
    }

    /// Forgets revocations of credentials that have expired by themselves.
    pub(crate) async fn forget_revocations(&self, now_ms: UnixMs) -> Result<(), Refusal> {
        let over: Vec<(DeviceId, UserId)> = {
            let known = self.revocations.0.read();
            known.iter().filter(|(_, r)| r.until_ms <= now_ms).map(|(d, r)| (*d, r.user.clone())).collect()
        };
        if over.is_empty() {
            return Ok(());
        }
        let mut batch = Vec::new();
        for (device, user) in &over {
            // The device first: while the revocation is there, this is tried again.
            if self.device(user, *device)?.is_some_and(|d| d.revoked_at_ms != 0) {
                batch.push(Mutation::Delete { table: Table::Devices, key: table::device(user, *device) });
            }
            batch.push(Mutation::Delete { table: Table::System, key: table::revocation(user, *device) });
        }
        self.engine.write(batch).await.map_err(refuse::write_failed)?;
        let mut known = self.revocations.0.write();
        over.iter().for_each(|(device, _)| drop(known.remove(device)));
        drop(known);
        self.feed.set_revoked(|| self.revocations.to_wire());
        Ok(())
    }
}
