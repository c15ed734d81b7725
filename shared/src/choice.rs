//! Which session manager a user goes to: weighted rendezvous hashing (highest random weight; Thaler and Ravishankar 1996).
//!
//! All devices of a user meet on one manager, and when a manager comes or goes only the users of that manager move.

use hrw_hash::{HrwNode, HrwNodes};
use std::hash::{Hash, Hasher};

use crate::id::UserId;
use crate::wire;

/// Version of the hash and its seed. It goes into every ticket, so that two releases that choose differently are noticed.
pub const CHOICE_VERSION: u32 = 1;

/// Managers named in a ticket: the first choice and two to fall back to.
pub const CHOICES_PER_TICKET: usize = 3;

struct Candidate<'a>(&'a wire::Node);

impl PartialEq for Candidate<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Candidate<'_> {}

impl Hash for Candidate<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl HrwNode for Candidate<'_> {
    fn capacity(&self) -> usize {
        self.0.weight.max(1) as usize
    }
}

/// The managers for `user`, best first, at most [`CHOICES_PER_TICKET`]; those that drain are left out.
pub fn choose<'a>(user: &UserId, nodes: &'a [wire::Node]) -> Vec<&'a wire::Node> {
    let live = HrwNodes::new(nodes.iter().filter(|n| !n.draining).map(Candidate));
    live.sorted(&user.as_str()).take(CHOICES_PER_TICKET).map(|c| c.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(names: &[(&str, u32)]) -> Vec<wire::Node> {
        let node = |(name, weight): &(&str, u32)| wire::Node {
            name: (*name).into(),
            weight: *weight,
            ..Default::default()
        };
        names.iter().map(node).collect()
    }

    fn first(user: usize, nodes: &[wire::Node]) -> String {
        choose(&format!("user{user}").parse().unwrap(), nodes)[0].name.clone()
    }

    #[test]
    fn only_the_users_of_a_lost_manager_move() {
        let all = nodes(&[("a", 1), ("b", 1), ("c", 1)]);
        let fewer = nodes(&[("a", 1), ("c", 1)]);
        for user in 0..500 {
            let before = first(user, &all);
            if before != "b" {
                assert_eq!(first(user, &fewer), before);
            }
        }
    }

    #[test]
    fn weight_is_share() {
        let all = nodes(&[("a", 1), ("b", 3)]);
        let b = (0..4000).filter(|u| first(*u, &all) == "b").count();
        assert!((2800..3200).contains(&b), "{b}");
    }

    #[test]
    fn a_draining_manager_is_not_chosen() {
        let mut all = nodes(&[("a", 1), ("b", 1)]);
        all[0].draining = true;
        assert!((0..50).all(|u| first(u, &all) == "b"));
        assert!(choose(&"x".parse().unwrap(), &[]).is_empty());
    }
}
