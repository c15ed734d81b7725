//! Who gets a seat: borrowing and recall, guarantees, the floor, and what foreground in want of seats does to background.

use super::*;

#[test]
fn alone_a_class_may_have_its_ceiling() {
    let expected = [130, 100, 100, 50, 40, 100, 10, 20];
    for (class, expected) in Class::ALL.into_iter().zip(expected) {
        let mut rig = Rig::new(&settings(100));
        let [began, ..] = rig.offers(class, 130);
        assert_eq!(began, expected, "{class}");
    }
}

#[test]
fn control_is_seated_whatever_is_taken() {
    let mut rig = Rig::new(&settings(100));
    rig.offers(Class::Talk, 100);
    assert_eq!(rig.offers(Class::Control, 50), [50, 0, 0]);
    assert_eq!(rig.lanes.in_use(), 150);
    rig.offers(Class::Talk, 1);
    rig.free(Class::Control, 50);
    assert_eq!(rig.started(), [], "there are still none to give");
    rig.free(Class::Talk, 1);
    assert_eq!(rig.started(), [Class::Talk]);
}

#[test]
fn what_is_lent_comes_back_with_the_next_seat() {
    let mut rig = Rig::new(&settings(100));
    assert_eq!(rig.offers(Class::Wake, 110), [100, 10, 0]);
    assert_eq!(rig.offers(Class::Talk, 3), [0, 3, 0]);
    rig.free(Class::Wake, 5);
    assert_eq!(rig.started(), [vec![Class::Talk; 3], vec![Class::Wake; 2]].concat());
}

#[test]
fn who_is_below_its_guarantee_goes_before_who_borrows() {
    let mut rig = Rig::new(&settings(100));
    assert_eq!(rig.offers(Class::Talk, 120)[..2], [100, 20]);
    assert_eq!(rig.offers(Class::Look, 30)[..2], [0, 30]);
    rig.free(Class::Talk, 25);
    let started = rig.started();
    assert_eq!(started[..20], [Class::Look; 20]);
    assert_eq!(started[20..], [Class::Talk; 5]);
}

#[test]
fn beyond_guarantees_the_more_important_goes_first() {
    let mut rig = Rig::new(&settings(100));
    rig.offers(Class::Bulk, 50);
    rig.offers(Class::Talk, 30);
    rig.offers(Class::Look, 20);
    rig.offers(Class::Look, 2);
    rig.offers(Class::Talk, 2);
    rig.free(Class::Bulk, 4);
    assert_eq!(rig.started(), [Class::Talk, Class::Talk, Class::Look, Class::Look]);
}

#[test]
fn background_has_its_floor_however_much_foreground_there_is() {
    let mut rig = Rig::new(&settings(100));
    rig.offers(Class::Talk, 200);
    assert_eq!(rig.offers(Class::Wake, 1), [0, 1, 0]);
    for expected in 1..=5 {
        rig.free(Class::Talk, 1);
        assert_eq!(rig.started(), [Class::Wake]);
        assert_eq!(rig.used(Class::Wake), expected);
        rig.offers(Class::Wake, 1);
    }
    rig.free(Class::Talk, 1);
    assert_eq!(rig.started(), [Class::Talk], "the floor is full");
}

#[test]
fn the_floor_is_shared_by_background_as_it_was_promised() {
    let mut rig = Rig::new(&settings(400));
    rig.offers(Class::Talk, 1_000);
    let mut started = Vec::new();
    for _ in 0..40 {
        for class in [Class::Social, Class::Wake, Class::Pulse, Class::Spare] {
            rig.offers(class, 1);
        }
        rig.free(Class::Talk, 1);
        started.extend(rig.started());
    }
    let of = |class| started.iter().filter(|c| **c == class).count();
    // A floor of 20 seats; 8, 5 and 1 percent are promised. What rounding leaves goes to the first.
    assert_eq!([of(Class::Social), of(Class::Wake), of(Class::Pulse), of(Class::Spare)], [12, 7, 1, 0]);
}

#[test]
fn a_floor_of_one_seat_is_used_in_turn() {
    let mut rig = Rig::new(&settings(16));
    rig.offers(Class::Talk, 60);
    rig.offers(Class::Social, 1);
    rig.free(Class::Talk, 1);
    let mut started = rig.started();
    for _ in 0..5 {
        rig.offers(Class::Social, 1);
        rig.offers(Class::Wake, 1);
        rig.free(*started.last().unwrap(), 1);
        started.extend(rig.started());
    }
    assert_eq!(started, [[Class::Social, Class::Wake]; 3].concat());
}

#[test]
fn while_foreground_waits_background_stays_within_its_floor() {
    let mut rig = Rig::new(&settings(100));
    rig.offers(Class::Wake, 20);
    rig.offers(Class::Talk, 80);
    rig.offers(Class::Talk, 30);
    rig.offers(Class::Wake, 1);
    rig.free(Class::Wake, 20);
    let started = rig.started();
    let background = started.iter().filter(|c| !c.is_foreground()).count();
    assert_eq!((started.len(), background), (20, 1), "one waited, and the floor was free");
}

#[test]
fn after_foreground_was_refused_background_stays_within_its_floor_for_a_window() {
    let mut rig = Rig::new(&settings(100));
    let [_, waiting, refused] = rig.offers(Class::Talk, 4_000);
    assert_eq!((waiting, refused), (1_200, 2_700), "12 ms of 100 seats at 1 ms");
    rig.free(Class::Talk, 100);
    rig.started();
    while rig.waiting(Class::Talk) > 0 {
        rig.free(Class::Talk, 100);
        rig.started();
    }
    rig.free(Class::Talk, 100);
    // Nothing waits any more, but somebody was turned away a moment ago.
    assert_eq!(rig.offers(Class::Wake, 50)[0], 5);
    rig.now += HUNGER;
    assert_eq!(rig.started().len(), 2, "those who waited");
    assert_eq!(rig.offers(Class::Wake, 50)[0], 50);
}

#[test]
fn foreground_that_has_run_into_a_limit_of_its_own_is_not_in_want_of_seats() {
    let mut rig = Rig::new(&settings(100));
    let [began, waiting, _] = rig.offers(Class::Bulk, 2_000);
    assert_eq!((began, waiting), (50, 600));
    assert_eq!(rig.offer(Class::Bulk), Err(Why::Ceiling));
    assert_eq!(rig.offers(Class::Wake, 50)[0], 50, "the other half is free");
}

#[test]
fn all_background_together_has_the_ceiling_it_is_told() {
    let mut rig = Rig::new(&settings(100));
    rig.lanes.set_background_seats(30);
    assert_eq!(rig.offers(Class::Social, 20)[0], 20);
    assert_eq!(rig.offers(Class::Wake, 20), [10, 5, 5]);
    assert_eq!(rig.offer(Class::Wake), Err(Why::Background));
    rig.lanes.set_background_seats(33);
    assert_eq!(rig.started(), [Class::Wake; 3]);
    rig.lanes.set_background_seats(0);
    rig.free(Class::Wake, 13);
    rig.free(Class::Social, 20);
    assert_eq!(rig.started().len(), 2, "its floor it has whatever it is told");
    assert_eq!(rig.offers(Class::Spare, 10)[0], 3);
}

#[test]
fn seats_in_use_stay_in_use_when_settings_change() {
    let mut rig = Rig::new(&settings(100));
    rig.offers(Class::Talk, 110);
    rig.lanes.reconfigure(&settings(50));
    rig.free(Class::Talk, 50);
    assert_eq!(rig.started(), []);
    rig.free(Class::Talk, 1);
    assert_eq!(rig.started(), [Class::Talk]);
    rig.lanes.reconfigure(&settings(200));
    assert_eq!(rig.started().len(), 9);
    rig.free(Class::Talk, 59);
    assert_eq!(rig.lanes.in_use(), 0);
}

#[test]
fn a_change_of_policy_forgets_nobody() {
    for policy in [Policy::Static, Policy::None, Policy::Buslane] {
        let mut rig = Rig::new(&settings(100));
        for class in Class::ALL {
            rig.offers(class, 50);
        }
        let waiting: u32 = Class::ALL.map(|class| rig.waiting(class)).iter().sum();
        rig.lanes.reconfigure(&Settings { policy, ..settings(100) });
        let mut began = 0;
        while let Some(seat) = rig.seats.pop() {
            rig.lanes.free(seat, rig.now);
            began += rig.started().len();
        }
        assert_eq!((began as u32, rig.lanes.in_use()), (waiting, 0), "{policy:?}");
    }
}
