//! The same at every named point of a commit: `cargo test -p buslane-store --features crash-points`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

#[test]
fn nothing_acknowledged_is_lost_at_any_point_of_a_commit() {
    common::write_if_asked();
    let folder = tempfile::tempdir().unwrap();
    let mut receipts = common::Receipts::none();
    for point in ["before_append", "before_sync", "after_sync", "mid_receipts", "after_receipts"] {
        for nth in [2, 9] {
            let at = format!("store.{point}:{nth}");
            let test = "nothing_acknowledged_is_lost_at_any_point_of_a_commit";
            let mut writer = common::start_writer(test, folder.path(), Some(&at));
            let seen = receipts.read(&mut writer, 100_000);
            assert!(seen < 100_000, "the process did not die at {at}");
            receipts.check(folder.path());
        }
    }
}
