//! The one door to the world.
