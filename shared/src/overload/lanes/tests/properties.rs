//! Whatever is asked in whatever order: the invariants of seats, queues and classes, against a model that only counts.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Offer {
        class: Class,
        protocol: Protocol,
        lasts_ms: u64,
        bytes: u32,
    },
    /// Gives back one of the seats in use.
    Free(prop::sample::Index),
    /// Withdraws one of those who wait.
    Withdraw(prop::sample::Index),
    Pass(Nanos),
    BackgroundSeats(u32),
    Reconfigure(Policy, u32),
    /// The caller does not ask what is next; he may be late.
    Next,
}

fn step() -> impl Strategy<Value = Step> {
    let class = || prop::sample::select(Class::ALL.to_vec());
    let protocol = || prop::sample::select(Protocol::ALL[..4].to_vec());
    prop_oneof![
        10 => (class(), protocol(), 0u64..60, prop_oneof![9 => 0u32..1_000, 1 => 0u32..9 << 20])
            .prop_map(|(class, protocol, lasts_ms, bytes)| Step::Offer { class, protocol, lasts_ms, bytes }),
        6 => any::<prop::sample::Index>().prop_map(Step::Free),
        1 => any::<prop::sample::Index>().prop_map(Step::Withdraw),
        3 => (0..8 * MS).prop_map(Step::Pass),
        1 => (0u32..60).prop_map(Step::BackgroundSeats),
        3 => Just(Step::Next),
    ]
}

fn shares() -> impl Strategy<Value = Settings> {
    let share = |most: u8| {
        (0..=most, 0u8..=100).prop_map(move |(guarantee, more)| crate::overload::settings::Share {
            guarantee,
            ceiling: guarantee.saturating_add(more).clamp(1, 100),
        })
    };
    let shares = [10, 30, 20, 10, 10, 10, 5, 5].map(share);
    let caps = prop::collection::btree_map(0usize..4, 1u8..=100, 0..3);
    (16u32..48, shares, 1u8..=30, caps).prop_map(|(seats, shares, floor_percent, caps)| {
        let mut settings = settings(seats);
        let [control, talk, look, bulk, social, wake, pulse, spare] = shares;
        settings.lanes =
            crate::overload::settings::Lanes { seats, control, talk, look, bulk, social, wake, pulse, spare };
        settings.background.floor_percent = floor_percent;
        settings.caps =
            caps.into_iter().map(|(p, percent)| (Protocol::ALL[p].name().to_owned(), percent)).collect();
        settings
    })
}

/// Counts what the lanes answer.
struct Model {
    lanes: Lanes,
    settings: Settings,
    seats: Vec<Seat>,
    waiting: HashMap<(JobKey, Class), Job>,
    now: Nanos,
    keys: u64,
    background_seats: u32,
    hungry_until: Nanos,
    /// Jobs that were offered, and that came to an end of any kind.
    offered: u64,
    ended: u64,
}

impl Model {
    fn new(settings: Settings) -> Self {
        settings.check().unwrap();
        Self {
            lanes: Lanes::new(&settings),
            background_seats: settings.lanes.seats,
            settings,
            seats: Vec::new(),
            waiting: HashMap::new(),
            now: 0,
            keys: 0,
            hungry_until: 0,
            offered: 0,
            ended: 0,
        }
    }

    fn is_buslane(&self) -> bool {
        self.settings.policy == Policy::Buslane
    }

    fn floor(&self) -> u32 {
        crate::overload::leftover::floor_seats(
            self.settings.lanes.seats,
            self.settings.background.floor_percent,
        )
    }

    fn count(&self, of: impl Fn(&Seat) -> bool) -> u32 {
        self.seats.iter().filter(|s| of(s)).count() as u32
    }

    fn background(&self) -> u32 {
        self.count(|s| !s.class().is_foreground())
    }

    fn cap(&self, protocol: Protocol) -> u32 {
        let percent = self.settings.cap_table().unwrap()[protocol.index()];
        if self.settings.policy == Policy::None {
            return self.settings.lanes.seats;
        }
        (self.settings.lanes.seats * u32::from(percent) / 100).max(1)
    }

    /// No limit of its own keeps this job waiting.
    fn is_eligible(&self, job: &Job) -> bool {
        let seats = self.settings.lanes.seats;
        let has_room = |in_use: u32, limit: u32| limit >= seats || in_use < limit;
        let ceiling = self.lanes.snapshot()[job.class.index()].ceiling;
        has_room(self.count(|s| s.class() == job.class), ceiling)
            && has_room(self.count(|s| s.protocol() == job.protocol), self.cap(job.protocol))
    }

    fn foreground_wants(&self) -> bool {
        let waits = self.waiting.values().any(|job| job.class.is_foreground() && self.is_eligible(job));
        waits || self.now < self.hungry_until
    }

    /// What must hold when a job begins.
    fn begin(&mut self, job: &Job, seat: Seat) {
        assert_eq!((seat.class(), seat.protocol()), (job.class, job.protocol));
        let exempt = self.is_buslane() && job.class == Class::Control;
        assert!(exempt || job.deadline > self.now, "I24: {job:?} begins at {}", self.now);
        if !exempt {
            assert!((self.seats.len() as u32) < self.settings.lanes.seats, "I22: no seat is free");
            assert!(self.is_eligible(job), "I22: {job:?} is beyond its ceiling or cap");
        }
        if self.is_buslane() && !job.class.is_foreground() {
            let limit = match self.foreground_wants() {
                true => self.floor(),
                false => self.background_seats.clamp(self.floor(), self.settings.lanes.seats),
            };
            assert!(self.background() < limit, "I21: background begins beyond {limit}");
        }
        self.seats.push(seat);
    }

    fn turned_away(&mut self, job: &Job, why: Why, had_own_room: bool) {
        self.ended += 1;
        let of_capacity = match why {
            Why::QueueFull => true,
            Why::Late | Why::Stale => had_own_room,
            Why::Cap | Why::Ceiling | Why::Background | Why::Twice => false,
        };
        if of_capacity && job.class.is_foreground() {
            self.hungry_until = self.now + HUNGER;
        }
    }

    fn offer(&mut self, job: Job) {
        self.offered += 1;
        match self.lanes.offer(job, self.now) {
            Offer::Seated(seat) => self.begin(&job, seat),
            Offer::Queued => assert!(self.waiting.insert((job.key, job.class), job).is_none()),
            // What comes too late was not made late by us.
            Offer::Refused(why) => self.turned_away(&job, why, false),
        }
    }

    fn next(&mut self) -> bool {
        let Some(next) = self.lanes.next(self.now) else { return false };
        match next {
            Next::Start(key, seat) => {
                let job = self.waiting.remove(&(key, seat.class())).expect("it waited");
                // It does not stand in its own way when it is judged whether foreground waits.
                self.begin(&job, seat);
            }
            Next::Drop(job, why) => {
                let had_own_room = self.is_eligible(&job);
                assert_eq!(self.waiting.remove(&(job.key, job.class)), Some(job));
                self.turned_away(&job, why, had_own_room);
            }
        }
        true
    }

    fn drain(&mut self) {
        while self.next() {}
        // Work conservation, and the floor of background (I26).
        let total = self.seats.len() as u32;
        if total >= self.settings.lanes.seats {
            return;
        }
        let limit = match self.is_buslane() {
            true if self.foreground_wants() => self.floor(),
            true => self.background_seats.clamp(self.floor(), self.settings.lanes.seats),
            false => self.settings.lanes.seats,
        };
        for job in self.waiting.values().filter(|job| self.is_eligible(job)) {
            let kept = !job.class.is_foreground() && self.background() >= limit;
            assert!(kept, "{job:?} waits although {total} of {} seats are in use", self.settings.lanes.seats);
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Offer { class, protocol, lasts_ms, bytes } => {
                self.keys += 1;
                let (key, deadline) = (JobKey(self.keys), self.now + lasts_ms * MS);
                self.offer(Job { key, protocol, class, bytes, deadline });
            }
            Step::Free(index) if !self.seats.is_empty() => {
                let at = index.index(self.seats.len());
                self.lanes.free(self.seats.swap_remove(at), self.now);
                self.ended += 1;
            }
            Step::Withdraw(index) if !self.waiting.is_empty() => {
                let mut keys: Vec<_> = self.waiting.keys().copied().collect();
                keys.sort_unstable();
                let (key, class) = keys[index.index(keys.len())];
                assert!(self.lanes.withdraw(key, class));
                self.waiting.remove(&(key, class));
                self.ended += 1;
            }
            Step::Pass(elapsed) => self.now += elapsed,
            Step::BackgroundSeats(seats) => {
                self.background_seats = seats;
                self.lanes.set_background_seats(seats);
            }
            Step::Reconfigure(policy, seats) => {
                self.settings.policy = policy;
                self.settings.lanes.seats = seats;
                self.lanes.reconfigure(&self.settings);
            }
            Step::Next => self.drain(),
            Step::Free(_) | Step::Withdraw(_) => {}
        }
        self.check();
    }

    /// I22 and I23: the books agree, and what waits is bounded.
    fn check(&self) {
        for view in self.lanes.snapshot() {
            let waiting: Vec<_> = self.waiting.values().filter(|job| job.class == view.class).collect();
            let bytes: u64 = waiting.iter().map(|job| u64::from(job.bytes)).sum();
            assert_eq!(view.in_use, self.count(|s| s.class() == view.class));
            assert_eq!((view.waiting as usize, view.bytes), (waiting.len(), bytes));
            let foreground = view.class.is_foreground();
            assert!(view.bytes <= if foreground { FOREGROUND_BYTES_MAX } else { BACKGROUND_BYTES_MAX });
            assert!(view.waiting <= if foreground { FOREGROUND_COUNT_MAX } else { UNSORTED_COUNT_MAX });
        }
        for protocol in Protocol::ALL {
            let in_use = self.lanes.by_protocol()[protocol.index()];
            assert_eq!(in_use, self.count(|s| s.protocol() == protocol));
        }
        assert_eq!(self.lanes.in_use() as usize, self.seats.len());
        assert_eq!(self.offered, self.ended + (self.seats.len() + self.waiting.len()) as u64);
    }

    /// Everything ends: whoever waits begins or is dropped, and all seats come back.
    fn finish(&mut self) {
        self.drain();
        while !self.seats.is_empty() || !self.waiting.is_empty() {
            self.now += MS;
            if let Some(seat) = self.seats.pop() {
                self.lanes.free(seat, self.now);
                self.ended += 1;
            } else {
                self.now += 100 * MS;
            }
            self.drain();
        }
        self.check();
        assert_eq!(self.lanes.in_use(), 0);
    }
}

fn run(settings: Settings, steps: Vec<Step>) {
    let mut model = Model::new(settings);
    for step in steps {
        model.apply(step);
    }
    model.finish();
}

fn reconfigure() -> impl Strategy<Value = Step> {
    let policy = prop::sample::select(vec![Policy::Buslane, Policy::Static, Policy::None]);
    (policy, 16u32..48).prop_map(|(policy, seats)| Step::Reconfigure(policy, seats))
}

proptest! {
    #[test]
    fn lanes_keep_their_promises(settings in shares(), steps in prop::collection::vec(step(), 1..400)) {
        run(settings, steps);
    }

    #[test]
    fn static_seats_keep_theirs(settings in shares(), steps in prop::collection::vec(step(), 1..200)) {
        run(Settings { policy: Policy::Static, ..settings }, steps);
    }

    #[test]
    fn so_does_a_plain_queue(settings in shares(), steps in prop::collection::vec(step(), 1..200)) {
        run(Settings { policy: Policy::None, ..settings }, steps);
    }

    #[test]
    fn settings_may_change_at_any_time(
        settings in shares(),
        steps in prop::collection::vec(prop_oneof![20 => step(), 1 => reconfigure()], 1..300),
    ) {
        run(settings, steps);
    }

    /// I26: foreground without end, and background comes to its floor all the same.
    #[test]
    fn background_comes_to_its_floor(settings in shares(), class in 4u32..8) {
        // Foreground can take everything, and background is promised nothing but the floor.
        let mut settings = Settings { caps: Default::default(), ..settings };
        settings.lanes.talk.ceiling = 100;
        let lanes = &mut settings.lanes;
        for share in [&mut lanes.social, &mut lanes.wake, &mut lanes.pulse, &mut lanes.spare] {
            share.guarantee = 0;
        }
        let mut model = Model::new(settings);
        let class = Class::of_number(class);
        let reachable = model.lanes.snapshot()[class.index()].ceiling.min(model.floor()).min(model.cap(Protocol::Ping));
        let seats = model.settings.lanes.seats;
        let talk = |lasts_ms| Step::Offer { class: Class::Talk, protocol: Protocol::MessageSend, lasts_ms, bytes: 10 };
        for _ in 0..2 * seats {
            model.apply(talk(10_000));
        }
        for _ in 0..4 * seats {
            let foreground = [
                (Class::Talk, Protocol::MessageSend),
                (Class::Look, Protocol::MessageSync),
                (Class::Bulk, Protocol::AppState),
            ];
            for (class, protocol) in foreground.into_iter().chain([(class, Protocol::Ping)]) {
                model.apply(Step::Offer { class, protocol, lasts_ms: 10_000, bytes: 10 });
            }
            // The seat of foreground that was taken first comes back; background keeps what it has.
            if let Some(at) = model.seats.iter().position(|s| s.class().is_foreground()) {
                model.lanes.free(model.seats.remove(at), model.now);
                model.ended += 1;
            }
            model.now += MS / 10;
            model.drain();
        }
        prop_assert!(model.background() >= reachable, "{} of {reachable}", model.background());
    }

    #[test]
    fn static_parts_add_up(settings in shares()) {
        let seats = settings.lanes.seats;
        let lanes = Lanes::new(&Settings { policy: Policy::Static, ..settings });
        let parts = lanes.snapshot().map(|view| view.ceiling);
        prop_assert_eq!(parts.iter().sum::<u32>(), seats);
        prop_assert!(parts.iter().all(|part| *part >= 1));
    }
}
