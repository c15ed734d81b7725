//! The device's key: made here, kept here, never sent. Whoever has it is the device.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use buslane_shared::id::DeviceId;
use buslane_shared::proof::{EXPORTER_BYTES, gate_statement};

use crate::error::Error;

const KEY_FILE: &str = "device.key";

/// An Ed25519 key pair.
pub struct Identity {
    pair: Ed25519KeyPair,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("device", &self.device()).finish_non_exhaustive()
    }
}

impl Identity {
    /// A new key that is kept nowhere.
    pub fn generate() -> Result<Self, Error> {
        let pair = Ed25519KeyPair::generate().map_err(|_| no_key("this machine", "no key could be made"))?;
        Ok(Self { pair })
    }

    /// The key in `folder`, made at the first call. The folder is made if it is missing, both readable by their owner only.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let unusable = |e: std::io::Error| no_key(&folder.display().to_string(), &e.to_string());
        private_folder(folder).map_err(unusable)?;
        let path = folder.join(KEY_FILE);
        match fs::read(&path) {
            Ok(pkcs8) => {
                let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|e| Error::StateDamaged {
                    path: path.display().to_string(),
                    detail: format!("not a device key: {e}"),
                })?;
                Ok(Self { pair })
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let made = Self::generate()?;
                let pkcs8 =
                    made.pair.to_pkcs8().map_err(|_| no_key("this machine", "the key cannot be written"))?;
                write_private(&path, pkcs8.as_ref()).map_err(unusable)?;
                Ok(made)
            }
            Err(e) => Err(unusable(e)),
        }
    }

    /// The public half.
    pub fn public_key(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The device's id, which follows from its key.
    pub fn device(&self) -> DeviceId {
        DeviceId::of_key(self.public_key())
    }

    /// Proof for the gateway, worth something on the connection with this exporter only.
    pub fn prove(&self, exporter: &[u8; EXPORTER_BYTES]) -> Vec<u8> {
        self.pair.sign(&gate_statement(exporter)).as_ref().to_vec()
    }
}

fn no_key(path: &str, detail: &str) -> Error {
    Error::StateUnusable { path: path.to_owned(), detail: detail.to_owned() }
}

/// Makes `folder` if it is missing, for its owner only.
pub(crate) fn private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Options of a file for its owner only.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Writes a file that is either there whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let half = path.with_extension("new");
    let _ = fs::remove_file(&half);
    let mut file = private_file().write(true).create_new(true).open(&half)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&half, path)?;
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use buslane_shared::proof::gate_proof_holds;

    #[test]
    fn the_key_stays_the_same_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("clients/alice");
        let first = Identity::load(&home).unwrap();
        let again = Identity::load(&home).unwrap();
        assert_eq!(first.device(), again.device());
        assert!(gate_proof_holds(first.public_key(), &[3; 32], &again.prove(&[3; 32])));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&home), mode(&home.join(KEY_FILE))), (0o700, 0o600));
        }
    }

    #[test]
    fn a_damaged_key_is_reported_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        Identity::load(folder.path()).unwrap();
        fs::write(folder.path().join(KEY_FILE), b"rubbish").unwrap();
        assert_eq!(Identity::load(folder.path()).unwrap_err().name(), "state_damaged");
        assert_eq!(fs::read(folder.path().join(KEY_FILE)).unwrap(), b"rubbish");
    }
}
