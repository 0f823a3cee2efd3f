//! From a placement and a compose file to a plan for Docker Swarm. Pure.
