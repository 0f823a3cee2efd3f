//! Running in time on a busy host.
//!
//! During a benchmark the hosts are busy, and a proxy that is woken late delays by more than was asked. netem has no
//! such trouble: it runs inside the kernel. So the few threads that keep or measure time ask for the lowest real-time
//! priority, and for a favourable ordinary one where that is not granted (it needs `CAP_SYS_NICE`, and control groups
//! may forbid it). The kernel's own limit (95 % of each second) keeps them from starving anybody.

#![allow(unsafe_code, reason = "no safe wrapper in the tree sets a scheduling policy; one call, one plain struct")]

/// Lets the calling thread run before ordinary ones, as far as that is permitted.
pub(super) fn run_promptly() {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: `lowest` outlives the call, which only reads it; process 0 is the calling thread.
    let granted = unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const lowest) } == 0;
    if !granted {
        // Not granted either: then as ordinary as everybody.
        let _ = rustix::process::setpriority_process(None, -15);
    }
}
