//! Putting a delay in force and proving it: helpers at both ends, the path measured before and after, the store's own
//! replication as well, and everything taken back when the proof fails.

use std::time::Duration;

use indexmap::IndexMap;

use super::attach::{Attached, Place};
use super::plan::{Pair, Schedule};
use super::proof::{Expected, Proof, compare};
use super::spec::Spec;
use super::wire::{Backend, Probed, Request, Rule, RuleStatus, Rules};
use super::{DelayError, now_us};
use crate::error::Result;
use crate::ui;

/// Connections of one probe.
const CONNECTIONS: usize = 40;
/// Round trips wanted of one probe ...
const ROUND_TRIPS: usize = 400;
/// ... which may take this long, ms.
const PROBE_MS: f64 = 5_000.0;
/// Turns that round trips with and without jitter take.
const TURNS: usize = 4;
/// Life of a rule that is not proved yet: what is left of it when maestro dies on the way.
const UNPROVED: Duration = Duration::from_secs(120);

/// What is to be put in force.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// Which services are put apart, by how much.
    pub pairs: Vec<Pair>,
    /// Changes over time, for every pair.
    pub schedule: Option<Schedule>,
    /// How.
    pub backend: Backend,
    /// Life without renewal.
    pub lease: Duration,
    /// Seed of the delays.
    pub seed: u64,
    /// The deployment, as labels name it.
    pub deployment: String,
    /// The Redis port of both ends, where the pair at this index replicates by Redis.
    pub redis: Option<(usize, u16)>,
}

/// What was obtained between one pair.
#[derive(Clone, Debug)]
pub(crate) struct Obtained {
    /// The pair.
    pub pair: Pair,
    /// What was asked in the end (a schedule has several).
    pub spec: Spec,
    /// What makes the delay.
    pub backend: Backend,
    /// Round trips.
    pub path: Proof,
    /// From a write at `from` to its being visible at `to`.
    pub visible: Option<Proof>,
    /// How the rule stands.
    pub rule: RuleStatus,
    /// When it came into force, us since the epoch.
    pub applied_us: i64,
}

/// Which helper enforces a pair: (service, index of its rule), one or two of them.
type Slots = Vec<(String, usize)>;

/// A delay on its way into force.
struct Work<'a> {
    order: &'a Order,
    backend: Backend,
    places: &'a IndexMap<String, Place>,
    helpers: IndexMap<String, Attached>,
    echo: IndexMap<String, u16>,
    slots: Vec<Slots>,
}

/// What was measured without delay.
struct Before {
    path: Probed,
    visible: Option<Probed>,
}

/// Puts `order` in force at `places` (service -> where it runs), with helpers from `image`, and proves it.
///
/// # Errors
/// [`DelayError::NotObtained`] when the proof fails, and whatever stood in the way; no rule is left in either case.
pub(crate) async fn put(order: &Order, places: &IndexMap<String, Place>, image: &str) -> Result<Vec<Obtained>> {
    let mut helpers = IndexMap::new();
    let done = match start_all(order, places, image, &mut helpers).await {
        Ok(()) => carry_out(order, places, &helpers).await,
        Err(error) => Err(error),
    };
    if done.is_err() {
        take_back(helpers.values()).await;
    }
    done
}

async fn start_all(
    order: &Order,
    places: &IndexMap<String, Place>,
    image: &str,
    helpers: &mut IndexMap<String, Attached>,
) -> Result<()> {
    let starts = places.values().map(|place| async move {
        let started = Attached::start(place, image, &order.deployment, UNPROVED.min(order.lease)).await;
        (place.service.clone(), started)
    });
    let mut first = Ok(());
    for (service, started) in futures_util::future::join_all(starts).await {
        match started {
            Ok(helper) => {
                helpers.insert(service, helper);
            }
            Err(error) => first = first.and(Err(error)),
        }
    }
    first
}

/// Removes helpers with their rules; what cannot be removed is told, and goes with its lease.
pub(crate) async fn take_back(helpers: impl Iterator<Item = &Attached>) {
    let removals = helpers.map(|helper| async move { (helper, helper.remove().await) });
    for (helper, removed) in futures_util::future::join_all(removals).await {
        if let Err(error) = removed {
            ui::warn(format_args!("`{}` on {} stays until its lease ends: {error}", helper.name, helper.host));
        }
    }
}

async fn carry_out(
    order: &Order,
    places: &IndexMap<String, Place>,
    helpers: &IndexMap<String, Attached>,
) -> Result<Vec<Obtained>> {
    let mut echo = IndexMap::new();
    for (service, helper) in helpers {
        echo.insert(service.clone(), helper.status().await?.echo_port);
    }
    let backend = choose(order, helpers).await?;
    let mut work = Work { order, backend, places, helpers: helpers.clone(), echo, slots: Vec::new() };
    let mut before = Vec::new();
    for index in 0..order.pairs.len() {
        before.push(work.measure_before(index).await?);
    }
    let applied_us = now_us();
    work.apply().await?;
    let mut obtained = Vec::new();
    for (index, before) in before.iter().enumerate() {
        obtained.push(work.prove(index, before, applied_us).await?);
    }
    for helper in helpers.values() {
        if let (Some(schedule), true) = (&order.schedule, work.enforces(&helper.service)) {
            helper.ask(&Request::Follow(schedule.clone())).await?;
        }
        helper.ask(&Request::Renew { seconds: order.lease.as_secs_f64() }).await?;
    }
    Ok(obtained)
}

/// netem where every sender's kernel has it (or it was asked for), else the proxy.
async fn choose(order: &Order, helpers: &IndexMap<String, Attached>) -> Result<Backend> {
    let steps = order.schedule.iter().flat_map(|schedule| &schedule.steps).map(|step| &step.rule);
    let needs_netem = order.pairs.iter().map(|pair| pair.spec.asked()).chain(steps).any(|a| a.loss_percent > 0.0);
    let (mut netem, mut redirect) = (true, true);
    for helper in helpers.values() {
        let (has_netem, can_redirect) = helper.kernel().await?;
        netem &= has_netem;
        redirect &= can_redirect;
    }
    match order.backend {
        Backend::Auto if netem => Ok(Backend::Netem),
        Backend::Netem if netem => Ok(Backend::Netem),
        Backend::Netem => Err(DelayError::NoNetem("netem").into()),
        _ if needs_netem => {
            let why = "`--loss` needs netem, and the proxy cannot lose packets of a TCP stream".to_owned();
            Err(DelayError::Refused(why).into())
        }
        _ if redirect => Ok(Backend::Proxy),
        _ => {
            let why = "it has neither sch_netem nor nf_tables with redirect".to_owned();
            Err(DelayError::Kernel { what: "delay anything".to_owned(), why }.into())
        }
    }
}

/// The rules of every helper, and which of them each pair has. netem delays what leaves the sender, the proxy what
/// reaches the receiver, in which case both directions are one rule.
fn arrange(
    pairs: &[Pair],
    backend: Backend,
    names: impl Fn(&str) -> Vec<String>,
    echo: impl Fn(&str) -> u16,
) -> (IndexMap<String, Vec<Rule>>, Vec<Slots>) {
    let mut rules: IndexMap<String, Vec<Rule>> = IndexMap::new();
    let mut slots = Vec::new();
    for pair in pairs {
        // The echo that the path is measured with listens at `from`.
        let ports: Vec<u16> = pair.port.map_or_else(Vec::new, |port| vec![port, echo(&pair.from)]);
        let rule = |peer: &str, from_peer: Option<Spec>, to_peer: Option<Spec>| Rule {
            name: pair.to_string(),
            peers: names(peer),
            ports: ports.clone(),
            from_peer,
            to_peer,
            following: None,
        };
        let back = pair.both.then_some(pair.spec);
        let wanted = match backend {
            Backend::Netem => {
                let there = (&pair.from, rule(&pair.to, None, Some(pair.spec)));
                let and_back = back.map(|spec| (&pair.to, rule(&pair.from, None, Some(spec))));
                std::iter::once(there).chain(and_back).collect::<Vec<_>>()
            }
            Backend::Proxy | Backend::Auto => vec![(&pair.to, rule(&pair.from, Some(pair.spec), back))],
        };
        let place = |(service, rule): (&String, Rule)| {
            let of_service = rules.entry(service.clone()).or_default();
            of_service.push(rule);
            (service.clone(), of_service.len() - 1)
        };
        slots.push(wanted.into_iter().map(place).collect());
    }
    (rules, slots)
}

impl Work<'_> {
    fn names(&self, service: &str) -> Vec<String> {
        self.places.get(service).map_or_else(Vec::new, |place| place.names.clone())
    }

    fn helper(&self, service: &str) -> Result<&Attached, DelayError> {
        self.helpers.get(service).ok_or_else(|| DelayError::Unresolved(service.to_owned()))
    }

    fn enforces(&self, service: &str) -> bool {
        self.slots.iter().flatten().any(|(at, _)| at == service)
    }

    /// Every specification that comes into force between pair `index`.
    fn specs(&self, index: usize) -> Result<Vec<Spec>, DelayError> {
        match &self.order.schedule {
            Some(schedule) => Ok(schedule.check()?.into_iter().map(|(_, spec)| spec).collect()),
            None => Ok(vec![self.order.pairs[index].spec]),
        }
    }

    async fn apply(&mut self) -> Result<()> {
        let echo = |service: &str| self.echo.get(service).copied().unwrap_or(0);
        let (rules, slots) = arrange(&self.order.pairs, self.backend, |service| self.names(service), echo);
        self.slots = slots;
        for (service, rules) in rules {
            let rules = Rules { backend: self.backend, seed: self.order.seed, rules };
            self.helper(&service)?.ask(&Request::Apply(rules)).await?;
        }
        Ok(())
    }

    async fn set(&self, index: usize, spec: Spec) -> Result<()> {
        for (service, rule) in &self.slots[index] {
            self.helper(service)?.ask(&Request::Set { rule: *rule, spec }).await?;
        }
        Ok(())
    }

    async fn measure_before(&self, index: usize) -> Result<Before> {
        let none = Spec::zero();
        let path = self.round_trips(index, &none, self.rounds(index, &none)).await?;
        let visible = self.visibility(index, &Spec::zero()).await?;
        Ok(Before { path, visible })
    }

    /// Measures pair `index` under every specification that it will have, and judges each.
    async fn prove(&self, index: usize, before: &Before, applied_us: i64) -> Result<Obtained> {
        let pair = &self.order.pairs[index];
        let mut worst: Option<(Spec, Proof, Option<Proof>)> = None;
        for spec in self.specs(index)? {
            let (steady, after) = self.with_and_without_jitter(index, spec).await?;
            let way = if pair.both { vec![spec, spec] } else { vec![spec] };
            let path = compare(&Expected::of(&way), &before.path.samples_ns, &steady, &after.samples_ns, after.lost);
            self.judge(pair, "the path", &path)?;
            let visible = match (&before.visible, self.visibility(index, &spec).await?) {
                (Some(before), Some(after)) => {
                    let there = Expected::of(&[spec]);
                    let visible = compare(&there, &before.samples_ns, &[], &after.samples_ns, after.lost);
                    self.judge(pair, "replication", &visible)?;
                    Some(visible)
                }
                _ => None,
            };
            if worst.as_ref().is_none_or(|(_, w, _)| path.obtained_p50_ms > w.obtained_p50_ms) {
                worst = Some((spec, path, visible));
            }
        }
        let (spec, path, visible) =
            worst.ok_or_else(|| DelayError::Refused("a schedule needs at least one step".to_owned()))?;
        let rule = self.rule_of(index).await?;
        Ok(Obtained { pair: pair.clone(), spec, backend: self.backend, path, visible, rule, applied_us })
    }

    fn judge(&self, pair: &Pair, what: &str, proof: &Proof) -> Result<(), DelayError> {
        ui::detail(format_args!("{pair}, {what}: {proof}"));
        proof.verdict().map_err(|why| DelayError::NotObtained { pair: pair.to_string(), why: format!("{what}: {why}") })
    }

    async fn rule_of(&self, index: usize) -> Result<RuleStatus> {
        let (service, rule) = &self.slots[index][0];
        let mut status = self.helper(service)?.status().await?;
        if *rule >= status.rules.len() {
            return Err(DelayError::Unresolved(service.clone()).into());
        }
        Ok(status.rules.swap_remove(*rule))
    }

    /// Round trips under `spec` without its jitter (none if it has none), and under `spec` itself, which then is in
    /// force. They take turns, so that what else happens on the machine meanwhile meets both.
    async fn with_and_without_jitter(&self, index: usize, spec: Spec) -> Result<(Vec<u64>, Probed)> {
        let (mut steady, mut after) = (Vec::new(), Probed::default());
        let rounds = self.rounds(index, &spec);
        let turns = if spec.asked().jitter_ms > 0.0 { rounds.min(TURNS) } else { 1 };
        for turn in 0..turns {
            let rounds = rounds * (turn + 1) / turns - rounds * turn / turns;
            if spec.asked().jitter_ms > 0.0 {
                self.set(index, spec.steady()).await?;
                steady.extend(self.round_trips(index, &spec, rounds).await?.samples_ns);
            }
            self.set(index, spec).await?;
            let some = self.round_trips(index, &spec, rounds).await?;
            after.samples_ns.extend(some.samples_ns);
            after.lost += some.lost;
        }
        Ok((steady, after))
    }

    /// The longest delay there and back, ms.
    fn longest_ms(&self, index: usize, spec: &Spec) -> f64 {
        let ways = if self.order.pairs[index].both { 2.0 } else { 1.0 };
        ways * spec.longest_ms()
    }

    /// Round trips of each connection: as many as fit into the time.
    fn rounds(&self, index: usize, spec: &Spec) -> usize {
        let rounds = PROBE_MS / self.longest_ms(index, spec).max(1.0);
        (rounds as usize).clamp(1, ROUND_TRIPS / CONNECTIONS)
    }

    /// Round trips from `to` to `from` and back.
    async fn round_trips(&self, index: usize, spec: &Spec, rounds: usize) -> Result<Probed> {
        let pair = &self.order.pairs[index];
        let request = Request::Probe {
            peers: self.names(&pair.from),
            port: self.echo.get(&pair.from).copied().unwrap_or(0),
            connections: CONNECTIONS,
            rounds,
            patience_ms: self.longest_ms(index, spec) + 5_000.0,
        };
        self.helper(&pair.to)?.probe(&request).await
    }

    /// Writes at `from` until they are visible at `to`, where the pair replicates by Redis. A store that cannot be
    /// asked (it wants a password) is passed over with a word.
    async fn visibility(&self, index: usize, spec: &Spec) -> Result<Option<Probed>> {
        let Some((_, port)) = self.order.redis.filter(|(at, _)| *at == index) else { return Ok(None) };
        let pair = &self.order.pairs[index];
        let request = Request::Visibility {
            peers: self.names(&pair.from),
            port,
            writes: (3_000.0 / spec.longest_ms().max(1.0)).clamp(5.0, 30.0) as usize,
            // A connection that was cut over comes back within a few seconds.
            patience_ms: spec.longest_ms() + 20_000.0,
        };
        match self.helper(&pair.to)?.probe(&request).await {
            Ok(probed) => Ok(Some(probed)),
            Err(error) => {
                ui::warn(format_args!("replication itself was not measured: {error}"));
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delay::spec::Asked;

    fn pair(from: &str, to: &str, port: Option<u16>, both: bool) -> Pair {
        let spec = Spec::check(Asked { delay_ms: 10.0, ..Asked::default() }).unwrap();
        Pair { from: from.to_owned(), to: to.to_owned(), port, spec, both }
    }

    fn arranged(backend: Backend) -> (IndexMap<String, Vec<Rule>>, Vec<Slots>) {
        let pairs = [pair("a", "b", Some(6379), false), pair("c", "b", None, true)];
        arrange(&pairs, backend, |service| vec![format!("tasks.{service}"), service.to_owned()], |_| 7)
    }

    #[test]
    fn the_proxy_holds_back_what_reaches_the_receiver() {
        let (rules, slots) = arranged(Backend::Proxy);
        assert_eq!(rules.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(slots, [[("b".to_owned(), 0)], [("b".to_owned(), 1)]]);
        let [first, second] = rules["b"].as_slice() else { panic!("two rules") };
        assert_eq!(
            (first.peers.as_slice(), first.ports.as_slice()),
            (&["tasks.a".to_owned(), "a".to_owned()][..], &[6379, 7][..])
        );
        assert!(first.from_peer.is_some() && first.to_peer.is_none());
        assert!(second.ports.is_empty() && second.to_peer.is_some());
    }

    #[test]
    fn netem_delays_what_leaves_the_sender() {
        let (rules, slots) = arranged(Backend::Netem);
        assert_eq!(rules.keys().collect::<Vec<_>>(), ["a", "c", "b"]);
        assert_eq!(slots[1], [("c".to_owned(), 0), ("b".to_owned(), 0)]);
        assert!(rules.values().flatten().all(|rule| rule.from_peer.is_none() && rule.to_peer.is_some()));
        assert_eq!(rules["b"][0].peers, ["tasks.c", "c"]);
    }
}
