//! Frequent questions about Multi-Paxos, and this crate's answers. Each answer names the tests and the
//! golden scripts (`tests/scripts`) that show it.
//!
//! # Is a rejected proposal answered, and how does a proposer learn that it was overtaken?
//! With a [Nack](crate::Message::Nack) that names the promised ballot. Silence would be safe, too, but a
//! proposer could not distinguish it from a lost message. The Nack also names the rejected ballot, so a
//! late one ends no later campaign. The proposer steps down, keeps its accepted values (a vote is never
//! withdrawn), refuses commands that are not in its log yet and redirects clients to the rival. Its next
//! ballot is above the one in the Nack, and carries its own id.
//! *(`overtaken_leader`, `pms_2_2_acceptor_answers_by_its_promise`,
//! `rejected_leader_names_its_rival_and_keeps_its_accepted_values`)*
//!
//! # Two proposers outbid each other forever: what stops the livelock?
//! Three rules. A node campaigns only after a pre-campaign in which no node that replies has a live leader
//! or campaigns itself. Acceptors ignore rivals of a leader that sent them a message within the shortest
//! election timeout. Every node draws each election timeout from a wide range, so that one of several
//! candidates is first. A candidate whose messages are lost retransmits under the same ballot: a higher
//! one would invalidate its promises. Safety needs none of this. In the tests up to nine nodes time out at
//! the same instant, with a wide range of timeouts and with a very narrow one: within three ballots of
//! two round trips each one of them leads, and keeps leading.
//! *(`two_candidates_at_once_end_with_one_leader`, `paxos_p17_chained_nodes_do_not_outbid_each_other`,
//! `rival_of_a_live_leader_is_ignored_until_the_leader_is_silent`,
//! `paxos_p20_dueling_proposers_end_with_one_leader`)*
//!
//! # A proposer restarts and finds an undecided value. What does it do?
//! It does not need the outcome of its old proposals. Its next ballot is above the one that it had durably
//! promised before it sent the first Prepare. Phase 1 under that ballot finds every value that a quorum
//! may have chosen, and phase 2 proposes it again under the new ballot. Late messages from before the
//! restart carry the old ballot and do not count.
//! *(`paxos_p05_no_ballot_is_used_again_after_a_restart`, `new_leader_fills_the_hole`)*
//!
//! # Acceptors that missed the decision: how do they learn it?
//! From the leader. While replies are overdue it sends probes, and retransmits the Accepts that the reply
//! to a probe shows to be lost. Every heartbeat carries its sender's commit index; a node that lags
//! requests the values, but not those that its leader is still sending. Any node may reply, because chosen
//! values are final.
//! *(`paxos_p16_any_lost_message_is_retransmitted`, `partial_partition_chain`)*
//!
//! # Does a read take a slot? How can a leader be sure that it still leads?
//! A read takes no slot. A leader may have been overtaken without having received a message about it, so
//! it requests confirmations from the acceptors that they have promised no higher ballot, once for all
//! waiting reads. A quorum of phase 2 that confirms shares an acceptor with each quorum of phase 1, so no
//! other node had completed phase 1 when the request was sent. Values that lower ballots may have chosen
//! were found in the leader's own phase 1 and are before its barrier, for which the read waits. A follower
//! requests the index from the leader and serves the read itself.
//! *(`overtaken_leader_serves_no_read`,
//! `raft_21_read_is_confirmed_by_answers_to_an_earlier_round`,
//! `raft_22_new_leader_serves_a_read_before_its_barrier_is_chosen`, `reads`)*
//!
//! # A and B are partitioned from C, D and E; both sides receive writes; the partition heals. What is left?
//! Assume that A leads. It proposes and B accepts; two of five choose nothing, and no client receives a
//! reply. Within the longest election timeout A detects that it has lost its quorum and steps down. C, D
//! and E receive no heartbeats; one of them reaches three, completes phase 1 and serves. The values that B
//! accepted are not among the reports, and need not be: they were not chosen. When the partition heals, A
//! and B accept the new leader's values in the same slots, in place of their own. A retries its client's
//! request, which takes effect once, or the request has timed out with an unknown outcome.
//! *(`five_nodes_two_sides`)*
