//! Tells people who do not look.
