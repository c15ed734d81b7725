//! Scenarios that make no sense, and what their authors are told.

use crate::storm::scenario::file::parse;

/// A scenario that is right; `more` is added to its end, `change` replaces text of it.
fn text(change: (&str, &str), more: &str) -> String {
    let right = concat!(
        "name = \"own\"\ntitle = \"t\"\nhistory = \"h\"\nsource = \"made up\"\nhypothesis = \"it holds\"\n",
        "phases = { quiet_s = 10, storm_s = 20, after_s = 30 }\n",
        "talk = { pairs = 100, messages_per_s = 200 }\n",
        "[limits]\nlost = { at_most = 0 }\n",
    );
    assert!(right.contains(change.0), "{}", change.0);
    format!("{}{more}", right.replacen(change.0, change.1, 1))
}

fn complaint(change: (&str, &str), more: &str) -> String {
    parse(&text(change, more), "own.toml").unwrap_err().to_string()
}

#[test]
fn a_right_one_is_right() {
    parse(&text(("", ""), ""), "own.toml").unwrap();
    let more = concat!(
        "fg_p99_ratio = { at_most = 1.5 }\nposture_changes = { at_least = 1 }\nback_ratio = { at_most = 2 }\n",
        "[[logins]]\nrate = { points = [[-10, 0.0], [50, 1.0]] }\n",
        "[[crowd]]\nside = \"foreground\"\nsessions = 100\nmessages = { unit = \"per-s\", points = [[0, 500], [9, 500]] }\n",
        "[[events]]\nwhat = \"drop\"\nat_s = 0\npercent = 17\n",
        "[[events]]\nwhat = \"order\"\nat_s = -5\nbegins_s = -1\nfor_s = 51\n",
    );
    parse(&text(("", ""), more), "own.toml").unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn what_is_wrong_by_itself_is_told_with_its_remedy() {
    let cases = [
        (
            ("\"own\"", "\"My Storm\""),
            "own.toml:1: name: a name has 1 to 40 small letters, digits and hyphens: \"new-year\"",
        ),
        (
            ("\"made up\"", "\" \""),
            "own.toml:4: source: it is empty: say where that is told; \"made up\" is an answer",
        ),
        (("storm_s = 20", "storm_s = 0"), "own.toml:6: phases.storm_s: write 1 to 86400 seconds"),
        (("after_s = 30", "after_s = 86401"), "own.toml:6: phases.after_s: write 1 to 86400 seconds"),
        (
            ("pairs = 100", "pairs = 20"),
            "own.toml:7: talk.messages_per_s: each of these people would send 5.0 a second, and what one session claims to \
             be foreground is believed 5 times a second: write more than 20 pairs, or fewer messages_per_s",
        ),
        (
            ("messages_per_s = 200", "messages_per_s = 0"),
            "own.toml:7: talk.messages_per_s: write more than 0 messages a second, of all conversations together",
        ),
        (
            ("[limits]\nlost = { at_most = 0 }", "limits = {}"),
            "own.toml:8: limits: a run without a limit proves nothing: lost = { at_most = 0 } is one",
        ),
        (
            ("lost = { at_most = 0 }", "lost = { at_least = 0 }"),
            "own.toml:9: limits.lost: less of it is better: write at_most = 0",
        ),
        (
            ("lost = { at_most = 0 }", "fg_success = { at_most = 1 }"),
            "own.toml:9: limits.fg_success: more of it is better: write at_least = 1",
        ),
        (("lost = { at_most = 0 }", "lost = { at_most = nan }"), "own.toml:9: limits.lost: write a number"),
        (
            ("lost", "amplification"),
            "own.toml:9: limits.amplification: this scenario never measures it, so it could not hold: it needs a [flood]",
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(complaint(change, ""), expected);
    }
}

#[test]
fn an_unknown_figure_is_told_what_there_is() {
    let told = complaint(("lost", "fg_sucess"), "");
    assert!(
        told.starts_with("own.toml:9: limits.fg_sucess: there is no such figure; did you mean `fg_success`?"),
        "{told}"
    );
    assert!(told.contains("posture_changes") && told.contains("memory_ratio"), "{told}");
}

#[test]
fn load_that_cannot_be_is_told() {
    let run = "the run goes from -10 s to 50 s";
    let cases = [
        (
            "[[logins]]\nrate = { points = [[0, 1], [51, 1]] }",
            format!("own.toml:11: logins[0].rate.points[1]: it lies outside of the run: {run}"),
        ),
        (
            "[[logins]]\nrate = { points = [\n[5, 1],\n[4, 1],\n] }",
            "own.toml:13: logins[0].rate.points[1]: it is earlier than the point before it: write points in the order of time"
                .to_owned(),
        ),
        (
            "[[logins]]\nrate = { unit = \"full\", points = [[0, 1], [1, 1]] }",
            "own.toml:11: logins[0].rate.unit: write \"capacity\" or \"per-s\": \"full\" counts messages".to_owned(),
        ),
        (
            "[[logins]]\nnaive_percent = 101\nrate = { points = [[0, 1], [1, 1]] }",
            "own.toml:11: logins[0].naive_percent: write 0 to 100 percent".to_owned(),
        ),
        (
            "[[logins]]\nstay_s = -1\nrate = { points = [[0, 1], [1, 1]] }",
            "own.toml:11: logins[0].stay_s: write 0 to 3600 seconds".to_owned(),
        ),
        (
            "[[crowd]]\nsessions = 1",
            "own.toml:11: crowd[0].sessions: write 2 to 50000 sessions: each sends to a neighbour".to_owned(),
        ),
        (
            "[[crowd]]\nside = \"foreground\"\nsessions = 10\nmessages = { unit = \"per-s\", points = [[0, 500], [9, 500]] }",
            "own.toml:12: crowd[0].sessions: each of them would do 50.0 things a second, and what one session claims to be \
             foreground is believed 5 times a second: write at least 100 sessions, or liars = true if that is what they are"
                .to_owned(),
        ),
        (
            "[flood]\nfrom_s = 40\nfor_s = 20\nport = \"all\"\nshow = \"mixed\"",
            format!("own.toml:12: flood.for_s: it would go on after the end: {run}"),
        ),
        (
            "[silent]\nclients = 0\nfrom_s = -11\nfor_s = 3\nport = \"wake\"",
            format!(
                "own.toml:12: silent.from_s: {run}\nown.toml:11: silent.clients: write 1 to 20000 clients"
            ),
        ),
        (
            "[[events]]\nwhat = \"drop\"\nat_s = 0\npercent = 0",
            "own.toml:13: events[0].percent: write 1 to 100 percent of the sessions\n\
             own.toml:10: events[0]: there are no sessions that could be lost: add a [[crowd]]"
                .to_owned(),
        ),
        (
            "[[events]]\nwhat = \"order\"\nat_s = 0\nbegins_s = -1\nfor_s = 1",
            format!(
                "own.toml:13: events[0].begins_s: an order begins when it is given (at_s = 0) or later; {run}"
            ),
        ),
        (
            "[[events]]\nwhat = \"restart\"\nat_s = 90",
            format!("own.toml:12: events[0].at_s: {run}"),
        ),
    ];
    for (more, expected) in cases {
        assert_eq!(complaint(("", ""), more), expected, "{more}");
    }
}

#[test]
fn what_the_server_is_told_to_believe_is_reckoned_with() {
    let settings = "[settings.session_manager.overload.claims]\nper_s = 40\nburst = 80\n";
    parse(&text(("pairs = 100", "pairs = 20"), settings), "own.toml").unwrap();
    let burst = "[[crowd]]\nside = \"foreground\"\nsessions = 10\nburst = 40\n";
    parse(&text(("", ""), &format!("{burst}{settings}")), "own.toml").unwrap();
    let told = complaint(("", ""), burst);
    assert!(
        told.starts_with("own.toml:13: crowd[0].burst: 40 at once are more than what is believed"),
        "{told}"
    );
}
