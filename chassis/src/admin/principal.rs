//! Who asks, and what that allows.
//!
//! Why it exists: every route below `/v1/` is answered to somebody, and what he changes is written down under his name. A route finds the
//! [`Principal`] in the extensions of its request; it must never take a name from anywhere else.

use serde::{Deserialize, Serialize};

/// What somebody may do. Whoever has a higher role may do everything of the lower ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sees everything, changes nothing.
    Viewer,
    /// Gives orders, drains, handles incidents.
    Operator,
    /// Hands out rights, rotates keys, makes backups.
    Admin,
}

impl Role {
    /// Its name, in JSON and for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Viewer, Self::Operator, Self::Admin].into_iter().find(|role| role.name() == name)
    }
}

/// Somebody who has shown who he is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// His name, as it is in the audit.
    pub name: String,
    /// What he may do.
    pub role: Role,
    /// How he has shown it.
    pub how: How,
}

/// How somebody has shown who he is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// With the token of the folder.
    Root,
    /// With a token that was made for him.
    Token {
        /// Which: not the secret.
        id: String,
    },
    /// He logged in on the page.
    Page {
        /// Which page session: not the secret.
        id: String,
    },
    /// With a certificate.
    Certificate,
    /// At a provider that knows people.
    Provider,
}

impl How {
    /// Its name in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Token { .. } => "token",
            Self::Page { .. } => "page",
            Self::Certificate => "certificate",
            Self::Provider => "provider",
        }
    }
}

/// Name of whoever shows the token of the folder.
pub(super) const ROOT: &str = "root";

impl Principal {
    /// Whoever shows the token of the folder.
    pub(super) fn root() -> Self {
        Self { name: ROOT.to_owned(), role: Role::Admin, how: How::Root }
    }

    /// Under which name his actions are written down. Only whoever shows the token of the folder may state one (it belongs to the
    /// machine and not to a person); what anybody else states is not looked at.
    pub fn author(&self, stated: &str) -> String {
        let stated = stated.trim();
        match self.how {
            How::Root if !stated.is_empty() => stated.to_owned(),
            _ => self.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_ordered_and_have_the_names_of_their_json() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
        for role in [Role::Viewer, Role::Operator, Role::Admin] {
            assert_eq!(serde_json::to_value(role).unwrap(), role.name());
            assert_eq!(Role::named(role.name()), Some(role));
        }
        assert_eq!(Role::named("Admin"), None);
    }

    #[test]
    fn only_root_states_an_author() {
        let root = Principal::root();
        assert_eq!((root.author(" kim ").as_str(), root.author(" ").as_str()), ("kim", "root"));
        for how in
            [How::Token { id: "1".into() }, How::Page { id: "2".into() }, How::Certificate, How::Provider]
        {
            let lee = Principal { name: "lee".into(), role: Role::Admin, how };
            assert_eq!(lee.author("kim"), "lee");
        }
    }
}
