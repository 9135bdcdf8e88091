//! Every back end against the suite.

mod conformance;
mod crashes;
mod damage;
mod embedded;
mod histories;
mod kill;
