//! Nothing that was acknowledged is lost, doubled or reordered when the process is killed, again and again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

#[test]
fn nothing_acknowledged_is_lost_by_kills() {
    common::write_if_asked();
    const KILLS: u64 = 12;
    let folder = tempfile::tempdir().unwrap();
    let mut receipts = common::Receipts::none();
    let mut seen = 0;
    for kill in 0..KILLS {
        let mut writer = common::start_writer("nothing_acknowledged_is_lost_by_kills", folder.path(), None);
        seen += receipts.read(&mut writer, 50 + kill * 97);
        receipts.check(folder.path());
    }
    println!("{KILLS} kills, {seen} acknowledged, 0 lost, 0 doubled, 0 reordered");
}
