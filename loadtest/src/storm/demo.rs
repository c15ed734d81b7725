//! The demonstration: a minute of a storm that is small enough for a laptop.

/// Its scenario, as in a file.
pub const SCENARIO: &str = include_str!("../../scenarios/demo.toml");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::scenario::Scenario;

    #[test]
    fn it_is_a_minute() {
        let scenario: Scenario = toml::from_str(SCENARIO).unwrap();
        let phases = scenario.phases;
        assert!((50..=60).contains(&(phases.quiet_s + phases.storm_s + phases.after_s)));
        assert_eq!(scenario.name, "demo");
    }
}
