mod limits;
mod properties;
mod queues;
mod sharing;

use super::*;

const MS: Nanos = 1_000_000;
const SECOND: Nanos = 1_000 * MS;

fn settings(seats: u32) -> Settings {
    let mut settings = Settings::default();
    settings.lanes.seats = seats;
    settings
}

/// A protocol that is of this class by default.
fn usual(class: Class) -> Protocol {
    match class {
        Class::Control => Protocol::AppState,
        Class::Talk => Protocol::MessageSend,
        Class::Look => Protocol::RoomOpen,
        Class::Bulk => Protocol::MessageHistory,
        Class::Social => Protocol::ReceiptMark,
        Class::Wake => Protocol::Login,
        Class::Pulse => Protocol::Ping,
        Class::Spare => Protocol::Unknown,
    }
}

/// Lanes with everything that was taken from them.
struct Rig {
    lanes: Lanes,
    seats: Vec<Seat>,
    now: Nanos,
    keys: u64,
}

impl Rig {
    fn new(settings: &Settings) -> Self {
        settings.check().unwrap();
        Self { lanes: Lanes::new(settings), seats: Vec::new(), now: 0, keys: 0 }
    }

    fn job(&mut self, class: Class, protocol: Protocol) -> Job {
        self.keys += 1;
        let (key, deadline) = (JobKey(self.keys), self.now + 10 * SECOND);
        Job { key, protocol, class, bytes: 100, deadline }
    }

    fn offer_job(&mut self, job: Job) -> Result<bool, Why> {
        match self.lanes.offer(job, self.now) {
            Offer::Seated(seat) => {
                self.seats.push(seat);
                Ok(true)
            }
            Offer::Queued => Ok(false),
            Offer::Refused(why) => Err(why),
        }
    }

    fn offer(&mut self, class: Class) -> Result<bool, Why> {
        let job = self.job(class, usual(class));
        self.offer_job(job)
    }

    /// Offers as many; says how many began, wait and were refused.
    fn offers(&mut self, class: Class, count: u32) -> [u32; 3] {
        let mut seen = [0; 3];
        for _ in 0..count {
            match self.offer(class) {
                Ok(true) => seen[0] += 1,
                Ok(false) => seen[1] += 1,
                Err(_) => seen[2] += 1,
            }
        }
        seen
    }

    /// Takes back the seats that this class took first.
    fn free(&mut self, class: Class, count: usize) {
        for _ in 0..count {
            let at = self.seats.iter().position(|s| s.class() == class).unwrap();
            self.lanes.free(self.seats.remove(at), self.now);
        }
    }

    fn next(&mut self) -> Option<String> {
        Some(match self.lanes.next(self.now)? {
            Next::Start(key, seat) => {
                let text = format!("start {} {}", key.0, seat.class().name());
                self.seats.push(seat);
                text
            }
            Next::Drop(job, why) => format!("drop {} {}", job.key.0, why.name()),
        })
    }

    /// Asks until there is nothing; the classes of those that began.
    fn started(&mut self) -> Vec<Class> {
        let before = self.seats.len();
        while self.next().is_some() {}
        self.seats.iter().skip(before).map(Seat::class).collect()
    }

    fn used(&self, class: Class) -> u32 {
        self.lanes.snapshot()[class.index()].in_use
    }

    fn waiting(&self, class: Class) -> u32 {
        self.lanes.snapshot()[class.index()].waiting
    }

    /// Teaches what a protocol costs.
    fn learn(&mut self, protocol: Protocol, cost: Nanos) {
        let job = self.job(Class::Control, protocol);
        self.offer_job(job).unwrap();
        self.now += cost;
        self.free(Class::Control, 1);
    }
}
