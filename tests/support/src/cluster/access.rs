//! Changes users and access rules while the cluster runs.

use std::time::Duration;

use super::{Acl, Cluster, node::Node};
use crate::eventually::eventually;
use crate::wire::{access, scram};

const SPREAD_BOUND: Duration = Duration::from_secs(30);

impl Cluster {
    /// Makes a SCRAM user without any right, or gives a known one a new password. Connections that are already
    /// authenticated stay until they have to authenticate again: 10 s at most over SASL_SSL.
    pub fn set_password(&self, user: &str, password: &str) {
        self.ask("a password to be set", |node| scram::set_passwords(node, &[(user, password)]));
    }

    /// Removes a SCRAM user.
    pub fn remove_user(&self, user: &str) {
        self.ask("a user to be removed", |node| scram::remove_user(node, user));
    }

    /// Adds an access rule and waits until every node that runs goes by it.
    pub fn add_acl(&self, acl: &Acl) {
        let acls = [acl.clone()];
        self.ask("a rule to be added", |node| access::create(node, &acls));
        self.await_acl(acl, true);
    }

    /// Removes an access rule and waits until no node that runs goes by it.
    pub fn remove_acl(&self, acl: &Acl) {
        let acls = [acl.clone()];
        self.ask("a rule to be removed", |node| access::delete(node, &acls));
        self.await_acl(acl, false);
    }

    pub(super) fn await_acl(&self, acl: &Acl, is_there: bool) {
        eventually(SPREAD_BOUND, "every node going by the access rules", || {
            let mut answering = self.nodes.iter().filter(|node| node.is_answering());
            let agreed = answering
                .all(|node: &Node| access::knows(node.plaintext(), acl).is_ok_and(|known| known == is_there));
            agreed.then_some(())
        });
    }
}
