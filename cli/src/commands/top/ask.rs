//! Asks the server: once a second how everything is, and a stream of samples as they are made.

use std::time::Duration;

use buslane_operator::view::{Sample, TrafficView};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::admin_client::AdminClient;
use crate::commands::ctl::author;
use crate::commands::ctl::text::{self, read};
use crate::failure::{Exit, Failure};

use super::order::Wanted;
use super::picture::Heard;

/// How often.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Rounds that wait to be drawn.
const WAITING_MAX: usize = 16;

/// The questions that go on, and who asks them. They end with the value.
pub struct Asking {
    client: AdminClient,
    heard: mpsc::Receiver<Heard>,
    // Held for its end.
    _tasks: JoinSet<()>,
}

/// Everything at once, for the first picture. What a role does not have is left out; a server that does not answer or does
/// not know us is a failure.
pub async fn all(client: &AdminClient) -> Result<Heard, Failure> {
    let mut heard = round(client).await?;
    let traffic: Option<TrafficView> = part(client, "/v1/traffic?span=10m").await?;
    heard.samples = traffic.map(|traffic| traffic.samples).unwrap_or_default();
    Ok(heard)
}

async fn round(client: &AdminClient) -> Result<Heard, Failure> {
    Ok(Heard {
        posture: part(client, "/v1/posture").await?,
        lanes: part(client, "/v1/lanes").await?,
        status: part(client, "/v1/status").await?,
        nodes: part(client, "/v1/nodes").await?,
        ..Heard::default()
    })
}

/// An answer; none where this role has nothing to say.
async fn part<T: DeserializeOwned>(client: &AdminClient, path: &str) -> Result<Option<T>, Failure> {
    match client.get(path).await {
        Ok(result) => read(&result).map(Some),
        Err(failure) if is_final(&failure) => Err(failure),
        Err(_) => Ok(None),
    }
}

/// Whether other questions would fare no better: nobody answers, or we are nobody.
fn is_final(failure: &Failure) -> bool {
    matches!(failure.exit, Some(Exit::Unreachable | Exit::Keys | Exit::Usage))
        || matches!(failure.code.as_str(), "unauthorized" | "rate_limited")
}

impl Asking {
    /// Begins to ask.
    pub fn begin(client: AdminClient) -> Self {
        let (sender, heard) = mpsc::channel(WAITING_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(rounds(client.clone(), sender.clone()));
        tasks.spawn(samples(client.clone(), sender));
        Self { client, heard, _tasks: tasks }
    }

    /// What is heard next.
    pub async fn next(&mut self) -> Heard {
        // Those who tell end with this value.
        self.heard.recv().await.unwrap_or_default()
    }

    /// What an order would do.
    pub async fn preview(&self, order: &Wanted) -> Result<String, Failure> {
        let result = self.client.post("/v1/orders", &order.question(&author())).await?;
        let word = |name: &str| text::shout(text::string(&result, name));
        let mut said = format!("Now {}, then {}.", word("posture_now"), word("posture_then"));
        let rows = result.get("refuse").and_then(Value::as_array);
        let number = |row: &Value, name: &str| row.get(name).and_then(Value::as_u64).unwrap_or(0);
        let sum = |name: &str| rows.into_iter().flatten().map(|row| number(row, name)).sum::<u64>();
        said += &format!(
            " Of {} requests of the last second {} are refused now, {} would be.",
            sum("offered"),
            sum("refused_now"),
            sum("refused_then")
        );
        Ok(said)
    }

    /// Gives an order.
    pub async fn give(&self, order: &Wanted) -> Result<String, Failure> {
        let result = self.client.post("/v1/orders", &order.body(&author())).await?;
        let id = result.pointer("/order/id").and_then(Value::as_u64).unwrap_or(0);
        let reach = result.get("effective").filter(|effective| !effective.is_null());
        Ok(format!("order {id} is given; {}", reach.map_or_else(String::new, text::effective)))
    }
}

fn author() -> String {
    author::of_this_process().unwrap_or_else(|| "top".to_owned())
}

async fn rounds(client: AdminClient, to: mpsc::Sender<Heard>) {
    let mut ticks = tokio::time::interval(ASK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let heard = match round(&client).await {
            Ok(heard) => heard,
            Err(why) => Heard { silent: Some(why.message), ..Heard::default() },
        };
        if to.send(heard).await.is_err() {
            return;
        }
    }
}

/// Samples as they are made; the stream is opened again whenever it ends. That it cannot be is seen by the rounds.
async fn samples(client: AdminClient, to: mpsc::Sender<Heard>) {
    loop {
        if let Ok(mut stream) = client.stream("/v1/live").await {
            while let Ok(Some((event, data))) = stream.next().await {
                let sample = match event.as_str() {
                    "sample" => sample(&data),
                    _ => None,
                };
                let Some(sample) = sample else { continue };
                if to.send(Heard { samples: vec![sample], ..Heard::default() }).await.is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn sample(data: &Value) -> Option<Sample> {
    serde::Deserialize::deserialize(data.get("sample").unwrap_or(data)).ok()
}
