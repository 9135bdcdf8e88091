//! Every kind that has behaviour of its own.

use crate::{Kind, coordination, core, discovery, events, networking, rbac};

/// The rows, by group and name.
pub const ALL: &[&dyn Kind] = &[
    &core::configmap::ConfigMap,
    &coordination::lease::Lease,
    &discovery::endpointslice::EndpointSlice,
    &events::event::Event,
    &networking::ingress::Ingress,
    &networking::ingressclass::IngressClass,
    &networking::ipaddress::IpAddress,
    &networking::networkpolicy::NetworkPolicy,
    &networking::servicecidr::ServiceCidr,
    &rbac::clusterrole::ClusterRole,
    &rbac::clusterrolebinding::ClusterRoleBinding,
    &rbac::role::Role,
    &rbac::rolebinding::RoleBinding,
];

/// The behaviour of a resource, if it has any of its own.
pub fn find(group: &str, resource: &str) -> Option<&'static dyn Kind> {
    ALL.iter().copied().find(|kind| kind.group() == group && kind.resource() == resource)
}
