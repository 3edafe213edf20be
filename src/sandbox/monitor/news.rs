//! Telling of what happens to a container, to whoever asked for it.

use super::client::Role;
use super::{ContainerState, Key, Monitor};
use crate::cgroup::OomWatch;
use crate::wire::control::SandboxEvent;

impl Monitor {
    /// Sends on what has happened since. Who does not read loses it, and the connection with it.
    pub(super) fn tell(&mut self) {
        for (key, container) in &mut self.containers {
            let news = std::mem::take(&mut container.news);
            if news.is_empty() {
                continue;
            }
            self.clients.retain(|(_, client)| {
                client.role != Role::SandboxEvent(*key)
                    || news.iter().all(|news| client.channel.send_now(news, &[]).is_ok())
            });
        }
    }

    /// The kernel has killed, or is about to, in this container.
    pub(super) fn hear_of_oom(&mut self, key: Key) {
        self.container(key).look_for_oom();
    }
}

impl ContainerState {
    /// Whether the kernel has killed since this was looked at last, which is news if so.
    pub(super) fn look_for_oom(&mut self) {
        if self.oom.as_mut().is_some_and(OomWatch::happened) {
            self.news.push(SandboxEvent::OutOfMemory);
        }
    }
}
