//! Probes and lifecycle hooks.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

use crate::checks::{invalid_text, not_negative, supported};

use super::super::look::Look;

/// The three probes of a container that may have them.
pub(super) fn probes(errors: &mut ErrorList, container: &Value, grace_period: Option<i64>, path: &Path<'_>) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get(name) else { continue };
        let probe_path = path.child(name);
        self::probe(errors, probe, grace_period, &probe_path);
        if name == "readinessProbe" {
            if let Some(period) = probe.int("terminationGracePeriodSeconds") {
                let period_path = probe_path.child("terminationGracePeriodSeconds");
                errors.push(Error::invalid(&period_path, period, "must not be set for readinessProbes"));
            }
        } else if probe.int("successThreshold").unwrap_or(0) != 1 {
            let threshold = probe.int("successThreshold").unwrap_or(0);
            errors.push(Error::invalid(&probe_path.child("successThreshold"), threshold, "must be 1"));
        }
    }
}

fn probe(errors: &mut ErrorList, probe: &Value, grace_period: Option<i64>, path: &Path<'_>) {
    handler(errors, probe, &["exec", "httpGet", "tcpSocket", "grpc"], grace_period, path);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        not_negative(errors, &path.child(field), probe.int(field));
    }
    if let Some(period) = probe.int("terminationGracePeriodSeconds").filter(|period| *period <= 0) {
        errors.push(Error::invalid(&path.child("terminationGracePeriodSeconds"), period, "must be greater than 0"));
    }
}

/// A container's hooks.
pub(super) fn lifecycle(errors: &mut ErrorList, lifecycle: &Value, grace_period: Option<i64>, path: &Path<'_>) {
    for hook in ["postStart", "preStop"] {
        if let Some(action) = lifecycle.get(hook) {
            handler(errors, action, &["exec", "httpGet", "tcpSocket", "sleep"], grace_period, &path.child(hook));
        }
    }
}

/// Exactly one of the sorts of action.
fn handler(errors: &mut ErrorList, holder: &Value, sorts: &[&str], grace_period: Option<i64>, path: &Path<'_>) {
    let mut seen = false;
    for sort in sorts {
        let Some(action) = holder.get(sort) else { continue };
        let action_path = path.child(sort);
        if std::mem::replace(&mut seen, true) {
            errors.push(Error::forbidden(&action_path, "may not specify more than 1 handler type"));
            continue;
        }
        match *sort {
            "exec" if action.items("command").is_empty() => {
                errors.push(Error::required(&action_path.child("command"), ""));
            }
            "httpGet" => http_get(errors, action, &action_path),
            "tcpSocket" => port(errors, action.get("port"), &action_path.child("port")),
            "grpc" => {
                let number = action.int("port").unwrap_or(0);
                port(errors, Some(&Value::Int(number)), &action_path.child("port"));
            }
            "sleep" => sleep(errors, action.int("seconds").unwrap_or(0), grace_period, &action_path),
            _ => {}
        }
    }
    if !seen {
        errors.push(Error::required(path, "must specify a handler type"));
    }
}

fn http_get(errors: &mut ErrorList, action: &Value, path: &Path<'_>) {
    if action.text("path").is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
    }
    port(errors, action.get("port"), &path.child("port"));
    supported(errors, &path.child("scheme"), action.text("scheme"), &["HTTP", "HTTPS"]);
    for header in action.items("httpHeaders") {
        let name = header.text("name");
        invalid_text(errors, &path.child("httpHeaders"), name, names::http_header_name(name));
    }
}

/// A port by number or by name; none is the number 0.
fn port(errors: &mut ErrorList, port: Option<&Value>, path: &Path<'_>) {
    match port {
        Some(Value::Str(name)) => invalid_text(errors, path, name, names::port_name(name)),
        port => {
            let number = port.and_then(Value::as_int).unwrap_or(0);
            errors.extend(names::port_num(number).into_iter().map(|message| Error::invalid(path, number, message)));
        }
    }
}

fn sleep(errors: &mut ErrorList, seconds: i64, grace_period: Option<i64>, path: &Path<'_>) {
    // Without a grace period, that is the error to report.
    let Some(grace_period) = grace_period else { return };
    if seconds < 0 || seconds > grace_period {
        let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace_period})");
        errors.push(Error::invalid(path, seconds, why));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::core::pod::tests::pods;

    #[test]
    fn probes_and_hooks_do_one_thing() {
        pods(&expect![[r#"
                containers[0].livenessProbe = {}
                  spec.containers[0].livenessProbe: Required value: must specify a handler type
                containers[0].livenessProbe = {"httpGet":{"port":80,"path":"x","scheme":"X"}}
                  spec.containers[0].livenessProbe.httpGet.scheme: Unsupported value: "X": supported values: "HTTP", "HTTPS"
                containers[0].livenessProbe = {"httpGet":{"port":"A_"}}
                  spec.containers[0].livenessProbe.httpGet.port: Invalid value: "A_": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
                  spec.containers[0].livenessProbe.httpGet.port: Invalid value: "A_": must contain at least one letter (a-z)
                containers[0].livenessProbe = {"httpGet":{"port":80,"httpHeaders":[{"name":"a b","value":""}]}}
                  spec.containers[0].livenessProbe.httpGet.httpHeaders: Invalid value: "a b": a valid HTTP header must consist of alphanumeric characters or '-'
                containers[0].livenessProbe = {"exec":{}}
                  spec.containers[0].livenessProbe.exec.command: Required value
                containers[0].livenessProbe = {"tcpSocket":{"port":80},"exec":{"command":["a"]}}
                  spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type
                containers[0].livenessProbe = {"grpc":{"port":0}}
                  spec.containers[0].livenessProbe.grpc.port: Invalid value: 0: must be between 1 and 65535, inclusive
                containers[0].livenessProbe = {"exec":{"command":["a"]},"successThreshold":2,"terminationGracePeriodSeconds":0}
                  spec.containers[0].livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0
                  spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1
                containers[0].readinessProbe = {"exec":{"command":["a"]},"terminationGracePeriodSeconds":5}
                  spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes
                containers[0].startupProbe = {"exec":{"command":["a"]},"initialDelaySeconds":-1,"timeoutSeconds":-1,"periodSeconds":-1,"failureThreshold":-1}
                  spec.containers[0].startupProbe.initialDelaySeconds: Invalid value: -1: must be greater than or equal to 0
                  spec.containers[0].startupProbe.timeoutSeconds: Invalid value: -1: must be greater than or equal to 0
                  spec.containers[0].startupProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0
                  spec.containers[0].startupProbe.failureThreshold: Invalid value: -1: must be greater than or equal to 0
                containers[0].lifecycle = {"postStart":{}}
                  spec.containers[0].lifecycle.postStart: Required value: must specify a handler type
                containers[0].lifecycle = {"preStop":{"sleep":{"seconds":31}}}
                  spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)
                containers[0].lifecycle = {"postStart":{"exec":{"command":["a"]},"httpGet":{"port":80}}}
                  spec.containers[0].lifecycle.postStart.httpGet: Forbidden: may not specify more than 1 handler type
            "#]]);
    }
}
