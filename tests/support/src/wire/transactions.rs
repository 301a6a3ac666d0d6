//! Asks one node which transactions it coordinates.

use std::io;
use std::net::SocketAddr;

use super::{Request, check};

const LIST_TRANSACTIONS: i16 = 66;

/// A transaction as its coordinator knows it.
#[derive(Debug)]
pub(crate) struct ListedTransaction {
    pub(crate) transactional_id: String,
    pub(crate) producer_id: i64,
    pub(crate) state: String,
}

/// Lists a node's transactions in any of these states; a node that is still loading its log answers with an error.
pub(crate) fn list(node: SocketAddr, states: &[&str]) -> io::Result<Vec<ListedTransaction>> {
    let mut request = Request::flexible(LIST_TRANSACTIONS, 0);
    request.compact_length(states.len());
    for state in states {
        request.compact_bytes(state.as_bytes());
    }
    request.compact_length(0).no_tags();
    let mut answer = request.send(node)?;
    answer.i32()?;
    check("ListTransactions", answer.i16()?, None)?;
    let unknown = answer.compact_array(super::Cursor::compact_string)?;
    if !unknown.is_empty() {
        return Err(io::Error::other(format!("ListTransactions knows no states {unknown:?}")));
    }
    answer.compact_array(|transaction| {
        let transactional_id = transaction.compact_string()?.unwrap_or_default();
        let producer_id = transaction.i64()?;
        let state = transaction.compact_string()?.unwrap_or_default();
        transaction.skip_tags()?;
        Ok(ListedTransaction { transactional_id, producer_id, state })
    })
}
