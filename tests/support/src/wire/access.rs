//! Adds and removes ACLs.

use std::io;
use std::net::SocketAddr;

use super::{Request, check};

const DESCRIBE_ACLS: i16 = 29;
const CREATE_ACLS: i16 = 30;
const DELETE_ACLS: i16 = 31;
const ANY_HOST: &str = "*";
const CLUSTER_NAME: &str = "kafka-cluster";

/// What a rule is about. `*` as a topic, group or transactional id means all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// The topic, group or transactional id of exactly this name.
    Topic(String),
    /// Topics whose name starts so.
    TopicPrefix(String),
    /// The consumer group of exactly this name.
    Group(String),
    /// The transactional id of exactly this name.
    TransactionalId(String),
    /// The cluster itself.
    Cluster,
}

/// What a rule allows or denies; the values are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Every operation.
    All = 2,
    /// Fetch records, join groups, commit offsets.
    Read = 3,
    /// Produce.
    Write = 4,
    /// See that it is there.
    Describe = 8,
    /// Produce idempotently without a topic to write to.
    IdempotentWrite = 12,
}

/// Whether a rule allows or denies; the values are the protocol's. A denial wins over any allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// The operation is refused.
    Deny = 2,
    /// The operation is allowed.
    Allow = 3,
}

/// One access rule for one SCRAM user, from any host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acl {
    /// The user's name, without Kafka's `User:`.
    pub user: String,
    /// What the rule is about.
    pub resource: Resource,
    /// What it allows or denies.
    pub operation: Operation,
    /// Which of both.
    pub permission: Permission,
}

impl Acl {
    /// A rule that allows.
    pub fn allow(user: &str, operation: Operation, resource: Resource) -> Self {
        let permission = Permission::Allow;
        Self { user: user.to_owned(), resource, operation, permission }
    }

    /// A rule that denies.
    pub fn deny(user: &str, operation: Operation, resource: Resource) -> Self {
        let permission = Permission::Deny;
        Self { user: user.to_owned(), resource, operation, permission }
    }

    /// Writes the rule's fields; requests to create, delete and describe share their order.
    fn write(&self, request: &mut Request) {
        const LITERAL: i8 = 3;
        const PREFIXED: i8 = 4;
        let (kind, name, pattern) = match &self.resource {
            Resource::Topic(name) => (2, name.as_str(), LITERAL),
            Resource::TopicPrefix(name) => (2, name.as_str(), PREFIXED),
            Resource::Group(name) => (3, name.as_str(), LITERAL),
            Resource::Cluster => (4, CLUSTER_NAME, LITERAL),
            Resource::TransactionalId(name) => (5, name.as_str(), LITERAL),
        };
        request.i8(kind).string(Some(name)).i8(pattern);
        request.string(Some(&format!("User:{}", self.user)));
        request.string(Some(ANY_HOST));
        request.i8(self.operation as i8).i8(self.permission as i8);
    }
}

/// Adds rules; one that is there already stays.
pub(crate) fn create(node: SocketAddr, acls: &[Acl]) -> io::Result<()> {
    let mut request = Request::new(CREATE_ACLS, 1);
    request.array(acls.len());
    for acl in acls {
        acl.write(&mut request);
    }
    let mut answer = request.send(node)?;
    answer.i32()?;
    answer.array(|result| {
        let code = result.i16()?;
        let message = result.string()?;
        check("CreateAcls", code, message.as_deref())
    })?;
    Ok(())
}

/// Removes rules; one that is gone already is no failure.
pub(crate) fn delete(node: SocketAddr, acls: &[Acl]) -> io::Result<()> {
    let mut request = Request::new(DELETE_ACLS, 1);
    request.array(acls.len());
    for acl in acls {
        acl.write(&mut request);
    }
    let mut answer = request.send(node)?;
    answer.i32()?;
    let length = answer.i32()?;
    // Only the first result is looked at further: each holds the rules it removed.
    if length > 0 {
        let code = answer.i16()?;
        let message = answer.string()?;
        check("DeleteAcls", code, message.as_deref())?;
    }
    Ok(())
}

/// Whether this node's own authorizer knows the rule. Rules reach the nodes one after the other.
pub(crate) fn knows(node: SocketAddr, acl: &Acl) -> io::Result<bool> {
    let mut request = Request::new(DESCRIBE_ACLS, 1);
    acl.write(&mut request);
    let mut answer = request.send(node)?;
    answer.i32()?;
    let code = answer.i16()?;
    let message = answer.string()?;
    check("DescribeAcls", code, message.as_deref())?;
    Ok(answer.i32()? > 0)
}
