//! Questions that readers of Paxos ask, answered by what these cores do.
//!
//! Each answer names tests of this crate that show it at work.
//!
//! # Is a refused proposal answered, and how does a proposer learn that it was overtaken?
//! Paxos would be correct if acceptors kept silent: a proposer that receives nothing tries again some
//! time. Here they answer with a [`Nack`](crate::Message::Nack) that names the ballot which they
//! promised, so a proposer learns within a round trip that it was overtaken, and by how much: its
//! next ballot stands above. One refusal does not end a ballot, because the other acceptors may
//! still make a majority; it ends when they cannot any more, or when their answers are overdue.
//! *(`rejection_ends_a_ballot_only_when_no_majority_is_left`, `paxos_p03_stale_promise_counted`,
//! the script `overtaken`)*
//!
//! # Two proposers that outbid each other forever: what stops the livelock?
//! Nothing in the protocol does: each Prepare spoils the other's Accept, and this may go on without
//! end. A rejected proposer therefore backs off for a while that its driver draws from the whole
//! range between nothing and a bound: twice the measured round trip at first, doubled with every
//! failure, up to a cap. Sooner or later one is quiet for the two round trips that the other needs,
//! and no schedule can be the wrong one for ever, because it does not know what was drawn. In the tests 2
//! to 9 proposers that begin at once have a decision after one or two round trips on average; so they
//! have if every wait is the whole bound. Without any wait it takes 14 to 294 on average, where 300
//! stand for no end. `cargo test --release -p synod-basic-paxos --test it -- with_backoff --nocapture`
//! prints these figures.
//!
//! A log has room to give way. A command that is overtaken before any acceptor was asked to vote for it
//! is not bound to its slot: it goes to a free one, and bids higher there for every slot that it has
//! lost, so that no node loses for ever because its ballots are the lowest. A proposer whose own
//! acceptor has promised a rival's ballot gives way at once, without sending values that the others
//! would refuse. And each node adapts the number of its open proposals to contention, as TCP adapts its
//! window to congestion: a lost slot halves it, a slot won adds one.
//! *(`without_backoff_two_proposers_never_come_to_an_end`,
//! `with_backoff_two_to_nine_proposers_come_to_an_end`, `paxos_p20_duelling_proposers`,
//! `a_command_that_is_overtaken_before_its_vote_goes_to_a_free_slot`,
//! `proposer_that_is_outbid_at_its_own_node_sends_no_value`,
//! `slots_lost_together_halve_the_window_once`, the scripts `livelock` and `livelock_two_to_nine`)*
//!
//! # Who finishes a slot that its proposer has left open?
//! Any voter that notices: it runs both phases there under a ballot of its own, and proposes what
//! phase 1 finds, or else a waiting command or a no-op. It must not be hasty, because a higher ballot
//! displaces a value that is only late. A slot may rest for eight round trips, and while messages of
//! its proposer still arrive, also for the time that a slow link takes for all values that the proposer
//! may have in flight. If peers know the slot to be chosen it is left to catch-up, as long as that gets
//! on.
//! *(`proposer_that_still_sends_gets_the_time_of_what_it_may_have_in_flight`,
//! `slots_that_others_know_to_be_chosen_are_left_to_catch_up`,
//! `only_the_blocking_slot_is_finished_before_the_catch_up_timeout`)*
//!
//! # A proposer restarts and finds an undecided value. What does it do?
//! It never goes on where it was: a ballot of a former life may be half forgotten. It begins a new
//! one, above its own durable promise and so above every ballot it ever used, and asks for
//! promises. If they report a vote, that value may be chosen already, so it is proposed again, and
//! the proposer's own value waits for the next slot. Only where no promise reports a vote may it
//! propose what it likes; a slot that blocks the log and has no value is filled with a no-op.
//! *(`a_value_found_undecided_is_finished_first`, `paxos_p05_ballot_reuse_after_restart`,
//! `paxos_p15_holes_never_filled`, the script `found_undecided`)*
//!
//! # Acceptors that missed the decision: who tells them?
//! The proposer that finds a value chosen tells every member: with
//! [`Chosen`](crate::Message::Chosen) those that were sent the value, and one that has not voted
//! for it asks. If that is lost, there are three more ways: an acceptor that knows the decision
//! answers any Prepare or Accept for it with [`Learned`](crate::Message::Learned); a node that
//! receives messages of later slots asks; and every node asks one of the others now and then, in turn, from
//! where its knowledge ends. The answers are bounded, and come one after the other until it has
//! caught up.
//! *(`node_that_missed_everything_requests_and_receives_it`, `paxos_p16_lost_message_never_repeated`,
//! the script `missed_the_decision`)*
//!
//! # A and B are cut off from C, D and E; both sides are written to; it heals. What is left?
//! There is no leader to lose and none to elect. A proposes for its client and gets two promises of
//! five: nothing is voted for, no client gets an answer, and A keeps asking with that one slot. C, D and E
//! are a majority: whichever of them has a client proposes at once, in the very same slot, and is
//! done after two round trips. When the links work again A is answered with what was decided there;
//! its command tries the next slot, and its client is answered then, or that the outcome is unknown if
//! it has given up. Had A and B voted, nothing would change: two votes of five choose nothing, and
//! the next Prepare may find them or not.
//! *(the script `five_nodes_two_sides`)*
