//! The posture of a node: what is measured and what is ordered, combined, and what follows from it for clients.

use crate::wire;

/// Its name: metric label, JSON value and word for people.
pub fn name(posture: wire::Posture) -> &'static str {
    match posture {
        wire::Posture::Normal => "normal",
        wire::Posture::Guard => "guard",
        wire::Posture::Emergency => "emergency",
        wire::Posture::Recovery => "recovery",
    }
}
