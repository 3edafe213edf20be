//! From bytes to a configuration document: size, depth, encoding, duplicate keys and types, each error naming its field.

/// The largest `config.json`, in bytes.
pub const MAX_CONFIG_BYTES: usize = 16 << 20;
/// The deepest nesting of a `config.json`.
pub const MAX_CONFIG_DEPTH: usize = 64;
