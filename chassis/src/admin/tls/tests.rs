//! Rights of certificates, and TLS over a real connection.
