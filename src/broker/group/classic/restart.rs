//! A classic group over a restart: a generation that its leader has assigned is there again, with every member.
//!
//! What came after it and was not assigned yet is not kept, as in Kafka: members who joined it are told that they ask for
//! another generation than the present one, and join again.

use super::{Awaits, ClassicGroup, ClassicMember, Phase, Protocol, subscription};
use crate::broker::group::{
    CONSUMERS, SessionTimer,
    saved::{SavedClassic, SavedMember},
};

impl ClassicGroup {
    /// What of it outlives a restart.
    pub(super) fn to_saved(&self) -> SavedClassic {
        self.saved_under(self.protocol.clone())
    }

    /// The members as a group takes them over whose partitions the broker assigns; `None`: there are none, or it could not read
    /// what they subscribe to.
    pub(in crate::broker::group) fn to_upgrade(&self) -> Option<SavedClassic> {
        if self.members.is_empty() || self.protocol_type != CONSUMERS {
            return None;
        }
        let chosen = self.protocol.clone().or_else(|| self.choose_protocol())?;
        let can_be_read = |(_, member): (_, &ClassicMember)| subscription::read(member.metadata(&chosen)).is_some();
        self.members().all(can_be_read).then(|| self.saved_under(Some(chosen)))
    }

    fn saved_under(&self, chosen: Option<String>) -> SavedClassic {
        let protocol = chosen.as_deref().unwrap_or_default();
        let saved = |(member_id, member): (&String, &ClassicMember)| SavedMember {
            member_id: member_id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            session_timeout_ms: member.session.timeout_ms,
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            subscription: member.metadata(protocol).to_vec(),
            assignment: member.assignment.clone(),
        };
        SavedClassic {
            protocol_type: self.protocol_type.clone(),
            leader: self.leader.clone(),
            members: self.members().map(saved).collect(),
            protocol: chosen,
        }
    }

    /// The group as it is when the broker starts again at `now`.
    pub(in crate::broker::group) fn restore(now: u64, saved: SavedClassic) -> ClassicGroup {
        let SavedClassic { protocol_type, protocol, leader, members } = saved;
        let instance = |member: &SavedMember| Some((member.instance_id.clone()?, member.member_id.clone()));
        let statics = members.iter().filter_map(instance).collect();
        let phase = if members.is_empty() { Phase::Empty } else { Phase::Stable { deadline: now } };
        let restore = |saved: SavedMember| {
            // Only the protocol that was chosen is known. Whoever joins again brings all of its own.
            let name = protocol.clone().unwrap_or_default();
            let member = ClassicMember {
                instance_id: saved.instance_id,
                client_id: saved.client_id,
                client_host: saved.client_host,
                session: SessionTimer::new(now, saved.session_timeout_ms),
                rebalance_timeout_ms: saved.rebalance_timeout_ms,
                protocols: vec![Protocol { name, metadata: saved.subscription }],
                assignment: saved.assignment,
                is_new: false,
                synced: true,
                awaits: Awaits::Nothing,
            };
            (saved.member_id, member.into())
        };
        let members = members.into_iter().map(restore).collect();
        ClassicGroup { phase, protocol_type, protocol, leader, members, statics, ..ClassicGroup::default() }
    }
}
