//! Initial packets of QUIC version 1 (RFC 9000, 17.2.2; RFC 9001, 5), each as large as a client's first datagram.

use std::sync::Arc;

use anyhow::Context;
use buslane_shared::limits::{ALPN_GATE, ALPN_SESSION};
use rustls::crypto::aws_lc_rs::{self, cipher_suite::TLS13_AES_128_GCM_SHA256};
use rustls::pki_types::ServerName;
use rustls::quic::{ClientConnection, DirectionalKeys, Suite, Version};
use rustls::{ClientConfig, RootCertStore, Side};

use crate::simulate::random::Random;

/// The smallest datagram that a client may begin with, and the size that clients choose.
pub const PACKET_BYTES: usize = 1_200;

/// Length of the ids that these clients choose for themselves, so that answers find back.
pub const OWN_ID_BYTES: usize = 8;

/// Length of the ids that they choose for the server: shortest and longest.
const ID_BYTES: std::ops::RangeInclusive<usize> = 8..=20;

/// Long header, Initial, a packet number of one byte.
const FIRST: u8 = 0xc0;
const VERSION: [u8; 4] = 1u32.to_be_bytes();
const PACKET_NUMBER: u8 = 0;
const CRYPTO: u8 = 0x06;
const TAG_BYTES: usize = 16;

/// Bytes of payload that header protection leaves out before its sample.
const SAMPLE_AT: usize = 3;

/// What a client would speak if it went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// To a gateway.
    Gate,
    /// To a session manager.
    Session,
}

/// Begins handshakes: a ClientHello each, with a key and random bits of its own.
#[derive(Clone)]
pub struct Beginner {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    suite: Suite,
}

/// A ClientHello with the id under which it was made, ready to be put into packets.
#[derive(Clone)]
pub struct Hello {
    own_id: [u8; OWN_ID_BYTES],
    crypto: Vec<u8>,
    suite: Suite,
}

impl Beginner {
    /// Of clients that want to speak to `server_name`.
    pub fn new(speaks: Speaks, server_name: &str) -> anyhow::Result<Self> {
        let mut provider = aws_lc_rs::default_provider();
        // The key of the other groups would not fit one packet.
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            // No answer is ever read, so there is nothing to be trusted.
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let alpn = match speaks {
            Speaks::Gate => ALPN_GATE,
            Speaks::Session => ALPN_SESSION,
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from(server_name.to_owned());
        let name = name.with_context(|| format!("{server_name} is not the name of a server"))?;
        let suite = TLS13_AES_128_GCM_SHA256.tls13().and_then(|suite| suite.quic_suite());
        Ok(Self { config: Arc::new(config), name, suite: suite.context("no cipher suite for QUIC")? })
    }

    /// A new ClientHello.
    pub fn begin(&self, own_id: [u8; OWN_ID_BYTES]) -> anyhow::Result<Hello> {
        let parameters = transport_parameters(&own_id);
        let mut tls = ClientConnection::new(self.config.clone(), Version::V1, self.name.clone(), parameters)?;
        let mut hello = Vec::new();
        tls.write_hs(&mut hello);
        let mut crypto = vec![CRYPTO, 0];
        crypto.extend(varint(hello.len())?);
        crypto.extend(hello);
        Ok(Hello { own_id, crypto, suite: self.suite })
    }
}

impl Hello {
    /// The datagram, with `id` as first connection id of the server.
    pub fn packet(&self, id: &[u8]) -> anyhow::Result<[u8; PACKET_BYTES]> {
        let keys = self.suite.keys(id, Side::Client, Version::V1).local;
        let mut out = [0; PACKET_BYTES];
        self.seal(id, &keys, &mut out).context("the first packet of a client does not fit its datagram")?;
        Ok(out)
    }

    fn seal(&self, id: &[u8], keys: &DirectionalKeys, out: &mut [u8]) -> Option<()> {
        let mut header = vec![FIRST];
        header.extend(VERSION);
        header.push(u8::try_from(id.len()).ok().filter(|length| usize::from(*length) <= *ID_BYTES.end())?);
        header.extend(id);
        header.push(u8::try_from(self.own_id.len()).ok()?);
        header.extend(self.own_id);
        let no_token = 0;
        header.push(no_token);
        let length_bytes = 2;
        let length = out.len().checked_sub(header.len() + length_bytes)?;
        header.extend(varint(length).ok()?);
        header.push(PACKET_NUMBER);

        let (head, body) = out.split_at_mut_checked(header.len())?;
        head.copy_from_slice(&header);
        let (payload, tag) = body.split_at_mut_checked(body.len().checked_sub(TAG_BYTES)?)?;
        // What is left of it stays 0: padding.
        payload.get_mut(..self.crypto.len())?.copy_from_slice(&self.crypto);
        let made = keys.packet.encrypt_in_place(PACKET_NUMBER.into(), head, payload).ok()?;
        tag.copy_from_slice(made.as_ref());

        let sample = body.get(SAMPLE_AT..)?.get(..keys.header.sample_len())?;
        let (number, head) = head.split_last_mut()?;
        let number = std::slice::from_mut(number);
        keys.header.encrypt_in_place(sample, head.first_mut()?, number).ok()
    }
}

/// An id as clients draw it that know nothing of this server; their lengths differ from one implementation to the next.
pub fn random_id(random: &mut Random) -> Vec<u8> {
    let (shortest, longest) = ID_BYTES.into_inner();
    let length = shortest + random.below((longest - shortest + 1) as u64) as usize;
    random_bytes(random, length)
}

/// So many bytes.
pub fn random_bytes(random: &mut Random, length: usize) -> Vec<u8> {
    let words = length.div_ceil(8);
    let mut bytes: Vec<u8> = (0..words).flat_map(|_| random.bits().to_be_bytes()).collect();
    bytes.truncate(length);
    bytes
}

/// Parameters of a client that lets the server speak (RFC 9000, 18.2).
fn transport_parameters(own_id: &[u8; OWN_ID_BYTES]) -> Vec<u8> {
    const MAX_IDLE_MS: u8 = 0x01;
    const MAX_DATA: u8 = 0x04;
    const MAX_STREAM_DATA: u8 = 0x05;
    const INITIAL_SOURCE_ID: u8 = 0x0f;
    // 30 s and 64 KiB, as integers of four bytes.
    let (idle, window) = ([0x80, 0, 0x75, 0x30], [0x80, 1, 0, 0]);
    let mut out = Vec::new();
    for (id, value) in [(MAX_IDLE_MS, idle), (MAX_DATA, window), (MAX_STREAM_DATA, window)] {
        out.extend([id, 4]);
        out.extend(value);
    }
    out.extend([INITIAL_SOURCE_ID, OWN_ID_BYTES as u8]);
    out.extend(own_id);
    out
}

/// A variable-length integer of two bytes (RFC 9000, 16).
fn varint(number: usize) -> anyhow::Result<[u8; 2]> {
    let number = u16::try_from(number).ok().filter(|n| *n < 1 << 14);
    Ok((number.context("too long for a first packet")? | 1 << 14).to_be_bytes())
}

#[cfg(test)]
mod tests;
