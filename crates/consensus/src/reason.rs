//! Reasons that protocols report with their events.

use core::fmt;

/// Declares an enum of reasons, each with the text that logs and transcripts show.
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
        FromSelf => "message from self is not valid for this kind",
        OutOfRange => "a number in it is out of range",
        ForeignBallot => "its ballot is not its sender's",
        OtherAddressee => "it answers another node",
        OwnBallot => "its ballot is this node's own",
        OtherBallot => "it answers another ballot",
        OlderBallot => "it answers an older ballot",
        LiveLeader => "there is a live leader",
        SecondLeader => "the term has another leader",
        PreVoteOver => "the pre-vote is over",
        OtherPreVote => "it answers a pre-vote for another term",
        NeverSent => "it acknowledges what was never sent",
        StaleConflict => "the conflict is resolved, or the follower lost acknowledged entries",
        MissingAcknowledged => "it names as acknowledged what this log lacks",
        Contradiction => "it contradicts what is chosen",
        ChangedMind => "it contradicts what is chosen or an earlier message of its sender",
        TwoValues => "it proposes two values under one ballot",
        NoSuchSlot => "there is no such slot",
        ForeignSnapshot => "the snapshot is of another history",
    }
}

reasons! {
    /// Reason why a node no longer leads or campaigns.
    StepDownReason {
        HigherTerm => "there is a higher term",
        VoterInHigherTerm => "a voter is in a higher term",
        SnapshotOfHigherTerm => "the snapshot is of a higher term",
        HigherBallotPromised => "a higher ballot was promised",
        HigherBallotActive => "a higher ballot is active",
        OtherLeader => "another node leads",
        Overtaken => "a higher ballot overtook it",
        NewCampaign => "it starts a campaign",
        CampaignTimedOut => "its campaign timed out",
        NoQuorum => "it has lost contact with a quorum",
        Stalled => "its disk or state machine is stalled",
        MayNotCampaign => "it may not campaign now",
        Installed => "it installed a snapshot",
        UnfillableHoles => "the reports leave holes that no leader makes",
        LogFull => "the log is full",
    }
}
