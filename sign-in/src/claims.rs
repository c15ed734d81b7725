//! What a provider says about a person, and what that means here.
//!
//! Why it exists: who may do what is decided from claims that the provider has signed and the settings that an admin has written, and from nothing else.
//! A claim that is missing or has another shape must never give a role.

use std::collections::BTreeMap;

use buslane_chassis::admin::Role;
use buslane_chassis::admin::sign_in::Settings;
use serde_json::{Map, Value};

/// What is said about somebody.
pub(crate) type Claims = Map<String, Value>;

/// What claims mean.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    claim: String,
    roles: BTreeMap<String, Role>,
}

impl Rules {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self { claim: settings.role_claim.clone(), roles: settings.roles.clone() }
    }

    /// The highest role that the claim gives.
    pub(crate) fn role(&self, claims: &Claims) -> Option<Role> {
        let said = find(claims, &self.claim)?;
        let values = said.as_array().map_or(std::slice::from_ref(said), Vec::as_slice);
        values.iter().filter_map(|value| self.roles.get(value.as_str()?)).max().copied()
    }

    /// Whether all that is needed is said: who it is, and what he is.
    pub(crate) fn are_answered(&self, claims: &Claims) -> bool {
        find(claims, &self.claim).is_some() && !names(claims).is_empty()
    }
}

/// A claim of that name; where there is none, `a.b` is `b` in `a`.
fn find<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (outer, inner) = name.split_once('.')?;
    find(claims.get(outer)?.as_object()?, inner)
}

/// The names of a person, best first. An address that the provider has not verified may be somebody else's.
pub(crate) fn names(claims: &Claims) -> Vec<&str> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let is_verified = claims.get("email_verified").and_then(Value::as_bool).unwrap_or_default();
    [text("email").filter(|_| is_verified), text("preferred_username")].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(claim: &str) -> Rules {
        let roles = [("watchers", Role::Viewer), ("on call", Role::Operator), ("owners", Role::Admin)];
        Rules { claim: claim.to_owned(), roles: roles.map(|(value, role)| (value.to_owned(), role)).into() }
    }

    fn claims(value: Value) -> Claims {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn a_role_is_what_a_line_of_the_settings_gives_and_nothing_else() {
        for (said, role) in [
            (json!({"groups": "on call"}), Some(Role::Operator)),
            (json!({"groups": ["watchers", "others"]}), Some(Role::Viewer)),
            (json!({"groups": ["watchers", "owners", "on call"]}), Some(Role::Admin)),
            (json!({"groups": [7, null, ["owners"], "watchers"]}), Some(Role::Viewer)),
            (json!({"groups": []}), None),
            (json!({"groups": ""}), None),
            (json!({"groups": "owners watchers"}), None),
            (json!({"groups": "OWNERS"}), None),
            (json!({"groups": {"owners": true}}), None),
            (json!({"groups": true}), None),
            (json!({"groups": null}), None),
            (json!({"roles": ["owners"]}), None),
            (json!({}), None),
        ] {
            assert_eq!(rules("groups").role(&claims(said.clone())), role, "{said}");
        }
    }

    #[test]
    fn a_claim_may_lie_in_another_or_have_a_point_in_its_name() {
        let nested =
            claims(json!({"realm_access": {"roles": ["owners"]}, "https://x.example/roles": "watchers"}));
        assert_eq!(rules("realm_access.roles").role(&nested), Some(Role::Admin));
        assert_eq!(rules("https://x.example/roles").role(&nested), Some(Role::Viewer));
        for claim in ["realm_access", "realm_access.", "realm_access.roles.0", ".", "roles"] {
            assert_eq!(rules(claim).role(&nested), None, "{claim}");
        }
    }

    #[test]
    fn an_address_counts_as_a_name_where_it_was_verified() {
        for (said, expected) in [
            (
                json!({"email": "a@b", "email_verified": true, "preferred_username": "ann"}),
                vec!["a@b", "ann"],
            ),
            (json!({"email": "a@b", "email_verified": false, "preferred_username": "ann"}), vec!["ann"]),
            (json!({"email": "a@b", "email_verified": "true"}), vec![]),
            (json!({"email": "a@b"}), vec![]),
            (json!({"preferred_username": 7}), vec![]),
        ] {
            assert_eq!(names(&claims(said.clone())), expected, "{said}");
        }
        let whole = claims(json!({"groups": [], "preferred_username": "ann"}));
        assert!(rules("groups").are_answered(&whole) && !rules("roles").are_answered(&whole));
        assert!(!rules("groups").are_answered(&claims(json!({"groups": []}))));
    }
}
