//! From bytes to a configuration document: size, depth, encoding, duplicate keys and types, each error naming its field.
//!
//! What may not live here: checks of the values against each other, which [`super::ValidSpec::new`] does.

use super::attributes::SCHEDULER_FLAGS_OF_OCI_SPEC;
use super::field::{Field, Origin};
use super::{capabilities, json, typed};
use crate::error::Result;
use oci_spec::runtime::Spec;
use serde_json::Value;

/// The largest `config.json`, in bytes. Docker's, with a full seccomp profile, stay below 64 KiB.
pub(crate) const MAX_CONFIG_BYTES: usize = 16 << 20;

/// Reads a `config.json` (OCI runtime specification, config.md).
///
/// Properties the specification does not know are ignored ("Runtimes MAY log unknown properties but MUST otherwise
/// ignore them", config.md), and so are the sections of other platforms.
///
/// # Errors
/// [`ErrorKind::InvalidSpec`](crate::error::ErrorKind::InvalidSpec), naming the field by its full path: the document is
/// empty, longer than [`MAX_CONFIG_BYTES`], nested deeper than [`MAX_CONFIG_DEPTH`](super::json::MAX_CONFIG_DEPTH), not UTF-8, not JSON, has a key
/// twice, lacks a required property, or holds a value of the wrong type.
pub(crate) fn parse(bytes: &[u8]) -> Result<Spec> {
    let document = Field::document(Origin::ConfigJson);
    // Check the size before anything is parsed.
    if bytes.len() > MAX_CONFIG_BYTES {
        return Err(
            document.error(format_args!("is {} bytes long, the limit is {MAX_CONFIG_BYTES}", bytes.len()))
        );
    }
    if bytes.trim_ascii().is_empty() {
        return Err(document.error("is empty"));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| document.error(format_args!("is not UTF-8 at byte {}", error.valid_up_to())))?;
    let mut value = json::read(&document, text)?;
    if let Value::Object(properties) = &mut value {
        for section in OTHER_PLATFORMS {
            properties.remove(*section);
        }
    }
    rename_scheduler_flags(&mut value);
    capabilities::check_names(&document, &value)?;
    typed::read(&document, &value)
}

/// Gives flags of the scheduler the names that `oci-spec` reads.
fn rename_scheduler_flags(document: &mut Value) {
    let flags = document.pointer_mut("/process/scheduler/flags").and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        let known = SCHEDULER_FLAGS_OF_OCI_SPEC.iter().find(|(name, _)| flag.as_str() == Some(name));
        if let Some((_, name)) = known {
            *flag = Value::from(*name);
        }
    }
}

/// Sections this crate has no use for. `uidMappings` and `gidMappings` are not in the specification at the top level,
/// but `oci-spec` would check their types.
const OTHER_PLATFORMS: &[&str] = &["solaris", "windows", "vm", "zos", "uidMappings", "gidMappings"];
