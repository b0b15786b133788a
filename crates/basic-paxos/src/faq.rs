//! Frequent questions about Paxos, answered by the behavior of these cores.
//!
//! Each answer names tests of this crate that show it.
//!
//! # Is a rejected proposal answered, and how does a proposer learn that it was overtaken?
//! Paxos would be correct if acceptors stayed silent: a proposer without replies retries after a
//! timeout. Here acceptors reply with a [`Nack`](crate::Message::Nack) that names the promised ballot
//! (PMS §2.2, last paragraph). So a proposer learns within a round trip that it was overtaken, and its
//! next ballot is above the promised one. One rejection does not end a ballot, because the other
//! acceptors may still make a majority. It ends when they cannot, or when their replies are overdue.
//! *(`rejection_ends_a_ballot_only_when_no_majority_is_left`, `paxos_p03_stale_promise_counted`,
//! the script `overtaken`)*
//!
//! # Two proposers outbid each other forever: what stops the livelock?
//! The protocol does not: each Prepare makes acceptors reject the other's Accept, without end (PMS
//! §2.4). Therefore a rejected proposer backs off for a time that its driver draws from zero to a
//! bound: twice the measured round trip at first, doubled with every failure, up to a cap. At some
//! time one proposer is silent for the two round trips that the other needs, and no schedule can
//! prevent this, because it cannot predict the draw. In the tests 2 to 9 proposers that begin at once
//! have a decision after one or two round trips on average, and also if every wait is the whole bound.
//! Without any wait it takes 14 to 294 on average, where 300 stands for no decision.
//! `cargo test --release -p synod-basic-paxos --test it -- with_backoff --nocapture` prints these
//! figures.
//!
//! In a log a proposer can use another slot. A command that is overtaken before any acceptor was asked
//! to vote for it is not bound to its slot: it goes to a free one. Each lost slot raises the command's
//! first ballot there, so that no node loses forever because its ballots are the lowest. A proposer
//! whose own acceptor has promised a rival's ballot gives way at once and sends no values that the
//! others would reject. And each node adapts the number of its open proposals to contention, as TCP
//! adapts its window to congestion: a lost slot halves it, a slot won adds one.
//! *(`without_backoff_two_proposers_never_choose`,
//! `with_backoff_two_to_nine_proposers_choose`, `paxos_p20_duelling_proposers`,
//! `command_overtaken_before_its_vote_goes_to_a_free_slot`,
//! `proposer_that_is_outbid_at_its_own_node_sends_no_value`,
//! `slots_lost_together_halve_the_window_once`, the scripts `livelock` and `livelock_two_to_nine`)*
//!
//! # Who finishes a slot that its proposer has left open?
//! Any voter, after a timeout: it runs both phases there under a ballot of its own, and proposes the
//! value that phase 1 finds, else a waiting command or a no-op. The timeout must not be short, because
//! a higher ballot displaces a value that is only late: it is eight round trips, and, while messages
//! from the slot's proposer still arrive, also the time that a slow link takes for all values that the
//! proposer may have in flight. A slot that peers know to be chosen is left to catch-up as long as
//! catch-up makes progress.
//! *(`proposer_that_still_sends_gets_the_time_of_what_it_may_have_in_flight`,
//! `slots_that_others_know_to_be_chosen_are_left_to_catch_up`,
//! `only_the_blocking_slot_is_finished_before_the_catch_up_timeout`)*
//!
//! # A proposer restarts and finds an undecided value. What does it do?
//! It never resumes an old ballot, because the crash lost its volatile state. It begins a new ballot,
//! above its own durable promise and so above every ballot it ever used, and requests promises. If they
//! report a vote, that value may be chosen already: it is proposed again, and the proposer's own value
//! waits for the next slot. Only if no promise reports a vote may it propose any value (PMS §2.2, P2c).
//! A slot that blocks the log and has no value is filled with a no-op.
//! *(`value_found_undecided_is_finished_first`, `paxos_p05_ballot_reuse_after_restart`,
//! `paxos_p15_holes_never_filled`, the script `found_undecided`)*
//!
//! # How do acceptors that missed the decision learn it?
//! The proposer that finds a value chosen notifies every member. Voters were sent the value and receive
//! [`Chosen`](crate::Message::Chosen); one that has not voted for it requests the value. If the
//! notification is lost there are three more ways. An acceptor with the chosen value replies to any
//! Prepare or Accept for its slot with [`Learned`](crate::Message::Learned). A node that receives
//! messages of slots beyond its window requests the missing ones. And every node periodically sends a
//! request for what follows its chosen part to another voter, in turn. The replies are bounded, and a
//! node that still lags requests the next ones at once.
//! *(`node_that_missed_everything_requests_and_receives_it`, `paxos_p16_lost_message_never_repeated`,
//! the script `missed_the_decision`)*
//!
//! # A and B are partitioned from C, D and E; both sides receive writes; the partition heals. What is left?
//! There is no leader to lose and none to elect. A proposes its client's command and receives two
//! promises of five: there is no vote and no reply to the client, and A retransmits for that slot.
//! C, D and E are a majority: each of them proposes its clients' commands at once, in the same slot, and
//! has one chosen after two round trips. When the partition heals, A's retransmission is answered with
//! the value chosen there. A's command tries the next slot. Its client then receives the result, or has
//! timed out with an unknown outcome. Had A and B voted, nothing would change: two votes of five choose
//! nothing, and a later ballot may find them or not.
//! *(the script `five_nodes_two_sides`)*
