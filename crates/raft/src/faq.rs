//! Questions that readers of Raft ask, answered by what this core does.
//!
//! Each answer names tests of this crate (in `tests/it`) that show it at work.
//!
//! # A partitioned leader took a client's write, and it was rolled back. What does the client see?
//! It never sees a success. A leader takes a command into its log and reports it as
//! [`placed`](synod_consensus::Effects::placed): that is a place, and no promise. The command is
//! [`chosen`](synod_consensus::Effects::chosen) once a majority holds it durably in the leader's
//! own term, and only then may its client get a reply. A leader that is cut off from the majority
//! never gets that far; after the partition heals, its entry differs from the new leader's in the
//! same slot and is cut. The client sees a timeout or an unknown outcome and retries with the same
//! request id; the session table that is part of the replicated state answers a request that was
//! applied after all with the first reply, so that a retry is safe. A command that was offered and
//! not yet placed when the leader stepped down is [refused](synod_consensus::Effects::refuse)
//! instead, and one that was placed is not refused as well.
//! *(`partition_of_five_loses_nothing_that_was_chosen`,
//! `a_ticket_gets_exactly_one_answer_when_the_leader_falls_before_the_flush`)*
//!
//! # Do heartbeats carry the log? How does a leader find what a follower misses?
//! New entries go out at once and wait for no heartbeat; a heartbeat carries none. The leader
//! records for each follower how far its log is known to be equal and what was sent since. Every
//! append names the entry that it follows, so a follower that misses something rejects the first
//! append after the hole. The last append may be lost and nothing follow it: therefore the
//! leader probes when an acknowledgement is overdue, with an append without entries that follows
//! everything sent before. Heartbeats overtake appends, so they name acknowledged entries only.
//! The follower answers a mismatch with the term and slot of its last entry that could still be
//! equal and both skip whole terms, so the meeting point is found in a few round trips and only
//! what follows it is sent.
//! *(`a_lost_append_is_found_by_a_probe`, `heartbeats_name_acknowledged_entries_only`,
//! `any_one_message_may_be_lost`, `a_long_divergent_tail_is_skipped`,
//! `figure_7_every_follower_converges`)*
//!
//! # Terms are global: what keeps them so?
//! No node hands them out. A node that campaigns takes the term after its own, and every message
//! names its sender's term: a node that receives a later one moves there at once and stops leading or
//! campaigning, and a node that receives an earlier one replies with its own. What makes a term
//! belong to one leader is not that its number is unique but that a leader needs a majority of
//! votes, and no node votes twice in a term, not even across a restart.
//! *(`a_later_term_is_adopted_by_every_role`, `message_of_a_past_term_is_rejected_in_every_role`,
//! `terms_spread_with_any_message_and_survive_a_restart`)*
//!
//! # A cut-off follower campaigns for ever and comes back. Does the leader fall?
//! No, twice over. Before it campaigns, a node asks the others whether they would vote for it, and
//! stays in its term as long as no majority grants that ([pre-vote](crate::Config::with_pre_vote));
//! so its term does not grow while it is cut off. And a voter that received a message of a leader
//! within the shortest election timeout ignores candidates, without even moving to their term
//! ([check-quorum](crate::Config::with_check_quorum)). The counterpart is that a leader without
//! contact to a majority steps down within the longest election timeout: the others must not be
//! held back by a leader that cannot commit anything. A node whose term did get ahead,
//! because it campaigned and crashed, is not locked out: its answer to the leader carries the later
//! term, the leader steps down, and the next one stands above both.
//! *(`a_follower_that_comes_back_does_not_depose_the_leader`,
//! `voter_protects_its_leader_for_the_shortest_timeout`, `a_leader_without_a_quorum_steps_down`,
//! `node_in_a_later_term_follows_the_next_leader`)*
//!
//! # How does a follower know that it has voted already, across a restart?
//! Its vote is on disk before the answer leaves. The answer is a message with a
//! [durable gate](synod_consensus::Gate::Durable): the driver holds it back until everything that
//! the core had written by then is safe. Term and vote are one record, written whole, so a crash
//! finds both or neither. If the disk is slow the answer is late, and if the node crashes before,
//! the vote was never given and may go to another candidate.
//! *(`a_vote_survives_a_restart`, `claim_holds_only_if_the_disk_backs_it`)*
//!
//! # Does a read go through the log? How can a leader be sure that it still leads?
//! Not through the log. A leader cannot know by itself that it still leads: it may be cut off, and
//! another node may lead a later term. So it notes its commit index when the read arrives and sends a round
//! of heartbeats; a majority that still answers in its term shows that no other node had been elected
//! when the round began. Answers to a round that began before the read say nothing of that. A new
//! leader may not know what its predecessor has committed: its reads wait for its no-op. A follower asks
//! the leader for the slot and serves the read itself. One round serves all reads that wait.
//! *(`deposed_leader_that_does_not_know_it_serves_no_read`,
//! `raft_21_read_is_confirmed_by_answers_to_an_earlier_round`,
//! `raft_22_new_leader_serves_a_read_before_its_no_op_is_chosen`,
//! `follower_asks_once_for_all_reads_that_wait`, `reads`)*
//!
//! # A split vote: how does anyone get elected in the next round?
//! By not waiting equally long. Each node draws each timeout from a range that is wide
//! against the time that a round of votes takes. Nearly always one draws the shortest by enough to
//! have its majority before the next one wakes, and the winner's first append makes the others
//! followers. If two tie again, they draw again. A voter whose vote was asked for in vain keeps its
//! own timer running, so that a candidate which cannot win keeps no other from trying.
//! *(`a_split_vote_is_settled_in_the_next_term`,
//! `raft_29_campaigning_leader_and_voters_that_never_campaign`)*
//!
//! # A and B are cut off from C, D and E; both sides are written to; it heals. What is left?
//! Say A leads. It goes on taking commands and sends them to B; two of five are no majority, so
//! none is chosen and no client gets a reply. Within the longest election timeout A notices that it
//! has no contact to three of five and steps down. C, D and E receive nothing from a leader, elect one
//! of them in a later term and serve. When the links work again, A and B receive the later term. The
//! first append from the new leader names an entry that their logs do not have in that place; they
//! answer what they do have, the leader goes back to where the logs meet, their own side's entries are
//! cut, and everything that the other side chose is copied. Nothing that was chosen before the cut
//! is lost, because the new leader needed a vote of a node that held it.
//! *(`partition_of_five_loses_nothing_that_was_chosen`)*
