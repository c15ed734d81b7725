//! A generator of load: an operating-system thread with a runtime of its own, so that no generator delays another one.
//!
//! It works in two steps. First it prepares (enrols phones, opens sessions), as long as that takes; then all generators are
//! told the same [`Timing`] and begin together. A thread that fails ends the run with its error, never silently.

use std::thread::JoinHandle;

use anyhow::Context;
use tokio::sync::{oneshot, watch};

use super::stage::Place;
use super::timing::Timing;

/// A generator that was started.
#[derive(Debug)]
pub struct Generator<T> {
    name: &'static str,
    ready: Option<oneshot::Receiver<()>>,
    /// A channel and no blocking join: whoever stops waiting is not held up by a thread that goes on.
    ended: oneshot::Receiver<anyhow::Result<T>>,
    thread: JoinHandle<()>,
}

/// The run was given up before it began: another generator failed, or the caller wanted no more of it.
#[derive(Debug, thiserror::Error)]
#[error("the run was given up")]
pub struct GivenUp;

/// What a generator holds until it is ready.
#[derive(Debug)]
pub struct Cue {
    ready: oneshot::Sender<()>,
    timing: watch::Receiver<Option<Timing>>,
}

impl Cue {
    /// Says that everything is prepared, and waits for the others. Fails when the run was given up meanwhile.
    pub async fn ready(mut self) -> anyhow::Result<Timing> {
        let _ = self.ready.send(());
        let timing = self.timing.wait_for(Option::is_some).await.map_err(|_| GivenUp)?;
        timing.context(GivenUp)
    }
}

impl<T: Send + 'static> Generator<T> {
    /// Starts a thread; `work` runs on a runtime of that thread alone, and everything that it spawns ends with it.
    pub fn start<W, F>(
        name: &'static str,
        place: Place,
        timing: watch::Receiver<Option<Timing>>,
        work: W,
    ) -> anyhow::Result<Self>
    where
        W: FnOnce(Cue) -> F + Send + 'static,
        F: Future<Output = anyhow::Result<T>>,
    {
        let (ready, is_ready) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let cue = Cue { ready, timing };
        let thread = std::thread::Builder::new()
            .name(format!("load-{name}"))
            .spawn(move || {
                // Nobody listens any more: the run was given up.
                let _ = end.send(on_this_thread(name, &place, work, cue));
            })
            .context("no thread for the driver")?;
        Ok(Self { name, ready: Some(is_ready), ended, thread })
    }

    /// Waits until it is prepared. Its error, if it has failed.
    pub async fn prepared(&mut self) -> anyhow::Result<()> {
        let Some(ready) = self.ready.take() else { return Ok(()) };
        // A generator that ends without a word has failed: `finish` says why.
        ready.await.with_context(|| format!("generator {} could not be prepared", self.name))
    }

    /// True when the thread has ended, well or not.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end.
    pub async fn finish(self) -> anyhow::Result<T> {
        self.ended.await.map_err(|_| anyhow::anyhow!("generator {} panicked", self.name))?
    }
}

/// Everything that it spawned has ended when this returns.
fn on_this_thread<T, W, F>(name: &str, place: &Place, work: W, cue: Cue) -> anyhow::Result<T>
where
    W: FnOnce(Cue) -> F,
    F: Future<Output = anyhow::Result<T>>,
{
    place.take().with_context(|| format!("the thread of {name}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("no runtime for a driver thread")?;
    runtime.block_on(work(cue)).with_context(|| format!("generator {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[tokio::test]
    async fn generators_begin_together_and_say_why_they_fail() {
        let (go, timing) = watch::channel(None);
        let start = |fail: bool| {
            Generator::start("test", Place::default(), timing.clone(), move |cue| async move {
                anyhow::ensure!(!fail, "no such server");
                cue.ready().await.map(|timing| timing.seconds())
            })
            .unwrap()
        };
        let (mut good, mut bad) = (start(false), start(true));
        good.prepared().await.unwrap();
        assert!(bad.prepared().await.is_err());
        let error = format!("{:#}", bad.finish().await.unwrap_err());
        assert!(error.contains("no such server"), "{error}");
        let s = Duration::from_secs;
        go.send_replace(Some(Timing::new(Instant::now(), s(1), s(1), s(1))));
        assert_eq!(good.finish().await.unwrap(), 3);
    }

    async fn panics_on_purpose() -> anyhow::Result<()> {
        panic!("on purpose")
    }

    #[tokio::test]
    async fn one_that_panics_is_said_to() {
        let (_go, timing) = watch::channel(None);
        let generator =
            Generator::start("test", Place::default(), timing, |_cue| panics_on_purpose()).unwrap();
        let error = generator.finish().await.unwrap_err().to_string();
        assert!(error.contains("generator test panicked"), "{error}");
    }

    #[test]
    fn whoever_gives_up_is_not_held_up() {
        let (let_go, held) = std::sync::mpsc::channel::<()>();
        let (_go, timing) = watch::channel(None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let generator = Generator::start("test", Place::default(), timing, move |_cue| async move {
            held.recv().context("nobody lets go")
        })
        .unwrap();
        let given_up = runtime.block_on(async {
            tokio::select! {
                _ = generator.finish() => false,
                () = std::future::ready(()) => true,
            }
        });
        // This would wait for what the runtime still has to do on a thread of its own.
        drop(runtime);
        assert!(given_up);
        let_go.send(()).unwrap();
    }
}
