//! The gRPC services.

use crate::backend::{Backend, BackendError, MemberInfo, QueryReply, ReplyGuard};
use crate::error::{backend_status, kv_status, not_supported};
use crate::proto::etcdserverpb as pb;
use crate::stream::respond;
use crate::{request, response};
use pb::alarm_request::AlarmAction;
use pb::{cluster_server::Cluster, kv_server::Kv, maintenance_server::Maintenance};
use prost::Message;
use std::sync::Arc;
use synod_consensus::Consistency;
use synod_kv::{Command, OpResult, Query, Reply, ReplyBody, Revision};
use tonic::{Request, Response, Status, async_trait};

/// Maximum size of a request in bytes: etcd's 1.5 MiB.
pub const MAX_REQUEST_BYTES: usize = 3 * 512 * 1024;

/// Implementation of the supported services on a backend.
#[derive(Clone)]
pub(crate) struct Api {
    backend: Arc<dyn Backend>,
}

impl Api {
    pub(crate) fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend }
    }

    /// Checks a command and its size, and proposes it. An invalid command does not reach the log.
    async fn propose(&self, command: Command, bytes: usize) -> Result<Reply, Status> {
        command.check().map_err(kv_status)?;
        if bytes > MAX_REQUEST_BYTES {
            return Err(backend_status(&BackendError::TooLarge));
        }
        self.backend.propose(command).await.map_err(|error| backend_status(&error))
    }

    async fn query(&self, query: Query, consistency: Consistency) -> Result<QueryReply, Status> {
        query.check().map_err(kv_status)?;
        self.backend.query(query, consistency).await.map_err(|error| backend_status(&error))
    }

    fn header(&self, Revision(revision): Revision) -> pb::ResponseHeader {
        let status = self.backend.status();
        pb::ResponseHeader {
            cluster_id: status.cluster_id.0,
            member_id: status.member_id.0,
            revision,
            raft_term: status.term.0,
        }
    }

    /// Returns the header of a response that has no result of the store. With
    /// [`Consistency::Linearizable`], waits until the node has caught up with the cluster.
    async fn bare_header(&self, consistency: Consistency) -> Result<pb::ResponseHeader, Status> {
        let QueryReply { reply, .. } = self.query(Query::Revision, consistency).await?;
        let revision = reply.revision;
        response::expect(reply, |result| matches!(result, ReplyBody::Revision).then_some(()))?;
        Ok(self.header(revision))
    }
}

fn consistency_of(serializable: bool) -> Consistency {
    if serializable { Consistency::Serializable } else { Consistency::Linearizable }
}

#[async_trait]
impl Kv for Api {
    async fn range(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        let request = request.into_inner();
        let consistency = consistency_of(request.serializable);
        let query = Query::Range(request::range(request)?);
        let QueryReply { reply, guard } = self.query(query, consistency).await?;
        let header = self.header(reply.revision);
        let result = response::expect(reply, |result| match result {
            ReplyBody::Op(OpResult::Range(result)) => Some(result),
            _ => None,
        })?;
        Ok(respond(response::range(header, result), guard))
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        let request = request.into_inner();
        let bytes = request.encoded_len();
        let reply = self.propose(Command::Put(request::put(request)?), bytes).await?;
        let header = self.header(reply.revision);
        let result = response::expect(reply, |result| match result {
            ReplyBody::Op(OpResult::Put(result)) => Some(result),
            _ => None,
        })?;
        Ok(Response::new(response::put(header, result)))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let request = request.into_inner();
        let bytes = request.encoded_len();
        let command = Command::DeleteRange(request::delete_range(request));
        let reply = self.propose(command, bytes).await?;
        let header = self.header(reply.revision);
        let result = response::expect(reply, |result| match result {
            ReplyBody::Op(OpResult::DeleteRange(result)) => Some(result),
            _ => None,
        })?;
        Ok(respond(response::delete_range(header, result), ReplyGuard::default()))
    }

    async fn txn(
        &self,
        request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        let request = request.into_inner();
        let bytes = request.encoded_len();
        let consistency = consistency_of(request::is_serializable(&request));
        let txn = request::txn(request)?;
        let QueryReply { reply, guard } = if txn.is_read_only() {
            self.query(Query::Txn(txn), consistency).await?
        } else {
            self.propose(Command::Txn(txn), bytes).await?.into()
        };
        let header = self.header(reply.revision);
        let result = response::expect(reply, |result| match result {
            ReplyBody::Txn(result) => Some(result),
            _ => None,
        })?;
        Ok(respond(response::txn(header, result), guard))
    }
}

#[async_trait]
impl Cluster for Api {
    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let header = self.bare_header(consistency_of(!request.into_inner().linearizable)).await?;
        let members = self.backend.members().into_iter().map(member).collect();
        Ok(Response::new(pb::MemberListResponse { header: Some(header), members }))
    }
}

fn member(member: MemberInfo) -> pb::Member {
    pb::Member {
        id: member.id.0,
        name: member.name,
        peer_urls: member.peer_urls,
        client_urls: member.client_urls,
        is_learner: member.is_learner,
    }
}

#[async_trait]
impl Maintenance for Api {
    async fn alarm(
        &self,
        request: Request<pb::AlarmRequest>,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        match AlarmAction::try_from(request.into_inner().action) {
            Ok(AlarmAction::Get) => {}
            Ok(action) => return Err(not_supported(&format!("Alarm {}", action.as_str_name()))),
            Err(unknown) => return Err(not_supported(&format!("Alarm {unknown}"))),
        }
        // Alarms are not supported, so none is active.
        let header = self.bare_header(Consistency::Serializable).await?;
        Ok(Response::new(pb::AlarmResponse { header: Some(header), alarms: Vec::new() }))
    }

    async fn status(
        &self,
        _: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let header = self.bare_header(Consistency::Serializable).await?;
        let mut status = self.backend.status();
        if status.leader.is_none() {
            status.errors.push(BackendError::NoLeader.to_string());
        }
        Ok(Response::new(pb::StatusResponse {
            header: Some(header),
            version: status.version.to_string(),
            db_size: response::count(status.db_size),
            leader: status.leader.map_or(0, |node| node.0),
            raft_index: status.committed.0,
            raft_term: status.term.0,
            raft_applied_index: status.applied.0,
            errors: status.errors,
            db_size_in_use: response::count(status.db_size),
            is_learner: status.is_learner,
        }))
    }
}
