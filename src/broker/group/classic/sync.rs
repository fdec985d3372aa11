//! SyncGroup: the leader brings the assignments, and each member gets its own.

use super::{Awaits, ClassicGroup, ClassicMember, Phase, Reply, Sender};
use crate::broker::{
    Error, Result,
    group::{
        Answer, Core, Group,
        saved::{LINE_BYTES_MAX, SavedKind},
    },
};
use std::collections::HashMap;

/// What the words of a member take in the line of its group, about.
const MEMBER_BYTES: usize = 128;

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
        if let Some((core, group)) = self.assigned_by_broker(now) {
            return group.sync(core, now, &request).map(Reply::Now);
        }
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
                self.assign(request.assignments)?;
                self.phase = Phase::Stable { deadline };
                core.unsaved = true;
                self.answer_syncs(core, now);
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

    /// Keeps the leader's assignments, an empty one for members it left out.
    fn assign(&mut self, mut assignments: HashMap<String, Vec<u8>>) -> Result<()> {
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
        }
        if self.fits_a_line() {
            return Ok(());
        }
        self.members.values_mut().for_each(|member| member.assignment.clear());
        Err(Error::GroupTooLarge)
    }

    /// Whether the log takes the generation.
    fn fits_a_line(&self) -> bool {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let bytes = |(id, member): (&String, &ClassicMember)| {
            let instance = member.instance_id.as_ref().map_or(0, String::len);
            let names = id.len() + instance + member.client_id.len() + member.client_host.len();
            MEMBER_BYTES + names + member.metadata(protocol).len() + member.assignment.len()
        };
        // An escape takes four bytes. Where even that is far from too much there is no need to write the line.
        4 * self.members().map(bytes).sum::<usize>() <= LINE_BYTES_MAX / 2
            || SavedKind::Classic(self.to_saved()).fits_a_line()
    }

    /// Answers all who wait for their assignment.
    fn answer_syncs(&mut self, core: &mut Core, now: u64) {
        for member in self.members.values_mut() {
            if let Awaits::Sync(ticket) = member.awaits {
                member.awaits = Awaits::Nothing;
                member.session.restart(now);
                core.answer(ticket, Answer::Synced(Ok(member.assignment.clone())));
            }
        }
    }
}
