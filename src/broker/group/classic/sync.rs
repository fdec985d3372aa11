//! SyncGroup: the leader brings the assignments, and each member gets its own.

use super::{Awaits, ClassicGroup, Phase, Reply, Sender};
use crate::broker::{
    Error, Result,
    group::{Answer, Core, Group},
};
use std::collections::HashMap;

/// A SyncGroup request.
#[derive(Debug)]
pub struct SyncRequest<'a> {
    /// Who asks.
    pub sender: Sender<'a>,
    /// The generation that it joined.
    pub generation: i32,
    /// Since v5: the protocol type that it was told.
    pub protocol_type: Option<&'a str>,
    /// Since v5: the protocol that it was told.
    pub protocol: Option<&'a str>,
    /// From the leader: each member's assignment.
    pub assignments: HashMap<String, Vec<u8>>,
}

impl Group {
    /// SyncGroup: a member asks for its assignment.
    pub fn sync_group(&mut self, now: u64, request: SyncRequest<'_>) -> Result<Reply<Vec<u8>>> {
        let (core, members) = self.classic(now)?;
        members.known(request.sender)?;
        members.of_generation(core, request.generation)?;
        if request.protocol_type.is_some_and(|is| is != members.protocol_type)
            || request.protocol.is_some_and(|is| Some(is) != members.protocol.as_deref())
        {
            return Err(Error::InconsistentGroupProtocol);
        }
        members.sync(core, now, request)
    }
}

impl ClassicGroup {
    fn sync(&mut self, core: &mut Core, now: u64, request: SyncRequest<'_>) -> Result<Reply<Vec<u8>>> {
        let member_id = request.sender.member_id;
        match self.phase {
            Phase::Empty => Err(Error::UnknownMemberId),
            Phase::PreparingRebalance { .. } | Phase::InitialRebalance(_) => Err(Error::RebalanceInProgress),
            Phase::Stable { .. } => Ok(Reply::Now(self.assigned(now, member_id))),
            Phase::CompletingRebalance { deadline } if self.leader.as_deref() == Some(member_id) => {
                self.phase = Phase::Stable { deadline };
                self.assign(core, now, request.assignments);
                Ok(Reply::Now(self.assigned(now, member_id)))
            }
            Phase::CompletingRebalance { .. } => {
                let ticket = core.ticket();
                let member = self.member(member_id);
                member.end_wait(core, now, Error::RebalanceInProgress);
                (member.awaits, member.synced) = (Awaits::Sync(ticket), true);
                member.session.pause();
                Ok(Reply::Later(ticket))
            }
        }
    }

    /// A member's assignment in a stable group.
    fn assigned(&mut self, now: u64, member_id: &str) -> Vec<u8> {
        let member = self.member(member_id);
        member.synced = true;
        member.heard(now);
        member.assignment.clone()
    }

    /// Keeps the leader's assignments, an empty one for members it left out, and answers all who wait for theirs.
    fn assign(&mut self, core: &mut Core, now: u64, mut assignments: HashMap<String, Vec<u8>>) {
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
            if let Awaits::Sync(ticket) = member.awaits {
                member.awaits = Awaits::Nothing;
                member.session.restart(now);
                core.answer(ticket, Answer::Synced(Ok(member.assignment.clone())));
            }
        }
    }
}
