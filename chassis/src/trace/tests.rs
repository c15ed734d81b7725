//! What is sampled, what becomes of a span, and what a full queue does.

use tokio::sync::Mutex;

use super::*;
use crate::telemetry::install_metrics;

/// What is sampled holds for the whole process, so one test at a time sets it.
static SAMPLING: Mutex<()> = Mutex::const_new(());

#[test]
fn the_id_decides_and_what_is_not_sampled_is_nothing() {
    let _alone = SAMPLING.blocking_lock();
    on::sample(0.0, 0.0);
    assert!(!Span::root("x", Kind::Server).context().is_traced());
    on::sample(1.0, 0.0);
    assert!(!Span::refused("x", Kind::Server).context().is_traced(), "refusals have a ratio of their own");
    on::sample(0.25, 0.0);
    let is_traced =
        |trace: u128| Span::below_or_root(Context::NONE, trace, "x", Kind::Internal).context().is_traced();
    let traces: Vec<u128> = (0..4_000).map(|_| rand::random()).collect();
    let sampled = traces.iter().filter(|trace| is_traced(**trace)).count();
    assert!((800..1_200).contains(&sampled), "{sampled} of 4000");
    // Another process with the same ratio says the same of the same trace.
    assert!(traces.iter().all(|trace| is_traced(*trace) == ((*trace as u64) >> 1 < 1 << 61)));
}

#[test]
fn a_span_goes_by_its_parent_and_a_full_queue_drops_and_counts() {
    let _alone = SAMPLING.blocking_lock();
    let metrics = install_metrics().unwrap();
    on::sample(1.0, 0.0);
    let parent = Context::of_wire(&7_u128.to_be_bytes(), 9);
    assert!(!Span::child(parent, "x", Kind::Internal).context().is_traced(), "nobody exports it");

    let spans = queue::open(4).unwrap();
    assert!(queue::open(4).is_none());
    on::sample(0.0, 0.0);
    assert!(!Span::child(Context::NONE, "x", Kind::Internal).context().is_traced());

    let mut call = Span::call(parent, "buslane.v1.Backend/Relay", Kind::Server);
    assert_eq!(call.context().trace(), 7);
    call.answered(&wire::Answer::default());
    drop(call);
    let span = spans.take(1).pop().unwrap();
    assert_eq!((span.parent, span.failed), (parent, None));
    assert!(span.notes.contains(&("rpc.method", Value::Word("buslane.v1.Backend/Relay"))));

    drop(Span::call(parent, "x", Kind::Client));
    assert_eq!(spans.take(1).pop().unwrap().failed, Some("given_up"));

    // Below a trace that is sampled, what is turned away is forgotten all the same: a storm is made of it.
    Span::child(parent, "x", Kind::Server).turn_away("level");
    assert!(spans.take(1).is_empty());

    for _ in 0..7 {
        drop(Span::child(parent, "x", Kind::Internal));
    }
    assert_eq!(spans.take(7).len(), 4);
    let counted = metrics.render();
    assert!(counted.contains("buslane_spans_dropped_total{why=\"queue\"} 3"), "{counted}");
    // What was taken out has left its place.
    drop(Span::child(parent, "x", Kind::Internal));
    assert_eq!(spans.take(7).len(), 1);
}

#[tokio::test]
async fn what_follows_at_once_belongs_to_it_and_only_the_first() {
    let _alone = SAMPLING.lock().await;
    on::sample(1.0, 0.0);
    let span = Span::root("login", Kind::Server);
    let mut lead = Lead::of(&span);
    assert_eq!(lead.take(), span.context());
    assert_eq!(lead.take(), Context::NONE);
    assert_eq!(Lead::of(&Span::default()).take(), Context::NONE);
    let inside = span.context().scope(async { Context::current() }).await;
    assert_eq!((inside, Context::current()), (span.context(), Context::NONE));
}
