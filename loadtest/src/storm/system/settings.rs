//! The settings of a system under test: those of an `up`, with what the scenario says on top.
//!
//! A scenario writes them as in the `config.toml` of an `up`; for roles apart each section goes to the file of its role. What
//! has no place is refused, never left out.

use toml::{Table, Value};

/// What an `up` begins with.
const UP: &str = include_str!("up.toml");

/// Sections of the files of roles apart.
const ROLES: [(&str, &[&str]); 3] = [
    ("gateway", &["gateway", "log"]),
    ("session-manager", &["session_manager", "log"]),
    ("backend", &["backend", "store", "log"]),
];

/// Settings of an `up`.
pub fn of_up(scenario: &Table, policy: Option<&str>) -> anyhow::Result<Table> {
    let mut settings: Table = toml::from_str(UP)?;
    lay_over(&mut settings, scenario);
    if let Some(policy) = policy {
        let overload = section(section(&mut settings, "session_manager")?, "overload")?;
        overload.insert("policy".to_owned(), Value::String(policy.to_owned()));
    }
    Ok(settings)
}

/// What of them belongs into the file of a role.
pub fn of_role(settings: &Table, role: &str) -> Table {
    let sections = ROLES.iter().find(|(name, _)| *name == role).map_or(&[][..], |(_, sections)| sections);
    let own = settings.iter().filter(|(name, _)| sections.contains(&name.as_str()));
    own.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Refuses what no role apart has.
pub fn check_apart(settings: &Table) -> anyhow::Result<()> {
    let is_known = |name: &str| ROLES.iter().any(|(_, sections)| sections.contains(&name));
    match settings.keys().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => anyhow::bail!(
            "settings.{name}: no role apart has this; use gateway, session_manager, backend, store and log, or \
             `system = \"up\"`"
        ),
    }
}

/// Puts `over` on `under`, key by key.
pub fn lay_over(under: &mut Table, over: &Table) {
    for (name, value) in over {
        match (under.get_mut(name), value) {
            (Some(Value::Table(under)), Value::Table(over)) => lay_over(under, over),
            _ => {
                under.insert(name.clone(), value.clone());
            }
        }
    }
}

/// The section of this name; made where there is none.
pub fn section<'a>(settings: &'a mut Table, name: &str) -> anyhow::Result<&'a mut Table> {
    let value = settings.entry(name).or_insert_with(|| Value::Table(Table::new()));
    value.as_table_mut().ok_or_else(|| anyhow::anyhow!("settings.{name}: this is a section, not a value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenario_wins_key_by_key_and_the_policy_over_all() {
        let scenario: Table = toml::from_str(
            "[session_manager.times]\ndrain_ms = 9\n[session_manager.overload]\npolicy = \"none\"\ntick_ms = 1",
        )
        .unwrap();
        let settings = of_up(&scenario, Some("static")).unwrap();
        let manager = settings["session_manager"].as_table().unwrap();
        assert_eq!(manager["times"]["drain_ms"].as_integer(), Some(9));
        assert_eq!(manager["overload"]["policy"].as_str(), Some("static"));
        assert_eq!(manager["overload"]["tick_ms"].as_integer(), Some(1));
        assert_eq!(settings["gateway"]["enrolment"].as_str(), Some("open"));
        let wrong: Table = toml::from_str("session_manager = 3").unwrap();
        let error = of_up(&wrong, Some("none")).unwrap_err().to_string();
        assert!(error.contains("settings.session_manager"), "{error}");
    }

    #[test]
    fn roles_apart_get_what_is_theirs_and_nothing_is_left_out() {
        let settings = of_up(&Table::new(), None).unwrap();
        check_apart(&settings).unwrap();
        assert!(of_role(&settings, "gateway").contains_key("gateway"));
        assert!(!of_role(&settings, "gateway").contains_key("backend"));
        assert!(of_role(&settings, "backend").contains_key("backend"));
        let error = check_apart(&toml::from_str("hosts = []").unwrap()).unwrap_err().to_string();
        assert!(error.contains("settings.hosts"), "{error}");
    }
}
