"""The TLS exporter (RFC 8446, section 7.5), which aioquic does not offer.

aioquic keeps its key schedule to itself, so this replaces the class that it makes key schedules from by one that
remembers the exporter master secret at the only moment when it can be derived: when the master secret is there and the
transcript ends with the server's Finished. That is where the client derives its application traffic secret.
"""

from aioquic import tls

APPLICATION_TRAFFIC = b"c ap traffic"


class RememberingKeySchedule(tls.KeySchedule):
    """A key schedule that keeps what the exporter needs."""

    exporter_master_secret: bytes | None = None

    def derive_secret(self, label: bytes) -> bytes:
        if label == APPLICATION_TRAFFIC:
            self.exporter_master_secret = super().derive_secret(b"exp master")
        return super().derive_secret(label)


tls.KeySchedule = RememberingKeySchedule


def export(schedule: RememberingKeySchedule, label: bytes, length: int = 32) -> bytes:
    """Bytes that only the two ends of this connection know. The context is empty."""
    empty_hash = schedule.hash_empty_value
    secret = tls.hkdf_expand_label(
        schedule.algorithm, schedule.exporter_master_secret, label, empty_hash, schedule.algorithm.digest_size
    )
    return tls.hkdf_expand_label(schedule.algorithm, secret, b"exporter", empty_hash, length)
