//! The kubox program from outside: real processes, real clients, recorded conversations of a real kube-apiserver.

mod clients;
mod conversations;
mod flags;
mod harness;
mod helm;
mod hostile;
mod kills;
mod kube_client;
mod node;
mod python;
mod quotas;
mod stopping;
mod verdicts;
mod wire;
