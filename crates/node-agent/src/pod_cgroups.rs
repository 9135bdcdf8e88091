//! The cgroups of Pods, by the cgroupfs driver: `<root>/kubepods[/burstable|/besteffort]/pod<uid>`.

use std::collections::HashMap;

use ::cgroups::{Hierarchy, Limits};
use parking_lot::Mutex;

use crate::pod::Pod;
use crate::resources::{self, QosClass};
use crate::worker::PodCgroups;

/// Makes and removes cgroups.
pub struct Cgroups {
    hierarchy: Hierarchy,
    /// What was last written, so that nothing is written twice.
    written: Mutex<HashMap<String, Limits>>,
    /// How many processes a Pod may have; none is no limit (`podPidsLimit`).
    pids_max: Option<i64>,
}

impl Cgroups {
    /// Cgroups of the machine.
    ///
    /// # Errors
    /// If the machine has none.
    pub fn new(pids_max: Option<i64>) -> Result<Cgroups, ::cgroups::Error> {
        Ok(Cgroups { hierarchy: Hierarchy::detect()?, written: Mutex::default(), pids_max })
    }

    fn limits(&self, pod: &Pod) -> Limits {
        let resources = resources::pod_resources(pod);
        let positive = |value: i64| Some(value).filter(|value| *value > 0);
        Limits {
            cpu_shares: u64::try_from(resources.cpu_shares).ok(),
            cpu_quota: positive(resources.cpu_quota).or(Some(-1)),
            cpu_period: u64::try_from(resources.cpu_period).ok(),
            memory: positive(resources.memory_limit_in_bytes).or(Some(-1)),
            pids: self.pids_max,
            ..Limits::default()
        }
    }
}

impl PodCgroups for Cgroups {
    fn ensure(&self, cgroup: &str, pod: &Pod) -> Result<(), String> {
        let limits = self.limits(pod);
        let group = self.hierarchy.cgroup(cgroup);
        if self.written.lock().get(cgroup) == Some(&limits) && group.exists() {
            return Ok(());
        }
        let made = group.create().and_then(|()| {
            // The class above is weighed against the others: those who ask for nothing get what is left.
            if resources::qos_class(pod) == QosClass::BestEffort
                && let Some((parent, _)) = cgroup.rsplit_once('/')
            {
                let least = Limits { cpu_shares: Some(2), ..Limits::default() };
                self.hierarchy.cgroup(parent).set(&least)?;
            }
            group.set(&limits)
        });
        made.map_err(|error| {
            format!(
                "failed to ensure that the pod: {} cgroups exist and are correctly applied: {}",
                pod.uid(),
                chain(&error)
            )
        })?;
        self.written.lock().insert(cgroup.to_owned(), limits);
        Ok(())
    }

    fn remove(&self, cgroup: &str) -> Result<(), String> {
        self.written.lock().remove(cgroup);
        let group = self.hierarchy.cgroup(cgroup);
        if !group.exists() {
            return Ok(());
        }
        // What a container left behind in spite of all has no business there any more.
        group.kill().and_then(|()| group.remove()).map_err(|error| chain(&error))
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
