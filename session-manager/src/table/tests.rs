//! The table without connections: one session for each device, in whatever order things happen.

use buslane_shared::wire;
use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn hello(device: u8, resume: Option<(SessionId, u64)>) -> Verified {
    Verified {
        user: "alice".parse().unwrap(),
        device: DeviceId::from_bytes([device; 16]),
        proof_key: Bytes::new(),
        issued_at_ms: 10,
        expires_ms: 100,
        resume,
        app_state: wire::AppState::Foreground,
        parent: buslane_chassis::trace::Context::NONE,
    }
}

fn table() -> (Table, Queues) {
    Table::new(&Bounds { sessions_max: 4, ..Bounds::default() }, Duration::from_secs(30))
}

#[derive(Debug, Clone)]
enum Step {
    Open(u8),
    Resume(u8),
    Part(usize, bool),
    Revoke(u8),
    Elsewhere(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..3).prop_map(Step::Open),
        3 => (0u8..3).prop_map(Step::Resume),
        4 => (0usize..8, any::<bool>()).prop_map(|(at, lost)| Step::Part(at, lost)),
        1 => (0u8..3).prop_map(Step::Revoke),
        1 => (0usize..8).prop_map(Step::Elsewhere),
    ]
}

proptest! {
    /// Whatever happens: one session for each device, the count is right, and the reported changes, in their order, lead
    /// to exactly what is there.
    #[test]
    fn the_reports_add_up_to_the_truth(steps in proptest::collection::vec(step(), 0..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        let (table, mut queues) = table();
        let mut holds: Vec<Hold> = Vec::new();
        let mut fresh = 0u8;
        for step in steps {
            match step {
                Step::Open(device) => {
                    fresh += 1;
                    holds.push(table.open(&hello(device, None), SessionId::from_bytes([fresh; 16])).unwrap().hold);
                }
                Step::Resume(device) => {
                    fresh += 1;
                    let known = table.all().into_iter().find(|p| p.device == DeviceId::from_bytes([device; 16]));
                    let session = known.as_ref().map_or(SessionId::from_bytes([0; 16]), |p| p.session);
                    let opened = table
                        .open(&hello(device, Some((session, 0))), SessionId::from_bytes([fresh; 16]))
                        .unwrap();
                    prop_assert_eq!(opened.resumed, known.is_some());
                    holds.push(opened.hold);
                }
                Step::Part(at, lost) => {
                    if at < holds.len() {
                        let parting = if lost { Parting::Lost } else { Parting::Final };
                        table.part(&holds.remove(at), parting);
                    }
                }
                Step::Revoke(device) => {
                    table.revoke(&"alice".parse().unwrap(), DeviceId::from_bytes([device; 16]), 10);
                }
                Step::Elsewhere(at) => {
                    if let Some(hold) = holds.get(at) {
                        table.replaced_elsewhere("alice", hold.presence.session);
                    }
                }
            }
            let all = table.all();
            prop_assert_eq!(all.len(), table.len());
            let mut devices: Vec<_> = all.iter().map(|p| p.device).collect();
            devices.sort_unstable();
            devices.dedup();
            prop_assert_eq!(devices.len(), all.len());
        }
        let mut known = std::collections::BTreeSet::new();
        while let Ok(change) = queues.changes.try_recv() {
            match change {
                Change::Opened(p) => prop_assert!(known.insert(p.session)),
                Change::Closed(p) => prop_assert!(known.remove(&p.session)),
            }
        }
        let here: std::collections::BTreeSet<_> = table.all().iter().map(|p| p.session).collect();
        prop_assert_eq!(known, here);
    }
}

#[test]
fn a_right_that_was_given_later_is_not_revoked() {
    let (table, _queues) = table();
    table.open(&hello(1, None), SessionId::from_bytes([1; 16])).unwrap();
    let user = "alice".parse().unwrap();
    table.revoke(&user, DeviceId::from_bytes([1; 16]), 9);
    assert_eq!(table.len(), 1);
    table.revoke(&user, DeviceId::from_bytes([1; 16]), 10);
    assert_eq!(table.len(), 0);
}

#[test]
fn a_full_node_takes_nobody_new_but_those_it_has() {
    let (table, _queues) = table();
    for device in 0..4 {
        table.open(&hello(device, None), SessionId::from_bytes([device; 16])).unwrap();
    }
    let refusal = table.open(&hello(9, None), SessionId::from_bytes([9; 16])).err().unwrap();
    assert_eq!(refusal.code, Code::Busy);
    assert!(table.open(&hello(1, None), SessionId::from_bytes([10; 16])).is_ok());
    assert_eq!(table.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_come_back_is_released_when_the_window_is_over() {
    let (table, queues) = table();
    let table = Arc::new(table);
    let room = tokio::spawn(queues.waiting.run(Arc::clone(&table)));
    let hold = table.open(&hello(1, None), SessionId::from_bytes([1; 16])).unwrap().hold;
    let back = table.open(&hello(2, None), SessionId::from_bytes([2; 16])).unwrap().hold;
    table.part(&hold, Parting::Lost);
    table.part(&back, Parting::Lost);
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert_eq!(table.len(), 2);
    let resumed = table.open(&hello(2, Some((back.presence.session, 0))), SessionId::from_bytes([3; 16]));
    assert!(resumed.unwrap().resumed);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(table.all().iter().map(|p| p.device).collect::<Vec<_>>(), [DeviceId::from_bytes([2; 16])]);
    room.abort();
}

#[test]
fn changes_that_nobody_takes_are_noticed_as_missed() {
    let (table, queues) = Table::new(&Bounds::default(), Duration::ZERO);
    for _ in 0..=CHANGES_MAX {
        table.open(&hello(1, None), SessionId::from_bytes([1; 16])).unwrap();
    }
    assert!(table.take_changes_missed());
    assert!(!table.take_changes_missed());
    drop(queues);
}
