//! Caps of protocols, and the two policies that the lanes are compared with.

use super::*;

fn capped(name: &str, percent: u8) -> Settings {
    let mut settings = settings(100);
    settings.caps.insert(name.into(), percent);
    settings
}

#[test]
fn a_protocol_has_no_more_than_its_cap() {
    let mut rig = Rig::new(&capped("room.open", 15));
    assert_eq!(rig.offers(Class::Look, 20), [15, 5, 0]);
    let login = rig.job(Class::Look, Protocol::Login);
    assert_eq!(rig.offer_job(login), Ok(true), "others of the class go past those who wait");
    rig.free(Class::Look, 2);
    assert_eq!(rig.started(), [Class::Look; 2]);
    assert_eq!(rig.lanes.by_protocol()[Protocol::RoomOpen.index()], 15);
}

#[test]
fn a_cap_counts_the_protocol_in_all_classes() {
    let mut rig = Rig::new(&capped("login", 10));
    rig.offers(Class::Wake, 6);
    for expected in [true, true, true, true, false] {
        let login = rig.job(Class::Look, Protocol::Login);
        assert_eq!(rig.offer_job(login), Ok(expected));
    }
}

#[test]
fn a_capped_protocol_does_not_fill_the_queue_of_its_class() {
    let mut rig = Rig::new(&capped("room.open", 15));
    rig.offers(Class::Talk, 100);
    let [_, waiting, _] = rig.offers(Class::Look, 1_000);
    assert_eq!(waiting, 15 * 12, "12 ms of its own 15 seats at 1 ms");
    let login = rig.job(Class::Look, Protocol::Login);
    assert_eq!(rig.offer_job(login), Ok(false));
}

#[test]
fn a_cap_is_named_as_the_reason() {
    let mut rig = Rig::new(&capped("room.open", 15));
    rig.offers(Class::Look, 1_000);
    assert_eq!(rig.offer(Class::Look), Err(Why::Cap));
    assert_eq!(rig.offers(Class::Wake, 50)[0], 50, "and it is no lack of seats");
}

#[test]
fn another_cap_holds_at_once() {
    let mut rig = Rig::new(&capped("room.open", 15));
    rig.offers(Class::Look, 20);
    rig.lanes.reconfigure(&capped("room.open", 17));
    assert_eq!(rig.started().len(), 2);
    rig.lanes.reconfigure(&settings(100));
    assert_eq!(rig.started().len(), 3);
}

fn under(policy: Policy, seats: u32) -> Rig {
    Rig::new(&Settings { policy, ..settings(seats) })
}

#[test]
fn static_seats_add_up_and_nothing_is_borrowed() {
    let mut rig = under(Policy::Static, 100);
    let began: Vec<u32> = Class::ALL.map(|class| rig.offers(class, 100)[0]).to_vec();
    // 2 + 30 + 20 + 5 + 8 + 5 + 1 + 0 = 71 stretched to 100; what rounding leaves goes to the largest.
    assert_eq!(began, [2, 43, 28, 7, 11, 7, 1, 1]);
    assert_eq!(began.iter().sum::<u32>(), 100);
    rig.free(Class::Talk, 43);
    assert_eq!(rig.started(), [Class::Talk; 43], "to its own class alone");
}

#[test]
fn static_queues_are_bounded_and_in_order() {
    let mut rig = under(Policy::Static, 100);
    assert_eq!(rig.offers(Class::Bulk, 100), [7, 28, 65]);
    assert_eq!(rig.offer(Class::Bulk), Err(Why::Ceiling));
    rig.now = 60 * MS;
    rig.free(Class::Bulk, 2);
    assert_eq!(rig.next().as_deref(), Some("start 8 C3"), "the oldest, however long it has waited");
    assert_eq!(rig.next().as_deref(), Some("start 9 C3"));
}

#[test]
fn without_a_policy_it_is_first_come_first_served() {
    let mut rig = under(Policy::None, 100);
    assert_eq!(rig.offers(Class::Spare, 120), [100, 20, 0]);
    assert_eq!(rig.offers(Class::Control, 1), [0, 1, 0]);
    assert_eq!(rig.offers(Class::Talk, 1), [0, 1, 0]);
    rig.free(Class::Spare, 22);
    let expected = [vec![Class::Spare; 20], vec![Class::Control, Class::Talk]].concat();
    assert_eq!(rig.started(), expected);
}

#[test]
fn without_a_policy_the_one_queue_is_bounded_too() {
    let mut rig = under(Policy::None, 16);
    let [began, waiting, refused] = rig.offers(Class::Talk, UNSORTED_COUNT_MAX + 20);
    assert_eq!([began, waiting, refused], [16, UNSORTED_COUNT_MAX, 4]);
    assert_eq!(rig.offer(Class::Wake), Err(Why::QueueFull));
}

#[test]
fn a_deadline_holds_under_every_policy() {
    for policy in [Policy::Buslane, Policy::Static, Policy::None] {
        let mut rig = under(policy, 16);
        rig.offers(Class::Talk, 16);
        let job = Job { deadline: 10 * MS, ..rig.job(Class::Talk, Protocol::MessageSend) };
        assert_eq!(rig.offer_job(job), Ok(false), "{policy:?}");
        rig.now = 10 * MS;
        rig.free(Class::Talk, 1);
        assert_eq!(rig.next(), Some(format!("drop {} stale", job.key.0)), "{policy:?}");
        assert_eq!(rig.offer_job(job), Err(Why::Stale), "{policy:?}");
    }
}
