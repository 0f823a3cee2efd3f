//! Traces become observations, observations become a summary. Pure.
