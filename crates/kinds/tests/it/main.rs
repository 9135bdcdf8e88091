//! What must hold of every kind.

mod every_kind;
