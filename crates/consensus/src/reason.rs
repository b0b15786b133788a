//! Reasons that protocols report with their events.

use core::fmt;

/// Declares an enum of reasons, each with its text in logs and transcripts.
macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($variant:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $(#[doc = concat!("Shown as \"", $text, "\".")] $variant,)+
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)+ })
            }
        }
    };
}

reasons! {
    /// Reason why a core ignored a message or an input.
    IgnoreReason {
        NotAMember => "the sender is not a member",
        NotAVoter => "the sender is not a voter",
        FromSelf => "no node sends this message to itself",
        OutOfRange => "a term, ballot or slot in it is out of range",
        ForeignBallot => "its ballot belongs to another node than its sender",
        OtherAddressee => "it is a reply to another node",
        OwnBallot => "its ballot belongs to this node",
        OtherBallot => "it is a reply to another ballot",
        OlderBallot => "it is a reply to an older ballot",
        LiveLeader => "there is a live leader",
        SecondLeader => "the term has another leader",
        PreVoteOver => "the pre-vote is over",
        OtherPreVote => "it is a reply to a pre-vote for another term",
        NeverSent => "it acknowledges entries that were never sent",
        StaleConflict => "it rejects acknowledged entries: it is late, or the sender lost its log",
        MissingAcknowledged => "this node's log lacks an entry that it acknowledged",
        Contradiction => "it contradicts a chosen value",
        ContradictsEarlier => "it contradicts a chosen value or an earlier message of its sender",
        TwoValues => "it proposes two values under one ballot",
        NoSuchSlot => "its slot does not exist",
        ForeignSnapshot => "the snapshot contradicts a chosen value",
    }
}

reasons! {
    /// Reason why a node no longer leads or campaigns.
    StepDownReason {
        HigherTerm => "a message had a higher term",
        VoterInHigherTerm => "a voter in a higher term rejected its pre-vote",
        SnapshotOfHigherTerm => "an installed snapshot had a higher term",
        HigherBallotPromised => "a higher ballot was promised",
        HigherBallotActive => "a higher ballot is active",
        OtherLeader => "another node leads",
        Overtaken => "a higher ballot overtook it",
        NewCampaign => "it starts a new campaign",
        CampaignTimedOut => "its campaign timed out",
        NoQuorum => "it has lost contact with a quorum",
        Stalled => "its disk or state machine is stalled",
        MayNotCampaign => "it is stalled or has no higher term, so it must not campaign",
        Installed => "it installed a snapshot",
        UnfillableHoles => "the promises report gaps that no leader leaves",
        LogFull => "no slot number is left",
    }
}
