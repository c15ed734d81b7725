//! The table without connections.
