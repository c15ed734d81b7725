//! What readers get, and what becomes of those who do not read.

use super::*;

type Events = BoxStream<'static, Result<Bytes, Infallible>>;

fn open(live: &Live) -> Events {
    live.stream(live.place().unwrap(), || "last")
}

async fn next(events: &mut Events) -> Option<String> {
    events.next().await.map(|frame| String::from_utf8(frame.unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn hello_comes_first_and_ids_rise_by_one() {
    let live = Live::new(40);
    live.tell("sample", &"nobody hears it");
    let mut events = open(&live);
    live.tell("sample", &"one\ntwo");
    live.keep_alive();
    live.tell("incident", &7);
    assert_eq!(next(&mut events).await.unwrap(), "retry: 1000\nid: 40\nevent: hello\ndata: \"last\"\n\n");
    assert_eq!(next(&mut events).await.unwrap(), "id: 41\nevent: sample\ndata: \"one\\ntwo\"\n\n");
    assert_eq!(next(&mut events).await.unwrap(), ": alive\n\n");
    assert_eq!(next(&mut events).await.unwrap(), "id: 42\nevent: incident\ndata: 7\n\n");
}

#[tokio::test]
async fn all_readers_share_the_same_bytes() {
    let live = Live::new(0);
    let (mut one, mut other) = (open(&live), open(&live));
    live.tell("sample", &"x");
    let (_, _) = (one.next().await, other.next().await);
    let (one, other) = (one.next().await.unwrap().unwrap(), other.next().await.unwrap().unwrap());
    assert_eq!(one.as_ptr(), other.as_ptr());
}

#[tokio::test]
async fn a_reader_that_does_not_keep_up_is_let_go_and_the_others_are_not() {
    let live = Live::with(0, 8, 4);
    let (mut slow, mut quick) = (open(&live), open(&live));
    assert!(next(&mut quick).await.is_some());
    for no in 1..=9 {
        live.tell("sample", &no);
        assert!(next(&mut quick).await.unwrap().starts_with(&format!("id: {no}\n")));
    }
    assert!(next(&mut slow).await.unwrap().contains("hello"));
    assert_eq!(next(&mut slow).await, None);
    drop(slow);
    assert_eq!((live.readers(), live.places.available_permits()), (1, 7));
}

#[tokio::test]
async fn there_are_only_so_many_places_and_they_come_back() {
    let live = Live::with(0, 2, 4);
    let (one, _other) = (open(&live), open(&live));
    assert!(live.place().is_none());
    drop(one);
    assert!(live.place().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_by_itself_and_with_the_process() {
    let live = Live::new(0);
    let mut long = open(&live);
    assert!(next(&mut long).await.is_some());
    // Time is paused: it goes on to the end of the stream, for nothing else is waited for.
    assert_eq!(next(&mut long).await, None);
    let mut short = open(&live);
    assert!(next(&mut short).await.is_some());
    live.end();
    assert_eq!(next(&mut short).await, None);
    assert!(live.place().is_none());
}
