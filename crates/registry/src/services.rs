//! Cluster IPs and node ports of Services.
//!
//! What is taken is what the stored Services say: the tables in memory are rebuilt from them when the server starts,
//! so a crash can leak nothing. A cluster IP is claimed by creating its IPAddress object in the transaction that
//! writes the Service, so that two servers over one store can double nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use api_schema::{SmolStr, Value, format_smolstr};
use api_semantics::field::{Error, ErrorList, Path, quoted};
use api_semantics::status::Status;
use kinds::service::needs_cluster_ip;
use parking_lot::Mutex;
use store::Txn;

use crate::codec;
use crate::hooks::Claim;
use crate::registry::Registry;
use crate::storage::Storage;
use crate::write::{Context, refuse_invalid};

/// A range of addresses for Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Reads `10.96.0.0/12`; host bits are dropped.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let (address, bits): (IpAddr, u8) = (address.parse().ok()?, bits.parse().ok()?);
        let width = if address.is_ipv4() { 32 } else { 128 };
        if bits > width {
            return None;
        }
        let number = to_number(address) & mask(width, bits);
        Some(Self { base: from_number(number, address.is_ipv4()), bits })
    }

    fn width(&self) -> u8 {
        if self.base.is_ipv4() { 32 } else { 128 }
    }

    /// How many addresses can be given out: the network address and, in IPv4, the broadcast address cannot. Ranges
    /// wider than 2^62 count as that.
    pub fn size(&self) -> u64 {
        let host_bits = u32::from(self.width() - self.bits).min(62);
        let all = 1u64 << host_bits;
        all.saturating_sub(if self.base.is_ipv4() { 2 } else { 1 })
    }

    /// The address at an offset; 0 is the first that can be given out.
    pub fn nth(&self, offset: u64) -> IpAddr {
        from_number(to_number(self.base) + 1 + u128::from(offset), self.base.is_ipv4())
    }

    /// Whether an address may be given out of this range.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.base.is_ipv4() && {
            let number = to_number(address);
            let base = to_number(self.base);
            number > base && number - base <= u128::from(self.size())
        }
    }

    /// The family as the API names it.
    pub fn family(&self) -> &'static str {
        if self.base.is_ipv4() { "IPv4" } else { "IPv6" }
    }

    /// Below this offset, addresses are left to those who ask for a certain one (KEP-3070).
    fn static_band(&self) -> u64 {
        let size = self.size();
        if size < 16 { 0 } else { (size / 16).clamp(16, 256) }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

fn mask(width: u8, bits: u8) -> u128 {
    let host = u32::from(width - bits);
    if host >= 128 { 0 } else { u128::MAX << host }
}

fn to_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn from_number(number: u128, v4: bool) -> IpAddr {
    if v4 { Ipv4Addr::from(number as u32).into() } else { Ipv6Addr::from(number).into() }
}

/// What Services are given, and what is taken.
#[derive(Debug)]
pub struct Services {
    cidrs: Vec<Cidr>,
    ports: std::ops::RangeInclusive<u16>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    addresses: HashSet<IpAddr>,
    /// Ports with the protocols that use them.
    ports: BTreeMap<u16, Vec<SmolStr>>,
}

/// What one write takes and what it gives back.
#[derive(Debug, Default, Clone)]
struct Change {
    addresses: Vec<IpAddr>,
    ports: Vec<(u16, SmolStr)>,
}

impl Change {
    fn take(&self, taken: &mut Taken) {
        taken.addresses.extend(&self.addresses);
        for (port, protocol) in &self.ports {
            taken.ports.entry(*port).or_default().push(protocol.clone());
        }
    }

    fn give_back(&self, taken: &mut Taken) {
        for address in &self.addresses {
            taken.addresses.remove(address);
        }
        for (port, protocol) in &self.ports {
            if let Some(protocols) = taken.ports.get_mut(port) {
                if let Some(at) = protocols.iter().position(|p| p == protocol) {
                    protocols.swap_remove(at);
                }
                if protocols.is_empty() {
                    taken.ports.remove(port);
                }
            }
        }
    }

    /// What a Service holds.
    fn held_by(service: &Value) -> Self {
        let addresses = service.list_at(&["spec", "clusterIPs"]).iter().filter_map(|ip| ip.as_str()?.parse().ok());
        let mut ports: Vec<(u16, SmolStr)> = service
            .list_at(&["spec", "ports"])
            .iter()
            .filter_map(|port| Some((u16::try_from(port.int_at(&["nodePort"])?).ok()?, protocol(port))))
            .filter(|(port, _)| *port != 0)
            .collect();
        if let Some(port) = service.int_at(&["spec", "healthCheckNodePort"]).and_then(|p| u16::try_from(p).ok())
            && port != 0
        {
            ports.push((port, "TCP".into()));
        }
        Self { addresses: addresses.collect(), ports }
    }

    fn without(mut self, other: &Self) -> Self {
        self.addresses.retain(|a| !other.addresses.contains(a));
        self.ports.retain(|p| !other.ports.contains(p));
        self
    }
}

fn protocol(port: &Value) -> SmolStr {
    match port.str_at(&["protocol"]) {
        "" => "TCP".into(),
        protocol => protocol.into(),
    }
}

fn needs_node_ports(service: &Value) -> bool {
    match service.str_at(&["spec", "type"]) {
        "NodePort" => true,
        "LoadBalancer" => service.bool_at(&["spec", "allocateLoadBalancerNodePorts"]) != Some(false),
        _ => false,
    }
}

fn needs_health_port(service: &Value) -> bool {
    service.str_at(&["spec", "type"]) == "LoadBalancer" && service.str_at(&["spec", "externalTrafficPolicy"]) == "Local"
}

impl Services {
    /// Allocates from these ranges; the first is the cluster's own family.
    pub fn new(cidrs: Vec<Cidr>, ports: std::ops::RangeInclusive<u16>) -> Self {
        Self { cidrs, ports, taken: Mutex::default() }
    }

    /// The ranges.
    pub fn cidrs(&self) -> &[Cidr] {
        &self.cidrs
    }

    /// Takes what the stored Services hold. Called once, before the server serves.
    pub fn load(&self, registry: &Registry) {
        let mut taken = self.taken.lock();
        for service in registry.cached_list("", "services", "") {
            Change::held_by(&service).take(&mut taken);
        }
    }

    /// Fills in addresses and ports of a new or changed Service.
    pub(crate) async fn allocate(
        this: &Arc<Self>,
        registry: &Registry,
        storage: &Storage,
        cx: &Context,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<Claim, Status> {
        let name = SmolStr::new(service.str_at(&["metadata", "name"]));
        if let Some(old) = old {
            kinds::service::keep_allocated(service, old);
            let policy = ["spec", "internalTrafficPolicy"];
            if !needs_cluster_ip(service) && service.at(&policy) == old.at(&policy) {
                service.remove(&policy);
            }
        }
        kinds::service::normalize_cluster_ips(service, old);
        refuse_invalid(storage, &name, fill_families(service, old, &this.cidrs))?;
        let before = old.map(Change::held_by).unwrap_or_default();
        let mut change = Change::default();
        {
            let mut taken = this.taken.lock();
            let dry_run = cx.options.dry_run;
            let errors = this.allocate_addresses(registry, &taken, service, &before, &mut change, dry_run);
            refuse_invalid(storage, &name, errors)?;
            Ports { services: this, registry, taken: &taken, before: &before, change: &mut change, dry_run }
                .allocate(service, old)?;
            if !dry_run {
                change.take(&mut taken);
            }
        }
        if cx.options.dry_run {
            return Ok(Claim::default());
        }
        let released = before.without(&Change::held_by(service));
        let txn = address_objects(registry, service, &change.addresses, &released.addresses)?;
        let (undo, commit) = (Arc::clone(this), Arc::clone(this));
        Ok(Claim::new(
            txn,
            move || change.give_back(&mut undo.taken.lock()),
            move || released.give_back(&mut commit.taken.lock()),
        ))
    }

    /// Gives back what a deleted Service held, once it is gone.
    pub(crate) fn release(this: &Arc<Self>, registry: &Registry, service: &Value) -> Claim {
        let held = Change::held_by(service);
        let txn = address_objects(registry, service, &[], &held.addresses).ok().flatten();
        let this = Arc::clone(this);
        Claim::new(txn, || {}, move || held.give_back(&mut this.taken.lock()))
    }

    fn allocate_addresses(
        &self,
        registry: &Registry,
        taken: &Taken,
        service: &mut Value,
        before: &Change,
        change: &mut Change,
        dry_run: bool,
    ) -> ErrorList {
        let mut errors = ErrorList::new();
        if !needs_cluster_ip(service) {
            for field in ["clusterIP", "clusterIPs"] {
                if service.str_at(&["spec", "type"]) == "ExternalName" && before.addresses.is_empty() {
                    break;
                }
                service.remove(&["spec", field]);
            }
            return errors;
        }
        if service.str_at(&["spec", "clusterIP"]) == "None" {
            service.set(&["spec", "clusterIPs"], vec![Value::from("None")]);
            return errors;
        }
        let families: Vec<SmolStr> =
            service.list_at(&["spec", "ipFamilies"]).iter().filter_map(|f| f.as_str().map(SmolStr::new)).collect();
        let mut wanted: Vec<SmolStr> =
            service.list_at(&["spec", "clusterIPs"]).iter().filter_map(|ip| ip.as_str().map(SmolStr::new)).collect();
        if wanted.is_empty() && !service.str_at(&["spec", "clusterIP"]).is_empty() {
            wanted.push(service.str_at(&["spec", "clusterIP"]).into());
        }
        let path = Path::new("spec.clusterIPs");
        for (at, family) in families.iter().enumerate() {
            let Some(cidr) = self.cidrs.iter().find(|cidr| cidr.family() == family) else { continue };
            let wish = wanted.get(at).cloned().unwrap_or_default();
            if wish.is_empty() {
                match self.free_address(registry, cidr, taken, change) {
                    Some(address) => {
                        change.addresses.push(address);
                        let text = format_smolstr!("{address}");
                        if at < wanted.len() { wanted[at] = text } else { wanted.push(text) }
                    }
                    None => errors.push(Error::internal(
                        &path,
                        format!("failed to allocate a serviceIP: range is full ({cidr})"),
                    )),
                }
                continue;
            }
            let Ok(address) = wish.parse::<IpAddr>() else { continue };
            if before.addresses.contains(&address) {
                continue;
            }
            let shown = Value::List(wanted.iter().map(|ip| Value::from(ip.clone())).collect());
            if !cidr.contains(address) {
                errors.push(Error::invalid(
                    &path,
                    shown,
                    if dry_run {
                        format!(
                            "failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. \
                             The range of valid IPs is {cidr}"
                        )
                    } else {
                        format!(
                            "failed to allocate IP {address}: the provided network does not match the current range"
                        )
                    },
                ));
            } else if taken.addresses.contains(&address) {
                errors.push(Error::invalid(
                    &path,
                    shown,
                    format!("failed to allocate IP {address}: provided IP is already allocated"),
                ));
            } else {
                change.addresses.push(address);
            }
        }
        if let Some(first) = wanted.first().cloned() {
            service.set(&["spec", "clusterIP"], first);
            service.set(&["spec", "clusterIPs"], wanted.into_iter().map(Value::from).collect::<Vec<_>>());
        }
        errors
    }

    /// A free address, chosen by chance so that a deleted Service's address is not soon another's.
    fn free_address(&self, registry: &Registry, cidr: &Cidr, taken: &Taken, change: &Change) -> Option<IpAddr> {
        let (size, band) = (cidr.size(), cidr.static_band());
        let free = |offset: u64| {
            let address = cidr.nth(offset);
            (!taken.addresses.contains(&address) && !change.addresses.contains(&address)).then_some(address)
        };
        let upper = size - band;
        let start = if upper > 0 { random(registry, upper) } else { 0 };
        // The upper band from a random place on, around to its start, then the band for fixed addresses.
        let tries = upper.min(taken.addresses.len() as u64 + change.addresses.len() as u64 + 1);
        (0..tries).find_map(|step| free(band + (start + step) % upper)).or_else(|| (0..band).find_map(free))
    }
}

/// The allocation of one Service's ports. Upstream stops at the first port that it cannot have.
struct Ports<'a> {
    services: &'a Services,
    registry: &'a Registry,
    taken: &'a Taken,
    before: &'a Change,
    change: &'a mut Change,
    dry_run: bool,
}

impl Ports<'_> {
    fn allocate(&mut self, service: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        if matches!(service.str_at(&["spec", "type"]), "NodePort" | "LoadBalancer") {
            let allocates = needs_node_ports(service);
            let name = SmolStr::new(service.str_at(&["metadata", "name"]));
            if let Some(Value::List(ports)) = service.at_mut(&["spec", "ports"]) {
                match old {
                    None => self.first_node_ports(&name, ports, allocates)?,
                    Some(_) => self.changed_node_ports(&name, ports, allocates)?,
                }
            }
        }
        // Who had a port for health checks keeps it; validation refuses another one.
        if !needs_health_port(service) || old.is_some_and(needs_health_port) {
            return Ok(());
        }
        let wish = service.int_at(&["spec", "healthCheckNodePort"]).unwrap_or(0);
        if wish != 0 {
            return self.claim(wish, "TCP").map_err(|why| {
                Status::internal(format!("failed to allocate requested HealthCheck NodePort {wish}: {why}"))
            });
        }
        let port = self.next("TCP", "failed to allocate a HealthCheck NodePort 0")?;
        service.set(&["spec", "healthCheckNodePort"], port);
        Ok(())
    }

    /// The node ports of a new Service: the same port over another protocol gets the same node port.
    fn first_node_ports(&mut self, name: &str, ports: &mut [Value], allocates: bool) -> Result<(), Status> {
        let mut node_ports: HashMap<i64, i64> = HashMap::new();
        for at in 0..ports.len() {
            let wish = node_port(&ports[at]);
            if wish == 0 && !allocates {
                continue;
            }
            let (number, protocol) = (ports[at].int_at(&["port"]).unwrap_or(0), protocol(&ports[at]));
            let given = match node_ports.get(&number) {
                Some(&known) => {
                    if wish != 0 && wish != known {
                        self.claim(wish, &protocol).map_err(|why| refused(name, at, wish, &why))?;
                        continue;
                    }
                    self.share(known, &protocol);
                    known
                }
                None => {
                    let same = |port: &&Value| port.int_at(&["port"]).unwrap_or(0) == number;
                    let wished = ports.iter().filter(same).map(node_port).find(|port| *port != 0);
                    let given = match wished {
                        Some(wish) => {
                            self.claim(wish, &protocol).map_err(|why| refused(name, at, wish, &why))?;
                            wish
                        }
                        None => self.next(&protocol, "failed to allocate a nodePort")?,
                    };
                    node_ports.insert(number, given);
                    given
                }
            };
            ports[at].set(&["nodePort"], given);
        }
        Ok(())
    }

    /// The node ports of a changed Service.
    fn changed_node_ports(&mut self, name: &str, ports: &mut [Value], allocates: bool) -> Result<(), Status> {
        let mut claimed: Vec<i64> = Vec::new();
        let mut seen: Vec<(SmolStr, i64)> = Vec::new();
        for (at, port) in ports.iter_mut().enumerate() {
            let mut number = node_port(port);
            if number == 0 && !allocates {
                continue;
            }
            let protocol = protocol(port);
            if number == 0 {
                number = self.next(&protocol, "failed to allocate a nodePort")?;
                port.set(&["nodePort"], number);
            } else if self.before.ports.iter().any(|(had, _)| i64::from(*had) == number) || claimed.contains(&number) {
                self.share(number, &protocol);
            } else {
                self.claim(number, &protocol).map_err(|why| refused(name, at, number, &why))?;
                claimed.push(number);
            }
            let this = (protocol, number);
            if seen.contains(&this) {
                return Err(Status::plain(format!("duplicate nodePort: {{{} {}}}", this.0, this.1)));
            }
            seen.push(this);
        }
        Ok(())
    }

    /// Takes a certain port, which nobody may have.
    fn claim(&mut self, wish: i64, protocol: &str) -> Result<(), String> {
        let range = &self.services.ports;
        let Some(port) = u16::try_from(wish).ok().filter(|port| range.contains(port)) else {
            // Upstream's dry run asks only who has the port; the range of numbers is for validation then.
            if self.dry_run {
                return Ok(());
            }
            return Err(format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                range.start(),
                range.end()
            ));
        };
        if self.taken.ports.contains_key(&port) || self.change.ports.iter().any(|(taken, _)| *taken == port) {
            return Err("provided port is already allocated".into());
        }
        self.change.ports.push((port, protocol.into()));
        Ok(())
    }

    /// Notes that a port that this Service has is used over another protocol, too.
    fn share(&mut self, port: i64, protocol: &str) {
        let Ok(port) = u16::try_from(port) else { return };
        let claim = (port, SmolStr::new(protocol));
        if !self.before.ports.contains(&claim) && !self.change.ports.contains(&claim) {
            self.change.ports.push(claim);
        }
    }

    fn next(&mut self, protocol: &str, what: &str) -> Result<i64, Status> {
        match self.services.free_port(self.registry, self.taken, self.change) {
            Some(port) => {
                self.change.ports.push((port, protocol.into()));
                Ok(port.into())
            }
            None => Err(Status::internal(format!("{what}: range is full"))),
        }
    }
}

fn node_port(port: &Value) -> i64 {
    port.int_at(&["nodePort"]).unwrap_or(0)
}

fn refused(name: &str, at: usize, port: i64, why: &str) -> Status {
    let path = Path::new("spec.ports");
    let error = Error::invalid(&path.index(at).child("nodePort"), port, why);
    Status::invalid("", "Service", name, &[error])
}

impl Services {
    fn free_port(&self, registry: &Registry, taken: &Taken, change: &Change) -> Option<u16> {
        let (first, last) = (*self.ports.start(), *self.ports.end());
        let count = u64::from(last.saturating_sub(first)) + 1;
        // The lowest ports are left to those who ask for a certain one (KEP-3668).
        let band = if count < 16 { 0 } else { (count / 32).clamp(16, 128).min(count) };
        let upper = (count - band).max(1);
        let start = random(registry, upper);
        let free = |port: &u16| !taken.ports.contains_key(port) && !change.ports.iter().any(|(p, _)| p == port);
        let dynamic = (0..count - band).map(|step| band + (start + step) % upper);
        dynamic.chain(0..band).map(|offset| first + offset as u16).find(free)
    }
}

fn random(registry: &Registry, below: u64) -> u64 {
    let mut bytes = [0; 8];
    registry.world.random.fill(&mut bytes);
    u64::from_le_bytes(bytes) % below.max(1)
}

/// Fills in `ipFamilyPolicy` and `ipFamilies`, and refuses what the cluster's ranges do not allow (upstream's
/// initIPFamilyFields).
fn fill_families(service: &mut Value, old: Option<&Value>, cidrs: &[Cidr]) -> ErrorList {
    if !needs_cluster_ip(service) {
        if old.is_some_and(needs_cluster_ip) {
            service.remove(&["spec", "ipFamilies"]);
            service.remove(&["spec", "ipFamilyPolicy"]);
        }
        return ErrorList::new();
    }
    let Some(first) = cidrs.first().map(Cidr::family) else { return ErrorList::new() };
    let has_family = |family: &str| cidrs.iter().any(|cidr| cidr.family() == family);
    let policy_of = |service: &Value| SmolStr::new(service.str_at(&["spec", "ipFamilyPolicy"]));
    let prefers = |service: &Value| policy_of(service) == "PreferDualStack";
    let same =
        |old: &Value, service: &Value, field: &str| old.list_at(&["spec", field]) == service.list_at(&["spec", field]);
    let old = old.filter(|old| needs_cluster_ip(old));
    // Who prefers two families keeps what there is until something changes.
    if let Some(old) = old
        && prefers(old)
        && prefers(service)
        && same(old, service, "clusterIPs")
        && same(old, service, "ipFamilies")
    {
        return ErrorList::new();
    }
    let is_headless = service.str_at(&["spec", "clusterIP"]) == "None";
    let is_free = is_headless && service.at(&["spec", "selector"]).is_none_or(Value::is_zero);
    if service.at(&["spec", "ipFamilyPolicy"]).is_none_or(Value::is_null) {
        let known = old.map(policy_of).filter(|policy| !policy.is_empty());
        let policy = known.unwrap_or_else(|| if is_free { "RequireDualStack" } else { "SingleStack" }.into());
        service.set(&["spec", "ipFamilyPolicy"], policy);
    }
    let policy = policy_of(service);
    let mut errors = kinds::service::validate_cluster_ips(service, old);
    if !errors.is_empty() {
        return errors;
    }
    let policy_path = Path::new("spec.ipFamilyPolicy");
    let single = policy == "SingleStack";
    if let Some(old) = old {
        for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
            let (had, has) = (old.list_at(&["spec", field]).len(), service.list_at(&["spec", field]).len());
            if single && has > 1 && same(old, service, field) {
                let kept = service.list_at(&["spec", field])[..1].to_vec();
                service.set(&["spec", field], kept);
            } else if !single && had == 2 && has == 1 {
                let why = format!("must be 'SingleStack' to release the secondary {what}");
                errors.push(Error::invalid(&policy_path, policy.clone(), why));
            }
        }
    }
    let families_of = |service: &Value| -> Vec<SmolStr> {
        service.list_at(&["spec", "ipFamilies"]).iter().filter_map(|f| f.as_str().map(SmolStr::new)).collect()
    };
    let mut families = families_of(service);
    if single {
        for (count, what) in
            [(service.list_at(&["spec", "clusterIPs"]).len(), "cluster IPs"), (families.len(), "IP families")]
        {
            if count == 2 {
                let why = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
                errors.push(Error::invalid(&policy_path, policy.clone(), why));
            }
        }
    }
    for (at, ip) in service.list_at(&["spec", "clusterIPs"]).iter().enumerate() {
        let Some(Ok(ip)) = ip.as_str().map(str::parse::<IpAddr>) else { break };
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        if at < families.len() {
            continue;
        }
        if has_family(family) {
            families.push(family.into());
        } else {
            let shown = service.at(&["spec", "clusterIPs"]).cloned().unwrap_or_default();
            let why = format!("{family} is not configured on this cluster");
            errors.push(Error::invalid(&Path::new("spec.clusterIPs").index(at), shown, why));
        }
    }
    if !errors.is_empty() {
        return errors;
    }
    if !is_free {
        if policy == "RequireDualStack" && !(has_family("IPv4") && has_family("IPv6")) {
            let why = "this cluster is not configured for dual-stack services";
            errors.push(Error::invalid(&policy_path, policy.clone(), why));
        }
        for (at, family) in families.iter().enumerate().filter(|(_, family)| !has_family(family)) {
            let path = Path::new("spec.ipFamilies");
            errors.push(Error::invalid(&path.index(at), family.clone(), "not configured on this cluster"));
        }
        if !errors.is_empty() {
            return errors;
        }
    }
    if families.is_empty() {
        families.push(first.into());
    }
    if !single && families.len() == 1 {
        let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
        if is_free || has_family(other) {
            families.push(other.into());
        }
    }
    service.set(&["spec", "ipFamilies"], families.into_iter().map(Value::from).collect::<Vec<_>>());
    errors
}

/// The transaction that makes and removes the IPAddress objects of a Service.
fn address_objects(
    registry: &Registry,
    service: &Value,
    taken: &[IpAddr],
    released: &[IpAddr],
) -> Result<Option<Txn>, Status> {
    let Some(storage) = registry.storage("networking.k8s.io", "ipaddresses") else { return Ok(None) };
    let mut txn = Txn::default();
    for address in taken {
        let mut object = Value::from([("apiVersion", "networking.k8s.io/v1"), ("kind", "IPAddress")]);
        let name = address.to_string();
        object.set(&["metadata", "name"], name.as_str());
        object.set(&["metadata", "uid"], registry.world.random.uuid_v4());
        object.set(&["metadata", "creationTimestamp"], codec::time(registry.world.clock.now()));
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        object.set(&["metadata", "labels", "ipaddress.kubernetes.io/ip-family"], family);
        object.set(&["metadata", "labels", "ipaddress.kubernetes.io/managed-by"], "ipallocator.k8s.io");
        object.set(&["spec", "parentRef", "resource"], "services");
        object.set(&["spec", "parentRef", "name"], service.str_at(&["metadata", "name"]));
        object.set(&["spec", "parentRef", "namespace"], service.str_at(&["metadata", "namespace"]));
        txn = txn.and(Txn::create(storage.key("", &name), codec::encode_stored(&storage, &object)?));
    }
    for address in released {
        txn = txn.and(Txn::delete(storage.key("", &address.to_string())));
    }
    Ok((!txn.ops.is_empty()).then_some(txn))
}

/// The Service ranges as a flag states them.
///
/// # Errors
/// One line that names the part that is no range.
pub fn parse_cidrs(text: &str) -> Result<Vec<Cidr>, String> {
    text.split(',').map(|part| Cidr::parse(part.trim()).ok_or_else(|| format!("{} is no CIDR", quoted(part)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_leave_out_network_and_broadcast() {
        let cidr = Cidr::parse("10.96.0.5/29").expect("a range");
        assert_eq!(cidr.to_string(), "10.96.0.0/29");
        assert_eq!((cidr.size(), cidr.nth(0).to_string()), (6, "10.96.0.1".into()));
        assert!(!cidr.contains("10.96.0.0".parse().expect("an address")));
        assert!(cidr.contains("10.96.0.6".parse().expect("an address")));
        assert!(!cidr.contains("10.96.0.7".parse().expect("an address")));
        assert_eq!(Cidr::parse("10.96.0.0/12").map(|c| c.static_band()), Some(256));
        assert_eq!(Cidr::parse("fd00::/112").map(|c| c.nth(9).to_string()), Some("fd00::a".into()));
    }
}
