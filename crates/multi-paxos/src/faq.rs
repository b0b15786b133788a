//! Questions that readers of simplified accounts ask, and this crate's answers. Each answer names
//! the tests and the golden scripts (`tests/scripts`) that show it.
//!
//! # Is a rejected proposal answered, and how does a proposer learn that it was overtaken?
//! With a [Nack](crate::Message::Nack) that names the ballot that was promised. Silence would be safe,
//! too, but a proposer could not tell it from a lost message. The Nack names the rejected ballot as
//! well, so a late one ends no later campaign. The proposer steps down, keeps what it had accepted (a
//! vote is never taken back), rejects what was only offered and names the other one to its clients.
//! Its next ballot is above the one in the Nack, and carries its own id.
//! *(`overtaken_leader`, `pms_2_2_acceptor_answers_by_its_promise`,
//! `rejected_leader_names_its_rival_and_keeps_what_it_accepted`)*
//!
//! # Two proposers that outbid each other for ever: what stops it?
//! Three things. A node campaigns only after a pre-campaign in which no node that answers has a live
//! leader or campaigns itself; acceptors ignore rivals of a leader that sent them a message within the
//! shortest election timeout; and every node draws each election timeout from a wide range, so that of
//! several candidates one comes first. A candidate whose messages are lost sends them again
//! under the same ballot: a higher one would undo what it has. None of this is needed for safety. In
//! the tests up to nine nodes time out at the same instant, with a wide range of timeouts and with
//! next to none: within three ballots, two round trips each, one of them leads, and goes on to lead.
//! *(`two_candidates_at_once_end_with_one_leader`, `paxos_p17_a_chain_does_not_outbid_itself`,
//! `rival_of_a_live_leader_is_ignored_until_the_leader_is_silent`,
//! `paxos_p20_dueling_proposers_end_with_one_leader`)*
//!
//! # A proposer that restarts and finds an undecided value?
//! It does not find out what became of its proposals. Its next ballot is above the
//! one that it had promised itself, durably, before the first Prepare left; phase 1 under that ballot
//! finds every value that a quorum may have chosen, and phase 2 proposes it again, under the new ballot.
//! A message of its last life that comes late carries the old ballot and counts for nothing.
//! *(`paxos_p05_no_ballot_is_used_again_after_a_restart`, `new_leader_fills_the_hole`)*
//!
//! # Acceptors that missed the decision: how do they learn it?
//! From the leader. While answers are overdue it probes, and what the answer to a probe shows to be lost
//! it sends again, the very same Accept. Every heartbeat carries its sender's commit index; a node
//! that lags requests the values, but not those that its leader is still sending.
//! Chosen is chosen: any node may answer.
//! *(`paxos_p16_any_lost_message_is_retransmitted`, `partial_partition_chain`)*
//!
//! # Does a read take a slot? How can a leader be sure that it still leads?
//! It takes none. A leader may have been overtaken and not know it, so it asks the acceptors whether they
//! have promised a higher ballot, once for all reads that wait. A quorum of phase 2 that has not shares an
//! acceptor with each quorum of phase 1: no other node had finished phase 1 when the question left.
//! What lower ballots may have chosen was found in the leader's own phase 1 and comes before its
//! barrier, for which the read waits. A follower asks the leader and serves the read itself.
//! *(`leader_that_does_not_know_of_its_successor_serves_no_read`,
//! `raft_21_read_is_confirmed_by_answers_to_an_earlier_round`,
//! `raft_22_new_leader_serves_a_read_before_its_barrier_is_chosen`, `reads`)*
//!
//! # A and B are cut off from C, D and E; both sides are written to; it heals. What is left?
//! Say A leads. It proposes and B accepts; two of five choose nothing, and no client gets an answer.
//! Within the longest election timeout A detects that it lost its quorum and steps down. C, D and E
//! receive no heartbeats; one of them reaches three, completes phase 1 among these and serves. What B accepted is
//! not among the reports and need not be: it was not chosen. When the links work again, A and B
//! accept what the new leader proposes, in the same slots, over what they held; A's client either
//! finds its request done once, after the others, or has got an unknown outcome.
//! *(`five_nodes_two_sides`)*
