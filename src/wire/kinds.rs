//! The number of every message type.

use super::frame::Message;
use super::{boot, control, files, init};

macro_rules! kinds {
    ($($number:literal => $module:ident::$message:ident,)*) => {
        $(impl Message for $module::$message {
            const KIND: u16 = $number;
        })*

        /// Shows every message type to `visitor`.
        #[cfg(any(test, fuzzing))]
        pub(crate) fn visit_all(visitor: &mut impl Visitor) {
            $(visitor.visit::<$module::$message>(stringify!($message));)*
        }
    };
}

// Append, and never give a number away again: a sandbox lives through an upgrade of its callers. 17 was a type's that is
// gone.
kinds! {
    1 => control::Request,
    2 => control::Reply,
    3 => boot::GoferStart,
    4 => boot::SandboxReport,
    5 => init::MountBatch,
    6 => control::ExecReply,
    7 => init::ExecHello,
    8 => control::SandboxEvent,
    9 => init::ListenerTaken,
    10 => init::MountReport,
    11 => boot::SandboxStart,
    12 => boot::ForkRequest,
    13 => boot::ForkReply,
    14 => init::EndedAttached,
    15 => boot::GoferReport,
    16 => init::JoinNetwork,
    18 => init::InitReport,
    19 => init::StartReport,
    20 => files::FileRequest,
    21 => files::FileReply,
    22 => files::WorkerReport,
    23 => boot::ZygoteReport,
    24 => boot::RunnerReport,
    25 => boot::HookRefused,
    26 => control::ProcessEnded,
    27 => control::WaitReply,
    28 => control::MountReply,
    29 => init::RootAssembled,
    30 => init::HooksDone,
    31 => init::ExecReport,
    32 => control::KillTree,
    33 => init::BecomeReaper,
    34 => init::ReaperFailed,
    35 => init::LeafEmpty,
    36 => init::InitRequest,
    37 => init::JobReport,
    38 => control::EndCheckpointed,
    39 => init::Found,
}

/// Something to do with every message type.
#[cfg(any(test, fuzzing))]
pub(crate) trait Visitor {
    fn visit<M: Message + PartialEq + std::fmt::Debug>(&mut self, name: &'static str);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_message_type_has_a_number_of_its_own() {
        struct Numbers(BTreeMap<u16, &'static str>);
        impl Visitor for Numbers {
            fn visit<M: Message + PartialEq + std::fmt::Debug>(&mut self, name: &'static str) {
                let before = self.0.insert(M::KIND, name);
                assert_eq!(before, None, "{} is {name}'s and another's", M::KIND);
            }
        }
        let mut numbers = Numbers(BTreeMap::new());
        visit_all(&mut numbers);
        assert!(numbers.0.len() > 30, "{:?}", numbers.0);
    }
}
