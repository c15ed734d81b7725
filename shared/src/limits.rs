//! Every bound of the wire, with its reason. A bound without a reason is a bug that waits.

/// Largest frame a client may send: one message body of the largest size, and its envelope.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Largest frame before the ticket is verified: a hello with the largest token fits several times over.
pub const FRAME_BYTES_MAX_BEFORE_HELLO: usize = 4 * 1024;

/// Largest frame a server sends: a batch of messages stays under it.
pub const SERVER_FRAME_BYTES_MAX: usize = 512 * 1024;

/// Largest message body: long for a text, far too short for a picture (media go another way).
pub const BODY_BYTES_MAX: usize = 16 * 1024;

/// Payload bytes of one batch: a page that a phone shows at once, and well under [`SERVER_FRAME_BYTES_MAX`].
pub const BATCH_BYTES_MAX: usize = 256 * 1024;

/// Messages of one batch.
pub const BATCH_MESSAGES_MAX: u32 = 1_000;

/// Messages of a batch when the client names no number.
pub const BATCH_MESSAGES_DEFAULT: u32 = 100;

/// Rooms or members on one page.
pub const PAGE_MAX: u32 = 1_000;

/// Rooms or members on one page when the client names no number.
pub const PAGE_DEFAULT: u32 = 100;

/// Characters of a user name: fits an e-mail address of ordinary length.
pub const USER_NAME_CHARS_MAX: usize = 64;

/// Characters of a room's title.
pub const TITLE_CHARS_MAX: usize = 128;

/// Characters of a device's name.
pub const DEVICE_NAME_CHARS_MAX: usize = 64;

/// Users named in one request (invite, create, mention): bounds the work of one request.
pub const USERS_PER_REQUEST_MAX: usize = 100;

/// Cursors of one mark.
pub const CURSORS_PER_MARK_MAX: usize = 100;

/// Members of a group: a fan-out of this size still is one chunk of work.
pub const ROOM_MEMBERS_MAX: usize = 1_000;

/// Devices of one user.
pub const DEVICES_PER_USER_MAX: usize = 16;

/// Rooms of one user: bounds the room list of a login.
pub const ROOMS_PER_USER_MAX: usize = 10_000;

/// Users that one user blocks.
pub const BLOCKED_PER_USER_MAX: usize = 1_000;

/// Requests of one session without an answer: two pages of outbox, so that one session can fill a group commit.
pub const IN_FLIGHT_MAX: usize = 256;

/// Bulk streams of one session at a time.
pub const BULK_STREAMS_MAX: u32 = 3;

/// Client message ids remembered for each active room; older ones are looked up in the store.
pub const RECENT_IDS_PER_ROOM: usize = 96;

/// Deadline of a request that names none, in milliseconds.
pub const DEADLINE_MS_DEFAULT: u32 = 10_000;

/// Longest deadline that is honoured, in milliseconds.
pub const DEADLINE_MS_MAX: u32 = 60_000;

/// Minor version of both protocols.
pub const PROTOCOL_VERSION: u32 = 1;

/// ALPN of the gate protocol.
pub const ALPN_GATE: &[u8] = b"buslane-gate/1";

/// ALPN of the session protocol.
pub const ALPN_SESSION: &[u8] = b"buslane/1";
