//! Every kind that has behaviour of its own.

use crate::{
    Kind, apps, autoscaling, batch, coordination, core, discovery, events, flowcontrol, networking, node, policy, rbac,
    scheduling, storage,
};

/// The rows, by group and name.
pub const ALL: &[&dyn Kind] = &[
    &core::binding::Binding,
    &core::componentstatus::ComponentStatus,
    &core::configmap::ConfigMap,
    &core::endpoints::Endpoints,
    &core::event::Event,
    &core::limitrange::LimitRange,
    &core::namespace::Namespace,
    &core::node::Node,
    &core::persistentvolume::PersistentVolume,
    &core::persistentvolumeclaim::PersistentVolumeClaim,
    &core::pod::Pod,
    &core::podtemplate::PodTemplate,
    &core::replicationcontroller::ReplicationController,
    &core::resourcequota::ResourceQuota,
    &core::secret::Secret,
    &core::service::Service,
    &core::serviceaccount::ServiceAccount,
    &apps::controllerrevision::ControllerRevision,
    &apps::daemonset::DaemonSet,
    &apps::deployment::Deployment,
    &apps::replicaset::ReplicaSet,
    &apps::statefulset::StatefulSet,
    &autoscaling::horizontalpodautoscaler::HorizontalPodAutoscaler,
    &batch::cronjob::CronJob,
    &batch::job::Job,
    &coordination::lease::Lease,
    &discovery::endpointslice::EndpointSlice,
    &events::event::Event,
    &flowcontrol::flowschema::FlowSchema,
    &flowcontrol::prioritylevelconfiguration::PriorityLevelConfiguration,
    &networking::ingress::Ingress,
    &networking::ingressclass::IngressClass,
    &networking::ipaddress::IpAddress,
    &networking::networkpolicy::NetworkPolicy,
    &networking::servicecidr::ServiceCidr,
    &node::runtimeclass::RuntimeClass,
    &policy::poddisruptionbudget::PodDisruptionBudget,
    &rbac::clusterrole::ClusterRole,
    &rbac::clusterrolebinding::ClusterRoleBinding,
    &rbac::role::Role,
    &rbac::rolebinding::RoleBinding,
    &scheduling::priorityclass::PriorityClass,
    &storage::csidriver::CsiDriver,
    &storage::csinode::CsiNode,
    &storage::csistoragecapacity::CsiStorageCapacity,
    &storage::storageclass::StorageClass,
    &storage::volumeattachment::VolumeAttachment,
    &storage::volumeattributesclass::VolumeAttributesClass,
];

/// The behaviour of a resource, if it has any of its own.
pub fn find(group: &str, resource: &str) -> Option<&'static dyn Kind> {
    ALL.iter().copied().find(|kind| kind.group() == group && kind.resource() == resource)
}
