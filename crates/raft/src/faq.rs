//! Frequent questions about Raft, answered with the rules of this core.
//!
//! Each answer names tests of this crate (in `tests/it`) that show these rules.
//!
//! # A partitioned leader accepted a client's write, and the write was rolled back. What does the client see?
//! It never sees a success. A leader appends a command to its log and reports it as
//! [`placed`](synod_consensus::Effects::placed): it has a slot, but it may still be replaced. The command is
//! [`chosen`](synod_consensus::Effects::chosen) once a majority holds it durably in the leader's own term, and
//! only then may its client get a reply. A leader that is partitioned from the majority cannot commit it. After
//! the partition heals, the new leader has another entry in the same slot, and the old leader's entry is cut.
//! The node that received the request retries it under the same number. The session table, a part of the
//! replicated state, applies it at most once, so this retry is safe. If it is not applied in time, the client
//! sees an unknown outcome; if the client then sends the command again, that is a new request. A command that
//! was proposed and not yet placed when the leader stepped down is [refused](synod_consensus::Effects::refuse).
//! A command that was placed is not refused as well.
//! *(`partition_of_five_loses_nothing_that_was_chosen`,
//! `ticket_gets_exactly_one_reply_if_the_leader_steps_down_before_the_flush`)*
//!
//! # Do heartbeats carry entries? How does a leader find the entries that a follower lacks?
//! Heartbeats carry no entries, and new entries do not wait for a heartbeat. For each follower the leader keeps
//! the last slot up to which the logs are known to be equal, and the appends in flight. Each append names the
//! entry before it, so a follower that lacks entries rejects the first append after the hole. If the last
//! append is lost, no other one follows. Therefore the leader probes when an acknowledgement is overdue: it
//! sends an append without entries, which names the end of everything sent before. Heartbeats overtake appends,
//! so they name acknowledged entries only. A follower rejects an append with the term and slot of its last
//! entry that could be equal. Both sides skip whole terms, so the last common entry is found in a few round
//! trips, and only the entries after it are sent.
//! *(`lost_append_is_detected_by_a_probe`, `heartbeats_name_acknowledged_entries_only`,
//! `loss_of_any_single_message_is_repaired`, `divergent_tail_costs_one_conflict_for_each_term`,
//! `figure_7_every_follower_converges`)*
//!
//! # Terms are global. Which rule keeps them consistent?
//! No node assigns terms. A node that campaigns enters the term after its own, and every message carries its
//! sender's term. A node that receives a later term enters it at once, and stops leading or campaigning. A node
//! that receives an earlier one replies with its own. A term has at most one leader although two nodes may
//! campaign for it: a leader needs a majority of votes, and no node votes twice in a term, across restarts
//! either.
//! *(`later_term_is_adopted_in_every_role`, `message_of_a_past_term_is_rejected_in_every_role`,
//! `terms_spread_with_any_message_and_survive_a_restart`)*
//!
//! # A partitioned follower campaigns again and again, and rejoins. Does it depose the leader?
//! No, for two reasons. Before a campaign, a node requests pre-votes, and stays in its term until a majority
//! grants them ([pre-vote](crate::Config::with_pre_vote)). So its term does not grow during the partition. And
//! a voter that received a message of a leader within the shortest election timeout ignores requests for votes,
//! and does not enter their term ([check-quorum](crate::Config::with_check_quorum)). In return, a leader
//! without contact to a majority steps down within the longest election timeout. Otherwise a leader that cannot
//! commit would keep its voters from electing another one. A node that is in a later term, because it
//! campaigned and crashed, is not locked out: its reply to the leader carries the later term, the leader steps
//! down, and the term of the next leader is higher than both.
//! *(`rejoining_follower_does_not_depose_the_leader`,
//! `voter_protects_its_leader_for_the_shortest_timeout`, `leader_without_a_quorum_steps_down`,
//! `node_in_a_later_term_follows_the_next_leader`)*
//!
//! # How does a follower know after a restart that it has voted already?
//! Its vote is durable before its reply leaves. The reply has a
//! [durable gate](synod_consensus::Gate::Durable): the host holds it until all earlier writes of the core are
//! durable. Term and vote are one record, so that a crash keeps both or neither. If the disk is slow, the reply
//! is late. If the node crashes before the write is durable, no candidate received the vote, and the node may
//! vote again.
//! *(`vote_survives_a_restart`, `claim_holds_only_if_the_disk_backs_it`)*
//!
//! # How is a split vote resolved?
//! By randomized election timeouts. Each node draws each timeout from a range that is wide compared with the
//! duration of an election. So in most cases one node times out first, and has its majority before the next one
//! times out; its first append makes the other nodes followers. After another split vote the nodes draw again.
//! A voter that rejects a request does not restart its own timeout, so a candidate that cannot win does not
//! keep other nodes from campaigning.
//! *(`split_vote_is_resolved_in_the_next_term`,
//! `raft_29_campaigning_leader_and_voters_that_never_campaign`)*
//!
//! # A and B are partitioned from C, D and E, and clients write to both sides. What is left afterwards?
//! Assume that A leads. It still accepts commands and sends them to B, but two of five are no majority: no
//! command is chosen, and no client gets a reply. Within the longest election timeout A has no contact to three
//! of five nodes, and steps down. C, D and E time out, elect one of them in a later term, and serve clients.
//! After the partition heals, A and B receive the later term. The new leader's first append names an entry that
//! their logs do not hold. They reject it with a hint, the leader goes back to the last common entry, A and B
//! cut their own entries after it, and receive all entries that the other side chose. No chosen entry is lost,
//! because the new leader needed the vote of a node that held it.
//! *(`partition_of_five_loses_nothing_that_was_chosen`)*
//!
//! # Does a read go through the log? How can a leader be sure that it still leads?
//! A read is not written to the log. A leader cannot know on its own that it still leads: in a partition,
//! another node may lead a later term. So it records its commit index when the read arrives, and sends a round
//! of heartbeats. If a majority replies in its term, no other node had been elected when the round began.
//! Replies to a round that began before the read do not show this. A new leader may lack the commit index of
//! its predecessor, so its reads wait for its no-op. A follower requests the slot from the leader and serves
//! the read itself. One round serves all pending reads.
//! *(`deposed_leader_serves_no_read`,
//! `raft_21_read_is_confirmed_by_answers_to_an_earlier_round`,
//! `raft_22_new_leader_serves_a_read_before_its_no_op_is_chosen`,
//! `follower_sends_one_request_for_all_pending_reads`)*
