//! Parses command-line values such as `1.5s`, `64m`, `1000:1000` and `KEY=value`.

#![allow(dead_code, reason = "each example includes this file and uses some of its functions")]

use std::time::Duration;

/// A number of seconds, or of the unit that follows it: ms, s, m or h.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let unit = units.into_iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let (number, seconds) = unit.unwrap_or((text, 1.0));
    let number: f64 =
        number.parse().map_err(|_| "is not a number, alone or followed by ms, s, m or h".to_owned())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

/// A number of bytes, or of the unit that follows it: k, m or g, in upper or lower case.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let units = [("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30)];
    let unit = units.into_iter().find_map(|(unit, bytes)| Some((lower.strip_suffix(unit)?, bytes)));
    let (number, bytes) = unit.unwrap_or((&lower, 1));
    let number: u64 =
        number.parse().map_err(|_| "is not a number of bytes, alone or followed by k, m or g".to_owned())?;
    number.checked_mul(bytes).ok_or_else(|| "is too large".to_owned())
}

/// An environment variable, `KEY=value`.
pub(crate) fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("needs K=V")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A user or group id: a decimal number, without a sign or a leading zero.
pub(crate) fn id(text: &str) -> Result<u32, String> {
    let plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    let id = text.parse().ok().filter(|_| plain);
    id.ok_or_else(|| format!("{text:?} is not a numeric user or group id"))
}

/// The ids in `UID` or `UID:GID`.
pub(crate) fn user(text: &str) -> Result<(u32, Option<u32>), String> {
    match text.split_once(':') {
        Some((uid, gid)) => Ok((id(uid)?, Some(id(gid)?))),
        None => Ok((id(text)?, None)),
    }
}
