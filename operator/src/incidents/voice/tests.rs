use super::*;

const KEY: &str = "session-managers/emergency";

fn me(node: &str) -> Me {
    Me { node: node.to_owned(), channels: BTreeSet::from(["pager".to_owned()]), has_peers: true, begun_ms: 0 }
}

fn claims(speaks: Option<bool>) -> Claims {
    let claim = |speaks| Claim { key: KEY.to_owned(), no: 7, speaks };
    Claims { open: speaks.map(claim).into_iter().collect(), channels: me("").channels }
}

fn others(said: &[(&str, Option<bool>)], at_ms: UnixMs) -> Others {
    let mut others = Others::default();
    for (node, speaks) in said {
        others.on_said(node, claims(*speaks), at_ms);
    }
    others
}

fn speaker(node: &str) -> Voice {
    Voice::Other(Speaker { node: node.to_owned(), no: 7, channels: me("").channels })
}

const NOW: UnixMs = 1_000_000;

#[test]
fn a_new_incident_is_told_by_the_first_of_those_who_are_there() {
    let begun = Voice::waiting(NOW);
    type Row<'a> = (&'a str, &'a [(&'a str, Option<bool>)], Voice);
    let rows: [Row<'_>; 5] = [
        ("b", &[("c", None)], Voice::Own),
        ("b", &[("a", None)], begun.clone()),
        ("b", &[("a", Some(false))], begun.clone()),
        ("b", &[("a", Some(true))], speaker("a")),
        // Whoever speaks already goes on.
        ("b", &[("c", Some(true))], speaker("c")),
    ];
    for (node, said, wanted) in rows {
        assert_eq!(others(said, NOW).next(&begun, KEY, &me(node), NOW), wanted, "{node} {said:?}");
    }
}

#[test]
fn who_waits_does_not_wait_for_ever() {
    let begun = Voice::waiting(NOW);
    let later = NOW + WAIT_MS;
    // It is there, and does not see it.
    assert_eq!(others(&[("a", None)], later).next(&begun, KEY, &me("b"), later), Voice::Own);
    // It sees it, and is about to speak.
    let about_to = others(&[("a", Some(false))], later);
    assert_eq!(about_to.next(&begun, KEY, &me("b"), later), begun);
    let last = later + WAIT_MS;
    assert_eq!(others(&[("a", Some(false))], last).next(&begun, KEY, &me("b"), last), Voice::Own);
    // It has been silent since.
    assert_eq!(others(&[("a", None)], NOW).next(&begun, KEY, &me("b"), NOW + FRESH_MS + 1), Voice::Own);
}

#[test]
fn a_clock_that_is_set_back_makes_nobody_wait() {
    let begun = Voice::waiting(NOW);
    let heard = others(&[("a", Some(false))], NOW);
    let young = Me { begun_ms: NOW - 600_000, ..me("b") };
    assert_eq!(heard.next(&begun, KEY, &young, NOW - 600_000 + WAIT_MS), Voice::Own);
}

#[test]
fn of_two_who_speak_the_worse_by_rank_stops() {
    let rows = [("b", "a", speaker("a")), ("a", "b", Voice::Own)];
    for (node, other, wanted) in rows {
        let others = others(&[(other, Some(true))], NOW);
        assert_eq!(others.next(&Voice::Own, KEY, &me(node), NOW), wanted, "{node}");
    }
}

#[test]
fn who_can_call_nobody_comes_last() {
    let mut others = Others::default();
    others.on_said("a", Claims { channels: BTreeSet::new(), ..claims(Some(true)) }, NOW);
    assert_eq!(others.next(&Voice::Own, KEY, &me("b"), NOW), Voice::Own);
    let mute = Me { channels: BTreeSet::new(), ..me("b") };
    assert!(matches!(others.next(&Voice::Own, KEY, &mute, NOW), Voice::Other(_)));
}

#[test]
fn a_speaker_that_falls_silent_is_followed_by_the_next() {
    let heard = others(&[("a", Some(true))], NOW);
    let still = NOW + SILENT_MS;
    assert_eq!(heard.next(&speaker("a"), KEY, &me("b"), still), speaker("a"));
    let waiting = heard.next(&speaker("a"), KEY, &me("b"), still + 1);
    assert!(matches!(waiting, Voice::Waiting { before: Some(_), .. }), "{waiting:?}");
    assert_eq!(heard.next(&waiting, KEY, &me("b"), still + 1), Voice::Own);
    // And of two who are left, one.
    let mut both = others(&[("a", Some(true))], NOW);
    both.on_said("b", claims(Some(false)), still);
    assert_eq!(both.next(&waiting, KEY, &me("c"), still + 1), waiting);
}

#[test]
fn where_it_is_over_for_the_speaker_the_others_wait_a_moment() {
    let ended = others(&[("a", None)], NOW);
    let waiting = ended.next(&speaker("a"), KEY, &me("b"), NOW);
    assert!(matches!(waiting, Voice::Waiting { until_ms, .. } if until_ms == NOW + WAIT_MS));
    let later = others(&[("a", None)], NOW + WAIT_MS);
    assert_eq!(later.next(&waiting, KEY, &me("b"), NOW + WAIT_MS), Voice::Own);
}

#[test]
fn after_a_start_the_others_are_given_time_to_be_heard() {
    let young = Me { begun_ms: NOW, ..me("a") };
    let nobody = Others::default();
    let begun = Voice::waiting(NOW);
    assert_eq!(nobody.next(&begun, KEY, &young, NOW + 1), begun);
    assert_eq!(nobody.next(&begun, KEY, &young, NOW + WAIT_MS), Voice::Own);
    assert_eq!(nobody.next(&speaker("b"), KEY, &young, NOW + SILENT_MS), speaker("b"));
    let alone = Me { has_peers: false, ..young };
    assert_eq!(nobody.next(&begun, KEY, &alone, NOW), Voice::Own);
}

#[test]
fn what_is_remembered_of_others_is_bounded() {
    let mut others = Others::default();
    for n in 0..2 * OTHERS_MAX {
        let many = vec![Claim { key: KEY.to_owned(), no: 1, speaks: false }; 2 * CLAIMS_MAX];
        others.on_said(&format!("n{n}"), Claims { open: many, channels: BTreeSet::new() }, NOW);
    }
    assert_eq!(others.0.len(), OTHERS_MAX);
    assert!(others.0.values().all(|heard| heard.claims.open.len() == CLAIMS_MAX));
    others.on_said("z", Claims::default(), NOW + SILENT_MS + 1);
    assert_eq!(others.0.len(), 1);
}

/// Three processes that see the same within seconds, whichever comes first: in every order and with every delay one speaks.
#[test]
fn one_of_three_speaks_whoever_sees_it_first() {
    let names = ["a", "b", "c"];
    for delays_s in (0..5_u64.pow(3)).map(|n| [n % 5, n / 5 % 5, n / 25]) {
        let mut voices: [Option<Voice>; 3] = [None, None, None];
        let mut heard: [Others; 3] = Default::default();
        let mut began_to_speak = 0;
        for second in 0..40 {
            let now_ms = NOW + second * 1_000;
            for (place, name) in names.iter().enumerate() {
                if second == delays_s[place] {
                    voices[place] = Some(Voice::waiting(now_ms));
                }
                let Some(voice) = &voices[place] else { continue };
                let next = heard[place].next(voice, KEY, &me(name), now_ms);
                began_to_speak += u32::from(next == Voice::Own && *voice != Voice::Own);
                voices[place] = Some(next);
            }
            // Each is asked every two seconds.
            if second % 2 == 0 {
                for (from, name) in names.iter().enumerate() {
                    let said = claims(voices[from].as_ref().map(|voice| *voice == Voice::Own));
                    for (to, others) in heard.iter_mut().enumerate() {
                        if to != from {
                            others.on_said(name, said.clone(), now_ms);
                        }
                    }
                }
            }
        }
        let speaking = voices.iter().flatten().filter(|voice| **voice == Voice::Own).count();
        // The first second, in which nobody was heard of, is the start of the process.
        assert_eq!(speaking, 1, "{delays_s:?} {voices:?}");
        assert!(began_to_speak <= 1 || delays_s.contains(&0), "{delays_s:?}: {began_to_speak}");
    }
}
