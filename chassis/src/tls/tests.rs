//! Certificates of our own making, from the first start to their renewal.

use super::*;

#[test]
fn a_missing_ca_file_says_what_to_do() {
    let message = roots(Path::new("/nowhere/ca.pem")).unwrap_err().to_string();
    assert_eq!(
        message,
        "CA file /nowhere/ca.pem not found: start `buslane up` first, or pass the system's CA with --ca"
    );
}
