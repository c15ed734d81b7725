use super::*;

#[test]
fn a_recorded_run_is_the_same_when_it_is_run_again() {
    let course = Course::new("calm", 16, 5).unwrap();
    let mut file = Vec::new();
    course.record(&mut file).unwrap();
    let (header, calls) = read_trace(file.as_slice()).unwrap();
    let again = Course::replay(&header, calls).unwrap();
    for policy in ["buslane", "tower"] {
        let row = course.run(policy).unwrap();
        assert_eq!(row, again.run(policy).unwrap());
        assert_eq!(row.trace_hash.len(), 16);
    }
}

#[test]
fn names_that_nobody_knows_are_refused() {
    assert!(Course::new("atlantis", 32, 1).is_none());
    let header = Header { version: 1, scenario: "atlantis".into(), seed: 1, workers: 32, calls: 0 };
    assert!(Course::replay(&header, Vec::new()).is_none());
    let course = Course::new("calm", 16, 1).unwrap();
    assert!(course.run("hope").unwrap_err().to_string().contains("hope"));
}

#[test]
fn rows_come_in_the_order_of_the_plan() {
    let plan = matrix::Plan {
        scenarios: vec!["calm"],
        policies: vec!["fifo", "tower"],
        seed: 3,
        seeds: 2,
        scale: 0.5,
    };
    let mut rows = Vec::new();
    matrix::run(&plan, |row| {
        rows.push((row.policy, row.seed));
        Ok(())
    })
    .unwrap();
    assert_eq!(rows, [("fifo", 3), ("tower", 3), ("fifo", 4), ("tower", 4)]);
    assert_eq!(plan.runs(), 4);
}

#[test]
fn every_scenario_has_targets_and_every_policy_runs() {
    for name in SCENARIOS {
        assert!(!targets(name).is_empty(), "{name}");
        assert_eq!(scenario::known(name).map(|s| s.name), Some(name));
    }
    for name in POLICIES {
        assert!(contest::policy(name, 32).is_some(), "{name}");
    }
}
