//! The in-process miniature: two regions, stores, replication lag, queue, lineage, barrier, trace API.
