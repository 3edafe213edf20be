//! The requests to systemd (org.freedesktop.systemd1(5)).

use super::bus::converse;
use crate::error::{Error, ErrorKind, Result};
use crate::host::facts::{Manager, ScopeUnit, ServiceManager};
use crate::plan::cgroup::{Property, PropertyValue, ScopePlan};
use futures_lite::StreamExt;
use serde::Serialize;
use std::path::PathBuf;
use zbus::message::{Message, Type};
use zbus::zvariant::{DynamicType, OwnedObjectPath, OwnedValue, Value};
use zbus::{Connection, MatchRule, MessageStream};

const SERVICE: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A property of a unit, as it is sent: `(sv)`.
type Sent<'a> = (&'a str, Value<'a>);

/// The manager for this caller, and where its units are: the host's for root, the user's own for other users.
pub(crate) fn find() -> ServiceManager {
    let manager = if rustix::process::geteuid().is_root() { Manager::System } else { Manager::User };
    let found = converse(manager, async |connection| {
        let reply = call(connection, PROPERTIES, "Get", &(MANAGER, "ControlGroup")).await?;
        let value: OwnedValue = read(&reply)?;
        String::try_from(value).map_err(|error| misbehaved(&error))
    });
    match found {
        // PID 1's own is "" or "/".
        Ok(path) => ServiceManager::Running { manager, control_group: PathBuf::from(format!("/{path}")) },
        Err(error) => ServiceManager::Unreachable { why: error.to_string() },
    }
}

/// Starts the scope with the process `pid` in it, and waits until it is there.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] if there is such a unit; else the error of systemd.
pub(crate) fn start(scope: &ScopePlan, pid: i32) -> Result<()> {
    let pids = [pid.cast_unsigned()];
    let mut properties: Vec<Sent<'_>> = vec![
        ("Description", Value::from(format!("cofferdam container {}", scope.unit.name))),
        ("Slice", Value::from(scope.slice.as_str())),
        ("PIDs", Value::from(pids.as_slice())),
        // "systemd won't fiddle with your sub-tree of the cgroup tree anymore" - systemd.io, CGROUP_DELEGATION.
        ("Delegate", Value::from(true)),
        // No order relative to other units: the scope is not part of the host's boot.
        ("DefaultDependencies", Value::from(false)),
        // A container that failed leaves no failed unit.
        ("CollectMode", Value::from("inactive-or-failed")),
    ];
    for accounting in ["CPUAccounting", "IOAccounting", "MemoryAccounting", "TasksAccounting"] {
        properties.push((accounting, Value::from(true)));
    }
    properties.extend(scope.properties.iter().map(sent));
    let auxiliary: [(&str, Vec<Sent<'_>>); 0] = [];
    let arguments = (scope.unit.name.as_str(), "fail", properties, auxiliary.as_slice());
    converse(scope.unit.manager, async |connection| {
        run_job(connection, "StartTransientUnit", &arguments).await
    })
}

/// Changes properties of the unit until the next boot. The unit itself lasts no longer.
pub(crate) fn set_properties(unit: &ScopeUnit, properties: &[Property]) -> Result<()> {
    let properties: Vec<Sent<'_>> = properties.iter().map(sent).collect();
    let arguments = (unit.name.as_str(), true, properties);
    converse(unit.manager, async |connection| {
        call(connection, MANAGER, "SetUnitProperties", &arguments).await.map(drop)
    })
}

/// Stops the unit and resets its failed state. A unit or a manager that is gone is not an error: systemd removes a
/// scope by itself when its processes have ended.
pub(crate) fn remove(unit: &ScopeUnit) -> Result<()> {
    let gone_is_fine = |result: Result<()>| match result {
        Err(error) if *error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    };
    let removed = converse(unit.manager, async |connection| {
        let name = unit.name.as_str();
        gone_is_fine(run_job(connection, "StopUnit", &(name, "replace")).await)?;
        gone_is_fine(call(connection, MANAGER, "ResetFailedUnit", &(name)).await.map(drop))
    });
    match removed {
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported { feature } if feature == "D-Bus") => {
            tracing::debug!(%error, unit = unit.name, "no manager to ask about the scope");
            Ok(())
        }
        removed => removed,
    }
}

/// Calls a method that begins a job, and waits for the job's end.
async fn run_job<B>(connection: &Connection, method: &'static str, arguments: &B) -> Result<()>
where
    B: Serialize + DynamicType,
{
    // Before the call: the job may be done before its reply is read.
    call(connection, MANAGER, "Subscribe", &()).await?;
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .path(OBJECT)
        .and_then(|rule| rule.interface(MANAGER))
        .and_then(|rule| rule.member("JobRemoved"))
        .map_err(|error| misbehaved(&error))?
        .build();
    let ended = MessageStream::for_match_rule(rule, connection, None).await;
    let mut ended = ended.map_err(|error| failed("AddMatch", error))?;
    let job: OwnedObjectPath = read(&call(connection, MANAGER, method, arguments).await?)?;
    while let Some(message) = ended.next().await {
        let message = message.map_err(|error| failed(method, error))?;
        let (_, path, unit, result): (u32, OwnedObjectPath, String, String) = read(&message)?;
        if path == job {
            return match result.as_str() {
                "done" => Ok(()),
                _ => {
                    Err(Error::new(ErrorKind::HelperDied, method, format!("the job of {unit} is {result:?}")))
                }
            };
        }
    }
    Err(Error::new(ErrorKind::HelperDied, method, "the bus went away"))
}

async fn call<B>(
    connection: &Connection,
    interface: &'static str,
    method: &'static str,
    arguments: &B,
) -> Result<Message>
where
    B: Serialize + DynamicType,
{
    let reply = connection.call_method(Some(SERVICE), OBJECT, Some(interface), method, arguments).await;
    reply.map_err(|error| failed(method, error))
}

fn read<T>(message: &Message) -> Result<T>
where
    T: for<'d> zbus::zvariant::DynamicDeserialize<'d>,
{
    message.body().deserialize().map_err(|error| misbehaved(&error))
}

fn sent(property: &Property) -> Sent<'_> {
    let value = match &property.value {
        PropertyValue::Number(number) => Value::from(*number),
        PropertyValue::Mask(mask) => Value::from(mask.as_slice()),
    };
    (&property.name, value)
}

fn misbehaved(problem: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::PeerMisbehaved, "systemd", problem.to_string())
}

/// The error that the bus or systemd answered.
fn failed(method: &'static str, error: zbus::Error) -> Error {
    let zbus::Error::MethodError(name, text, _) = &error else {
        return Error::new(ErrorKind::PeerMisbehaved, method, error.to_string()).because(error);
    };
    let message = format!("{name}: {}", text.as_deref().unwrap_or("no reason given"));
    let kind = match name.as_str() {
        "org.freedesktop.systemd1.UnitExists" => ErrorKind::AlreadyExists,
        "org.freedesktop.systemd1.NoSuchUnit" => ErrorKind::NotFound,
        "org.freedesktop.DBus.Error.AccessDenied"
        | "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired" => ErrorKind::Os(libc::EPERM),
        // The bus answers, but systemd is not on it.
        "org.freedesktop.DBus.Error.ServiceUnknown" | "org.freedesktop.DBus.Error.NameHasNoOwner" => {
            ErrorKind::Unsupported { feature: "D-Bus".into() }
        }
        _ => ErrorKind::PeerMisbehaved,
    };
    Error::new(kind, method, message).because(error)
}
