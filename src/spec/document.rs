//! From bytes to a configuration document: size, depth, encoding, duplicate keys and types, each error naming its field.
//!
//! What may not live here: checks of the values against each other, which [`super::ValidSpec::new`] does.

use super::attributes::SCHEDULER_FLAGS_OF_OCI_SPEC;
use super::field::{Field, Origin};
use super::settings::{SETTINGS, Settings};
use super::{capabilities, json, typed};
use crate::error::Result;
use oci_spec::runtime::{Process, Spec};
use serde_json::{Value, json};

/// The largest `config.json`, in bytes. Docker's, with a full seccomp profile, stay below 64 KiB.
pub(crate) const MAX_CONFIG_BYTES: usize = 16 << 20;

/// Reads a `config.json` (OCI runtime specification, config.md).
///
/// Properties the specification does not know are ignored ("Runtimes MAY log unknown properties but MUST otherwise
/// ignore them", config.md), and so are the sections of other platforms.
///
/// # Errors
/// [`ErrorKind::InvalidSpec`](crate::error::ErrorKind::InvalidSpec), naming the field by its full path: the document is
/// empty, longer than [`MAX_CONFIG_BYTES`], nested deeper than [`MAX_CONFIG_DEPTH`](super::json::MAX_CONFIG_DEPTH), not
/// UTF-8, not JSON, has a key twice, lacks a required property, or holds a value of the wrong type.
pub(crate) fn parse(bytes: &[u8]) -> Result<Spec> {
    parse_with_settings(bytes).map(|(spec, _)| spec)
}

/// As [`parse`], with what [`SETTINGS`] says.
pub(crate) fn parse_with_settings(bytes: &[u8]) -> Result<(Spec, Settings)> {
    let document = Field::document(Origin::ConfigJson);
    let mut value = read(&document, bytes)?;
    let mut settings = Settings::default();
    if let Value::Object(properties) = &mut value {
        if let Some(value) = properties.remove(SETTINGS) {
            settings = typed::read(&document.key(SETTINGS), &value)?;
        }
        for section in OTHER_PLATFORMS {
            properties.remove(*section);
        }
        if let Some(process) = properties.get_mut("process") {
            complete_process(&document.key("process"), process);
        }
    }
    Ok((typed::read(&document, &value)?, settings))
}

/// Reads a document with the `process` of a configuration.
///
/// # Errors
/// As for [`parse`]. Paths begin with `process`.
pub(crate) fn parse_process(bytes: &[u8]) -> Result<Process> {
    let document = Field::document(Origin::Exec);
    let mut value = read(&document, bytes)?;
    let process = document.key("process");
    complete_process(&process, &mut value);
    typed::read(&process, &value)
}

fn read(document: &Field<'_>, bytes: &[u8]) -> Result<Value> {
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
    json::read(document, text)
}

/// Makes of a `process` what `oci-spec` reads.
fn complete_process(field: &Field<'_>, process: &mut Value) {
    give_user(process);
    rename_scheduler_flags(process);
    capabilities::drop_unknown(field, process);
}

/// The user and group that are left out are 0, as runc has it.
fn give_user(process: &mut Value) {
    let Value::Object(process) = process else { return };
    let user = process.entry("user").or_insert(Value::Null);
    if user.is_null() {
        *user = json!({});
    }
    if let Value::Object(user) = user {
        for id in ["uid", "gid"] {
            let id = user.entry(id).or_insert(Value::Null);
            if id.is_null() {
                *id = json!(0);
            }
        }
    }
}

/// Gives flags of the scheduler the names that `oci-spec` reads.
fn rename_scheduler_flags(process: &mut Value) {
    let flags = process.pointer_mut("/scheduler/flags").and_then(Value::as_array_mut);
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
