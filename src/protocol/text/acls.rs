//! ACL: rules, who may do what.

use super::{
    Answered, Flow, Refusal, Session,
    words::{Words, text},
};
use crate::{
    log::record::{shown, write_word},
    protocol::connection::Output,
    security::{Acl, AclFilter, Operation, PatternFilter, Permission, ResourceType},
};

/// What a rule is told by, and looked for: a line of the list, behind ACL add or ACL delete, makes or deletes that rule.
const FIELDS: [&str; 7] = ["resource", "pattern", "name", "principal", "host", "operation", "permission"];

impl Session {
    /// `ACL add|list|delete [<field>:<value>]...`
    pub(super) fn acl(&mut self, mut words: Words<'_>, output: &mut Output<'_>) -> Answered {
        let job = words.expect("ACL takes add, list or delete; it")?;
        let asked = asked(words)?;
        match job {
            b"add" => {
                self.broker.create_acls(&[asked.rule().map_err(Refusal::invalid)?])?;
                output.bytes.extend_from_slice(b"OK\n");
            }
            b"list" => write(&self.broker.acls(&asked)?, &mut output.bytes),
            b"delete" if asked.is_any() => {
                return Err(Refusal::invalid("say which, such as principal:User:alice").into());
            }
            b"delete" => write(&self.broker.delete_acls(&[asked])?.concat(), &mut output.bytes),
            other => {
                return Err(Refusal::invalid(format!("ACL takes add, list or delete, not '{}'", shown(other))).into());
            }
        }
        Ok(Flow::Next)
    }
}

/// What stands behind the verb.
fn asked(words: Words<'_>) -> Result<AclFilter, Refusal> {
    let [resource_type, pattern, name, principal, host, operation, permission] = words.named(FIELDS)?;
    let own = |field: &str, word: Option<&[u8]>| word.map(|word| text(field, word)).transpose();
    Ok(AclFilter {
        resource_type: known("resource", resource_type, ResourceType::of_name)?,
        pattern: known("pattern", pattern, PatternFilter::of_name)?.unwrap_or_default(),
        name: own("name", name)?,
        principal: own("principal", principal)?,
        host: own("host", host)?,
        operation: known("operation", operation, Operation::of_name)?,
        permission: known("permission", permission, Permission::of_name)?,
    })
}

/// What a word names.
fn known<T>(field: &str, word: Option<&[u8]>, of_name: fn(&str) -> Option<T>) -> Result<Option<T>, Refusal> {
    let why = |word| Refusal::invalid(format!("'{}' is no {field} of rules", shown(word)));
    word.map(|word| std::str::from_utf8(word).ok().and_then(of_name).ok_or_else(|| why(word))).transpose()
}

fn write(acls: &[Acl], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("ACL count:{}\n", acls.len()).as_bytes());
    for Acl { resource_type, pattern, name, principal, host, operation, permission } in acls {
        let values: [&str; 7] =
            [resource_type.name(), pattern.name(), name, principal, host, operation.name(), permission.name()];
        for (at, (field, value)) in FIELDS.iter().zip(values).enumerate() {
            out.extend_from_slice(format!("{}{field}:", if at > 0 { " " } else { "" }).as_bytes());
            write_word(out, value.as_bytes());
        }
        out.push(b'\n');
    }
}
