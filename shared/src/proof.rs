//! Proof of possession, bound to one TLS connection by the exporter (RFC 8446, section 7.5).
//!
//! At the gate a device signs with its Ed25519 key; at a session manager it computes an HMAC with the proof key that came
//! with the ticket (an Ed25519 check there would cost an eighth of a handshake more). Because the exporter is different on every connection,
//! a proof that was overheard or replayed is worth nothing.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

/// Exporter label on a gate connection. The context is empty, the output is [`EXPORTER_BYTES`] long.
pub const GATE_EXPORTER: &[u8] = b"EXPORTER-buslane-gate";

/// Exporter label on a session connection.
pub const SESSION_EXPORTER: &[u8] = b"EXPORTER-buslane-session";

/// Bytes taken from the exporter.
pub const EXPORTER_BYTES: usize = 32;

/// Bytes of the key that comes with a ticket.
pub const PROOF_KEY_BYTES: usize = 32;

const GATE_PREFIX: &[u8] = b"buslane gate proof v1\0";
const SESSION_PREFIX: &[u8] = b"buslane session proof v1\0";

/// What a device signs at the gate.
pub fn gate_statement(exporter: &[u8; EXPORTER_BYTES]) -> Vec<u8> {
    [GATE_PREFIX, exporter].concat()
}

/// Whether `proof` is the device's signature for this connection.
pub fn gate_proof_holds(device_key: &[u8], exporter: &[u8; EXPORTER_BYTES], proof: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, device_key).verify(&gate_statement(exporter), proof).is_ok()
}

/// The proof for a session manager.
pub fn session_proof(proof_key: &[u8], exporter: &[u8; EXPORTER_BYTES]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, proof_key);
    let mut context = hmac::Context::with_key(&key);
    context.update(SESSION_PREFIX);
    context.update(exporter);
    let mut out = [0; 32];
    for (o, b) in out.iter_mut().zip(context.sign().as_ref()) {
        *o = *b;
    }
    out
}

/// Whether `proof` was made with `proof_key` for this connection. Takes the same time whatever differs.
pub fn session_proof_holds(proof_key: &[u8], exporter: &[u8; EXPORTER_BYTES], proof: &[u8]) -> bool {
    subtle::ConstantTimeEq::ct_eq(&session_proof(proof_key, exporter)[..], proof).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

    #[test]
    fn a_signature_fits_its_key_and_its_connection_only() {
        let pair = Ed25519KeyPair::generate().unwrap();
        let proof = pair.sign(&gate_statement(&[1; 32]));
        let key = pair.public_key().as_ref();
        assert!(gate_proof_holds(key, &[1; 32], proof.as_ref()));
        assert!(!gate_proof_holds(key, &[2; 32], proof.as_ref()));
        assert!(!gate_proof_holds(
            Ed25519KeyPair::generate().unwrap().public_key().as_ref(),
            &[1; 32],
            proof.as_ref()
        ));
        assert!(!gate_proof_holds(b"short", &[1; 32], b"nonsense"));
    }

    #[test]
    fn a_session_proof_fits_its_key_and_its_connection_only() {
        let proof = session_proof(&[5; 32], &[1; 32]);
        assert!(session_proof_holds(&[5; 32], &[1; 32], &proof));
        assert!(!session_proof_holds(&[6; 32], &[1; 32], &proof));
        assert!(!session_proof_holds(&[5; 32], &[2; 32], &proof));
        assert!(!session_proof_holds(&[5; 32], &[1; 32], &proof[..31]));
        assert!(!session_proof_holds(&[5; 32], &[1; 32], b""));
    }
}
