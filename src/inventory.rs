//! Hosts by role.
