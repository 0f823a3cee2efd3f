//! Rules in force in this network namespace, by either backend.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::delay::netem::{self, Wanted};
use crate::delay::netlink::nft::{self, Family, Redirect, Table};
use crate::delay::netlink::route::{self, Interface};
use crate::delay::netlink::{self, Refusal, diag};
use crate::delay::plan::{Schedule, Start};
use crate::delay::proxy::{Destination, Entrance, Opener, Proxy, Setup, Specs};
use crate::delay::spec::Spec;
use crate::delay::wire::{Backend, Following, Rule, RuleStatus, Rules};
use crate::delay::{DelayError, now_us};

/// How often the addresses are entered anew: three times within their life.
const RENEW: Duration = Duration::from_secs(4);

/// What makes the delay.
enum Make {
    Proxy { proxy: Proxy, table: Table, renewed: Instant },
    Netem { interfaces: Vec<Interface> },
}

/// One rule's moving parts.
struct Live {
    addresses: Vec<IpAddr>,
    changes: u64,
    cut_over: u64,
    left_alone: u64,
    specs: Specs,
    step: Option<usize>,
}

/// Rules in force. They end with [`InForce::remove`]; those of the proxy also end when the process does.
pub(super) struct InForce {
    pub(super) rules: Rules,
    pub(super) applied_us: i64,
    live: Vec<Live>,
    make: Make,
}

fn kernel(what: &str) -> impl FnOnce(Refusal) -> DelayError {
    let what = what.to_owned();
    move |refusal| DelayError::Kernel { what, why: refusal.to_string() }
}

fn system(what: &str) -> impl FnOnce(io::Error) -> DelayError {
    let what = what.to_owned();
    move |error| DelayError::Kernel { what, why: error.to_string() }
}

impl InForce {
    /// Brings `rules` into force for peers at `addresses` (one list per rule).
    pub(super) fn apply(rules: Rules, addresses: Vec<Vec<IpAddr>>, owner: bool) -> Result<Self, DelayError> {
        let live: Vec<Live> =
            rules.rules.iter().zip(addresses).map(|(rule, addresses)| live(rule, addresses)).collect();
        let make = match rules.backend {
            Backend::Netem => Make::Netem { interfaces: make_netem(&rules, &live)? },
            Backend::Proxy | Backend::Auto => make_proxy(&rules, &live, owner)?,
        };
        let mut in_force = InForce { rules, applied_us: now_us(), live, make };
        for index in 0..in_force.live.len() {
            in_force.cut_over(index)?;
        }
        Ok(in_force)
    }

    /// Removes them.
    pub(super) fn remove(self) -> Result<(), DelayError> {
        match self.make {
            Make::Proxy { proxy, table, .. } => {
                // First the rules, so that nobody is sent to a proxy that has gone.
                let removed = table.remove().map_err(kernel("remove the redirect rules"));
                drop(proxy);
                removed
            }
            Make::Netem { interfaces } => clear_netem(&interfaces),
        }
    }

    /// Whether the proxy's thread is alive.
    pub(super) fn is_alive(&self) -> bool {
        match &self.make {
            Make::Proxy { proxy, .. } => proxy.is_running(),
            Make::Netem { .. } => true,
        }
    }

    /// The names or addresses of every rule's peer.
    pub(super) fn peers(&self) -> Vec<Vec<String>> {
        self.rules.rules.iter().map(|rule| rule.peers.clone()).collect()
    }

    /// Takes in the addresses that the peers have now. An empty list means that the name is not known at the moment,
    /// and changes nothing.
    pub(super) fn follow(&mut self, addresses: Vec<Vec<IpAddr>>) -> Result<(), DelayError> {
        let mut changed = Vec::new();
        for (index, present) in addresses.into_iter().enumerate() {
            let live = &mut self.live[index];
            if present.is_empty() || present == live.addresses {
                continue;
            }
            let gone: Vec<IpAddr> = live.addresses.iter().filter(|a| !present.contains(a)).copied().collect();
            live.addresses = present;
            live.changes += 1;
            changed.push((index, gone));
        }
        match &mut self.make {
            Make::Proxy { table, renewed, .. } => {
                let all = renewed.elapsed() >= RENEW;
                for index in 0..self.live.len() {
                    let gone = changed.iter().find(|(i, _)| *i == index).map(|(_, gone)| gone.as_slice());
                    if all || gone.is_some() {
                        let present = &self.live[index].addresses;
                        table.renew(index, present, gone.unwrap_or(&[])).map_err(kernel("renew the addresses"))?;
                    }
                }
                if all {
                    *renewed = Instant::now();
                }
            }
            Make::Netem { interfaces } if !changed.is_empty() => {
                clear_netem(interfaces)?;
                *interfaces = make_netem(&self.rules, &self.live)?;
            }
            Make::Netem { .. } => {}
        }
        for (index, _) in changed {
            self.cut_over(index)?;
        }
        Ok(())
    }

    /// Changes what rule `index` does to the directions that it does not leave alone.
    pub(super) fn set(&mut self, index: usize, spec: Spec) -> Result<(), DelayError> {
        let (Some(live), Some(rule)) = (self.live.get_mut(index), self.rules.rules.get(index)) else {
            return Err(DelayError::Refused(format!("there is no rule number {index}")));
        };
        let of = |direction: Option<Spec>| direction.map_or(Spec::zero(), |_| spec);
        live.specs = Specs { from_peer: of(rule.from_peer), to_peer: of(rule.to_peer) };
        match &self.make {
            Make::Proxy { proxy, .. } => proxy.set(index, live.specs),
            Make::Netem { interfaces } => {
                let seed = self.rules.seed.wrapping_add(index as u64);
                for interface in interfaces {
                    let change = netem::Request::ChangeDelay(interface.clone(), index, live.specs.to_peer, seed);
                    send(&change)?;
                }
            }
        }
        Ok(())
    }

    /// Lets every rule follow `schedule` from now on.
    pub(super) fn follow_schedule(&mut self, schedule: &Schedule) -> Result<(), DelayError> {
        schedule.check()?;
        let started_us = (schedule.start == Start::Now).then(now_us);
        for index in 0..self.live.len() {
            self.rules.rules[index].following = Some(Following { schedule: schedule.clone(), started_us });
            self.live[index].step = None;
            self.set(index, Spec::zero())?;
        }
        self.keep_time()
    }

    /// A load begins: schedules that wait for it start their clocks.
    pub(super) fn begin(&mut self) {
        let now = now_us();
        for following in self.rules.rules.iter_mut().filter_map(|rule| rule.following.as_mut()) {
            if following.schedule.start == Start::Load {
                following.started_us = Some(now);
            }
        }
    }

    /// Follows the schedules.
    pub(super) fn keep_time(&mut self) -> Result<(), DelayError> {
        for index in 0..self.live.len() {
            let Some(following) = &self.rules.rules[index].following else { continue };
            let elapsed = following.started_us.map(|start| (now_us() - start) as f64 / 1e6);
            let step = elapsed.and_then(|elapsed| following.schedule.step_at(elapsed));
            if self.live[index].step != step {
                let spec = step.map_or(Ok(Spec::zero()), |step| Spec::check(following.schedule.steps[step].rule))?;
                self.live[index].step = step;
                self.set(index, spec)?;
            }
        }
        Ok(())
    }

    /// How they stand.
    pub(super) fn status(&self) -> (Backend, bool, Vec<RuleStatus>) {
        let (backend, tied) = match &self.make {
            Make::Proxy { table, .. } => (Backend::Proxy, table.owned()),
            Make::Netem { .. } => (Backend::Netem, false),
        };
        let carried = match &self.make {
            Make::Proxy { proxy, .. } => proxy.stats(),
            Make::Netem { .. } => Vec::new(),
        };
        let qdiscs = match &self.make {
            Make::Netem { .. } => route::qdiscs().unwrap_or_default(),
            Make::Proxy { .. } => Vec::new(),
        };
        let status = |(index, (rule, live)): (usize, (&Rule, &Live))| {
            let netem = || qdiscs.iter().filter(|q| q.handle == netem::delay_handle(index));
            let counted = backend == Backend::Netem;
            RuleStatus {
                name: rule.name.clone(),
                addresses: live.addresses.clone(),
                address_changes: live.changes,
                cut_over: live.cut_over,
                left_alone: live.left_alone,
                from_peer: live.specs.from_peer.to_string(),
                to_peer: live.specs.to_peer.to_string(),
                step: live.step,
                proxy: carried.get(index).cloned(),
                netem_drops: counted.then(|| netem().map(|q| u64::from(q.drops)).sum()),
                netem_queued: counted.then(|| netem().map(|q| u64::from(q.queued)).sum()),
            }
        };
        (backend, tied, self.rules.rules.iter().zip(&self.live).enumerate().map(status).collect())
    }

    /// Ends connections of rule `index` that were open before it and would go on undelayed.
    fn cut_over(&mut self, index: usize) -> Result<(), DelayError> {
        if matches!(self.make, Make::Netem { .. }) {
            return Ok(());
        }
        let ports = &self.rules.rules[index].ports;
        let live = &mut self.live[index];
        let passes_by = |c: &diag::Connection| {
            let of_store = ports.is_empty() || ports.contains(&c.remote.1) || ports.contains(&c.local_port);
            c.mark != nft::MARK && of_store && live.addresses.contains(&c.remote.0)
        };
        let open: Vec<diag::Connection> =
            diag::connections().map_err(kernel("list connections"))?.into_iter().filter(passes_by).collect();
        match diag::destroy(&open) {
            Ok(ended) => live.cut_over += ended as u64,
            // A kernel without CONFIG_INET_DIAG_DESTROY: the caller tells the user.
            Err(refusal) if refusal.errno == Errno::OPNOTSUPP => live.left_alone += open.len() as u64,
            Err(refusal) => return Err(kernel("end connections")(refusal)),
        }
        Ok(())
    }
}

/// What this kernel can do: (netem, redirect). Asked of the kernel itself, by making and removing a rule that catches
/// nothing: a `prio` root on the loopback whose netem band no packet is sent to, and an empty table.
pub(super) fn abilities() -> Result<(bool, bool), DelayError> {
    let all = route::interfaces().map_err(kernel("list interfaces"))?;
    let netem = match all.into_iter().find(|i| i.index == 1) {
        Some(loopback) => {
            let requests =
                netem::requests(&loopback, &[Wanted { peers: vec![], ports: vec![], spec: Spec::zero() }], 0);
            let made = requests.iter().try_for_each(send).is_ok();
            clear_netem(&[loopback])?;
            made
        }
        None => false,
    };
    let redirect = Table::install(&[], &[Family::V4], true).and_then(Table::remove).is_ok();
    Ok((netem, redirect))
}

/// Removes whatever an earlier helper may have left in this namespace.
pub(super) fn clear_leftovers() -> Result<(), DelayError> {
    let of_interface = route::interfaces().map_err(kernel("list interfaces"))?;
    let qdiscs = route::qdiscs().map_err(kernel("list queueing disciplines"))?;
    let ours = |i: &Interface| qdiscs.iter().any(|q| q.interface == i.index && q.root && q.handle == netem::ROOT);
    let interfaces: Vec<Interface> = of_interface.into_iter().filter(ours).collect();
    clear_netem(&interfaces)?;
    match nft::clear() {
        // No nf_tables in this kernel: then there is nothing of ours in it either.
        Err(refusal) if matches!(refusal.errno, Errno::PROTONOSUPPORT | Errno::OPNOTSUPP | Errno::INVAL) => Ok(()),
        other => other.map_err(kernel("remove the redirect rules")),
    }
}

fn live(rule: &Rule, addresses: Vec<IpAddr>) -> Live {
    // A schedule that is followed anew sets the step that is due by then.
    let of = |direction: Option<Spec>| direction.filter(|_| rule.following.is_none()).unwrap_or_else(Spec::zero);
    let specs = Specs { from_peer: of(rule.from_peer), to_peer: of(rule.to_peer) };
    Live { addresses, changes: 0, cut_over: 0, left_alone: 0, specs, step: None }
}

fn make_proxy(rules: &Rules, live: &[Live], owner: bool) -> Result<Make, DelayError> {
    let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let families: &[Family] = if v6 { &Family::ALL } else { &Family::ALL[..1] };
    let mut entrances = Vec::new();
    let mut redirects = Vec::new();
    for (index, rule) in rules.rules.iter().enumerate() {
        let mut open = |opener: Opener| -> Result<u16, DelayError> {
            let listeners = listen(opener, v6).map_err(system("open a listener"))?;
            let port = listeners[0].local_addr().map_err(system("open a listener"))?.port();
            entrances.extend(listeners.into_iter().map(|listener| Entrance { listener, rule: index, opener }));
            Ok(port)
        };
        let (outgoing, incoming) = (open(Opener::Here)?, open(Opener::Peer)?);
        redirects.push(Redirect { index, ports: rule.ports.clone(), outgoing, incoming });
    }
    let setup = Setup {
        entrances,
        rules: live.iter().map(|live| live.specs).collect(),
        destination: Destination::Original,
        mark: Some(nft::MARK),
        seed: rules.seed,
    };
    let proxy = Proxy::start(setup).map_err(system("start the proxy"))?;
    let mut table = Table::install(&redirects, families, owner).map_err(kernel("redirect connections"))?;
    for (index, live) in live.iter().enumerate() {
        table.renew(index, &live.addresses, &[]).map_err(kernel("enter the peer's addresses"))?;
    }
    Ok(Make::Proxy { proxy, table, renewed: Instant::now() })
}

/// Listeners for redirected connections, on one port for both families: those opened here arrive on the loopback,
/// those of the peer on the address of the interface they came in by.
fn listen(opener: Opener, v6: bool) -> io::Result<Vec<TcpListener>> {
    let (v4_address, v6_address) = match opener {
        Opener::Here => (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)),
        Opener::Peer => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    let mut last = None;
    for _ in 0..20 {
        let first = bind(SocketAddr::new(v4_address, 0))?;
        if !v6 {
            return Ok(vec![first]);
        }
        match bind(SocketAddr::new(v6_address, first.local_addr()?.port())) {
            Ok(second) => return Ok(vec![first, second]),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// Makes the rules in the kernel, on every interface that carries one of the peers.
fn make_netem(rules: &Rules, live: &[Live]) -> Result<Vec<Interface>, DelayError> {
    if rules.rules.len() > netem::MOST_RULES {
        let why = format!("{} pairs share one sender; netem carries {}", rules.rules.len(), netem::MOST_RULES);
        return Err(DelayError::Refused(why));
    }
    let interfaces = carriers(live)?;
    let qdiscs = route::qdiscs().map_err(kernel("list queueing disciplines"))?;
    for interface in &interfaces {
        if let Some(qdisc) = netem::foreign_root(&qdiscs, interface) {
            return Err(DelayError::ForeignQdisc { interface: interface.name.clone(), qdisc });
        }
    }
    let wanted: Vec<Wanted> = rules
        .rules
        .iter()
        .zip(live)
        .map(|(rule, live)| Wanted {
            peers: live.addresses.clone(),
            ports: rule.ports.clone(),
            spec: live.specs.to_peer,
        })
        .collect();
    for interface in &interfaces {
        for request in netem::requests(interface, &wanted, rules.seed) {
            if let Err(error) = send(&request) {
                // Half a rule is none; the first error is the one to tell.
                let _ = clear_netem(&interfaces);
                return Err(error);
            }
        }
    }
    Ok(interfaces)
}

/// The interfaces by which packets to the peers leave.
fn carriers(live: &[Live]) -> Result<Vec<Interface>, DelayError> {
    let all = route::interfaces().map_err(kernel("list interfaces"))?;
    let mut carriers: Vec<Interface> = Vec::new();
    for address in live.iter().flat_map(|live| &live.addresses) {
        let index = route::towards(address).map_err(kernel(&format!("find the way to {address}")))?;
        let found = all.iter().find(|i| Some(i.index) == index).cloned();
        match found {
            Some(interface) if !carriers.contains(&interface) => carriers.push(interface),
            Some(_) => {}
            None => return Err(DelayError::Unresolved(address.to_string())),
        }
    }
    Ok(carriers)
}

fn send(request: &netem::Request) -> Result<(), DelayError> {
    let mut socket = netlink::Socket::open(None).map_err(kernel("open a routing socket"))?;
    socket.request(request.message()).map_err(|refusal| match (request, refusal.errno) {
        // What the kernel answers for a kind of discipline that it does not know.
        (netem::Request::AddRoot(..), Errno::NOENT) => DelayError::NoNetem("prio"),
        (netem::Request::AddDelay(..), Errno::NOENT) => DelayError::NoNetem("netem"),
        _ => kernel(&format!("do `{request}`"))(refusal),
    })
}

fn clear_netem(interfaces: &[Interface]) -> Result<(), DelayError> {
    for interface in interfaces {
        match send(&netem::Request::DeleteRoot(interface.clone())) {
            // Gone already, or never there.
            Err(DelayError::Kernel { why, .. }) if why.contains("No such file") || why.contains("Invalid") => {}
            other => other?,
        }
    }
    Ok(())
}
