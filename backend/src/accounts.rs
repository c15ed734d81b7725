//! Accounts and devices: who exists, and which keys act for whom.
//!
//! A name belongs to whoever enrolled it first; every further device needs a right: a one-time code, or the word of the
//! identity provider. The gateway has proved before that the peer holds the key.

use buslane_chassis::api::Call;
use buslane_shared::id::{DeviceId, UserId};
use buslane_shared::limits::{DEVICE_NAME_CHARS_MAX, DEVICES_PER_USER_MAX};
use buslane_shared::refusal::{Code, Refusal};
use buslane_shared::wire::{self, enrol_device::Right};
use buslane_store::{Mutation, StoreError, Table};
use metrics::counter;
use prost::Message as _;

use crate::core::Core;
use crate::refuse;
use crate::table;

/// Bytes of a device key (Ed25519).
const DEVICE_KEY_BYTES: usize = 32;

/// Device records of one user that are read: those that count, and as many that were revoked lately.
const DEVICE_RECORDS_MAX: usize = 16 * DEVICES_PER_USER_MAX;

/// How long the device that made an account may finish an enrolment that a crash has cut short. Not for ever: a device
/// that is revoked and forgotten must not come back by this way.
const FINISH_MS: u64 = 10 * 60 * 1000;

impl Core {
    /// Registers a device.
    pub(crate) async fn enrol(&self, request: wire::EnrolDevice) -> Result<wire::EnrolledDevice, Refusal> {
        let user: UserId = request.user.parse().map_err(|e| Refusal::field("user", e))?;
        if request.device_key.len() != DEVICE_KEY_BYTES {
            return Err(Refusal::field("device_key", format!("an Ed25519 key has {DEVICE_KEY_BYTES} bytes")));
        }
        if request.device_name.chars().count() > DEVICE_NAME_CHARS_MAX {
            return Err(Refusal::field("device_name", format!("at most {DEVICE_NAME_CHARS_MAX} characters")));
        }
        let device = DeviceId::of_key(&request.device_key);
        let _turn = self.user_locks.turn(&user).await;
        let life_ms = self.right(&user, device, request.right).await?;
        self.room_for_device(&user, device)?;
        self.claim_name(&user, device).await?;
        let enrolled_at_ms = self.now_ms();
        let record = wire::StoredDevice {
            device_key: request.device_key,
            name: request.device_name,
            enrolled_at_ms,
            revoked_at_ms: 0,
        };
        self.put(Table::Devices, table::device(&user, device), record.encode_to_vec()).await?;
        self.revocations.lift(device);
        counter!("buslane_backend_enrolments_total").increment(1);
        tracing::info!(%user, %device, "device enrolled");
        let expires_ms = enrolled_at_ms + life_ms;
        Ok(wire::EnrolledDevice { device: device.to_wire(), enrolled_at_ms, expires_ms })
    }

    /// Whether the device may be enrolled for the user; the answer is the life of its credential in milliseconds.
    async fn right(&self, user: &UserId, device: DeviceId, right: Option<Right>) -> Result<u64, Refusal> {
        let life_ms = self.config.credential_life_ms();
        match right {
            Some(Right::Code(code)) => self.use_code(user, device, &code).await.map(|()| life_ms),
            Some(Right::VouchedS(_) | Right::Open(true)) if self.revocations.holds(device) => {
                Err(Refusal::of(Code::Revoked))
            }
            Some(Right::VouchedS(seconds)) => Ok(life_ms.min(u64::from(seconds) * 1000)),
            Some(Right::Open(true)) => self.open_right(user, device).map(|()| life_ms),
            Some(Right::Open(false)) | None => Err(Refusal::of(Code::EnrolmentClosed)),
        }
    }

    /// Open enrolment: for a name nobody has, and for a device that repeats itself because it missed the answer.
    fn open_right(&self, user: &UserId, device: DeviceId) -> Result<(), Refusal> {
        let Some(account) = self.account(user)? else { return Ok(()) };
        let ours = match self.device(user, device)? {
            Some(known) => known.revoked_at_ms == 0,
            None => {
                let unfinished = self.now_ms() < account.created_at_ms + FINISH_MS;
                unfinished && account.first_device == device.to_wire()
            }
        };
        if ours { Ok(()) } else { Err(Refusal::of(Code::NameTaken)) }
    }

    fn room_for_device(&self, user: &UserId, device: DeviceId) -> Result<(), Refusal> {
        let devices = self.devices(user)?;
        let others = devices.iter().filter(|(id, d)| *id != device && d.revoked_at_ms == 0).count();
        if others >= DEVICES_PER_USER_MAX || devices.len() >= DEVICE_RECORDS_MAX {
            let detail = format!("a user has at most {DEVICES_PER_USER_MAX} devices; revoke one first");
            return Err(Refusal::new(Code::NotAllowed, detail));
        }
        Ok(())
    }

    /// Makes the account if there is none. It names its first device, so that this device, and no other, may finish an
    /// enrolment that a crash has cut short.
    async fn claim_name(&self, user: &UserId, device: DeviceId) -> Result<(), Refusal> {
        if self.account(user)?.is_some() {
            return Ok(());
        }
        let account = wire::StoredAccount { created_at_ms: self.now_ms(), first_device: device.to_wire() };
        let value = account.encode_to_vec().into();
        match self.engine.compare_and_set(Table::Users, table::user(user), None, value).await {
            Ok(_) => Ok(()),
            Err(StoreError::Conflict) => Err(Refusal::of(Code::NameTaken)),
            Err(error) => Err(refuse::write_failed(error)),
        }
    }

    /// The account of a user.
    pub(crate) fn account(&self, user: &UserId) -> Result<Option<wire::StoredAccount>, Refusal> {
        let found = self.engine.get(Table::Users, &table::user(user)).map_err(refuse::not_done)?;
        let decode = |v: buslane_store::Versioned| {
            wire::StoredAccount::decode(v.value).map_err(|e| refuse::damaged_value("the account", user, e))
        };
        found.map(decode).transpose()
    }

    /// Refuses users that do not exist.
    pub(crate) fn must_exist(&self, user: &UserId) -> Result<(), Refusal> {
        match self.account(user)? {
            Some(_) => Ok(()),
            None => {
                Err(Refusal::new(Code::UnknownUser, format!("nobody is called {user}; check the spelling")))
            }
        }
    }

    /// A device of a user, revoked or not.
    pub(crate) fn device(
        &self,
        user: &UserId,
        device: DeviceId,
    ) -> Result<Option<wire::StoredDevice>, Refusal> {
        let found =
            self.engine.get(Table::Devices, &table::device(user, device)).map_err(refuse::not_done)?;
        let decode = |v: buslane_store::Versioned| {
            wire::StoredDevice::decode(v.value).map_err(|e| refuse::damaged_value("a device", user, e))
        };
        found.map(decode).transpose()
    }

    /// All devices of a user, revoked ones among them.
    fn devices(&self, user: &UserId) -> Result<Vec<(DeviceId, wire::StoredDevice)>, Refusal> {
        let prefix = table::user_prefix(user);
        let found =
            self.engine.scan(Table::Devices, &prefix, None, DEVICE_RECORDS_MAX).map_err(refuse::not_done)?;
        let decode = |(key, value): (bytes::Bytes, buslane_store::Versioned)| {
            let device = key.strip_prefix(&prefix[..]).and_then(|id| DeviceId::try_from(id).ok());
            let record = wire::StoredDevice::decode(value.value).ok();
            device.zip(record).ok_or_else(|| refuse::damaged_value("a device", user, "it does not decode"))
        };
        found.into_iter().map(decode).collect()
    }

    /// The devices that may act for a user.
    pub(crate) fn list_devices(&self, call: &Call) -> Result<wire::DeviceList, Refusal> {
        let devices = self.devices(&call.user)?.into_iter().filter(|(_, d)| d.revoked_at_ms == 0);
        let devices = devices.map(|(id, d)| wire::Device {
            device: id.to_wire(),
            name: d.name,
            enrolled_at_ms: d.enrolled_at_ms,
            current: id == call.device,
            connected: self.registry.is_connected(&call.user, id),
        });
        Ok(wire::DeviceList { devices: devices.collect() })
    }

    /// Revokes a device of the user who asks.
    pub(crate) async fn revoke_device(
        &self,
        call: &Call,
        request: wire::RevokeDevice,
    ) -> Result<(), Refusal> {
        let device = DeviceId::try_from(&request.device).map_err(|e| Refusal::field("device", e))?;
        let _turn = self.user_locks.turn(&call.user).await;
        match self.device(&call.user, device)? {
            None => Err(Refusal::of(Code::UnknownDevice)),
            Some(known) if known.revoked_at_ms != 0 => Ok(()),
            Some(known) => self.revoke(&call.user, device, known).await,
        }
    }

    /// Writes one value.
    pub(crate) async fn put(&self, table: Table, key: bytes::Bytes, value: Vec<u8>) -> Result<(), Refusal> {
        let put = Mutation::Put { table, key, value: value.into() };
        self.engine.write(vec![put]).await.map_err(refuse::write_failed)
    }
}
