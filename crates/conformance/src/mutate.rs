//! Changes valid objects field by field, and compares what two servers make of them.
