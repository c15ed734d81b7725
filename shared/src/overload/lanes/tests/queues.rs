//! What waits: how much, in which order, for how long, and what is read from it.

use super::*;

#[test]
fn foreground_holds_twelve_milliseconds_of_work() {
    // Cost of a job, seats; jobs that may wait.
    let rows = [
        (MS, 100, 1_200),
        (2 * MS, 100, 600),
        (10 * MS, 100, 120),
        (SECOND, 100, 64),
        (MS / 100, 100, 32_768),
    ];
    for (cost, seats, expected) in rows {
        let mut rig = Rig::new(&settings(seats));
        rig.learn(Protocol::MessageSend, cost);
        let [_, waiting, _] = rig.offers(Class::Talk, seats + 40_000);
        assert_eq!(waiting, expected, "{cost} ns on {seats} seats");
    }
}

#[test]
fn background_holds_half_of_what_it_can_have() {
    let mut rig = Rig::new(&settings(100));
    assert_eq!(rig.offers(Class::Wake, 200), [100, 50, 50]);
    let mut rig = Rig::new(&settings(100));
    rig.offers(Class::Talk, 100);
    assert_eq!(rig.offers(Class::Wake, 200), [0, 2, 198], "half of its guarantee of 5");
    assert_eq!(rig.offers(Class::Spare, 200), [0, 1, 199], "nothing is promised to it; still one may wait");
}

#[test]
fn bytes_are_bounded() {
    let mut rig = Rig::new(&settings(100));
    rig.offers(Class::Talk, 100);
    let mut waiting = 0;
    loop {
        let job = Job { bytes: 1 << 20, ..rig.job(Class::Talk, Protocol::MessageSend) };
        match rig.offer_job(job) {
            Ok(_) => waiting += 1,
            Err(why) => {
                assert_eq!((why, waiting), (Why::QueueFull, 64));
                break;
            }
        }
    }
}

#[test]
fn a_key_waits_once_in_a_class() {
    let mut rig = Rig::new(&settings(16));
    rig.offers(Class::Talk, 16);
    let job = rig.job(Class::Talk, Protocol::MessageSend);
    assert_eq!(rig.offer_job(job), Ok(false));
    assert_eq!(rig.offer_job(job), Err(Why::Twice));
    let other = Job { class: Class::Look, ..job };
    assert_eq!(rig.offer_job(other), Ok(false));
    assert!(rig.lanes.withdraw(job.key, Class::Talk));
    assert!(!rig.lanes.withdraw(job.key, Class::Talk));
    assert_eq!((rig.waiting(Class::Talk), rig.waiting(Class::Look)), (0, 1));
    assert_eq!(rig.offer_job(job), Ok(false));
}

#[test]
fn the_newest_go_first_once_the_oldest_has_waited_too_long() {
    let mut rig = Rig::new(&settings(16));
    rig.offers(Class::Talk, 16);
    rig.offers(Class::Talk, 4);
    rig.free(Class::Talk, 1);
    assert_eq!(rig.next().as_deref(), Some("start 17 C1"));
    rig.now = NEWEST_FIRST_AFTER + 1;
    rig.free(Class::Talk, 3);
    assert_eq!(rig.next().as_deref(), Some("start 20 C1"));
    assert_eq!(rig.next().as_deref(), Some("start 19 C1"));
    assert_eq!(rig.next().as_deref(), Some("start 18 C1"));
}

#[test]
fn jobs_that_have_become_slow_do_not_keep_out_whoever_comes_now() {
    let mut rig = Rig::new(&settings(100));
    assert_eq!(rig.offers(Class::Talk, 1_300), [100, 1_200, 0]);
    // Instead of one millisecond they take a second.
    rig.learn(Protocol::MessageSend, SECOND);
    assert_eq!(rig.offer(Class::Talk), Ok(false));
    assert_eq!(rig.next().as_deref(), Some("drop 101 queue_full"), "the oldest is told at once");
    let mut dropped = 1;
    while let Some(next) = rig.next() {
        assert!(next.ends_with("queue_full"), "{next}");
        dropped += 1;
    }
    assert_eq!((dropped, rig.waiting(Class::Talk)), (1_201 - 64, 64));
    rig.free(Class::Talk, 1);
    assert_eq!(rig.next().as_deref(), Some("start 1302 C1"), "the newest goes first");
}

#[test]
fn background_keeps_its_order() {
    let mut rig = Rig::new(&settings(16));
    rig.offers(Class::Wake, 20);
    rig.now = SECOND;
    rig.free(Class::Wake, 1);
    assert_eq!(rig.next().as_deref(), Some("start 17 C5"));
}

#[test]
fn what_cannot_be_done_in_time_is_not_begun() {
    let mut rig = Rig::new(&settings(16));
    rig.learn(Protocol::MessageSend, 20 * MS);
    rig.offers(Class::Talk, 16);
    let deadline = rig.now + 30 * MS;
    let job = Job { deadline, ..rig.job(Class::Talk, Protocol::MessageSend) };
    assert_eq!(rig.offer_job(job), Ok(false));
    rig.now += 15 * MS;
    let late = Job { deadline, ..rig.job(Class::Talk, Protocol::MessageSend) };
    assert_eq!(rig.offer_job(late), Err(Why::Late));
    rig.lanes.reconfigure(&settings(17));
    assert_eq!(rig.next(), Some(format!("drop {} late", job.key.0)));
    assert_eq!(rig.next(), None);
}

#[test]
fn whoever_waits_is_told_when_his_time_is_over_although_no_seat_came_free() {
    let mut rig = Rig::new(&settings(16));
    rig.offers(Class::Talk, 16);
    let deadlines = [300, 100, 200].map(|ms| ms * MS);
    let jobs = deadlines.map(|deadline| Job { deadline, ..rig.job(Class::Talk, Protocol::MessageSend) });
    for job in jobs {
        rig.offer_job(job).unwrap();
    }
    rig.lanes.withdraw(jobs[1].key, Class::Talk);
    assert_eq!(rig.next(), None);
    rig.now = 200 * MS;
    assert_eq!(rig.next(), Some(format!("drop {} stale", jobs[2].key.0)));
    assert_eq!(rig.next(), None);
}

#[test]
fn the_predicted_wait_counts_the_seats_that_a_class_can_have() {
    let mut rig = Rig::new(&settings(100));
    rig.offers(Class::Talk, 100);
    rig.offers(Class::Talk, 500);
    assert_eq!(rig.lanes.predicted_wait(Class::Talk), 5 * MS, "500 ms of work on 100 seats");
    rig.offers(Class::Look, 100);
    assert_eq!(rig.lanes.predicted_wait(Class::Look), 5 * MS, "100 ms on its guarantee of 20");
    assert_eq!(rig.lanes.predicted_wait(Class::Wake), 0);
    rig.learn(Protocol::MessageSend, 2 * MS);
    assert_eq!(rig.lanes.predicted_wait(Class::Talk), 10 * MS);
}

#[test]
fn the_smallest_sojourn_is_that_of_twenty_milliseconds() {
    let mut rig = Rig::new(&settings(16));
    assert_eq!(rig.lanes.take_sojourn_min(10 * MS), None);
    rig.now = 10 * MS;
    rig.offers(Class::Talk, 20);
    assert_eq!(rig.lanes.take_sojourn_min(20 * MS), Some(0));
    rig.now = 20 * MS;
    rig.free(Class::Talk, 2);
    rig.started();
    assert_eq!(rig.lanes.take_sojourn_min(30 * MS), Some(0), "still within 20 ms");
    rig.now = 33 * MS;
    rig.free(Class::Talk, 1);
    rig.started();
    rig.offers(Class::Control, 5);
    assert_eq!(rig.lanes.take_sojourn_min(40 * MS), Some(10 * MS), "control does not count");
    assert_eq!(rig.lanes.take_sojourn_min(50 * MS), Some(23 * MS));
    assert_eq!(
        rig.lanes.take_sojourn_min(60 * MS),
        Some(50 * MS),
        "nobody began: the oldest waits since then"
    );
}

#[test]
fn the_newest_does_not_hide_how_long_the_queue_has_stood() {
    let mut rig = Rig::new(&settings(16));
    rig.offers(Class::Talk, 17);
    rig.now = 100 * MS;
    rig.offers(Class::Talk, 1);
    rig.lanes.take_sojourn_min(rig.now);
    rig.lanes.take_sojourn_min(rig.now + 10 * MS);
    rig.now = 111 * MS;
    rig.free(Class::Talk, 1);
    assert_eq!(rig.next().as_deref(), Some("start 18 C1"));
    assert_eq!(rig.lanes.take_sojourn_min(120 * MS), Some(111 * MS));
}

#[test]
fn costs_follow_what_was_measured() {
    let mut rig = Rig::new(&settings(16));
    assert_eq!(rig.lanes.cost(Protocol::Login), COST_DEFAULT);
    rig.learn(Protocol::Login, 5 * MS);
    assert_eq!(rig.lanes.cost(Protocol::Login), 5 * MS, "the first measurement replaces the guess");
    rig.learn(Protocol::Login, 15 * MS);
    assert_eq!(rig.lanes.cost(Protocol::Login), 6 * MS);
}

#[test]
fn a_window_says_what_was_done_and_what_is_left() {
    let mut rig = Rig::new(&settings(100));
    rig.offers(Class::Talk, 10);
    rig.offers(Class::Wake, 50);
    rig.now = 5 * MS;
    rig.free(Class::Talk, 10);
    rig.now = 10 * MS;
    let window = rig.lanes.take_window(rig.now);
    assert_eq!((window.elapsed, window.completed), (10 * MS, 50 * MS));
    assert!((window.foreground_erlangs - 5.0).abs() < 1e-9, "{window:?}");
    assert!((window.seats_busy - 0.05).abs() < 1e-9, "what is borrowed does not count: {window:?}");
    assert!(!window.saturated);
    rig.offers(Class::Talk, 50);
    rig.offers(Class::Talk, 10);
    let window = rig.lanes.take_window(rig.now);
    assert_eq!((window.elapsed, window.completed), (0, 0));
    assert!(window.saturated);
    assert_eq!(window.foreground_backlog, 10 * rig.lanes.cost(Protocol::MessageSend));
    assert_eq!(window.foreground_wait, rig.lanes.predicted_wait(Class::Talk));
}

#[test]
fn time_that_goes_back_stands_still() {
    let mut rig = Rig::new(&settings(16));
    rig.now = SECOND;
    rig.offers(Class::Talk, 17);
    rig.now = 0;
    rig.free(Class::Talk, 1);
    assert_eq!(rig.started(), [Class::Talk]);
    assert_eq!(rig.lanes.take_window(0).completed, 0);
}
